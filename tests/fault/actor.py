"""Who takes part in a simulation: threads that run one at a time, and the network between them and the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from blazing_nb.errors import StoreUnavailable
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    from tests.fault.world import World

TIMEOUT_MS = 300
ATTEMPTS = 3
CRASH = 0.008


class Crash(BaseException):
    """An actor dies where it stands."""


class Event(NamedTuple):
    """Somebody goes on, or something happens, at a moment."""

    at: int
    number: int
    go: Callable[[], None]


class Actor:
    """A thread that runs only when the scheduler lets it, one at a time."""

    def __init__(self, world: World, name: str, body: Callable[[Actor], None]) -> None:
        self.world, self.name, self._body = world, name, body
        self._turn = threading.Semaphore(0)
        self.dead = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        world.at(world.now, self.go)

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._body(self)
        except Crash as crash:
            self.world.faults["crash"] += self.world.stormy
            self.world.note(f"{self.name} crashed {crash}")
        except Exception as error:  # a mutant's script may fail in every way
            self.world.violations.append(f"{self.name} failed: {error!r}")
        self.dead = True
        self.world.idle.release()

    def go(self) -> None:
        """Let it run until it sleeps."""
        if not self.dead:
            self._turn.release()
            self.world.idle.acquire()

    def sleep(self, ms: int) -> None:
        self.world.at(self.world.now + ms, self.go)
        self.world.idle.release()
        self._turn.acquire()
        if self.world.over:
            raise Crash("at the end")


class Net(Store):
    """The store as an actor sees it: every script goes over a network that the seed breaks, and is repeated as
    `Connection` repeats it."""

    def __init__(self, world: World, actor: Actor) -> None:
        super().__init__(world.app, world.url)
        self.world, self.actor = world, actor
        self.retries = 0

    def _admit(self, size: int) -> None:
        """Memory is not what is simulated."""

    def run(self, verb: str, request: object = None, *blobs: bytes, now_ms: int | None = None) -> Any:
        """One call with its repetitions."""

        def execute() -> Any:
            return self.world.store.run(verb, request, *blobs, now_ms=self.world.server_ms())

        self.world.saw(verb, request, blobs)
        for _ in range(ATTEMPTS):
            try:
                return self._once(verb, execute)
            except StoreUnavailable:
                self.retries += 1
                self.actor.sleep(self.world.random.randrange(60))
        raise StoreUnavailable(f"{verb} was not answered")

    def _once(self, verb: str, execute: Callable[[], Any]) -> Any:
        world, actor = self.world, self.actor
        self._point(f"before {verb}")
        actor.sleep(world.random.randrange(4))
        fate = world.fate()
        if fate == "drop_request":
            self._lose(verb, "request")
        if fate == "delay":
            late = world.random.randrange(2 * TIMEOUT_MS)
            world.note(f"{actor.name}: {verb} takes {late} ms")
            if late > TIMEOUT_MS:  # given up here, and executed all the same
                world.at(world.now + late, lambda: world.ghost(execute))
                self._lose(verb, "delayed")
            actor.sleep(late)
        reply = execute()
        self._point(f"after {verb}")
        if fate == "double":
            world.note(f"{actor.name}: {verb} arrives twice")
            self.retries += 1  # only a caller that repeats doubles a request
            world.at(world.now + world.random.randrange(2 * TIMEOUT_MS), lambda: world.ghost(execute))
        if fate == "drop_reply":
            self._lose(verb, "reply")
        actor.sleep(world.random.randrange(4))
        return reply

    def _lose(self, verb: str, what: str) -> None:
        self.world.note(f"{self.actor.name}: {what} of {verb} lost")
        self.actor.sleep(TIMEOUT_MS)
        raise StoreUnavailable(f"{what} lost")

    def _point(self, where: str) -> None:
        if self.world.stormy and self.world.random.random() < CRASH:
            raise Crash(where)
