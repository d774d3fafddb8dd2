"""`app.shared(name)`: a space of values that several nodes, and several apps, write without a conflict."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from blazing_nb.client.shared_value import Counter, Register, SharedMap, SharedSet, SharedValue
from blazing_nb.client.stream import Stream
from blazing_nb.core.effect import LOG, value_key
from blazing_nb.core.markup import line
from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

_Kind = TypeVar("_Kind", bound=SharedValue)
_lock = threading.Lock()


class Shared:
    """A space of shared values, of this app or of the one that lets it.

    Examples:
        >>> app.shared("main").counter("seen").incr()
        >>> app.shared("main").counter("seen").value
        1
    """

    def __init__(self, app: Blazing, owner: str, name: str, ring: KeyRing) -> None:
        self._app = app
        self.owner = owner
        self.name = name
        self._ring = ring
        self._values: dict[tuple[type, str], Any] = {}

    def __repr__(self) -> str:
        return f"<Shared {self.name} of {self.owner}>"

    def _repr_html_(self) -> str:
        return line(self)

    def counter(self, name: str) -> Counter:
        """A number that is added to and taken from.

        Examples:
            >>> app.shared("s1").counter("n").incr(3)
            >>> app.shared("s1").counter("n").value
            3
        """
        return self._value(Counter, name)

    def set(self, name: str) -> SharedSet:
        """A set; an addition that the remover had not seen stays.

        Examples:
            >>> app.shared("s2").set("tags").add("a")
            >>> "a" in app.shared("s2").set("tags").value
            True
        """
        return self._value(SharedSet, name)

    def register(self, name: str) -> Register:
        """One value, the last written.

        Examples:
            >>> app.shared("s3").register("theme").set("dark")
            >>> app.shared("s3").register("theme").value
            'dark'
        """
        return self._value(Register, name)

    def map(self, name: str) -> SharedMap:
        """Registers by key.

        Examples:
            >>> app.shared("s4").map("settings")["colour"] = "blue"
            >>> app.shared("s4").map("settings").value
            {'colour': 'blue'}
        """
        return self._value(SharedMap, name)

    def log(self, name: str, *, retention: float | None = None) -> Stream:
        """A list that is only appended to: by `current().effect.append`, or `publish`.

        Args:
            retention: seconds that entries are kept, from the next one on; 0: for ever. Default: as it is.

        Examples:
            >>> position = app.shared("s5").log("entries").publish("first")
            >>> [entry.value for entry in app.shared("s5").log("entries").subscribe("first", idle=0)]
            ['first']
        """
        key = value_key(self.name, LOG, check_name(name, "name"))
        return Stream(self._app, self.owner, key, self._ring, retention=retention, fallback_ms=0)

    def _value(self, kind: type[_Kind], name: str) -> _Kind:
        """The same object for the same name: it is one writer."""
        place = (kind, check_name(name, "name"))
        with _lock:
            if place not in self._values:
                self._values[place] = kind(self._app, self, place[1])
            found: _Kind = self._values[place]
            return found
