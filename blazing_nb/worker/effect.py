"""`current().effect`: what shall be done with the operation's commit, if and only if that is accepted."""

from __future__ import annotations

from typing import Any

from blazing_nb.core.codec import seal_always
from blazing_nb.core.effect import (
    KINDS,
    OWN,
    Effect,
    channel_purpose,
    space_purpose,
    value_context,
    value_key,
)
from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import PayloadTooLarge, UsageError

MOST = 100
BYTES = 256 << 10
LARGEST = 10**12


class Effects:
    """Recorded while the step runs. The script that commits the operation's success does them, once, or not at all:
    where the attempt fails, or another worker has taken the operation over, nothing happens.

    Values are of the app's own shared space "main", or of the `shared` one named; `app.shared(...)` reads them.

    Examples:
        >>> @app.step
        ... def page_seen(page):
        ...     current().effect.incr("pages")
        ...     current().effect.publish("pages", {"page": page})
        >>> page_seen.enqueue(7).result(timeout=10)
        >>> app.shared().counter("pages").value
        1
    """

    def __init__(self, app: str, operation: str, ring: KeyRing) -> None:
        self._app = app
        self._operation = operation
        self._ring = ring
        self.recorded: list[Effect] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<Effects of {self._operation}: {len(self.recorded)}>"

    def incr(self, name: str, by: int = 1, *, shared: str = OWN) -> None:
        """Add `by`, -10^12 to 10^12, to a counter.

        Examples:
            >>> visit = app.step(lambda: current().effect.incr("visits", 2), name="visit")
            >>> visit.enqueue().result(timeout=10)
            >>> app.shared().counter("visits").value
            2
        """
        if type(by) is not int or abs(by) > LARGEST:
            raise UsageError(f"by is a whole number from -10^12 to 10^12, not {by!r}.")
        self._record(Effect("incr", self._key("incr", shared, name), by=by))

    def set(self, name: str, value: Any, *, shared: str = OWN) -> None:
        """Write a register; of two operations the one that commits last has written it.

        Examples:
            >>> mark = app.step(lambda page: current().effect.set("last", page), name="mark")
            >>> mark.enqueue(7).result(timeout=10)
            >>> app.shared().register("last").value
            7
        """
        key = self._key("set", shared, name)
        self._seal("set", key, space_purpose(shared), value, "")

    def append(self, name: str, value: Any, *, shared: str = OWN) -> None:
        """Append to a log.

        Examples:
            >>> note = app.step(lambda word: current().effect.append("words", word), name="note")
            >>> note.enqueue("a").result(timeout=10)
            >>> [entry.value for entry in app.shared().log("words").subscribe("first", idle=0)]
            ['a']
        """
        key = self._key("append", shared, name)
        self._seal("append", key, space_purpose(shared), value, self._origin())

    def publish(self, channel: str, value: Any) -> None:
        """Publish to a channel of the app's own.

        Examples:
            >>> tell = app.step(lambda word: current().effect.publish("told", word), name="tell")
            >>> tell.enqueue("b").result(timeout=10)
            >>> [message.value for message in app.channel("told").subscribe("first", idle=0)]
            ['b']
        """
        key = channel_purpose(check_name(channel, "channel"))
        self._seal("publish", key, key, value, self._origin())

    def _key(self, verb: str, space: str, name: str) -> str:
        return value_key(check_name(space, "shared"), KINDS[verb], check_name(name, "name"))

    def _origin(self) -> str:
        return f"{self._operation}#{len(self.recorded)}"

    def _seal(self, verb: str, key: str, purpose: str, value: Any, origin: str) -> None:
        ctx = value_context(self._app, key, origin)
        payload = seal_always(value, "the value of an effect", self._ring.derive(purpose), ctx)
        self._record(Effect(verb, key, value=payload, origin=origin))

    def _record(self, effect: Effect) -> None:
        self._size += len(effect.value)
        if len(self.recorded) >= MOST or self._size > BYTES:
            raise PayloadTooLarge(
                f"An operation has at most {MOST} effects, of {BYTES} bytes together. Enqueue several operations.",
                size=self._size,
                limit=BYTES,
            )
        self.recorded.append(effect)
