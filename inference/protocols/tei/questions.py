"""Requests in the forms of TEI and of hosted inference, read and checked.

Fields that aren't known are ignored, and null is as if a field weren't there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.errors import InvalidInput
from inference.protocols import fields

SIDES = {"left": "left", "Left": "left", "right": "right", "Right": "right"}
PAIR = 2
# What a classifier's logits become, as hosted inference names it.
FUNCTIONS = ("softmax", "sigmoid", "none")
TEXTS = "a string or an array of strings"
PREDICTED = (
    "a string, a pair of strings, or an array of arrays, each of a string or of a pair of strings"
)


@dataclass(frozen=True)
class Texts:
    """Texts for a model, and how it is to read them."""

    texts: list[Any]  # each is checked with the model's kind
    names: list[str]  # what errors call them
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Predict:
    """What is to be classified: texts, or pairs for a model that scores pairs."""

    texts: Texts  # of pairs: the second texts
    firsts: list[str] | None  # of pairs: the first texts
    is_batch: bool


@dataclass(frozen=True)
class Classify:
    """Texts as hosted inference classifies them."""

    texts: Texts
    function: str | None  # of FUNCTIONS; None: what the model makes of its logits
    most: int | None  # labels that come back, of each text; None: all


def checked(body: Any) -> Mapping[str, Any]:
    """The body, which has to be an object. Raises InvalidInput."""
    if not isinstance(body, Mapping):
        raise fields.not_an_object(body, '{"inputs": "Hello"}')
    return body


def flat(body: Any) -> Mapping[str, Any]:
    """The body with the members of its `parameters`, where hosted inference has what TEI has
    beside the inputs. Raises InvalidInput."""
    given = checked(body)
    present = {name: value for name, value in given.items() if value is not None}
    return {**_nested(given, "parameters"), **present}


def texts(body: Mapping[str, Any], *, prompts: bool = True, most: str = "VELO_MAX_INPUTS") -> Texts:
    """Of `inputs`, a string or an array of strings, at most as many as the setting `most` says.
    Raises InvalidInput, EmptyBatch and TooManyInputs."""
    given = body.get("inputs")
    many = [given] if isinstance(given, str) else fields.array("inputs", given, TEXTS, most)
    return Texts(many, _numbered("inputs", many), reading(body, prompts=prompts))


def reading(body: Mapping[str, Any], *, prompts: bool = False) -> dict[str, Any]:
    """How texts are to be read, as parameters of a request to a model. `prompts`: whether models
    of the kind have some. Raises InvalidInput."""
    found: dict[str, Any] = {}
    if fields.flag(body, "truncate") is False:
        found["truncate"] = False
    side = body.get("truncation_direction")
    if side is not None:
        if not isinstance(side, str) or side not in SIDES:
            raise fields.wrong("truncation_direction", side, '"Left" or "Right"')
        found["truncation_side"] = SIDES[side]
    prompt = body.get("prompt_name")
    if prompt is not None and prompts:
        if not isinstance(prompt, str):
            raise fields.wrong("prompt_name", prompt, "a string")
        found["prompt_name"] = prompt
    return found


def reading_of_pairs(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same for pairs: of the longer text, the end is left out. Raises InvalidInput."""
    found = reading(body)
    if found.pop("truncation_side", "right") != "right":
        raise InvalidInput(
            "truncation_direction: of a query and a text that are too long together, the end of "
            'the longer is left out. Send "Right", or leave it out.',
            param="truncation_direction",
        )
    return found


def raw(body: Mapping[str, Any]) -> bool:
    """Whether scores are to stay logits. Raises InvalidInput."""
    return bool(fields.flag(body, "raw_scores"))


def similarity(body: Mapping[str, Any]) -> Texts:
    """The source sentence, then the sentences. Raises InvalidInput, EmptyBatch and
    TooManyInputs."""
    inputs = body.get("inputs")
    if not isinstance(inputs, Mapping):
        wanted = "an object with source_sentence and sentences"
        raise fields.wrong("inputs", inputs, wanted)
    source = inputs.get("source_sentence")
    if not isinstance(source, str):
        raise fields.wrong("inputs.source_sentence", source, "a string")
    name = "inputs.sentences"
    sentences = fields.array(name, inputs.get("sentences"), "an array of strings")
    names = ["inputs.source_sentence", *_numbered(name, sentences)]
    return Texts([source, *sentences], names, reading(flat(body), prompts=True))


def predict(body: Mapping[str, Any]) -> Predict:
    """Of `inputs`: two strings in an array are a pair, not a batch. Raises InvalidInput,
    EmptyBatch and TooManyInputs."""
    given = body.get("inputs")
    is_batch = isinstance(given, list) and not all(isinstance(one, str) for one in given)
    if is_batch or given == []:
        items = [_item(one) for one in fields.array("inputs", given, PREDICTED)]
    else:
        items = [_item(given)]
    names = _numbered("inputs", items)
    lengths = {len(one) for one in items}
    if len(lengths) > 1:
        raise InvalidInput(
            "inputs: some are texts and some are pairs, and no model takes both. Send them in two "
            "requests.",
            param="inputs",
        )
    if lengths == {1}:
        alone = Texts([one for (one,) in items], names, reading(body))
        return Predict(alone, None, is_batch)
    pairs = [
        (fields.text(f"{name}[0]", first), fields.text(f"{name}[1]", second))
        for name, (first, second) in zip(names, items, strict=True)
    ]
    seconds = Texts([second for _, second in pairs], names, reading_of_pairs(body))
    return Predict(seconds, [first for first, _ in pairs], is_batch)


def classify(body: Mapping[str, Any]) -> Classify:
    """Of `inputs`, a string or an array of strings. Raises InvalidInput, EmptyBatch and
    TooManyInputs."""
    most, function = body.get("top_k"), body.get("function_to_apply")
    if most is not None and (not fields.is_count(most) or most < 1):
        raise fields.wrong("top_k", most, "a whole number of at least 1")
    if function is not None and function not in FUNCTIONS:
        raise fields.wrong("function_to_apply", function, '"softmax", "sigmoid" or "none"')
    return Classify(texts(body, prompts=False), function, most)


def specials(body: Mapping[str, Any]) -> dict[str, bool]:
    """Whether special tokens are shown, as a parameter of a request. Raises InvalidInput."""
    without = fields.flag(body, "add_special_tokens") is False
    return {"add_special_tokens": False} if without else {}


def _item(given: Any) -> list[str]:
    """A text, or the two of a pair."""
    one = [given] if isinstance(given, str) else given
    is_list = isinstance(one, list) and all(isinstance(text, str) for text in one)
    if not is_list or not 1 <= len(one) <= PAIR:
        raise InvalidInput(f"inputs: expected {PREDICTED}.", param="inputs")
    found: list[str] = one
    return found


def _nested(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = body.get(name)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise fields.wrong(name, given, "an object")
    return dict(given)


def _numbered(name: str, many: Sequence[Any]) -> list[str]:
    return [f"{name}[{number}]" for number in range(len(many))]
