"""`manage.py setup`: what must be there before the first process starts."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = (
        "Migrate the database and, if it has no user yet, create `admin` with a random password, "
        "which is printed once and kept only as a hash."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        users = get_user_model().objects
        if not users.exists():
            password = secrets.token_urlsafe(12)
            users.create_superuser("admin", password=password)
            self.stdout.write(f"Admin user created: admin, password {password} (shown only now)")
