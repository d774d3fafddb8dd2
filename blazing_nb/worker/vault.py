"""Values that `app.put` stored, read once and kept as bytes: each operation gets a value of its own. Steps put too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from blazing_nb.core.codec import prepare
from blazing_nb.core.reference import Ref, seal_value, unseal_value
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import ReferenceUnknown
from blazing_nb.store import query
from blazing_nb.store.store import Store

CACHE_BYTES = 256 << 20


class Vault:
    """Reads references of one app; safe to use from many threads."""

    def __init__(self, app: str, ring: KeyRing, store: Store) -> None:
        self._app = app
        self._ring = ring
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def resolve(self, ref: Ref) -> Any:
        """The value. Raises `ReferenceUnknown`, `SignatureRefused` or `PayloadInvalid`."""
        return unseal_value(self._payload(ref), ref, self._ring)

    def put(self, value: Any, retention_ms: int) -> Ref:
        """Store a value. Raises `ValueNotSerializable` or `PayloadTooLarge`."""
        ref, payload = seal_value(prepare(value, "the value"), self._app, self._ring)
        query.keep_blob(self._store, ref.digest, payload, retention_ms)
        return ref

    def _payload(self, ref: Ref) -> bytes:
        with self._lock:
            found = self._kept.get(ref.digest)
            if found is not None:
                self._kept.move_to_end(ref.digest)
                return found
        read = query.blob(self._store, ref.digest) if ref.app == self._app else None
        if read is None:
            raise ReferenceUnknown(
                f"{ref!r} is not in the store: its retention has passed, or it is another app's. "
                "`app.put` the value again, with a longer retention."
            )
        with self._lock:
            self._kept[ref.digest] = read
            self._bytes = sum(map(len, self._kept.values()))
            while self._bytes > CACHE_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return read
