"""Velo's settings in a folder of the tests' own, whatever the environment says."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix="velo-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

# Of all processes of one run of the tests: the first one's.
SHARED = Path(os.environ.setdefault("TESTS_SHARED", str(FOLDER)))
# A model that one process has converted need not be converted by the next.
CONVERTED = SHARED / "converted"
CONVERTED.mkdir(exist_ok=True)
(FOLDER / "openvino").symlink_to(CONVERTED)

for name in list(os.environ):
    if name.startswith(("VELO_", "DJANGO_")) and name != "DJANGO_SETTINGS_MODULE":
        del os.environ[name]
for name in ("REDIS_URL", "DATABASE_URL", "STATIC_ROOT", "HOST", "PORT", "WORKERS"):
    os.environ.pop(name, None)
os.environ |= {
    "DJANGO_SECRET_KEY": "a-key-of-the-tests-own",
    "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
    "DJANGO_HTTPS": "0",
    "VELO_VAR": str(FOLDER),
    # The browser of the tests keeps an event loop in their thread, where Django would refuse to
    # ask the database.
    "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
}

from velo_site.settings import *  # noqa: E402, F403
from velo_site.settings import DATABASES  # noqa: E402

# A file, since threads and processes share it.
DATABASES["default"]["TEST"] = {"NAME": FOLDER / "test.sqlite3"}
