"""A class of the user's own serves as a model; what it does wrong costs only its own request."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.stack import ROOT
from workers import predictors
from workers.metrics.latency import Recorder
from workers.predictors import ModelError, Spec
from workers.runtime.runner import NotFinite, Output, Runner, WrongNumber

HEAD = """
import subprocess
from subprocess import Popen
class Model:
    def load(self, folder, threads): ...
"""


@pytest.fixture
def module(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Spec]]:
    """Writes a module that may be imported, and gives a version of its class Model."""
    name = f"models_of_{tmp_path.name}"
    settings.VELO_CUSTOM_MODULES = [name]
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str, cls: str = "Model") -> Spec:
        (tmp_path / f"{name}.py").write_text(code)
        return Spec("m", "1", "custom", tmp_path, options={"class": f"{name}.{cls}"})

    return write


def answers(spec: Spec, inputs: list[Any]) -> list[Any]:
    """As the worker gets them: an output, or the exception that an input has to answer for."""
    runner = Runner(predictors.load(spec, 1), "worker", Recorder())
    found = []
    encoded = runner.encode(inputs)
    good = [one for one in encoded if not isinstance(one, tuple)]
    outputs = iter(runner.answers(good, nullcontext))
    for one in encoded:
        answer = one if isinstance(one, tuple) else next(outputs)
        found.append(answer.value if isinstance(answer, Output) else answer[1])
    return found


def test_the_example_of_the_docs_works(module: Callable[..., Spec], tmp_path: Path) -> None:
    docs = (ROOT / "docs" / "kinds.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", docs, re.MULTILINE | re.DOTALL)
    [said] = re.findall(r"^\"(.*)\" → (\{.*\})$", docs, re.MULTILINE)
    (tmp_path / "words.json").write_text('["be", "question"]')
    spec = module(code, "Counting")
    predictor = predictors.load(spec, 1)
    predictor.warm_up()
    [output] = predictor.predict(predictor.encode([said[0]]))
    assert output == json.loads(said[1])
    assert predictor.problem(said[0], output) == ""
    assert "is not of type 'object'" in predictor.problem(said[0], [1])
    with pytest.raises(predictors.InputError, match="is not of type 'string'"):
        predictor.encode([1])
    predictor.close()


def test_what_goes_wrong_costs_only_its_own_request(module: Callable[..., Spec]) -> None:
    spec = module(
        HEAD + "    def predict(self, inputs):\n"
        "        if 'raise' in inputs: raise OSError('no such thing')\n"
        "        if 'short' in inputs: return []\n"
        "        odd = {'object': object(), 'set': {1}, 'nan': {'deep': [float('nan')]},\n"
        "               'long': 2**80, 'half': '\\ud800'}\n"
        "        return [odd.get(str(one), one) for one in inputs]\n"
    )
    given = ["a", "raise", "short", "object", "b", "set", "nan", "long", "half", {"c": [1, None]}]
    kinds = [str, OSError, WrongNumber, TypeError, str, TypeError, NotFinite, TypeError, TypeError]
    found = answers(spec, given)
    assert [type(one) for one in found[:-1]] == kinds
    assert (found[0], found[4], found[9]) == ("a", "b", {"c": [1, None]})


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("subprocess.Popen", "isn't in VELO_CUSTOM_MODULES"),
        ("{}x.Model", "isn't in VELO_CUSTOM_MODULES"),
        ("{}.Popen", "isn't a class with the methods"),
        ("{}.subprocess.Popen", "can't be imported: ModuleNotFoundError"),
        ("{}.Imported", "isn't in VELO_CUSTOM_MODULES"),
        ("{}.Nobody", "can't be imported: AttributeError"),
        ("{}.load", "isn't a class"),
        ("Model", "needs it to be the dotted path"),
        ("", "needs it to be the dotted path"),
        ("..Model", "isn't in VELO_CUSTOM_MODULES"),
    ],
)
def test_only_a_class_of_a_trusted_module_is_taken(
    module: Callable[..., Spec], tmp_path: Path, path: str, says: str
) -> None:
    (tmp_path / "elsewhere.py").write_text(HEAD + "    def predict(self, inputs): ...\n")
    spec = module(HEAD + "from elsewhere import Model as Imported\ndef load(): ...\n")
    name = str(spec.options["class"]).rpartition(".")[0]
    wrong = Spec("m", "1", "custom", options={"class": path.format(name)})
    with pytest.raises(ModelError, match=says):
        predictors.load(wrong, 1)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('not today')", "can't be imported: RuntimeError: not today"),
        ("syntax error", "can't be imported: SyntaxError"),
        ("class Model: ...", "isn't a class with the methods load and predict"),
        (
            HEAD.replace("...", "raise ValueError('no words')")
            + "    def predict(self, inputs): ...\n",
            "can't load .*: ValueError: no words",
        ),
        (
            HEAD + "    input_schema = {'type': 7}\n    def predict(self, inputs): ...\n",
            "input_schema of .* isn't a JSON Schema",
        ),
    ],
)
def test_a_class_that_is_wrong_is_refused_and_says_why(
    module: Callable[..., Spec], code: str, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        predictors.load(module(code), 1)


def test_a_class_that_fails_on_its_sample_does_not_get_warm(
    module: Callable[..., Spec],
) -> None:
    spec = module(HEAD + "    sample = 'x'\n    def predict(self, inputs): return 1 / 0\n")
    with pytest.raises(ModelError, match="fails on its own sample: ZeroDivisionError"):
        predictors.load(spec, 1).warm_up()
