"""Runs a client's program against a Velo."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.stack import ROOT, Stack

CLIENTS = ROOT / ".venv" / "clients"  # the clients' environment
PROGRAMS = Path(__file__).parent


def surroundings() -> dict[str, str]:
    """The environment of a program. Velo's predictors ask for Hugging Face's offline mode, in which
    that client reaches no server at all."""
    return {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}


def run(program: Path) -> list[str]:
    """The command line of a program in Python or JavaScript; the latter has to lie in CLIENTS,
    since it looks for its packages beside itself."""
    return ["node" if program.suffix == ".mjs" else str(CLIENTS / "bin" / "python"), str(program)]


def calls(velo: Stack, program: str, model: str) -> Any:
    """What one of PROGRAMS has printed."""
    place = PROGRAMS / program
    if place.suffix == ".mjs":
        place = Path(shutil.copy(place, CLIENTS))
    ended = subprocess.run(
        [*run(place), velo.base, model],
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
