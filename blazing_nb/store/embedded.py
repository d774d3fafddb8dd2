"""The local server: one per state directory, found or started, private to the user, outliving the kernel.

A lock makes starting single; the record (pid with start time, socket) lets the next kernel find it. The server inherits
a locked file, the guard, so that no second one starts on its data. A reaper stops it after a while without clients.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from blazing_nb.errors import ServerFailed, StoreError, UsageError
from blazing_nb.store.candidate import Binary, find_binary
from blazing_nb.store.connection import Connection
from blazing_nb.store.home import home, socket_path
from blazing_nb.store.process import is_alive, let_go, started_at

START_S = 15.0
STOP_S = 10.0
FREE_BYTES = 16 << 20
IDLE_S = 8 * 3600.0
STREAM_NODE_ENTRIES = 24
"""A commit finds an entry by walking its node: the default of 100 costs 1.5 us more an operation, for 3 bytes less."""
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
    idle_s = _idle_s() if idle_s is None else idle_s
    with _lock():
        server = find()
        if server is None:
            return _start(idle_s)
    _wait_ready(server)
    return server


def find() -> Server | None:
    """The running server of this state directory, or None. A record of a dead one is no server."""
    server = _recorded()
    return server if server is not None and Path(server.socket).exists() else None


def stop(timeout: float = 10.0) -> bool:
    """Save and stop the server; False where none ran. Killed after `timeout` seconds."""
    with _lock():
        server = _recorded()
        if server is None:
            return False
        _end(server, timeout)
        return True


def reap(server: Server, idle_s: float) -> None:
    """Stop the server once it had no client but this one for `idle_s` seconds; end when it is gone."""
    connection = Connection(server.url, deadline_s=1.0)
    busy_at = time.monotonic()
    while is_alive(server.pid, server.started):
        if _has_clients(connection):
            busy_at = time.monotonic()
        elif time.monotonic() - busy_at >= idle_s:
            with _lock():  # a kernel that is just finding the server holds it
                if _recorded() == server and not _has_clients(connection):
                    _end(server, STOP_S)
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


def _recorded() -> Server | None:
    """The recorded server where it lives, with or without its socket."""
    try:
        server = msgspec.json.decode(_record().read_bytes(), type=Server)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    return server if is_alive(server.pid, server.started) else None


def _idle_s() -> float:
    named = os.environ.get("BLAZING_SERVER_IDLE_S", str(IDLE_S))
    try:
        return float(named)
    except ValueError:
        raise UsageError(f"BLAZING_SERVER_IDLE_S={named} is not a number of seconds (0: never stop).") from None


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    # The kernel drops the lock with its process: it cannot go stale.
    with open(os.open(home() / "server.lock", os.O_CREAT | os.O_RDWR, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end(server: Server, timeout: float) -> None:
    connection = Connection(server.url, deadline_s=0.0)
    # The server closes the connection instead of answering.
    with contextlib.suppress(StoreError):
        connection.call("SHUTDOWN")
    connection.close()
    if not Path(server.socket).exists() and is_alive(server.pid, server.started):
        os.kill(server.pid, signal.SIGTERM)  # its socket is lost; this saves as SHUTDOWN does
    if not _wait_gone(server, timeout) and is_alive(server.pid, server.started):
        os.kill(server.pid, signal.SIGKILL)
        _wait_gone(server, timeout)
    _record().unlink(missing_ok=True)


def _start(idle_s: float) -> Server:
    binary = find_binary()
    if (lost := _recorded()) is not None:
        _end(lost, STOP_S)  # it runs, but its socket was removed: nobody can reach it
    data = home() / "server"
    data.mkdir(mode=0o700, exist_ok=True)
    free = shutil.disk_usage(data).free
    if free < FREE_BYTES:
        raise ServerFailed(
            f"{data} has {free >> 20} MiB free; the server needs {FREE_BYTES >> 20} MiB to keep operations. Free some, "
            "or set BLAZING_HOME to a directory on another disk.",
            free=free,
        )
    with _guard(data) as guard:
        server, process = _launch(binary, data, socket_path(), guard)
    try:
        if idle_s > 0:
            _start_reaper(server, idle_s)
        return _wait_ready(server, process)
    finally:
        let_go(process)


def _launch(binary: Binary, data: Path, socket: str, guard: int) -> tuple[Server, subprocess.Popen[bytes]]:
    """Started and recorded at once: where the wait for it is interrupted, the next call finds it."""
    Path(socket).unlink(missing_ok=True)
    log = data / "server.log"
    log.write_bytes(b"")
    with open(log, "ab") as output:  # what is wrong with the configuration is said there, before the log is open
        process = subprocess.Popen(
            [str(binary), str(_configure(data, socket, log))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=data,
            pass_fds=(guard,),
        )
    server = Server(socket, process.pid, started_at(process.pid) or "", binary.brand, binary.version, str(data))
    draft = _record().with_suffix(".tmp")
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(server))
    draft.replace(_record())
    return server, process


@contextlib.contextmanager
def _guard(data: Path) -> Iterator[int]:
    """The locked guard; who inherits it holds it on. A killed server's rewriting child lets go within moments."""
    end = time.monotonic() + STOP_S
    with open(os.open(data / "guard", os.O_CREAT | os.O_RDWR, 0o600), "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ServerFailed(
                        f"A server that is not recorded here runs on {data} (of another container or machine?). "
                        "Stop that one, or set BLAZING_HOME to another directory.",
                        path=str(data),
                    ) from None
            time.sleep(TURN_S)
        yield file.fileno()


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
        f"stream-node-max-entries {STREAM_NODE_ENTRIES}",
        "daemonize no",
    ]
    limit = os.environ.get("BLAZING_SERVER_MAXMEMORY")
    if limit:
        lines.append(f"maxmemory {limit}")
    path = data / "server.conf"
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _wait_ready(server: Server, process: subprocess.Popen[bytes] | None = None) -> Server:
    """Return when it answers. One that still loads its data is left to it: killed, it would never come up."""
    end = time.monotonic() + START_S
    while is_alive(server.pid, server.started) and time.monotonic() < end:
        if Path(server.socket).exists() and _answers(server.socket):
            return server
        time.sleep(TURN_S)
    code, state = None, f"does not answer after {START_S:g} s; if it is loading its data, call again"
    if not is_alive(server.pid, server.started):
        code = process.wait() if process is not None else None
        state = f"ended with code {code}"
    log = Path(server.directory) / "server.log"
    tail = " / ".join(log.read_text(errors="replace").splitlines()[-6:])
    raise ServerFailed(f"The server {state}. Its log {log} ends with: {tail or 'nothing'}", code=code)


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
    record = msgspec.json.encode(server).decode()
    # -P and cwd: modules of the notebook's folder must not shadow the standard library's.
    with open(Path(server.directory) / "reaper.log", "wb") as log:
        reaper = subprocess.Popen(
            [sys.executable, "-P", "-m", "blazing_nb.store.embedded", "reap", record, str(idle_s)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "BLAZING_HOME": str(home())},
        )
    let_go(reaper)


if __name__ == "__main__":
    reap(msgspec.json.decode(sys.argv[2], type=Server), float(sys.argv[3]))
