"""Velo's settings for a process that takes itself to be alone on its machine."""

import os

os.environ["VELO_PREDICTOR"] = "sleep"

from velo_site.settings import *  # noqa: F403
from workers.host import machine

machine.place = lambda: f"the machine of {os.getpid()}"
