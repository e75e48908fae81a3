"""Where the protocol's endpoints are."""

from django.urls import path

from inference.protocols.oip import HEALTH, INFER, MODELS, SERVER, views

HEALTHS = HEALTH.removeprefix("/")
MODEL = f"{MODELS.removeprefix('/')}<str:model>"
VERSION = f"{MODEL}/versions/<str:version>"

urlpatterns = [
    path(f"{MODEL}{INFER}", views.InferView.as_view()),
    path(f"{VERSION}{INFER}", views.VersionInferView.as_view()),
    path(SERVER.removeprefix("/"), views.ServerView.as_view()),
    path(f"{HEALTHS}live", views.LiveView.as_view()),
    path(f"{HEALTHS}ready", views.ReadyView.as_view()),
    path(MODEL, views.ModelView.as_view()),
    path(VERSION, views.VersionView.as_view()),
    path(f"{MODEL}/ready", views.ModelReadyView.as_view()),
    path(f"{VERSION}/ready", views.VersionReadyView.as_view()),
]
