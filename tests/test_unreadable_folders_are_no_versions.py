"""A model folder that can't be read is an error that names it, not a version of what could be."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.stack import ROOT, environment
from workers import predictors
from workers.catalog import lifecycle, sources, specs
from workers.catalog.lifecycle import Refused
from workers.catalog.plan import PlannedVersion
from workers.catalog.sources import SourceError
from workers.models import ModelVersion, ServedModel
from workers.predictors import ModelError
from workers.predictors import folder as folders

NOBODY = 65534
KNOBS = {
    "DJANGO_SETTINGS_MODULE": "velo_site.settings",
    "DJANGO_SECRET_KEY": "x",
    "DJANGO_ALLOWED_HOSTS": "localhost",
}
DIGEST = "2ef83689721e5eba0ed29e8ff4f2e7cd603aa942332779ecce0e2324ee00b0cd"

# Root may read everything: in a process of its own that has become another user.
AS_NOBODY = f"""
import os, sys
from pathlib import Path
import django
django.setup()
from workers.predictors import ModelError, folder
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
try:
    print("a version:", folder.sha256(Path(sys.argv[1])))
except ModelError as error:
    print(error)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "1_Pooling" / "config.json").write_text("{}")
    (made / ".cache").mkdir()
    (made / ".cache" / "lost").symlink_to("gone")  # what is hidden is no part of the version
    return made


def lost_link(model: Path) -> str:
    (model / "model.safetensors").symlink_to(model.parent / "unmounted" / "model.safetensors")
    return "model.safetensors"


def circle(model: Path) -> str:
    (model / "model.safetensors").symlink_to("model.safetensors")
    return "model.safetensors"


def empty(model: Path) -> str:
    for path in (model / "config.json", model / "1_Pooling" / "config.json"):
        path.unlink()
    return "holds no file. Download the model into it"


harmed = pytest.mark.parametrize("harm", [lost_link, circle, empty])


def test_a_readable_folder_keeps_its_digest(model: Path) -> None:
    """As all versions that are registered have it."""
    (model / "linked.txt").symlink_to(model / "config.json")
    (model / "elsewhere").symlink_to(model / "1_Pooling")
    assert folders.sha256(model) == DIGEST
    assert folders.digest(model) == DIGEST[:12]


@harmed
def test_it_has_no_digest(model: Path, harm: Callable[[Path], str]) -> None:
    says = harm(model)
    with pytest.raises(ModelError, match=f"The model's folder {model} .*{says}"):
        folders.sha256(model)
    with pytest.raises(SourceError, match=says):
        sources.digest(model)


@harmed
def test_an_environment_that_names_it_declares_nothing(
    model: Path, harm: Callable[[Path], str], settings: Any
) -> None:
    settings.VELO_MODEL_PATH = str(model)
    says = harm(model)
    with pytest.raises(ModelError, match=says):
        predictors.declared()


def test_an_environment_that_leads_in_a_circle_declares_nothing(
    tmp_path: Path, settings: Any
) -> None:
    path = tmp_path / "circle"
    path.symlink_to(path)
    settings.VELO_MODEL_PATH = str(path)
    with pytest.raises(ModelError, match=r"VELO_MODEL_PATH=.*circle can't be followed"):
        predictors.declared()


@harmed
@pytest.mark.django_db
def test_it_is_not_registered(
    model: Path, harm: Callable[[Path], str], settings: Any, redis: None
) -> None:
    settings.VELO_MODEL_ROOTS = [str(model.parent)]
    says = harm(model)
    with pytest.raises(Refused, match=says):
        lifecycle.register("m", "1", str(model), by="anna")
    assert not ModelVersion.objects.exists()
    assert not ServedModel.objects.exists()


@harmed
def test_a_version_whose_files_have_become_so_is_not_loaded(
    model: Path, harm: Callable[[Path], str], settings: Any
) -> None:
    settings.VELO_MODEL_ROOTS = [str(model.parent)]
    version = PlannedVersion("m", "1", "active", str(model), DIGEST, {}, None, 0, {})
    says = harm(model)
    with pytest.raises(ModelError, match=says):
        specs.spec_of(version, "embed")


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are closed to others."""
    with TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def as_nobody(model: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(model)],
        cwd=ROOT,
        env=environment(model.parent, **KNOBS),
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["", "1_Pooling", "config.json"])
def test_a_folder_of_another_user_has_no_digest(closed: str) -> None:
    """Neither the folder, nor one in it, nor a file."""
    with open_to_all() as place:
        model = place / "model"
        (model / "1_Pooling").mkdir(parents=True)
        (model / "config.json").write_text("{}")
        (model / "1_Pooling" / "config.json").write_text("{}")
        assert "a version: " in as_nobody(model)
        (model / closed).chmod(0)
        said = as_nobody(model)
    assert f"The model's folder {model} can't be read: [Errno 13] Permission denied" in said
    assert "Let the user that Velo runs as read all of it" in said
