"""Where the endpoints that rank are."""

from django.urls import path

from inference.protocols.rerank import RERANK, views

FIRST, SECOND, PLAIN = (one.removeprefix("/") for one in RERANK)

urlpatterns = [
    path(FIRST, views.RerankView.as_view()),
    path(SECOND, views.SecondRerankView.as_view()),
    path(PLAIN, views.RerankView.as_view()),
]
