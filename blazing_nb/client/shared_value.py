"""What a shared space holds: a counter, a set, a register, a map. Each reads as plain Python. The laws are those of
`core/shared`."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import ItemsView, Iterator, KeysView
from typing import TYPE_CHECKING, Any

from blazing_nb.core import shared
from blazing_nb.core.codec import seal_always, unseal_always
from blazing_nb.core.effect import value_context, value_key
from blazing_nb.core.markup import line
from blazing_nb.errors import UsageError
from blazing_nb.store import sharing

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.shared import Shared

LIMIT = 64 << 10
KEY_LIMIT = 256


class SharedValue:
    """What all kinds have: a key, a writer's identity, sealing. A write that was interrupted may or may not have
    happened; the next one of this writer does not repeat it."""

    kind = ""

    def __init__(self, app: Blazing, space: Shared, name: str) -> None:
        self.name = name
        self._app = app
        self._space = space
        self._rest = value_key(space.name, self.kind, name)
        self._key = sharing.key_of(space.owner, self._rest)
        self._lock = threading.RLock()
        self._pid = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._space.owner}:{self._space.name}>"

    def _repr_html_(self) -> str:
        return line(self)

    def _begin(self) -> None:
        """A writer of its own for each process; a child after fork is another one."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._writer = secrets.randbelow(shared.LARGEST - 1) + 1
            self._count = self._plus = self._minus = 0

    def _state(self) -> dict[bytes, bytes]:
        return sharing.state(self._app.store, self._key)

    def _merge(self, delta: dict[bytes, bytes]) -> None:
        sharing.merge(self._app.store, self._key, self.kind, delta)

    def _seal(self, value: Any, detail: str = "") -> bytes:
        ctx = value_context(self._space.owner, self._rest, detail)
        payload = seal_always(value, "a shared value", self._space._ring, ctx)
        if len(payload) > LIMIT:
            raise UsageError(f"A shared value has at most {LIMIT} bytes, not {len(payload)}; app.put it, share that.")
        return payload

    def _unseal(self, payload: bytes, detail: str = "") -> Any:
        return unseal_always(payload, self._space._ring, value_context(self._space.owner, self._rest, detail))


class Counter(SharedValue):
    """Adding from any number of processes loses nothing and counts nothing twice.

    Examples:
        >>> counter = app.shared("c1").counter("n")
        >>> counter.incr()
        >>> counter.value
        1
    """

    kind = shared.COUNTER

    def incr(self, by: int = 1) -> None:
        """Add `by`, which may be negative.

        Examples:
            >>> counter = app.shared("c2").counter("n")
            >>> counter.incr(5)
            >>> counter.incr(-2)
            >>> counter.value
            3
        """
        if type(by) is not int or abs(by) > shared.LARGEST >> 10:
            raise UsageError(f"by is a whole number of at most 2^43, not {by!r}.")
        with self._lock:
            self._begin()
            self._plus, self._minus = self._plus + max(0, by), self._minus + max(0, -by)
            self._merge(shared.count(self._writer, self._plus, self._minus))

    @property
    def value(self) -> int:
        """Its value now.

        Examples:
            >>> app.shared("c3").counter("never").value
            0
        """
        return shared.total(self._state())

    def __int__(self) -> int:
        return self.value


class SharedSet(SharedValue):
    """Elements are anything that can be an argument and a member of a `set`.

    Examples:
        >>> tags = app.shared("t1").set("tags")
        >>> tags.add("a")
        >>> tags.value
        {'a'}
    """

    kind = shared.SET

    def add(self, element: Any) -> None:
        """Add an element. Repeatable.

        Examples:
            >>> tags = app.shared("t2").set("tags")
            >>> tags.add(("x", 1))
            >>> tags.add(("x", 1))
            >>> tags.value
            {('x', 1)}
        """
        hash(element)
        with self._lock:
            self._begin()
            self._count += 1
            self._merge(shared.add(self._writer, self._count, self._seal(element)))

    def discard(self, element: Any) -> None:
        """Remove an element, where it is there as far as is seen here.

        Examples:
            >>> tags = app.shared("t3").set("tags")
            >>> tags.add("a")
            >>> tags.discard("a")
            >>> tags.value
            set()
        """
        dots = [dot for dot, payload in shared.additions(self._state()).items() if self._unseal(payload) == element]
        if dots:
            self._merge(shared.discard(dots))

    @property
    def value(self) -> set[Any]:
        """Its elements now.

        Examples:
            >>> app.shared("t4").set("never").value
            set()
        """
        return {self._unseal(payload) for payload in shared.additions(self._state()).values()}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __contains__(self, element: object) -> bool:
        return element in self.value

    def __len__(self) -> int:
        return len(self.value)


class _Written(SharedValue):
    """Registers by key. Whoever writes has seen what it replaces; of writers that did not see each other one wins, for
    every reader the same."""

    def _begin(self) -> None:
        if self._pid != os.getpid():
            self._stamps: dict[str, int] = {}
        super()._begin()

    def _write(self, key: str, payload: bytes) -> None:
        with self._lock:
            self._begin()
            seen = shared.stamp_of(sharing.field(self._app.store, self._key, b"v:" + key.encode()), key)
            stamp = self._stamps[key] = max(seen, self._stamps.get(key, 0)) + 1
            self._merge(shared.write(key, stamp, self._writer, payload))

    def _read(self, key: str, default: Any) -> Any:
        found = shared.written(sharing.field(self._app.store, self._key, b"v:" + key.encode())).get(key)
        return default if found is None else self._unseal(found, key)


class Register(_Written):
    """One value; None before the first is written.

    Examples:
        >>> theme = app.shared("r1").register("theme")
        >>> theme.set("dark")
        >>> theme.value
        'dark'
    """

    kind = shared.REGISTER

    def set(self, value: Any) -> None:
        """Write it.

        Examples:
            >>> app.shared("r2").register("theme").set({"name": "dark", "contrast": 2})
        """
        self._write("", self._seal(value))

    def clear(self) -> None:
        """Nothing is written any more.

        Examples:
            >>> theme = app.shared("r3").register("theme")
            >>> theme.set("dark")
            >>> theme.clear()
            >>> theme.value
        """
        self._write("", b"")

    @property
    def value(self) -> Any:
        """What is written now.

        Examples:
            >>> app.shared("r4").register("never").value
        """
        return self._read("", None)


class SharedMap(_Written):
    """Values by key; keys are text of at most 256 bytes. The last writer of each key wins; a removal is a write.

    Examples:
        >>> settings = app.shared("m1").map("settings")
        >>> settings["a"] = 1
        >>> del settings["a"]
        >>> settings.value
        {}
    """

    kind = shared.MAP

    def __setitem__(self, key: str, value: Any) -> None:
        self._write(_text(key), self._seal(value, key))

    def __delitem__(self, key: str) -> None:
        if self._read(_text(key), _text) is _text:
            raise KeyError(key)
        self._write(key, b"")

    def __getitem__(self, key: str) -> Any:
        found = self._read(_text(key), _text)
        if found is _text:
            raise KeyError(key)
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default`.

        Examples:
            >>> app.shared("m2").map("settings").get("colour", "blue")
            'blue'
        """
        return self._read(_text(key), default)

    @property
    def value(self) -> dict[str, Any]:
        """All of it now.

        Examples:
            >>> app.shared("m3").map("never").value
            {}
        """
        return {key: self._unseal(payload, key) for key, payload in shared.written(self._state()).items()}

    def keys(self) -> KeysView[str]:
        """Its keys now; with them, `dict(shared_map)` is what `value` is.

        Examples:
            >>> settings = app.shared("m4").map("settings")
            >>> settings["a"] = 1
            >>> list(settings.keys()), dict(settings)
            (['a'], {'a': 1})
        """
        return self.value.keys()

    def items(self) -> ItemsView[str, Any]:
        """Its keys and values, all of one moment.

        Examples:
            >>> settings = app.shared("m5").map("settings")
            >>> settings["a"] = 1
            >>> list(settings.items())
            [('a', 1)]
        """
        return self.value.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def __contains__(self, key: object) -> bool:
        return key in self.value

    def __len__(self) -> int:
        return len(self.value)


def _text(key: object) -> str:
    if not isinstance(key, str) or len(key.encode(errors="replace")) > KEY_LIMIT:
        raise UsageError(f"A key is text of at most {KEY_LIMIT} bytes, not {key!r:.80}.")
    return key
