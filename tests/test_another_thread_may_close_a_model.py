"""A worker loads its first model in one thread and lets it go in another."""

import subprocess
import sys

from tests.stack import ROOT, environment

CODE = """
import os, signal, threading
import django
django.setup()
from workers import predictors
model = predictors.load(predictors.declared(), 1)
closing = threading.Thread(target=model.close)
closing.start()
closing.join()
signal.signal(signal.SIGTERM, lambda *what: print("it was told to stop"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signals_come_through_afterwards() -> None:
    settings = environment(ROOT, DJANGO_SETTINGS_MODULE="tests.settings", VELO_ENGINE="openvino")
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "it was told to stop\n"
