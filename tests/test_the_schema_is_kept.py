"""Schemathesis makes requests from the published schema, and holds every answer against it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.stack import Stack

# Every check is on. One is told more: it doesn't know 411 and 413 among the ways to refuse a body
# that breaks the schema (RFC 9110, 15.5.12 and 15.5.14); those that Velo never gives are left out.
# A model that isn't there is missed, and a full queue found, before the body is looked at. And a
# caller who waits for next to no time rightly gets a 504. A schema can't say that a tensor has as
# many elements as its shape says, and that a model takes and gives the tensors of its kind.
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]

[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "411", "413", "415", "422", "424", "429", "504"]

[[operations]]
include-path-regex = "/infer$"

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404", "413", "429", "5xx"]
"""


def check(velo: Stack, tmp_path: Path, operations: int, *words: str) -> None:
    """Each answer that this Velo gives keeps its schema. `words`: more for schemathesis."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    always = ["--checks", "all", "--seed", "1", "--max-examples", "50", "--no-color"]
    # The first /embed_all converts the model once more.
    always += ["--continue-on-failure", "--generation-database", "none", "--request-timeout", "60"]
    always += ["--max-response-time", "60"]
    program = Path(sys.executable).with_name("st")
    ended = subprocess.run(
        [program, "--config-file", configuration, "run", *always, *words, f"{velo.base}/schema"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    said = re.sub(r"\S{500,}", "(long)", ended.stdout) + ended.stderr
    assert ended.returncode == 0, said
    assert f"{operations} selected / " in said
    found = re.search(r"(\d+) generated, (\d+) passed", said)
    assert found, said
    assert found[1] == found[2]
    assert int(found[1]) >= 80


def test_every_answer_keeps_the_schema(velo: Stack, tmp_path: Path) -> None:
    check(velo, tmp_path, 28)
