"""The life of a model version, and every decision about which of them serve.

registered → checking → ready → active → retired, or rejected with the reason:

    registered ──► checking ──► ready ──► active ──► retired
        ▲           │   ▲         │         ▲           │
        └───────────┤   ├─────────┤         └───────────┤  a rollback, or activated again
       interrupted  │   └─────────┴─────────────────────┘  checked again
                    └────────► rejected ──► checking

A worker's environment (VELO_MODEL_PATH) makes its version active without a check: the person who
starts a process with it has decided.
"""

from workers.catalog.lifecycle.concluding import conclude, declare
from workers.catalog.lifecycle.deciding import (
    activate,
    cancel,
    make_default,
    rollback,
    set_canary,
    set_shadow,
)
from workers.catalog.lifecycle.progress import Progress, all_pending, pending, progress
from workers.catalog.lifecycle.registering import (
    CHECK,
    SILENT,
    give_up_silent_checks,
    register,
    request_check,
)
from workers.catalog.lifecycle.states import NEXT, SERVABLE, Refused, State, move
from workers.catalog.lifecycle.turns import take_check, turn_of, waiting_checks, waits

__all__ = [
    "CHECK",
    "NEXT",
    "SERVABLE",
    "SILENT",
    "Progress",
    "Refused",
    "State",
    "activate",
    "all_pending",
    "cancel",
    "conclude",
    "declare",
    "give_up_silent_checks",
    "make_default",
    "move",
    "pending",
    "progress",
    "register",
    "request_check",
    "rollback",
    "set_canary",
    "set_shadow",
    "take_check",
    "turn_of",
    "waiting_checks",
    "waits",
]
