#!/usr/bin/env python
"""Django's command line for Velo."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError

from velo_site import broken, private, state
from workers.host import memory


def main() -> None:
    if sys.argv[1:2] in (["rqworker"], ["rqworker-pool"]):
        memory.leave_no_holes()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "velo_site.settings")
    if sys.argv[1:2] != ["makemigrations"]:  # that writes code, which an image's user has to read
        private.keep_private()
    try:
        if sys.argv[1:2] == ["serve"]:
            # Settings refuse to load without a secret key and a host list: on one machine we make
            # them.
            state.prepare_this_machine()
        elif sys.argv[1:2] == ["setup"]:
            state.make_secret_key()
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, DatabaseError, OSError) as error:
        sentence = broken.explain(error)
        if sentence is None or "--traceback" in sys.argv:
            raise
        raise SystemExit(f"manage.py: {sentence}") from error


if __name__ == "__main__":
    main()
