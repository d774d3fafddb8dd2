"""A reference to a value that was stored once: passed instead of it, and replaced by it where a worker decodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from blazing_nb.core.codec import PLAIN, Prepared, seal, unseal
from blazing_nb.core.markup import line
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import PayloadTooLarge

VALUE_LIMIT = 256 << 20


class Ref(msgspec.Struct, frozen=True):
    """What `app.put(value)` returns. As an argument, at any depth, the step receives the value.

    Attributes:
        app: the app that keeps it.
        digest: the hash of its content, as text.
        size: bytes.

    Examples:
        >>> ref = app.put([1, 2, 3])
        >>> ref.app, ref.size > 0
        ('examples', True)
    """

    app: str
    digest: str
    size: int

    def __repr__(self) -> str:
        return f"<Ref {self.digest} of {self.app}: {self.size} bytes>"

    def _repr_html_(self) -> str:
        return line(self)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.app, self.digest, self.size)


resolver: ContextVar[Callable[[Ref], Any] | None] = ContextVar("resolver", default=None)
"""Where this is set, unpickling a reference gives its value."""


def digest_of(prepared: Prepared) -> str:
    """The content's hash, 128 bits as text."""
    kind, data = prepared
    return hashlib.sha256(bytes((kind,)) + data).hexdigest()[:32]


def seal_value(prepared: Prepared, app: str, ring: KeyRing) -> tuple[Ref, bytes]:
    """A value's reference and what is stored under it: a pickle is signed under the app and its content's hash.

    Raises:
        PayloadTooLarge: it has more than 256 MiB.
    """
    size = len(prepared[1])
    if size > VALUE_LIMIT:
        raise PayloadTooLarge(
            f"The value has {size} bytes; put takes up to {VALUE_LIMIT}. Write it to a file and pass its name.",
            size=size,
            limit=VALUE_LIMIT,
        )
    ref = Ref(app, digest_of(prepared), size)
    return ref, seal(prepared, ring, _context(ref))


def unseal_value(payload: bytes, ref: Ref, ring: KeyRing) -> Any:
    """The value, verified. Raises `SignatureRefused` or `PayloadInvalid`."""
    return unseal(payload, ring, b"" if payload[0] == PLAIN else _context(ref))


def _context(ref: Ref) -> bytes:
    return context(ref.app, "put", b"", ref.digest)


def _rebuild(app: str, digest: str, size: int) -> Any:
    ref, resolve = Ref(app, digest, size), resolver.get()
    return ref if resolve is None else resolve(ref)
