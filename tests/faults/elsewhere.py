"""Velo's settings for a process that says it runs in a place whose processes nobody here sees."""

import os

os.environ["VELO_PREDICTOR"] = "sleep"

from velo_site.settings import *  # noqa: F403
from workers import host

host.place = lambda: "elsewhere"
