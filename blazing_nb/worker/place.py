"""One place for a worker process: starts it, sees how it ends and why. Decisions are `core/supervision`'s."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from blazing_nb.core.snapshot import Worker
from blazing_nb.core.supervision import Order, Orders, Post, failures_after, pause_ms
from blazing_nb.store.process import host_name, is_alive, memory_bytes, started_at
from blazing_nb.store.station import tail
from blazing_nb.worker import memory

LOG_BYTES = 1 << 20
LOOK_S = 0.05
FORCED_S = 3.0
"""After the second signal a worker has so long to give back what it holds."""


class Child:
    """A worker process: one that this supervisor started, or one that an earlier one did (`child` is None)."""

    def __init__(self, post: Post, child: subprocess.Popen[bytes] | None, log_from: int = 0) -> None:
        self.pid, self.started, self.worker_id = post.pid, post.started, post.worker_id
        self.log = Path(post.log)
        self.setting = post.setting
        self.began_s = time.monotonic()
        self.ready_s = 0.0
        self.asked = ""
        """Why it was told to end; empty where it was not."""
        self.verdict = ""
        """Why it was killed, where that was a failure of its own."""
        self.done = post.done
        self.running = 0
        self.steps_version, self.refuses = post.steps_version, post.refuses
        self.memory_mb = 0.0
        self._child = child
        self._log_from = log_from
        self._kills = (memory.kills(),) * 2
        """For want of memory, as last looked and at the look before."""
        self._signals: list[tuple[float, signal.Signals]] = []

    @property
    def lives(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return is_alive(self.pid, self.started)

    @property
    def code(self) -> int | None:
        """The exit code; None where somebody else's child it was."""
        return None if self._child is None else self._child.returncode

    def learn(self, worker: Worker) -> bool:
        """Take over what it says about itself; True where it has just become ready."""
        self.running = worker.running
        self.done, self.steps_version, self.refuses = worker.done, worker.steps_version, worker.refuses
        if worker.state != "ready" or self.ready_s:
            return False
        self.ready_s = time.monotonic()
        return True

    def weigh(self) -> None:
        """Look how much memory it takes, and keep its log from growing without bound."""
        found = memory.kills()
        if megabytes := memory_bytes(self.pid) / 1e6:
            self.memory_mb, self._kills = megabytes, (self._kills[1], found)
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:  # it is opened for appending: what is cut off stays cut off
                shutil.copyfile(self.log, self.log.with_suffix(".old"))
                os.truncate(self.log, 0)

    def end(self, why: str, grace_s: float) -> None:
        """Ask it to end; what it holds after the grace is given back, and at last it is killed. Repeatable."""
        end_s = time.monotonic() + grace_s
        if not self.asked:
            self.asked = why
            self._signal(signal.SIGTERM)
        elif not self._signals or self._signals[0][0] <= end_s:
            return
        self._signals = [(end_s, signal.SIGTERM), (end_s + FORCED_S, signal.SIGKILL)]

    def insist(self) -> None:
        """Give the signals that are due."""
        while self._signals and time.monotonic() >= self._signals[0][0]:
            self._signal(self._signals.pop(0)[1])

    @property
    def insists_s(self) -> float:
        """When the next signal is due."""
        return self._signals[0][0] if self._signals else math.inf

    def kill(self, verdict: str) -> None:
        self.verdict = verdict
        self._signal(signal.SIGKILL)

    def post(self, about: Post) -> Post:
        """What is written down of a place, with what is known of this process."""
        return msgspec.structs.replace(
            about,
            setting=self.setting,
            pid=self.pid,
            started=self.started,
            worker_id=self.worker_id,
            log=str(self.log),
            done=self.done,
            memory_mb=round(self.memory_mb, 1),
            steps_version=self.steps_version,
            refuses=self.refuses,
            reason=self.asked or about.reason,
        )

    def _signal(self, number: signal.Signals) -> None:
        if self.lives:
            with suppress(ProcessLookupError):  # it ended between the look and the signal
                os.kill(self.pid, number)

    def last_words(self) -> str:
        """How it ended, and the last lines of its log."""
        text = self.verdict or how(self.code)
        if not self.verdict and self.code == -signal.SIGKILL:
            why = memory.cause(self._kills[0], memory.kills(), memory.limit_mb())
            text += f", not by its supervisor: {why}; it had {self.memory_mb:.0f} MB when last looked at"
        lines = tail(self.log, self._log_from)
        return f"{text}; its log ends with: {' / '.join(lines.splitlines()) or 'nothing'}"


class Place:
    """Where one worker process after the other runs."""

    def __init__(self, number: int, order: Order) -> None:
        self.number, self.owner = number, order.owner
        self.setting, self.dismissed_ms = order.setting, order.dismissed_ms
        self.child: Child | None = None
        self.next: Child | None = None
        """What is starting to take the child's place, and why."""
        self.due_s = 0.0
        self.failures = self.starts = self.asked = 0
        self.reason = ""
        self.since_ms = now_ms()

    @property
    def state(self) -> str:
        if self.child is None:
            return "waiting"
        return "starting" if not self.child.ready_s else "replacing" if self.next is not None else "ready"

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.due_s

    def post(self) -> Post:
        """As it is written down."""
        about = Post(
            self.number,
            self.state,
            self.owner,
            self.setting,
            dismissed_ms=self.dismissed_ms,
            since_ms=self.since_ms,
            starts=self.starts,
            failures=self.failures,
            reason=self.reason,
        )
        return about if self.child is None else self.child.post(about)

    def ask(self, order: Order) -> None:
        """What is wanted of it. Where somebody has just asked, a start that failed is tried again at once."""
        self.setting, self.dismissed_ms = order.setting, order.dismissed_ms
        if order.asked > self.asked:
            self.asked, self.failures, self.due_s = order.asked, 0, 0.0

    def took(self, child: Child) -> None:
        """A process was started for it: its only one, or the one that comes next."""
        self.starts += 1
        if self.child is None:
            self.child, self.since_ms = child, now_ms()
        else:
            self.next = child

    def relieved(self) -> Child | None:
        """The next one is ready: the one that it replaces."""
        if self.next is None or not self.next.ready_s:
            return None
        earlier, self.child, self.next = self.child, self.next, None
        self.reason, self.since_ms = "", now_ms()
        return earlier

    def failed(self, child: Child) -> None:
        """Its process, or the next one, ended unasked: another follows, after a pause that grows with each failure."""
        self._lost(child)
        ready_s = time.monotonic() - child.ready_s if child.ready_s else 0.0
        self.failures = failures_after(self.failures, round(ready_s * 1000))
        self.due_s = time.monotonic() + pause_ms(self.failures) / 1000
        self.reason = child.last_words()

    def left(self, child: Child) -> None:
        """Its process, or the next one, was told through the store to leave. Another follows where one is still wanted
        once its supervisor has looked whether all were dismissed."""
        self._lost(child)
        self.due_s = time.monotonic() + LOOK_S

    def _lost(self, child: Child) -> None:
        if child is self.child:
            self.child, self.next = self.next, None
        else:
            self.next = None
        self.since_ms = now_ms()


def start(app_id: str, place: Place, orders: Orders, log: Path) -> Child:
    """Start a worker process; it answers to the store under a name that nobody else has."""
    worker_id = f"{host_name()}-{place.number}-{os.urandom(4).hex()}"
    command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app_id, "--worker-id", worker_id]
    command += [*place.setting.arguments(), *(["--owner", place.owner] if place.owner else [])]
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as file:
        size = file.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # The url may hold a password: it travels in the environment, never in the process list.
            env={**os.environ, "BLAZING_REDIS_URL": orders.url, "PYTHONPATH": orders.path},
            cwd=orders.cwd if os.path.isdir(orders.cwd) else None,
            start_new_session=True,
        )
    born = started_at(child.pid) or ""
    post = Post(place.number, "starting", place.owner, place.setting, child.pid, born, worker_id, str(log))
    return Child(post, child, size)


def how(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "ended; nobody knows its exit code, since an earlier supervisor had started it"
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"died by {name}{': a crash in C code' if name == 'SIGSEGV' else ''}"


def now_ms() -> int:
    """This machine's clock, for showing."""
    return time.time_ns() // 1_000_000
