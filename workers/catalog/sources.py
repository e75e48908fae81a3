"""Where a version's files lie, and whether they may be read.

A source is a string of one of these forms:

- an absolute folder: VELO_MODEL_PATH, or one under VELO_MODEL_ROOTS;
- `package:NAME`: the model folder within an installed Python package, which isn't imported for it;
- `hub:ORG/NAME@REVISION`: a commit in this machine's cache of the Hugging Face Hub;
- the empty string: a kind of model without files.

Nothing is downloaded, and nothing that lies there is run.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
from django.conf import settings

from workers.catalog import pickles
from workers.predictors import ModelError
from workers.predictors.folder import INDEX, read_json, sha256

HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})", re.ASCII)
MARKS = ("modules.json", "config.json")  # a folder that holds one of them is a model's
REMOTE_CODE = ("auto_map", "custom_pipelines")  # transformers' keys for code beside the weights
WEIGHTS_KEY = "transformers_weights"  # and for weights under a name of their own
OWN_MODULES = "sentence_transformers."  # the types in modules.json that aren't code of the model's
PICKLED = ("pytorch_model*.bin", "adapter_model.bin")


class SourceError(Exception):
    """The message names what is wrong and the cure."""


def open_source(source: str) -> Path | None:
    """The folder, found and inspected; None for a kind without files. Raises SourceError."""
    folder = resolve(source)
    if folder is not None:
        try:
            inspect(folder)
        except OSError as error:
            raise _unreadable(folder, error) from error
    return folder


def digest(folder: Path) -> str:
    """64 hexadecimal digits; the first 12 are the version that predictors tell. Raises
    SourceError if a file can't be read, or there is none."""
    try:
        return sha256(folder)
    except ModelError as error:
        raise SourceError(str(error)) from error


def resolve(source: str) -> Path | None:
    """The real path of the folder, none of whose files lies elsewhere. Raises SourceError."""
    kind, _, name = source.partition(":")
    if not source:
        return None
    if source.startswith("/"):
        try:
            return _in_the_roots(source)
        except OSError as error:
            raise _unreadable(source, error) from error
    if kind == "package":
        return _in_a_package(name)
    if kind == "hub":
        return _in_the_hub_cache(name)
    raise SourceError(
        f"{source!r} doesn't name a model's files. Write an absolute folder such as /models/NAME, "
        "package:NAME, or hub:ORG/NAME@REVISION."
    )


def _unreadable(where: object, error: OSError) -> SourceError:
    return SourceError(
        f"{where} can't be read: {error}. Let the user that Velo runs as read all of it, and see "
        "that its disk is there and whole."
    )


def _in_the_roots(source: str) -> Path:
    if ".." in Path(source).parts:
        raise SourceError(f"{source} has a `..` in it. Write the folder's path without.")
    try:
        folder = Path(source).resolve()
        served = [Path(path).expanduser().resolve() for path in [settings.VELO_MODEL_PATH] if path]
        roots = served + [Path(root).resolve() for root in settings.VELO_MODEL_ROOTS]
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a null byte
        raise SourceError(f"{source!r} can't be followed: {error}. Correct the path.") from error
    if not _within(folder, roots):
        named = ", ".join(map(str, settings.VELO_MODEL_ROOTS)) or "empty"
        raise SourceError(
            f"{source} lies outside of the folders that models may be in, or is a link that leads "
            f"out of them. Move it there, or add its folder to VELO_MODEL_ROOTS (now {named})."
        )
    if not folder.is_dir():
        raise SourceError(
            f"{source} {'is a file' if folder.exists() else 'does not exist'}. Name the folder "
            "that holds the model's config.json; every machine with workers has to have it."
        )
    if folder not in served:  # what the operator serves may be put together from links, as ever
        check_links(folder, roots)
    return folder


def _in_a_package(name: str) -> Path:
    try:
        # A name with dots would import the package around it.
        spec = find_spec(name) if name.isidentifier() else None
    except ValueError:  # __main__ has none
        spec = None
    if spec is None:
        raise SourceError(
            f"package:{name}: no Python package of this name is installed here. Correct the "
            "name (`import` takes it), or install the package on every machine with workers."
        )
    places = [Path(place).resolve() for place in spec.submodule_search_locations or ()]
    folders = sorted(folder for place in places for folder in _topmost(place))
    if len(folders) != 1:
        found = ", ".join(map(str, folders)) or "none"
        raise SourceError(
            f"package:{name}: one folder with {' or '.join(MARKS)} is expected in the package, and "
            f"there is {found}. Take another package, or name the folder by its path."
        )
    check_links(folders[0], places)
    return folders[0]


def _topmost(place: Path) -> Iterator[Path]:
    """The model folders in `place` that lie in no other: a model has further configs inside."""
    found = {path.parent for mark in MARKS for path in place.rglob(mark)}
    return (folder for folder in found if found.isdisjoint(folder.parents))


def _in_the_hub_cache(name: str) -> Path:
    named = HUB.fullmatch(name)
    if not named:
        raise SourceError(
            f"hub:{name} names no commit. Write hub:ORG/NAME@REVISION with all 40 digits of the "
            "commit: a branch, a tag or a shorter form may mean other files tomorrow."
        )
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE).expanduser().resolve()
    try:
        found = huggingface_hub.snapshot_download(
            named["repository"], revision=named["revision"], cache_dir=cache, local_files_only=True
        )
    except (OSError, ValueError) as error:  # not there or not whole; no name that the hub allows
        raise SourceError(
            f"hub:{name} isn't in {cache}, or not whole, and Velo downloads nothing. On every "
            "machine with workers run "
            f"`hf download {named['repository']} --revision {named['revision']}`."
        ) from error
    folder = Path(found).resolve()
    check_links(folder, [cache])  # its files are links to the blobs of the cache
    return folder


def check_links(folder: Path, roots: Sequence[Path]) -> None:
    """Raises SourceError where a file of the folder's is a link that leads out of the roots."""
    for path in sorted(folder.rglob("*")):
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            raise SourceError(f"{path} is a link to nowhere: {error}. Remove it.") from error
        if not _within(real, roots):
            there = ", ".join(map(str, roots))
            raise SourceError(f"{path} is a link that leads out of {there}. Put the file there.")


def _within(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def inspect(folder: Path) -> None:
    """Raises SourceError for a folder that asks for code of its own, or whose weights do."""
    weights = {path for pattern in PICKLED for path in folder.rglob(pattern)}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.is_symlink():
            raise SourceError(f"{path} links to a folder, which no digest covers. Copy it there.")
        if path.is_file():
            if path.name == "modules.json":
                _check_modules(path)
            elif path.name.endswith(INDEX):
                weights |= _shards(path)
            elif path.suffix == ".json" and "config" in path.name:
                _check_config(path)
    for path in sorted(weights):
        if path.is_file() and path.suffix != ".safetensors":
            _check_weights(path)


def _check_config(path: Path) -> None:
    """Of the model, the tokenizer, a pooling, …: transformers looks in each."""
    for key, value in _items(_json(path)):
        if key in REMOTE_CODE and value:
            raise SourceError(
                f"{path} asks for code of the model's own, which Velo never runs: "
                f"{key}: {json.dumps(value)[:200]}. Take a model that transformers itself knows."
            )
        if key == WEIGHTS_KEY and value:
            _check_name(path, value)


def _check_modules(path: Path) -> None:
    modules = _json(path)
    if not isinstance(modules, list) or not all(isinstance(it, dict) for it in modules):
        raise SourceError(f"{path} isn't a list of modules. Download it again, whole.")
    for module in modules:
        kind = str(module.get("type", ""))
        if not kind.startswith(OWN_MODULES):
            raise SourceError(
                f"{path} asks for code of the model's own, which Velo never runs: {kind[:200]!r}. "
                f"Take a model whose modules all begin with {OWN_MODULES}"
            )
        _check_name(path, module.get("path", ""))


def _shards(path: Path) -> set[Path]:
    """The files that an index of weights names."""
    index = _json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict):
        raise SourceError(f"{path} has no weight_map. Download it again, whole.")
    return {path.parent / _check_name(path, name) for name in names.values()}


def _check_name(path: Path, name: Any) -> str:
    """Not out of the folder, nor to something hidden, which isn't part of the version."""
    if not isinstance(name, str) or any(part[0] in "./" for part in Path(name).parts):
        raise SourceError(
            f"{path} names {str(name)[:200]!r}, which isn't a file or folder beside it. Use a "
            "model whose files all lie in its own folder, none of them hidden."
        )
    return name


def _check_weights(path: Path) -> None:
    try:
        pickles.check(path)
    except (pickles.NotPlain, OSError) as error:
        cure = "Take a model.safetensors instead, or download them again, whole."
        raise SourceError(f"The weights {path} aren't read: {error}. {cure}") from error


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (ModelError, RecursionError) as error:
        raise SourceError(f"{error}. Download it again, whole.") from error


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
