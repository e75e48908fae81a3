"""Where the endpoints that rank are, but for "/rerank", where TEI is spoken too."""

from django.urls import path

from inference.protocols.rerank import RERANK, views

FIRST, SECOND, _ = (one.removeprefix("/") for one in RERANK)

urlpatterns = [
    path(FIRST, views.RerankView.as_view()),
    path(SECOND, views.SecondRerankView.as_view()),
]
