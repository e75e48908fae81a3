"""The endpoints that rank: read, ask, answer."""

from typing import Any

from drf_spectacular.utils import extend_schema_view

from inference.protocols.endpoint import Answered, Asker, AskingView
from inference.protocols.rerank import answers, asking, schema
from inference.protocols.rerank.questions import question

# Of a document's score: from 0 to 1, whatever the version gives by itself.
BETWEEN_0_AND_1 = {"raw_scores": False}


@extend_schema_view(post=schema.rerank)
class RerankView(AskingView):
    example = '{"query": "…", "documents": ["…"]}'
    version = "1"  # of Cohere's API

    def answer(self, body: Any, asker: Asker) -> Answered:
        asked = question(body, asker.key, asker.model)
        parts, predictions = asking.ask(asked, asker.seconds, BETWEEN_0_AND_1)
        return Answered(answers.ranking(asked, parts, predictions, self.version), predictions)


class SecondRerankView(RerankView):
    version = "2"
