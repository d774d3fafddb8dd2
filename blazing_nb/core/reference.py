"""A reference to a value that was stored once: passed instead of it, and replaced by it where a worker decodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from blazing_nb.core.codec import Prepared


class Ref(msgspec.Struct, frozen=True):
    """What `app.put(value)` returns. As an argument, at any depth, the step receives the value.

    Attributes:
        app: the app that keeps it.
        digest: the hash of its content, as text.
        size: bytes.
    """

    app: str
    digest: str
    size: int

    def __repr__(self) -> str:
        return f"<Ref {self.digest} of {self.app}: {self.size} bytes>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(repr(self))}</code>"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.app, self.digest, self.size)


resolver: ContextVar[Callable[[Ref], Any] | None] = ContextVar("resolver", default=None)
"""Where this is set, unpickling a reference gives its value."""


def digest_of(prepared: Prepared) -> str:
    """The content's hash, 128 bits as text."""
    kind, data = prepared
    return hashlib.sha256(bytes((kind,)) + data).hexdigest()[:32]


def _rebuild(app: str, digest: str, size: int) -> Any:
    ref, resolve = Ref(app, digest, size), resolver.get()
    return ref if resolve is None else resolve(ref)
