"""A stream of messages that several apps append to and read from positions of their own: channels and logs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from blazing_nb.client.option import seconds
from blazing_nb.core.codec import seal_always, unseal_always
from blazing_nb.core.effect import value_context
from blazing_nb.core.markup import line
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import PayloadTooLarge, PositionLost, StoreUnavailable, TrustError, UsageError
from blazing_nb.store import sharing
from blazing_nb.store.connection import Connection

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

log = logging.getLogger(__name__)
LIMIT = 1 << 20
BLOCK_S = 0.5
"""How long one read waits: a subscription that is closed ends within this time."""
START, NEW = "0-0", "new"


class Message(msgspec.Struct, frozen=True):
    """A value with its `position`, from which a subscription can go on, and its `origin`: the operation that published
    it, or the app and its writer.

    Examples:
        >>> position = app.channel("moments").publish("x")
        >>> message = next(iter(app.channel("moments").subscribe("first", idle=1)))
        >>> message.value, message.position == position
        ('x', True)
    """

    value: Any
    position: str
    origin: str

    @property
    def at(self) -> datetime:
        """When it was published, by the server's clock.

        Examples:
            >>> position = app.channel("times").publish("x")
            >>> next(iter(app.channel("times").subscribe("first", idle=1))).at.tzinfo
            datetime.timezone.utc
        """
        return datetime.fromtimestamp(int(self.position.partition("-")[0]) / 1000, UTC)


class Stream:
    """Values of one or several apps, durable, in the order in which the store received them: `app.shared().log(name)`,
    and what a `Channel` is.

    Attributes:
        owner: the app whose it is.
        key: where it is in the store.

    Examples:
        >>> log = app.shared("s5").log("steps")
        >>> position = log.publish("load")
        >>> list(log), log
        (['load'], <Stream steps of examples>)
    """

    def __init__(
        self, app: Blazing, owner: str, key: str, ring: KeyRing, *, retention: float | None, fallback_ms: int
    ) -> None:
        self._app = app
        self.owner = owner
        self._rest = key
        self.key = sharing.key_of(owner, key)
        self._ring = ring
        self._retention_ms = -1 if retention is None else seconds(retention, "retention")
        self._fallback_ms = fallback_ms
        self._lock = threading.Lock()
        self._pid = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._rest.rpartition(':')[2]} of {self.owner}>"

    def _repr_html_(self) -> str:
        return line(self)

    def publish(self, value: Any) -> str:
        """Append a value of at most 1 MiB; its position. Sent again after a lost reply, it is stored once.

        Raises:
            ValueNotSerializable, PayloadTooLarge: nothing was sent.

        Examples:
            >>> channel = app.channel("letters")
            >>> position = channel.publish("a")
            >>> channel.publish("b") > position
            True
        """
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._writer, self._count = os.getpid(), secrets.token_hex(8), 0
            self._count += 1
            origin = f"{self._app.app_id}/{self._writer}-{self._count}"
            payload = seal_always(value, "the message", self._ring, value_context(self.owner, self._rest, origin))
            if len(payload) > LIMIT:
                raise PayloadTooLarge(
                    f"The message has {len(payload)} bytes; the limit is {LIMIT}. `app.put` it, publish the reference.",
                    size=len(payload),
                    limit=LIMIT,
                )
            return sharing.publish(
                self._app.store,
                self.key,
                self._writer,
                self._count,
                origin,
                payload,
                retention_ms=self._retention_ms,
                fallback_ms=self._fallback_ms,
            )

    def subscribe(self, from_: str = NEW, *, idle: float | None = None) -> Subscription:
        """Messages as they come, by `for` and by `async for`; each at least once.

        Args:
            from_: "new": what is published from now on; "first": all that is kept; or a message's position: what
                follows it.
            idle: seconds without a message after which it ends; None: never.

        Raises:
            UsageError: that is no position.
            PositionLost: messages after that position were dropped, since they were older than the retention.

        Examples:
            >>> channel = app.channel("digits")
            >>> position = channel.publish(1)
            >>> after = channel.publish(2)
            >>> [message.value for message in channel.subscribe("first", idle=0)]
            [1, 2]
            >>> [message.value for message in channel.subscribe(position, idle=0)]
            [2]
        """
        at = sharing.newest(self._app.store, self.key) if from_ == NEW else _position(from_)
        if from_ not in (NEW, "first"):
            self.check_gap(at)
        return Subscription(self, at, None if idle is None else seconds(idle, "idle") / 1000)

    def __iter__(self) -> Iterator[Any]:
        """The values that are kept now, in order."""
        return (message.value for message in self.subscribe("first", idle=0))

    def check_gap(self, position: str) -> None:
        """Raises `PositionLost` where messages after it were dropped.

        Examples:
            >>> channel = app.channel("kept")
            >>> channel.check_gap(channel.publish("x"))
        """
        dropped = sharing.dropped(self._app.store, self.key)
        if _order(position) < _order(dropped):
            raise PositionLost(
                f"Messages after {position} were dropped, up to {dropped}. "
                'Subscribe from "first" to go on with a gap, and use a longer retention.',
                position=position,
                dropped=dropped,
            )

    def _open(self, entry: sharing.Entry) -> Message:
        value = unseal_always(entry.payload, self._ring, value_context(self.owner, self._rest, entry.origin))
        return Message(value, entry.position, entry.origin)


class Subscription:
    """Messages after a position. `position` is that of the last one given: keep it beside what the message led to, and
    go on from there. What is not signed with the channel's key is left out, logged, and counted in `refused`.

    Examples:
        >>> position = app.channel("colours").publish("red")
        >>> with_position = app.channel("colours").subscribe("first", idle=0)
        >>> [message.value for message in with_position], with_position.position == position
        (['red'], True)
    """

    def __init__(self, stream: Stream, position: str, idle_s: float | None) -> None:
        self._stream = stream
        self.position = position
        self.refused = 0
        self._idle_s = idle_s
        self._ready: deque[sharing.Entry] = deque()
        self._after = position
        self._connection: Connection | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Subscription to {self._stream!r} at {self.position}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, also from another thread. Repeatable.

        Examples:
            >>> subscription = app.channel("colours").subscribe("new")
            >>> subscription.close()
            >>> list(subscription)
            []
        """
        self._closed = True
        if self._connection is not None:
            self._stream._app.store.discard(self._connection)

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Message:
        end = None if self._idle_s is None else time.monotonic() + self._idle_s
        while not self._closed:
            if (message := self._take()) is not None:
                return message
            if not self._fetch(end) and end is not None and time.monotonic() >= end:
                break
        self.close()
        raise StopIteration

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Message:
        end = None if self._idle_s is None else time.monotonic() + self._idle_s
        while not self._closed:
            if (message := self._take()) is not None:
                return message
            found = await asyncio.to_thread(self._fetch, end)
            if not found and end is not None and time.monotonic() >= end:
                break
        self.close()
        raise StopAsyncIteration

    def _fetch(self, end: float | None) -> bool:
        """Wait for messages, at most until `end`; whether some came. One at a time: a wait whose `await` was cancelled
        goes on until its read ends, and what it found is given by the next one."""
        with self._lock:
            if self._connection is None:
                self._connection = self._stream._app.store.dedicated()
            left = BLOCK_S if end is None else max(0.0, min(BLOCK_S, end - time.monotonic()))
            try:
                entries = sharing.entries(self._connection, self._stream.key, self._after, round(left * 1000))
            except StoreUnavailable:
                if self._closed:
                    return False
                raise
            if entries and self._after != START:
                self._stream.check_gap(self._after)
            if entries:
                self._after = entries[-1].position
                self._ready.extend(entries)
            return bool(entries)

    def _take(self) -> Message | None:
        while self._ready:
            entry = self._ready.popleft()
            self.position = entry.position
            try:
                return self._stream._open(entry)
            except TrustError as error:
                self.refused += 1
                log.warning("left out a message of %s at %s: %s", self._stream.key, entry.position, error)
        return None


def _position(text: str) -> str:
    if text == "first":
        return START
    ms, _, number = text.partition("-")
    if not (ms.isdecimal() and number.isdecimal()):
        raise UsageError(f'from_ is "new", "first" or a message\'s position, not {text!r:.80}.')
    return text


def _order(position: str) -> tuple[int, int]:
    ms, _, number = position.partition("-")
    return int(ms), int(number)
