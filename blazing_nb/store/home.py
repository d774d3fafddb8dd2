"""Where this user's state lives: keys, the embedded server's data and socket, logs. Private to the user."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from blazing_nb.errors import ServerFailed

SOCKET_LIMIT = 103
RUNTIME_LIMIT = 64  # leaves room for the directory and the name below it


def home() -> Path:
    """`BLAZING_HOME`, else the platform's data directory; made with mode 0700 where it is missing."""
    named = os.environ.get("BLAZING_HOME")
    if named:
        path = Path(named).expanduser().absolute()
    else:
        from platformdirs import user_data_path

        path = user_data_path("blazing_nb")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def private(folder: Path) -> None:
    """Make it with mode 0700 where it is missing, and so those above it: `mkdir(parents=True)` leaves these open."""
    if not folder.exists():
        private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def file_name(app_id: str) -> str:
    """An app's name as part of a file's name: one to one, never a path."""
    return quote(app_id, safe="")


def socket_path() -> str:
    """A short path in a directory that only this user can enter."""
    named = os.environ.get("BLAZING_SOCKET_DIR")
    tag = hashlib.sha256(str(home()).encode()).hexdigest()[:8]
    folder = Path(named) if named else _runtime() / f"bz-{os.getuid()}-{tag}"
    path = str(folder / f"{tag}.sock")  # state directories may share BLAZING_SOCKET_DIR
    if len(path.encode()) > SOCKET_LIMIT:
        raise ServerFailed(
            f"The socket's path {path} has {len(path.encode())} bytes; the system allows {SOCKET_LIMIT}. "
            "Set BLAZING_SOCKET_DIR to a short private directory.",
            path=path,
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077 or not stat.S_ISDIR(found.st_mode):
        raise ServerFailed(
            f"{folder} is not a directory that only you can enter (mode 0700). Remove it, or set BLAZING_SOCKET_DIR.",
            path=str(folder),
        )
    return path


def _runtime() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(runtime.encode()) <= RUNTIME_LIMIT and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime)
    return Path(tempfile.gettempdir())
