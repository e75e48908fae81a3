"""Where OpenAI's endpoints are."""

from django.urls import path

from inference.protocols.openai import EMBEDDINGS, MODELS, views

urlpatterns = [
    *(path(one.removeprefix("/"), views.EmbeddingsView.as_view()) for one in EMBEDDINGS),
    path(MODELS.removeprefix("/"), views.ModelsView.as_view()),
    path(f"{MODELS.removeprefix('/')}/<path:name>", views.ModelView.as_view()),
]
