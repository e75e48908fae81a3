"""`manage.py check_version`: what a worker starts to try a version out, apart from requests."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workers.catalog import lifecycle, trial
from workers.host.parent import die_with_parent

NICE = 10  # of its processor time: requests go first


class Command(BaseCommand):
    help = "Run the checks of a version that is being checked; `velo_models check` asks for it."
    requires_system_checks = []  # the worker has done them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pk", type=int, help="The version's primary key.")
        parser.add_argument("--parent", type=int, help="The process to end with, by its id.")

    def handle(self, *args: Any, pk: int, parent: int | None, **options: Any) -> None:
        os.nice(NICE)
        if parent is not None:
            die_with_parent(parent)
        try:
            version = trial.run(pk)
        except lifecycle.Refused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{version} is {version.state}. {version.reason}".strip())
