"""The local server: one per state directory, found or started, private to the user, outliving the kernel.

A file lock makes starting single; the record (pid with its start time, socket) lets the next kernel find it. A reaper
process stops it after it has had no client for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from blazing_nb.errors import ServerFailed, StoreError
from blazing_nb.store.candidate import Binary, find_binary
from blazing_nb.store.connection import Connection
from blazing_nb.store.home import home
from blazing_nb.store.process import is_alive, started_at

START_S = 15.0
SOCKET_LIMIT = 103
FREE_BYTES = 16 << 20
IDLE_S = 8 * 3600.0
TURN_S = 0.02


class Server(msgspec.Struct, frozen=True):
    """A running embedded server."""

    socket: str
    pid: int
    started: str
    brand: str
    version: str
    directory: str

    def __repr__(self) -> str:
        return f"<Server {self.brand} {self.version} pid={self.pid} {self.url}>"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"


def ensure(*, idle_s: float | None = None) -> Server:
    """The running server, started where there is none. Two processes at the same moment end with one.

    Args:
        idle_s: seconds without clients until it is stopped; 0 never; default `BLAZING_SERVER_IDLE_S`, else 8 hours.

    Raises:
        ServerNotFound: no usable binary. ServerFailed: it did not start; the message has its last log lines.
    """
    with _lock():
        return find() or _start(float(os.environ.get("BLAZING_SERVER_IDLE_S", IDLE_S)) if idle_s is None else idle_s)


def find() -> Server | None:
    """The running server of this state directory, or None. A record of a dead one is no server."""
    try:
        server = msgspec.json.decode(_record().read_bytes(), type=Server)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    if not is_alive(server.pid, server.started) or not Path(server.socket).exists():
        return None
    return server


def stop(timeout: float = 10.0) -> bool:
    """Save and stop the server; False where none ran. Killed after `timeout` seconds."""
    with _lock():
        server = find()
        if server is None:
            return False
        connection = Connection(server.url, deadline_s=0.0)
        # The server closes the connection instead of answering.
        with contextlib.suppress(StoreError):
            connection.call("SHUTDOWN")
        connection.close()
        if not _wait_gone(server, timeout) and is_alive(server.pid, server.started):
            os.kill(server.pid, signal.SIGKILL)
            _wait_gone(server, timeout)
        _record().unlink(missing_ok=True)
        return True


def reap(pid: int, started: str, url: str, idle_s: float) -> None:
    """Stop the server once it had no client but this one for `idle_s` seconds; end when it is gone."""
    connection = Connection(url, deadline_s=1.0)
    busy_at = time.monotonic()
    while is_alive(pid, started):
        if _has_clients(connection):
            busy_at = time.monotonic()
        elif time.monotonic() - busy_at >= idle_s:
            connection.close()
            stop()
            return
        time.sleep(min(0.5, max(0.05, idle_s / 10)))


def _has_clients(connection: Connection) -> bool:
    try:
        return len(connection.call("CLIENT", "LIST").splitlines()) > 1
    except StoreError:
        return True  # it does not answer now: not idle, or gone, which the caller sees


# -- starting ----------------------------------------------------------------------------------------------------------


def _record() -> Path:
    return home() / "server.json"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    # The kernel drops the lock with its process: it cannot go stale.
    with open(os.open(home() / "server.lock", os.O_CREAT | os.O_RDWR, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(idle_s: float) -> Server:
    binary = find_binary()
    data = home() / "server"
    data.mkdir(mode=0o700, exist_ok=True)
    free = shutil.disk_usage(data).free
    if free < FREE_BYTES:
        raise ServerFailed(
            f"{data} has {free >> 20} MiB free; the server needs {FREE_BYTES >> 20} MiB to keep operations. Free some, "
            "or set BLAZING_HOME to a directory on another disk.",
            free=free,
        )
    socket = _socket()
    Path(socket).unlink(missing_ok=True)
    log = data / "server.log"
    log.write_bytes(b"")
    process = subprocess.Popen(
        [str(binary), str(_configure(data, socket, log))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=data,
    )
    server = _wait_ready(process, binary, socket, data, log)
    draft = _record().with_suffix(".tmp")
    draft.write_bytes(msgspec.json.encode(server))
    draft.replace(_record())
    if idle_s > 0:
        _start_reaper(server, idle_s)
    return server


def _socket() -> str:
    """A short path in a directory that only this user can enter."""
    named = os.environ.get("BLAZING_SOCKET_DIR")
    tag = hashlib.sha256(str(home()).encode()).hexdigest()[:8]
    folder = Path(named) if named else _runtime() / f"bz-{os.getuid()}-{tag}"
    path = str(folder / "s.sock")
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
    return Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())


def _configure(data: Path, socket: str, log: Path) -> Path:
    lines = [
        "port 0",
        f'unixsocket "{socket}"',
        "unixsocketperm 700",
        f'dir "{data}"',
        f'logfile "{log}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    limit = os.environ.get("BLAZING_SERVER_MAXMEMORY")
    if limit:
        lines.append(f"maxmemory {limit}")
    path = data / "server.conf"
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _wait_ready(process: subprocess.Popen[bytes], binary: Binary, socket: str, data: Path, log: Path) -> Server:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if Path(socket).exists() and _answers(socket):
            started = started_at(process.pid) or ""
            # It is meant to outlive this process: no ResourceWarning, no waiting at exit.
            process.returncode = 0
            return Server(socket, process.pid, started, binary.brand, binary.version, str(data))
        time.sleep(TURN_S)
    code = process.poll()
    if code is None:
        process.kill()
        process.wait()
    state = f"ended with code {code}" if code is not None else f"did not answer within {START_S:g} s"
    tail = " / ".join(log.read_text(errors="replace").splitlines()[-6:])
    raise ServerFailed(f"{binary.path} {state}. Its log {log} ends with: {tail or 'nothing'}", code=code)


def _answers(socket: str) -> bool:
    connection = Connection(f"unix://{socket}", timeout_s=1.0, deadline_s=0.0)
    try:
        return bool(connection.call("PING") == b"PONG")
    except StoreError:
        return False  # not listening yet, or still loading
    finally:
        connection.close()


def _wait_gone(server: Server, timeout: float) -> bool:
    end = time.monotonic() + timeout
    while is_alive(server.pid, server.started):
        if time.monotonic() > end:
            return False
        with contextlib.suppress(ChildProcessError):  # it is our child only where we started it
            os.waitpid(server.pid, os.WNOHANG)
        time.sleep(TURN_S)
    return True


def _start_reaper(server: Server, idle_s: float) -> None:
    arguments = [str(server.pid), server.started, server.url, str(idle_s)]
    reaper = subprocess.Popen(
        [sys.executable, "-m", "blazing_nb.store.embedded", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    reaper.returncode = 0


if __name__ == "__main__":
    reap(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
