"""Where each endpoint is."""

from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework.renderers import TemplateHTMLRenderer

from inference import views
from inference.openapi import SchemaView

urlpatterns = [
    path("transform", views.TransformView.as_view(), name="transform"),
    path("models", views.ModelsView.as_view(), name="models"),
    path(
        "models/<str:model>/transform", views.ModelTransformView.as_view(), name="model-transform"
    ),
    path(
        "models/<str:model>/versions/<str:version>/transform",
        views.VersionTransformView.as_view(),
        name="version-transform",
    ),
    path("", include("inference.protocols.openai.urls")),
    path("", include("inference.protocols.rerank.urls")),
    path("", include("inference.protocols.tei.urls")),
    path("", include("inference.protocols.oip.urls")),
    path("stat", views.StatView.as_view(), name="stat"),
    path("metrics", views.MetricsView.as_view(), name="metrics"),
    path("health/live", views.LiveView.as_view(), name="live"),
    path("health/ready", views.ReadyView.as_view(), name="ready"),
    path("schema", SchemaView.as_view(), name="schema"),
    path(
        "docs",
        SpectacularSwaggerView.as_view(url_name="schema", renderer_classes=[TemplateHTMLRenderer]),
        name="docs",
    ),
]
