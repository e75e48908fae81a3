"""Where TEI's endpoints are: below "/", and below the address of each model."""

from django.urls import path
from rest_framework.views import APIView

from inference.protocols.tei import HEALTH, INFO, RERANK, views

VIEWS: dict[str, type[APIView]] = {
    "embed": views.EmbedView,
    "embed_all": views.EmbedAllView,
    "embed_sparse": views.EmbedSparseView,
    "predict": views.PredictView,
    "similarity": views.SimilarityView,
    "tokenize": views.TokenizeView,
    RERANK: views.RerankView,
    INFO: views.InfoView,
    HEALTH: views.HealthView,
}

urlpatterns = [
    path("", views.RootView.as_view(), name="root"),
    *(path(name, view.as_view()) for name, view in VIEWS.items()),
    path("models/<str:model>", views.HostedView.as_view()),
    *(path(f"models/<str:model>/{name}", view.as_view()) for name, view in VIEWS.items()),
]
