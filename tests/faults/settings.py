"""Velo's settings, with a model that can be told to go wrong."""

import sys

from tests.faults import faulty
from velo_site.settings import *  # noqa: F403

sys.modules["workers.predictors.faulty"] = faulty
VELO_PREDICTOR = "faulty"
