"""What of an app needs only its store: connecting, closing, values, the nodes that it writes as."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from blazing_nb.client.listener import Listener
from blazing_nb.client.node import NodeWriter
from blazing_nb.client.option import seconds
from blazing_nb.client.outbox import Outbox
from blazing_nb.client.session import Session, open_session
from blazing_nb.client.setting import AppSetting
from blazing_nb.client.value import get, put
from blazing_nb.core.dot import Range
from blazing_nb.core.name import check_name
from blazing_nb.core.reference import Ref
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import AppClosed
from blazing_nb.store.redo import Redo
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    from blazing_nb.client.executor import Settler


class ConnectedApp:
    """The part of `Blazing` that the handles need: the store, what follows it, and the writers."""

    def __init__(self, app_id: str, setting: AppSetting) -> None:
        self.app_id = check_name(app_id, "app_id")
        self._setting = setting
        self.payload_limit, self.segment_cap = setting.payload_limit, setting.segment_cap
        self.durability = setting.durability
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._closed = False
        self._ring: KeyRing | None = None
        self._settlers: weakref.WeakSet[Settler] = weakref.WeakSet()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def connect(self) -> Self:
        """Reach the store, starting the embedded server where no other is named. Repeatable; done at first use.

        Raises:
            AppClosed, StoreUnavailable, StoreUnsuitable, ServerNotFound, ServerFailed.

        Examples:
            >>> app.connect().connected
            True
        """
        self._opened()
        return self

    def _opened(self) -> Session:
        """This process's session."""
        session = self._session
        return session if session is not None and session.pid == os.getpid() else self._open()

    def _open(self) -> Session:
        if self._closed:
            raise AppClosed(
                f"App {self.app_id!r} was closed: make it anew (%blazing up, or Blazing({self.app_id!r})), and run the "
                "definitions of its steps again."
            )
        with self._lock:
            session = self._session
            return session if session is not None and session.pid == os.getpid() else self._connect()

    def _connect(self) -> Session:
        session = open_session(self.app_id, self._setting, lambda: self.ring)
        # An app that nobody holds any more (its cell was run again) leaves no thread behind.
        self._shut = weakref.finalize(self, session.close)
        self._shut.atexit = False
        self._session = session
        return session

    def close(self) -> None:
        """Stop following and disconnect. Operations go on. Repeatable; use after it raises `AppClosed`.

        Examples:
            >>> other = Blazing("other")
            >>> other.close()
            >>> other.snapshot()
            Traceback (most recent call last):
                ...
            blazing_nb.errors.AppClosed: ...
        """
        with self._lock:
            self._closed = True
            if self.connected:
                self._shut()
            self._session = None
        for settler in list(self._settlers):
            settler.abandon()

    @property
    def closed(self) -> bool:
        """Whether `close` was called here.

        Examples:
            >>> app.closed
            False
        """
        return self._closed

    @property
    def connected(self) -> bool:
        """Whether this process has reached the store. Asks nobody.

        Examples:
            >>> Blazing("other").connected
            False
        """
        return self._session is not None and self._session.pid == os.getpid()

    @property
    def session(self) -> int:
        """The number of this process's session, which no other has; 0 before the first."""
        return self._session.number if self._session is not None else 0

    @property
    def store(self) -> Store:
        return self._opened().store

    @property
    def listener(self) -> Listener:
        return self._opened().listener

    @property
    def outbox(self) -> Outbox | None:
        """What waits here for the store: depth, age, what was refused. None without `Blazing(outbox=...)`.

        Examples:
            >>> app.outbox is None
            True
        """
        return self._opened().outbox if self._setting.outbox is not False else None

    @property
    def redo(self) -> Redo:
        """What was acknowledged here and may still be lost with its server, and how often the store went back.

        Examples:
            >>> app.redo.kept >= 0, app.redo.rollbacks
            (True, ...)
        """
        return self._opened().redo

    @property
    def url(self) -> str:
        """Where the store is.

        Examples:
            >>> app.url.split(":")[0] in ("unix", "redis", "rediss")
            True
        """
        return self.store.url

    @property
    def ring(self) -> KeyRing:
        """The app's keys; never shown."""
        if self._ring is None:
            from blazing_nb.store.secret import load_ring

            self._ring = load_ring(self.app_id)
        return self._ring

    # -- values ------------------------------------------------------------------------------------------------------

    def put(self, value: Any, *, retention: float = 86_400.0) -> Ref:
        """Store a value once; the reference to pass to steps instead of it. The same content is stored once.

        Args:
            value: anything that can be an argument, up to 256 MiB encoded.
            retention: seconds that it stays; a later `put` of the same lengthens it.

        Raises:
            ValueNotSerializable, PayloadTooLarge: nothing was sent.

        Examples:
            >>> table = app.put(list(range(1000)))
            >>> total = app.step(sum, name="total")
            >>> total.enqueue(table).result(timeout=10)  # the step gets the list
            499500
        """
        return put(self, value, seconds(retention, "retention", low=1.0))

    def get(self, ref: Ref) -> Any:
        """The value of a reference. Raises `ReferenceUnknown` where its retention has passed.

        Examples:
            >>> app.get(app.put({"a": 1}))
            {'a': 1}
        """
        return get(self, ref)

    # -- what the layers hand each other -------------------------------------------------------------------------------

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str = "") -> None:
        """Record a step's code in the store, or in the outbox until it answers."""
        session = self._opened()
        (session.outbox or session.store).define(step, digest, record, options, limits)
        session.redo.define(step, digest, record, options, limits)

    def recorded(self, name: str, resume: bool) -> list[Range]:
        """What a named batch holds already."""
        return self.outbox.ranges(name, resume) if self.outbox is not None else self.store.batch(name)

    def writer(self, node_id: str | None = None) -> NodeWriter:
        """The writer of a node: the one given, the app's, `NODE_ID` as it is now, or a unique one."""
        name = node_id or self._setting.node_id or os.environ.get("NODE_ID")
        return self._opened().writer(name, self.ring)

    def settle(self) -> None:
        """Send what interrupted calls left, so that the store knows of all that this process enqueued.

        Examples:
            >>> app.settle()  # nothing was interrupted
        """
        self._opened().settle()
