"""Signatures: HMAC-SHA256 under one of the app's keys, over a context and the bytes."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping

from blazing_nb.errors import SignatureRefused

MAC_SIZE = 32


class KeyRing:
    """The app's keys by id; `current` signs, any of them verifies. Never shows a secret."""

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        if current not in keys or not all(keys.values()):
            raise ValueError("a key ring needs its current key, and no empty one")
        self._keys = dict(keys)
        self.current = current

    def __repr__(self) -> str:
        return f"<KeyRing {sorted(self._keys)} current={self.current!r}>"

    def __reduce__(self) -> str:
        raise TypeError("a KeyRing holds secrets and is not pickled")

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """(key id, 32 bytes)."""
        return self.current, hmac.digest(self._keys[self.current], data, "sha256")

    def verify(self, key_id: str, mac: bytes, data: bytes) -> None:
        """Raises `SignatureRefused` unless that key signed exactly these bytes."""
        key = self._keys.get(key_id)
        if key is None:
            raise SignatureRefused(f"signed with key {key_id[:32]!r}, which this app does not have", key_id=key_id)
        if not hmac.compare_digest(mac, hmac.digest(key, data, "sha256")):
            raise SignatureRefused("the signature does not hold: altered, moved, or signed with another key")


def context(app: str, step: str, code: bytes, origin: str) -> bytes:
    """What a signature is bound to beside the bytes; length-prefixed, so that no two contexts read the same."""
    parts = (app.encode(), step.encode(), code, origin.encode())
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
