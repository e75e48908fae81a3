"""The check of words finds what plain technical English avoids, and finds nothing in Velo."""

from pathlib import Path

import pytest

from tests import words

AVOIDED = {
    "503 at once to who comes; waiting requests wait": "to who",
    "Waiting requests wait; who waits goes on waiting.": "; who",
    "Who was silent himself doesn't judge.": "Who",
    "It ends. Who waits goes on waiting.": ". Who",
    "`X-Request-Timeout` is no number of seconds above 0": "is no",
    "The body is JSON, but no string.": "but no string",
    "by making all workers anew": "anew",
    "What a worker shall hold.": "shall",
    "Its jobs are put back by whoever is alive.": "whoever",
    "The queue is the one that serves it.": "the one",
    "Another one answers.": "Another one",
    "Old versions and new ones answer.": "ones",
    "Values that differ from those that were registered.": "those",
    "After so many seconds it ends.": "so many",
    "A worker ends when one is told to.": "one is",
    "A worker judges others when he is alive.": "he",
    "Mend it and check it again.": "Mend",
    "It answers otherwise than expected.": "otherwise than",
    "Never is a job lost.": "Never is",
}
PLAIN = (
    "New requests get 503 immediately; waiting requests keep waiting.",
    "A worker that lost its own lease doesn't reclaim other workers' jobs.",
    "A caller who waits. Who answers? There is no model with this name.",
    "It is no longer alive. It has no workers. One of its jobs, in one round trip.",
    "Those workers are alive, and `shall` is code.",
)


@pytest.mark.parametrize("sentence", AVOIDED)
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("page.md", "# A page\n\n```\nshall\n```\n\n{}\n"),
        ("page.html", "{{% if shall %}}<p class='shall'>\n{}\n</p>"),
        ("module.py", '"""{}"""\nshall = 1\n'),
        ("comment.py", "shall = 1  # {}\n"),
        ("text.py", 'shall(f"{}")\n'),
        ("script.lua", "local shall -- {}\n"),
        ("file.yml", "shall: 1 # {}\n"),
    ],
)
def test_avoided_words_are_found(tmp_path: Path, name: str, form: str, sentence: str) -> None:
    path = tmp_path / name
    path.write_text(form.format(sentence))
    found = {finding.words for finding in words.findings(path, tmp_path)}
    assert AVOIDED[sentence] in found
    assert all(part in sentence for part in found)


@pytest.mark.parametrize("sentence", PLAIN)
def test_plain_sentences_pass(tmp_path: Path, sentence: str) -> None:
    (tmp_path / "page.md").write_text(sentence)
    assert not list(words.findings(tmp_path / "page.md", tmp_path))


def test_a_sentence_may_be_spread_over_lines(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        'shall = 1\nsay(\n    "The value is "\n    f"no number."\n)\n# by\n# who comes\n'
    )
    assert {finding.line for finding in words.findings(path, tmp_path)} == {3, 6}


def test_velo_is_written_in_plain_words() -> None:
    found = [str(finding) for path in words.files() for finding in words.findings(path)]
    assert not found, "\n".join(found)


def test_each_place_has_files() -> None:
    for place in words.PLACES:
        assert list(words.ROOT.glob(place)), place
