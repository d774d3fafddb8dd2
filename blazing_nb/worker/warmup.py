"""What a worker does before it claims: the app's `on_start`, then every step's code is loaded. Again where either is
new; a new `on_start` stops the claiming until it has run."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable

import msgspec

from blazing_nb.core.code import HOOK, CodeNotHere
from blazing_nb.errors import StoreError
from blazing_nb.store.store import Store
from blazing_nb.worker.code import CodeLoader

log = logging.getLogger(__name__)


class Warmup:
    """A thread of its own, so that commits go on meanwhile. `on_done` is called after each round.

    Attributes:
        ready: whether the worker may claim.
        version: how new the steps are that were tried.
        failure: what `on_start` raised; the worker is then of no use.
    """

    def __init__(
        self,
        store: Store,
        loader: CodeLoader,
        refuse: Callable[[str, bytes, str], bool],
        on_done: Callable[[], None],
    ) -> None:
        self._store = store
        self._loader = loader
        self._refuse = refuse
        self._on_done = on_done
        self._asked: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._hook = self._wanted = b""
        self.ready = False
        self.version = 0
        self.failure = ""

    def start(self) -> None:
        threading.Thread(target=self._run, name="bz-warmup", daemon=True).start()

    def request(self, version: int, hook: bytes) -> None:
        """The steps are of that version now, and `hook` is the hash of the code to run."""
        self._wanted = hook
        if hook != self._hook:
            self.ready = False
        self._asked.put((version, hook))

    def stop(self) -> None:
        """After the round under way. Does not wait."""
        self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._warm(*asked)
            except StoreError as error:
                log.warning("the steps could not be read: %s", error)
                self._asked.put(asked)
                continue
            except BaseException as error:
                log.exception("on_start failed")
                self.failure = f"on_start raised {type(error).__name__}: {error}"
            self._on_done()

    def _warm(self, version: int, hook: bytes) -> None:
        hashes = {step: msgspec.msgpack.decode(data)["code"] for step, data in self._store.steps().items()}
        if hook != self._hook:
            warm_up(self._loader, hook)
            self._hook = hook
        for step, digest in hashes.items():
            self._try(step, digest)
        self.version = version
        self.ready = hook == self._wanted

    def _try(self, step: str, digest: bytes) -> None:
        """Load it now rather than with its first operation. What does not load here is left to others."""
        try:
            self._loader.load(step, digest)
            return
        except StoreError:
            raise
        except CodeNotHere as error:
            if error.python:
                return  # that is said of each operation: older ones may have code for this Python
            why = str(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        if self._refuse(step, digest, why):
            log.warning("step %r cannot be loaded: %s", step, why)


def warm_up(loader: CodeLoader, hook: bytes) -> None:
    """Run the app's `on_start`, where there is one; `hook` is the hash of its code."""
    if not hook:
        return
    code = loader.load(HOOK, hook)
    if code.is_async:
        asyncio.run(code.function())
    else:
        code.function()
