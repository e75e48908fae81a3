"""TEI's endpoints: read, ask, answer."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.http import HttpResponseBase
from django.shortcuts import redirect
from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import dispatch
from inference.protocols import fields, forms
from inference.protocols.endpoint import Answered, Asker, AskingView
from inference.protocols.rerank import views as cohere
from inference.protocols.tei import answers, asking, schema


class TeiView(AskingView):
    """Asks what its endpoint asks."""

    example = '{"inputs": "Hello"}'
    ask: ClassVar[Callable[[Any, Asker], Answered]]

    def answer(self, body: Any, asker: Asker) -> Answered:
        return type(self).ask(body, asker)


@extend_schema_view(post=schema.embed)
class EmbedView(TeiView):
    ask = asking.embed


@extend_schema_view(post=schema.embed_all)
class EmbedAllView(TeiView):
    ask = asking.embed_all


@extend_schema_view(post=schema.embed_sparse)
class EmbedSparseView(TeiView):
    ask = asking.embed_sparse


@extend_schema_view(post=schema.predict)
class PredictView(TeiView):
    ask = asking.predict


@extend_schema_view(post=schema.similarity)
class SimilarityView(TeiView):
    example = '{"inputs": {"source_sentence": "…", "sentences": ["…"]}}'
    ask = asking.similarity


@extend_schema_view(post=schema.tokenize)
class TokenizeView(TeiView):
    ask = asking.tokenize


@extend_schema_view(post=schema.rerank)
class RerankView(cohere.RerankView):
    """In Cohere's form if the body has `documents`, in TEI's if it has `texts`."""

    example = '{"query": "…", "texts": ["…"]}'

    def answer(self, body: Any, asker: Asker) -> Answered:
        if isinstance(body, Mapping):
            if body.get("documents") is not None:
                self.form = forms.as_openai
            elif body.get("texts") is not None:
                self.form = forms.as_tei
        speaks = self.form or forms.form(self.request.path)
        return asking.rerank(body, asker) if speaks is forms.as_tei else super().answer(body, asker)


@extend_schema_view(post=schema.hosted)
class HostedView(TeiView):
    """A base address itself."""

    ask = asking.hosted


class RootView(HostedView):
    """The address of the server: pages begin here too."""

    @schema.root
    def get(self, request: Request) -> HttpResponseBase:
        return redirect("docs")


class InfoView(APIView):
    @schema.info
    def get(self, request: Request, model: str | None = None) -> Response:
        return Response(answers.info(dispatch.served(fields.target(model, frozenset()))))


class HealthView(APIView):
    @schema.health
    def get(self, request: Request, model: str | None = None) -> Response:
        dispatch.ready(fields.target(model, frozenset()))
        return Response({"status": "ready"})
