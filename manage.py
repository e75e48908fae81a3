#!/usr/bin/env python
"""Django's command line for Velo."""

import os
import sys

from django.core.management import execute_from_command_line

from velo_site import private, state


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "velo_site.settings")
    if sys.argv[1:2] != ["makemigrations"]:  # that writes code, which an image's user has to read
        private.keep_private()
    if sys.argv[1:2] == ["serve"]:
        # Settings refuse to load without a secret key and a host list: on one machine we make them.
        state.prepare_this_machine()
    elif sys.argv[1:2] == ["setup"]:
        state.make_secret_key()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
