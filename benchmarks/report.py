"""Where the benchmarks write what they found, and in which form."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "var" / "benchmarks"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, found: Any, text: str) -> None:
    """NAME.json and NAME.md in var/benchmarks; the text on the screen too."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1))
    (OUT / f"{name}.md").write_text(text + "\n")
    print(text)
