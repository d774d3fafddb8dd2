"""Worker processes of an app on this machine: started by command, found again by process id and start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from blazing_nb.errors import UsageError, WorkersNotReady
from blazing_nb.store.home import file_name, home
from blazing_nb.store.process import is_alive, started_at

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

LOG_LINES = 8
_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this process started: workers outlive the app that asked for them, and are reaped here."""
LIMIT = 64
TURN_S = 0.02


class WorkerProcess(msgspec.Struct, frozen=True):
    """A process that this user started for the app here. `started` is its start time: with the pid it names it."""

    pid: int
    started: str
    log: str

    @property
    def alive(self) -> bool:
        return is_alive(self.pid, self.started)


class Workers:
    """`app.workers`: starts, lists and stops worker processes. They outlive the kernel."""

    def __init__(self, app: Blazing) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<Workers of {self._app.app_id}: {len(self)} processes on this machine>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(repr(self))}</code>"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[WorkerProcess]:
        """Those that live, in the order of their start."""
        self._reap()
        return iter([process for process in self._read() if process.alive])

    def start(self, n: int = 1, *, wait: float = 15.0, lease: float = 10.0, threads: int = 8) -> Workers:
        """Start `n` more processes; return when all are ready to claim.

        Args:
            n: processes, 1 to 64.
            wait: seconds for all of them to register; 0 does not wait.
            lease: seconds until a dead worker's operations run elsewhere.
            threads: plain functions executed at once in each.

        Raises:
            WorkersNotReady: `reasons` has exit codes and last log lines; those that are ready go on.
        """
        if not 1 <= n <= LIMIT:
            raise UsageError(f"start takes 1 to {LIMIT} processes, not {n}.")
        self._app.connect()
        self._app.ring  # noqa: B018 - made before the workers look for it
        made = [self._spawn(lease, threads) for _ in range(n)]
        self._write([*self, *made])
        if wait:
            self._wait_ready(made, wait)
        return self

    def scale(self, n: int, **options: float) -> Workers:
        """Start or stop processes until `n` live; options as for `start`."""
        if not 0 <= n <= LIMIT:
            raise UsageError(f"An app has 0 to {LIMIT} worker processes on a machine, not {n}.")
        living = list(self)
        if n > len(living):
            return self.start(n - len(living), **options)  # type: ignore[arg-type]
        self._end(living[n:], 30.0)
        return self

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM to all: they finish what is in flight. Whoever still lives after `timeout` seconds is killed (its
        operations are rescued when its lease ends). How many were stopped."""
        living = list(self)
        self._end(living, timeout)
        return len(living)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _spawn(self, lease: float, threads: int) -> WorkerProcess:
        logs = home() / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        path = logs / f"{file_name(self._app.app_id)}-{os.getpid()}-{time.time_ns():x}.log"
        command = [sys.executable, "-m", "blazing_nb", "worker", "--app", self._app.app_id]
        command += ["--lease", str(lease), "--threads", str(threads)]
        # The url may hold a password: it travels in the environment, never in the process list.
        environment = {**os.environ, "BLAZING_REDIS_URL": self._app.url, "PYTHONPATH": _python_path()}
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        _children[child.pid] = child
        return WorkerProcess(child.pid, started_at(child.pid) or "", str(path))

    def _wait_ready(self, made: list[WorkerProcess], wait: float) -> None:
        end = time.monotonic() + wait
        host = socket.gethostname()
        while True:
            ready = {worker.pid for worker in self._app.snapshot().workers if worker.host == host}
            missing = [process for process in made if process.pid not in ready]
            self._reap()
            if not missing:
                return
            if time.monotonic() > end or not any(process.alive for process in missing):
                reasons = {process.pid: self._reason(process) for process in missing}
                raise WorkersNotReady(
                    f"{len(missing)} of {len(made)} workers were not ready: "
                    + "; ".join(f"pid {pid}: {reason}" for pid, reason in reasons.items()),
                    reasons=reasons,
                )
            time.sleep(TURN_S)

    def _reason(self, process: WorkerProcess) -> str:
        child = _children.get(process.pid)
        code = child.poll() if child else None
        state = "still starting" if process.alive else f"ended with code {code}"
        lines = Path(process.log).read_text(errors="replace").splitlines()[-LOG_LINES:]
        return f"{state}; its log ends with: {' / '.join(lines) or 'nothing'}"

    def _end(self, processes: list[WorkerProcess], timeout: float) -> None:
        end = time.monotonic() + timeout
        for process in processes:
            _signal(process, signal.SIGTERM)
        while any(process.alive for process in processes):
            self._reap()
            if time.monotonic() > end:
                for process in processes:
                    _signal(process, signal.SIGKILL)
                end += 5.0
            time.sleep(TURN_S)
        self._reap()
        self._write(list(self))

    def _reap(self) -> None:
        """Take our own children's exit codes, so that they do not stay as zombies."""
        for child in _children.values():
            child.poll()

    # -- the record --------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        return home() / "workers" / f"{file_name(self._app.app_id)}.json"

    def _read(self) -> list[WorkerProcess]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[WorkerProcess])
        except FileNotFoundError:
            return []

    def _write(self, processes: list[WorkerProcess]) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps([msgspec.to_builtins(process) for process in processes]))
        draft.replace(self._path)


def _signal(process: WorkerProcess, number: signal.Signals) -> None:
    if process.alive:
        with contextlib.suppress(ProcessLookupError):  # it ended between the look and the signal
            os.kill(process.pid, number)


def _python_path() -> str:
    """This process's import path, so that steps of its modules can be imported by the workers."""
    return os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in ["", *sys.path]))
