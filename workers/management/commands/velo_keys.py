"""`manage.py velo_keys`: clients and their API keys, from a shell."""

import getpass
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.utils import timezone

from workers.catalog import clients
from workers.metrics import usage
from workers.models import Client, Key, ServedModel, Usage

LIMITS = ("inputs_per_minute", "tokens_per_day", "inputs_at_once")


class Command(BaseCommand):
    help = "Make, list and revoke API keys, and set their clients' limits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

        def command(name: str, text: str) -> ArgumentParser:
            added: ArgumentParser = commands.add_parser(name, help=text, description=text)
            return added

        command("list", "All clients and their keys.")
        create = command("create", "Make a key, and its client if there is none. It is shown once.")
        create.add_argument("client", metavar="CLIENT")
        create.add_argument("--days", type=_positive, metavar="N", help="After which it expires.")
        limit = command("limit", "Set what a client may do.")
        limit.add_argument("client", metavar="CLIENT")
        for added in (create, limit):
            for name in LIMITS:
                option = f"--{name.replace('_', '-')}"
                added.add_argument(option, type=_limit, metavar="N", help='"none": no limit.')
            added.add_argument(
                "--models", metavar="NAMES", help='That it may ask, with commas; "all".'
            )
            added.add_argument("--priority", choices=("interactive", "background"))
        for name, text in (
            ("enable", "Let a client's keys be valid again."),
            ("disable", "Let none of a client's keys be valid."),
        ):
            command(name, text).add_argument("client", metavar="CLIENT")
        revoke = command("revoke", "Make a key invalid for ever.")
        revoke.add_argument("prefix", metavar="PREFIX", help="As `list` shows it.")
        used = command("usage", "Inputs and tokens by client, model and day, as CSV.")
        used.add_argument("client", metavar="CLIENT", nargs="?")
        used.add_argument("--since", type=date.fromisoformat, metavar="YYYY-MM-DD")

    def handle(self, *args: Any, **options: Any) -> None:
        carry_out: Callable[..., None] = getattr(self, f"_{options['command']}")
        try:
            carry_out(**options)
        except clients.Refused as refused:
            raise CommandError(str(refused)) from refused

    def _list(self, **options: Any) -> None:
        for client in Client.objects.prefetch_related("keys", "models_allowed"):
            self.stdout.write(f"{client}: {_described(client)}")
            for key in client.keys.all():
                used = f"last used {key.last_used:%Y-%m-%d %H:%M}" if key.last_used else "not used"
                expires = f", expires {key.expires:%Y-%m-%d %H:%M}" if key.expires else ""
                self.stdout.write(f"  {key} {key.state}, made by {key.created_by}, {used}{expires}")

    def _create(self, client: str, days: int | None, **options: Any) -> None:
        row = Client.objects.filter(name=client).first() or Client(name=client)
        self._set(row, options)
        expires = timezone.now() + timedelta(days=days) if days else None
        made = clients.make_key(row, getpass.getuser(), expires)
        clients.publish()
        self.stderr.write(f"A key of {row}. It is shown this once:")
        self.stdout.write(made.key)

    def _limit(self, client: str, **options: Any) -> None:
        row = _client(client)
        self._set(row, options)
        clients.publish()
        self.stdout.write(f"{row}: {_described(row)}")

    def _set(self, row: Client, options: dict[str, Any]) -> None:
        """Saves it. Raises CommandError."""
        for name in LIMITS:
            if options[name] is not None:
                setattr(row, name, options[name] or None)
        if options["priority"]:
            row.is_background = options["priority"] == "background"
        names = options["models"]
        chosen: QuerySet[ServedModel] | None = None
        if names:
            row.asks_all_models = names == "all"
            wanted = set() if names == "all" else {name.strip() for name in names.split(",")}
            chosen = ServedModel.objects.filter(name__in=wanted)
            if missing := wanted - {model.name for model in chosen}:
                known = ", ".join(ServedModel.objects.values_list("name", flat=True)) or "none"
                raise CommandError(
                    f"There is no model {', '.join(sorted(missing))}. Known: {known}."
                )
        try:
            row.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        row.save()
        if chosen is not None:
            row.models_allowed.set(chosen)

    def _enable(self, client: str, **options: Any) -> None:
        self._enabled(client, True)

    def _disable(self, client: str, **options: Any) -> None:
        self._enabled(client, False)

    def _enabled(self, client: str, enabled: bool) -> None:
        row = _client(client)
        row.is_enabled = enabled
        row.save()
        clients.publish()
        self.stdout.write(f"{row}: {_described(row)}")

    def _revoke(self, prefix: str, **options: Any) -> None:
        found = list(Key.objects.filter(prefix=prefix.rstrip("…")))
        if not found:
            raise CommandError(f"There is no key that begins with {prefix}. `list` shows them all.")
        if len(found) > 1:
            raise CommandError(f"{len(found)} keys begin with {prefix}. Revoke it in the admin.")
        if not clients.revoke(found, getpass.getuser()):
            raise CommandError(f"{found[0]} was revoked before.")
        self.stdout.write(f"{found[0]} of {found[0].client} is revoked.")

    def _usage(self, client: str | None, since: date | None, **options: Any) -> None:
        rows = Usage.objects.order_by("day", "client", "model")
        rows = rows.filter(client=client) if client else rows
        rows = rows.filter(day__gte=since) if since else rows
        self.stdout.write(usage.as_csv(rows), ending="")


def _client(name: str) -> Client:
    """Raises CommandError."""
    if found := Client.objects.filter(name=name).first():
        return found
    known = ", ".join(Client.objects.values_list("name", flat=True)) or "none"
    raise CommandError(f"There is no client {name}. Known: {known}.")


def _described(client: Client) -> str:
    models = "all models"
    if not client.asks_all_models:
        models = ", ".join(model.name for model in client.models_allowed.all()) or "no model"
    limits = [
        f"{getattr(client, name)} {name.replace('_', ' ')}"
        for name in LIMITS
        if getattr(client, name)
    ]
    priority = ["background"] if client.is_background else []
    state = [] if client.is_enabled else ["disabled"]
    return "; ".join([models, *limits, *priority, *state])


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("a whole number from 1 up")
    return int(text)


def _limit(text: str) -> int:
    """0: none."""
    return 0 if text == "none" else _positive(text)
