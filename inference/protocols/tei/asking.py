"""What is asked at each of TEI's endpoints, and at the base address."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from inference import dispatch
from inference.protocols import fields
from inference.protocols.endpoint import Answered, Asker
from inference.protocols.rerank import asking as ranking
from inference.protocols.rerank import questions as rerank_questions
from inference.protocols.tei import answers, questions
from inference.protocols.tei.questions import Texts
from workers.predictors import EMBEDDING_KINDS
from workers.values.prediction import Prediction

CLASSIFYING, NAMING = frozenset({"classify"}), frozenset({"ner"})
SPARSE, DENSE = frozenset({"sparse"}), frozenset({"embed"})
TOKENIZING = frozenset({"embed", "classify", "ner", "sparse"})
# Of which the model at a base address may be.
HOSTED = EMBEDDING_KINDS | CLASSIFYING | NAMING


def embed(body: Any, asker: Asker) -> Answered:
    """A vector for each text, scaled to length 1 unless `normalize` is false."""
    given = questions.checked(body)
    asked, dimensions = questions.texts(given), fields.dimensions(given)
    scale = fields.flag(given, "normalize") is not False
    predictions = _ask(EMBEDDING_KINDS, asked, asker, normalize=scale)
    return Answered(answers.vectors(predictions, dimensions, scale=scale), predictions)


def embed_all(body: Any, asker: Asker) -> Answered:
    """For each text, a vector of each token: hundreds of kilobytes, so that a request has as few
    texts as a batch."""
    asked = questions.texts(questions.checked(body), most="VELO_BATCH_MAX")
    predictions = _ask(DENSE, asked, asker, output="token_embeddings")
    return Answered([one.output for one in predictions], predictions)


def embed_sparse(body: Any, asker: Asker) -> Answered:
    """For each text, the vocabulary's indices with a value above 0."""
    asked = questions.texts(questions.checked(body), prompts=False)
    predictions = _ask(SPARSE, asked, asker)
    return Answered([one.output for one in predictions], predictions)


def rerank(body: Any, asker: Asker) -> Answered:
    """Texts by their score, the best first."""
    given = questions.checked(body)
    query, texts = rerank_questions.texts(given.get("query"), given.get("texts"), "texts")
    with_texts = bool(fields.flag(given, "return_text"))
    target = fields.target(asker.model, rerank_questions.KINDS, asker.key)
    question = rerank_questions.Question(query, texts, target, None, with_texts)
    parameters = questions.reading_of_pairs(given) | {"raw_scores": questions.raw(given)}
    parts, predictions = ranking.ask(question, asker.seconds, parameters, "texts")
    return Answered(answers.ranking(question, parts, predictions), predictions)


def predict(body: Any, asker: Asker) -> Answered:
    """All labels with their scores, the best first; of a pair, its score."""
    given = questions.checked(body)
    asked, raw = questions.predict(given), questions.raw(given)
    if asked.firsts is None:
        predictions = _ask(CLASSIFYING, asked.texts, asker, **({"raw_scores": True} if raw else {}))
        scores = [answers.labels(one.output) for one in predictions]
    else:
        pairs = zip(asked.firsts, asked.texts.texts, strict=True)
        inputs = [{"query": first, "texts": [second]} for first, second in pairs]
        texts = Texts(inputs, asked.texts.names, asked.texts.parameters)
        predictions = _ask(rerank_questions.KINDS, texts, asker, raw_scores=raw)
        scores = [answers.score(one.output) for one in predictions]
    return Answered(scores if asked.is_batch else scores[0], predictions)


def similarity(body: Any, asker: Asker) -> Answered:
    """The cosine of the source sentence to each sentence."""
    asked = questions.similarity(questions.checked(body))
    predictions = _ask(EMBEDDING_KINDS, asked, asker, normalize=True)
    source, *others = answers.vectors(predictions, None)
    return Answered((numpy.stack(others) @ source).tolist(), predictions)


def tokenize(body: Any, asker: Asker) -> Answered:
    """How the model's tokenizer reads each text."""
    given = questions.checked(body)
    asked, specials = questions.texts(given), questions.specials(given)
    predictions = _ask(TOKENIZING, asked, asker, output="tokens", **specials)
    return Answered([one.output for one in predictions], predictions)


def hosted(body: Any, asker: Asker) -> Answered:
    """What hosted inference does: by the body, or else by the model's kind."""
    given = questions.flat(body)
    if "query" in given:
        return rerank(given, asker)
    if isinstance(given.get("inputs"), Mapping):
        return similarity(given, asker)
    kind = dispatch.kind_of(fields.target(asker.model, HOSTED, asker.key))
    return BY_KIND.get(kind, embed)(given, asker)


def _classify(body: Any, asker: Asker) -> Answered:
    """All labels, or the best, of each text; in an array also for one text."""
    asked = questions.classify(body)
    raw = {"raw_scores": True} if asked.function else {}
    predictions = _ask(CLASSIFYING, asked.texts, asker, **raw)
    scores = [
        answers.labels(answers.applied(one.output, asked.function))[: asked.most]
        for one in predictions
    ]
    return Answered(scores, predictions)


def _name(body: Any, asker: Asker) -> Answered:
    """The entities of a text, or of each."""
    asked = questions.texts(body, prompts=False)
    predictions = _ask(NAMING, asked, asker)
    found = [answers.entities(one.output) for one in predictions]
    return Answered(found[0] if isinstance(body.get("inputs"), str) else found, predictions)


BY_KIND: Mapping[str, Callable[[Any, Asker], Answered]] = {"classify": _classify, "ner": _name}


def _ask(kinds: frozenset[str], asked: Texts, asker: Asker, **parameters: Any) -> list[Prediction]:
    """Raises what `dispatch.ask` does."""
    target = fields.target(asker.model, kinds, asker.key)
    further = {**asked.parameters, **parameters}
    return dispatch.ask(target, asked.texts, asker.seconds, asked.names, further)
