"""Speaking to the supervisor of an app's workers on this machine: orders, and what came of them. Starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from blazing_nb.core.supervision import Orders, Post, State
from blazing_nb.errors import WorkersNotReady
from blazing_nb.store.home import home
from blazing_nb.store.process import is_alive, let_go
from blazing_nb.store.station import Station, tail

TURN_S = 0.02
BEGIN_S = 20.0
LATE_S = 8.0
ATTEMPTS = 3
"""A place whose process failed so often before it was ready is not waited for any longer."""
_started: set[int] = set()
"""Supervisors that this process started: they outlive the app that asked for them, and are reaped here."""
Change = Callable[[Orders], Orders]


class Supervising:
    """One app's station, from the side of who orders."""

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self.station = Station(app_id)

    def order(self, change: Change, *, begin: bool = True) -> Orders:
        """Change what is wanted, and see that a supervisor lives (not `begin`: one that is about to start will read
        it); the orders as they are now."""
        with self.station.lock():
            orders = change(self.station.orders())
            orders = msgspec.structs.replace(orders, version=orders.version + 1)
            self.station.write(orders)
            if self.station.supervised:
                self.station.call()
            elif begin:
                self._begin(orders)
        return orders

    def posts(self) -> list[Post]:
        """Places and processes as the supervisor wrote them, without processes that are gone since."""
        state = self.station.state()
        found = []
        for post in state.posts if state else ():
            gone = post.lives and not is_alive(post.pid, post.started)
            found.append(msgspec.structs.replace(post, pid=0, state="waiting") if gone else post)
        return [post for post in found if post.lives or self._is_wanted(post)]

    def _is_wanted(self, post: Post) -> bool:
        order = self.station.orders().of(post.owner)
        return post.state != "leaving" and order is not None

    def obeyed(self, version: int) -> State | None:
        """What is, once the supervisor has seen that version of the orders; None before."""
        _reap()
        state = self.station.state()
        return state if state is not None and state.version >= version else None

    def wait_gone(self, version: int, timeout: float) -> None:
        """Until nothing lives. What does not end in time is killed, the supervisor with it."""
        end = time.monotonic() + timeout + LATE_S
        while not ((state := self.obeyed(version)) and not any(post.lives for post in state.posts)):
            if time.monotonic() > end:
                self._kill()
                return
            time.sleep(TURN_S)

    def _kill(self) -> None:
        state = self.station.state()
        if state is None:
            return
        for pid, started in [(state.pid, state.started), *((post.pid, post.started) for post in state.posts)]:
            if pid and is_alive(pid, started):
                os.kill(pid, signal.SIGKILL)

    def _begin(self, orders: Orders) -> None:
        """Start the supervisor; it is at work when it has written about these orders."""
        log = self.station.log("supervisor")
        with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            child = subprocess.Popen(
                # -P and its own path: modules of the notebook's folder must not shadow the standard library's.
                [sys.executable, "-P", "-m", "blazing_nb.worker.supervisor", self._app_id],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "BLAZING_HOME": str(home()), "PYTHONPATH": _own_path()},
                cwd="/",
                start_new_session=True,
            )
        try:
            self._await(child, orders.version, log)
        finally:
            if child.poll() is None:
                _started.add(child.pid)
            let_go(child)

    def _await(self, child: subprocess.Popen[bytes], version: int, log: Path) -> None:
        end = time.monotonic() + BEGIN_S
        while self.obeyed(version) is None:
            if child.poll() is not None or time.monotonic() > end:
                raise WorkersNotReady(
                    f"The supervisor did not start; its log {log} ends with: {tail(log) or 'nothing'}", reasons={}
                )
            time.sleep(TURN_S)


def _reap() -> None:
    """Take the exits of those that have ended, so that no zombie stays."""
    for pid in list(_started):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # taken already, or this is a fork of who started it
            ended = True
        if ended:
            _started.discard(pid)


def _own_path() -> str:
    """Where this package is, for a process that needs nothing else of this one's import path."""
    return str(Path(__file__).parents[2])


def python_path() -> str:
    """This process's import path, so that steps of its modules can be imported by the workers."""
    return os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in ["", *sys.path]))


def last_lines(post: Post) -> str:
    """Of its log, in one line."""
    return tail(Path(post.log)).replace("\n", " / ") if post.log else ""
