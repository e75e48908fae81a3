"""The folder that keeps one machine's state: secret key, database, Valkey's file and socket."""

import hashlib
import os
import secrets
import socket
import tempfile
from pathlib import Path

from velo_site import env

BASE_DIR = Path(__file__).resolve().parent.parent
UNIX_SOCKET_PATH_MAX = 100  # the kernel's limit is 104 on macOS, 108 on Linux


def folder() -> Path:
    """The absolute path of VELO_VAR. It may not exist yet."""
    return Path(env.text("VELO_VAR", str(BASE_DIR / "var"))).expanduser().resolve()


def secret_key_file() -> Path:
    """Where `make_secret_key` keeps the key."""
    return folder() / "secret-key"


def read_secret_key() -> str:
    """The key that `serve` or `setup` made earlier, or an empty string."""
    return _read(secret_key_file())


def make_secret_key() -> None:
    """Make the secret key once; a second process, even at the same moment, keeps the first key."""
    folder().mkdir(parents=True, exist_ok=True)
    draft = folder() / f"secret-key.{os.getpid()}"
    try:
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        os.link(draft, secret_key_file())
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def valkey_socket() -> Path:
    """Where the embedded Valkey listens: in the state folder, or, where that path is too long
    for a Unix socket, in the temporary folder under a name made from it."""
    path = folder() / "valkey.sock"
    if len(str(path)) <= UNIX_SOCKET_PATH_MAX:
        return path
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"velo-{name}.sock"


def hosts_file() -> Path:
    """Where `manage.py serve` keeps the host names that it answers to."""
    return folder() / "allowed-hosts"


def read_hosts() -> str:
    """The host list that `serve` made here, for commands that run beside it; or nothing."""
    return _read(hosts_file())


def prepare_this_machine() -> None:
    """Defaults of `manage.py serve`: everything on one machine, plain HTTP, local names only."""
    make_secret_key()
    hosts = dict.fromkeys(["localhost", "127.0.0.1", "[::1]", socket.gethostname().lower()])
    hosts_file().write_text(",".join(hosts))
    os.environ.setdefault("DJANGO_HTTPS", "0")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
