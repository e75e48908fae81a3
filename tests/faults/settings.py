"""Velo's settings, with a stand-in model that can be told to go wrong."""

from tests.faults import faulty
from velo_site.settings import *  # noqa: F403
from workers.predictors import sleep

sleep.load = faulty.load
VELO_PREDICTOR = "sleep"
