"""A process in which several threads decide the same at the same moment, again and again.

Prints "one each time" if of those who can't all have their way one had it, and nobody met anything
but a refusal.
"""

import threading
from collections.abc import Callable

import django

django.setup()

from django.db import connection  # noqa: E402

from workers.catalog import lifecycle  # noqa: E402
from workers.models import Change, ModelVersion, ServedModel  # noqa: E402

THREADS, ROUNDS = 6, 15
NAMES = "a", "b"

together = threading.Barrier(THREADS)
had_their_way: list[tuple[int, str]] = []
unexpected: list[str] = []


def version(model: str, number: int, state: str = "ready") -> ModelVersion:
    return ModelVersion.objects.create(model_id=model, version=str(number), state=state)


def try_at_once(round_number: int, name: str, decide: Callable[[], object]) -> None:
    together.wait()
    try:
        decide()
        had_their_way.append((round_number, name))
    except lifecycle.Refused:
        pass
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        unexpected.append(f"{name}: {error!r}")


def work(number: int, mine: ModelVersion) -> None:
    by = {"by": str(number), "reason": "r"}
    model = ServedModel.objects.get(pk="a")
    other = ServedModel.objects.get(pk=NAMES[number % 2])
    for round_number in range(ROUNDS):
        decisions: dict[str, Callable[[], object]] = {
            "activate": lambda: lifecycle.activate(mine, **by),
            "make default": lambda: lifecycle.make_default(other, **by),
            "declare": lambda: lifecycle.declare(
                other.pk, "0", "", kind="embed", digest="", worker="w"
            ),
            "register": lambda at=round_number: lifecycle.register(
                "c", str(at), "", by="anna", kind="sleep"
            ),
            "cancel": lambda: lifecycle.cancel(model, by="anna"),
        }
        for name, decide in decisions.items():
            try_at_once(round_number, name, decide)
    connection.close()


for name in NAMES:
    ServedModel.objects.create(name=name, follows_environment=False)
    ServedModel.objects.filter(pk=name).update(active=version(name, 0, "active"))
threads = [
    threading.Thread(target=work, args=[number, version("a", number + 1)])
    for number in range(THREADS)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not unexpected, unexpected
for one in [(at, name) for at in range(ROUNDS) for name in ("activate", "register", "cancel")]:
    assert had_their_way.count(one) == 1, (one, had_their_way)
assert ServedModel.objects.filter(is_default=True).count() == 1
assert Change.objects.filter(action="activate", outcome="cancelled").count() == ROUNDS
print("one each time")
