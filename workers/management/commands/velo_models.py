"""`manage.py velo_models`: what the admin decides about models, from a shell."""

import getpass
import json
import time
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from workers.catalog import lifecycle
from workers.models import Change, GoldenInput, ModelVersion, ServedModel, Worker
from workers.models.versions import JSON_NULL, Kind
from workers.values.version_id import VersionId

LOOK = 0.5  # seconds between two looks at what goes on
GRACE = 10  # seconds that workers have after their own time limit to say that it has passed
SHOWN = 30  # entries of the audit trail

State = ModelVersion.State
Outcome = Change.Outcome


class Command(BaseCommand):
    help = "Register, check and activate model versions; NAME@VERSION names one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

        def command(name: str, text: str, *words: str) -> ArgumentParser:
            added: ArgumentParser = commands.add_parser(name, help=text, description=text)
            for word in words:
                added.add_argument(word.lower(), metavar=word)
            return added

        def because(added: ArgumentParser) -> ArgumentParser:
            added.add_argument("--reason", required=True, help="The audit trail keeps it.")
            return added

        def waiting(added: ArgumentParser) -> ArgumentParser:
            added.add_argument("--wait", action="store_true", help="Until it has ended.")
            return added

        command("list", "All models and their versions.")
        add = waiting(command("add", "Register a version, and check it.", "NAME"))
        add.add_argument("version", metavar="VERSION", help='"-": made from its files.')
        add.add_argument("source", metavar="SOURCE", help='"" for a kind without files.')
        add.add_argument("--kind", choices=Kind.values, default=Kind.EMBED.value)
        add.add_argument("--option", action="append", type=_option, default=[], metavar="KEY=JSON")
        waiting(command("check", "Let a worker try a version out.", "LABEL"))
        waiting(because(command("activate", "Let a version answer.", "LABEL")))
        waiting(because(command("rollback", "Go back to the version before.", "NAME")))
        command("cancel", "Give up the activation that is going on.", "NAME")
        for role, most in (("canary", 99), ("shadow", 100)):
            share = because(command(role, f"Set the {role}, or stop it.", "LABEL"))
            share.add_argument("percent", metavar="PERCENT", type=int, nargs="?", help=f"1-{most}")
            share.add_argument("--stop", action="store_true", help="LABEL is a NAME then.")
        because(command("default", "Let /transform ask this model.", "NAME"))
        golden = command("golden", "An input that every version must answer alike.", "NAME")
        golden.add_argument("input", metavar="INPUT_JSON", type=_json)
        golden.add_argument(
            "--expected",
            type=_json,
            metavar="JSON",
            default=SUPPRESS,  # null is an answer too
            help="The answer. Without it, the next check of another version records the active "
            "version's; where no version is active, nothing is compared.",
        )
        golden.add_argument("--tolerance", type=float, default=0.01)
        command("audit", "Every change with its user and reason, newest first.").add_argument(
            "name", metavar="NAME", nargs="?"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        carry_out: Callable[..., None] = getattr(self, f"_{options['command']}")
        try:
            carry_out(**options)
        except lifecycle.Refused as refused:
            raise CommandError(str(refused)) from refused

    def _list(self, **options: Any) -> None:
        live = list(Worker.objects.alive())
        for model in ServedModel.objects.prefetch_related("versions"):
            decided = "its environment decides" if model.follows_environment else "people decide"
            default = ", the default" if model.is_default else ""
            self.stdout.write(f"{model} ({model.kind}{default}; {decided})")
            for version in model.versions.all():
                roles = [
                    f"{role} {getattr(model, f'{role}_share')} %"
                    for role in ("canary", "shadow")
                    if getattr(model, f"{role}_id") == version.pk
                ]
                states = [worker.held.get(version.label, {}).get("state") for worker in live]
                turn = [found] if (found := lifecycle.turn_of(version)) else []
                shown = [version.state, *turn, *roles, f"{states.count('ready')} workers"]
                self.stdout.write(f"  {version}: {', '.join(shown)}")
            if change := lifecycle.pending(model):
                self.stdout.write(f"  {_shown(change)}: {lifecycle.progress(change)}")

    def _add(self, name: str, version: str, source: str, **options: Any) -> None:
        row = lifecycle.register(
            name,
            "" if version == "-" else version,
            source,
            by=_me(),
            kind=options["kind"],
            options=dict(options["option"]),
        )
        self.stdout.write(f"{row} is registered.")
        self._checked(row, options["wait"])

    def _check(self, label: str, wait: bool, **options: Any) -> None:
        version = _version(label)
        lifecycle.request_check(version)
        self._checked(version, wait)

    def _checked(self, version: ModelVersion, wait: bool) -> None:
        """Raises CommandError if the check ends with anything but a pass. While it waits for its
        turn, its time doesn't run."""
        if not wait:
            return

        def state() -> tuple[str, bool]:
            version.refresh_from_db()
            steps = ", ".join(f"{step['step']} {step['outcome']}" for step in version.checks)
            said = lifecycle.turn_of(version) or steps
            shown = f"{version} is {version.state}{f': {said}' if said else ''}"
            return shown, version.state != State.CHECKING

        self._follow(state, settings.VELO_CHECK_TIMEOUT)
        if version.state in (State.REJECTED, State.REGISTERED):
            raise CommandError(f"{version} is {version.state}: {version.reason}")

    def _activate(self, label: str, reason: str, wait: bool, **options: Any) -> None:
        self._activated(lifecycle.activate(_version(label), by=_me(), reason=reason), wait)

    def _rollback(self, name: str, reason: str, wait: bool, **options: Any) -> None:
        self._activated(lifecycle.rollback(_model(name), by=_me(), reason=reason), wait)

    def _activated(self, change: Change, wait: bool) -> None:
        """Raises CommandError if it ends with anything but the version being active."""
        self.stdout.write(f"{change.to_version} is being activated.")
        if not wait:
            return

        def state() -> tuple[str, bool]:
            lifecycle.conclude()  # as a worker does: there may be none
            change.refresh_from_db()
            if change.outcome != Outcome.PENDING:
                return f"{change.to_version}: {change.outcome}", True
            return f"{change.to_version}: {lifecycle.progress(change)}", False

        self._follow(state, settings.VELO_ACTIVATION_TIMEOUT)
        if change.outcome != Outcome.DONE:
            raise CommandError(f"{change.to_version} isn't active: {change.detail}")

    def _follow(self, state: Callable[[], tuple[str, bool]], seconds: float) -> None:
        """Print what it says whenever that changes, until it has ended. Raises CommandError if it
        hasn't changed for `seconds`, which is as long as any one thing that it waits for may take.
        """
        until, said = time.monotonic() + seconds + GRACE, ""
        while True:
            shown, ended = state()
            if shown != said:
                self.stdout.write(shown)
                until, said = time.monotonic() + seconds + GRACE, shown
            if ended:
                return
            if time.monotonic() > until:
                raise CommandError(f"{shown}, and nothing more since. Is a worker running?")
            time.sleep(LOOK)

    def _cancel(self, name: str, **options: Any) -> None:
        lifecycle.cancel(_model(name), by=_me())
        self.stdout.write("Cancelled: what served before goes on.")

    def _canary(self, **options: Any) -> None:
        self._share("canary", lifecycle.set_canary, **options)

    def _shadow(self, **options: Any) -> None:
        self._share("shadow", lifecycle.set_shadow, **options)

    def _share(self, role: str, decide: Callable[..., Change], **options: Any) -> None:
        label, percent, reason = options["label"], options["percent"], options["reason"]
        if options["stop"]:
            decide(_model(label), None, 0, by=_me(), reason=reason)
            self.stdout.write(f"{label} has no {role} any more.")
            return
        if percent is None:
            raise CommandError("Say how many per cent of the requests, or --stop.")
        version = _version(label)
        decide(version.model, version, percent, by=_me(), reason=reason)
        self.stdout.write(f"{version} is the {role}: {percent} %.")

    def _default(self, name: str, reason: str, **options: Any) -> None:
        lifecycle.make_default(_model(name), by=_me(), reason=reason)
        self.stdout.write(f"/transform asks {name} from now on.")

    def _golden(self, name: str, input: Any, tolerance: float, **options: Any) -> None:  # noqa: A002
        model = _model(name)
        golden = GoldenInput(model=model, input=input, tolerance=tolerance)
        if answered := "expected" in options:
            golden.expected, golden.recorded_from = options["expected"], _me()
        try:
            golden.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        if answered and golden.expected is None:
            golden.expected = JSON_NULL
        golden.save()
        if answered or model.active:
            self.stdout.write(f"Every version of {name} must answer {golden} alike.")
        if not answered and model.active:
            self.stdout.write(f"The next check of another version records {model.active}'s answer.")
        elif not answered:
            self.stdout.write(
                f"{name} has no active version, so checks skip {golden} until it has. Or say what "
                "to expect, with --expected."
            )

    def _audit(self, name: str | None, **options: Any) -> None:
        changes = Change.objects.select_related("model", "from_version", "to_version")
        if name:
            changes = changes.filter(model=_model(name))
        for change in changes[:SHOWN]:
            self.stdout.write(f"{change.at:%Y-%m-%d %H:%M:%S} {_shown(change)}")


def _me() -> str:
    return f"shell:{getpass.getuser()}"


def _shown(change: Change) -> str:
    share = "" if change.share is None else f" {change.share} %"
    ways = f"{change.from_version or '-'} → {change.to_version or '-'}{share}"
    detail = f" ({change.detail.splitlines()[-1]})" if change.detail else ""
    said = f"{change.by} {change.action} {change.model}: {ways}, {change.outcome}{detail}"
    return f"{said}: {change.reason}"


def _model(name: str) -> ServedModel:
    try:
        return ServedModel.objects.get(pk=name)
    except ServedModel.DoesNotExist as error:
        known = ", ".join(ServedModel.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no model {name}. Known: {known}.") from error


def _version(label: str) -> ModelVersion:
    try:
        wanted = VersionId.parse(label)
        return ModelVersion.objects.select_related("model").get(
            model=wanted.model, version=wanted.version
        )
    except (ValueError, ModelVersion.DoesNotExist) as error:
        known = ", ".join(sorted(one.label for one in ModelVersion.objects.all())) or "none"
        raise CommandError(f"There is no version {label}. Known: {known}.") from error


def _json(text: str) -> Any:
    """Raises ArgumentTypeError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(
            f"{text} isn't JSON: {error}. Write a text in quotation marks: '\"so\"'."
        ) from error


def _option(text: str) -> tuple[str, Any]:
    """ "key=json"; raises ArgumentTypeError."""
    key, found, value = text.partition("=")
    if not key or not found:
        raise ArgumentTypeError(f"{text} names no option. Write KEY=JSON, as in max_tokens=256.")
    return key, _json(value)
