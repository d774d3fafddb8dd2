"""Who runs the turn loop: one thread at a time.

It may execute a short operation itself, since two hand-overs between threads cost more than that; where the operation
takes longer than was expected, another thread goes on with the loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

TAKE_OVER_S = 0.02
"""How long the loop may be held up."""
IDLE_TURNS = 50
Value = TypeVar("Value")


class Leader:
    """`loop` runs until it ends (True), or until it has learnt from `execute` that another thread leads (False)."""

    def __init__(self, loop: Callable[[], bool]) -> None:
        self._loop = loop
        self._executing: object | None = None
        self._watched = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._lead, name="bz-turn", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._watch_anew()

    @property
    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of the loop, whoever runs it by then."""
        while self.alive:
            self._thread.join(TAKE_OVER_S)

    def execute(self, work: Callable[[], Value]) -> tuple[bool, Value]:
        """In the loop's thread: do it here. Whether this thread still leads, and what came of it."""
        token = self._executing = object()
        if not self._watched.is_set():
            self._watched.set()
        value = work()
        with self._lock:
            leads = self._executing is token
            if leads:
                self._executing = None
        return leads, value

    def _lead(self) -> None:
        if self._loop():
            self._over = True
            self._watched.set()

    def _watch_anew(self) -> None:
        threading.Thread(target=self._watch, name="bz-understudy", daemon=True).start()

    def _watch(self) -> None:
        """Sleeps while nothing is executed in the loop's thread; takes over from one that is held up."""
        idle = 0
        while not self._over:
            self._watched.wait()
            token = self._executing
            time.sleep(TAKE_OVER_S)
            if token is not None and self._takes_over(token):
                self._watch_anew()
                self._lead()
                return
            idle = 0 if token is not None else idle + 1
            if idle > IDLE_TURNS and not self._over:
                self._watched.clear()
                if self._executing is not None:  # it began right before, and found itself watched
                    self._watched.set()

    def _takes_over(self, token: object) -> bool:
        with self._lock:
            if self._executing is not token:
                return False
            self._executing, self._thread = None, threading.current_thread()
            return True
