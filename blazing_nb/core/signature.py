"""Signatures: HMAC-SHA256 under one of the app's keys, over a context and the bytes."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Mapping

from blazing_nb.errors import SignatureRefused

MAC_SIZE = 32
DERIVED_KEPT = 256


class KeyRing:
    """The app's keys by id, oldest first; `current` signs, any of them verifies. Never shows a secret.

    `reload` is asked where a key is not known: it answers the ring as it is now where that has changed, so that a key
    that was made after this ring was read is found, without a restart.
    """

    def __init__(
        self, keys: Mapping[str, bytes], current: str, reload: Callable[[], KeyRing | None] | None = None
    ) -> None:
        if current not in keys or not all(keys.values()):
            raise ValueError("a key ring needs its current key, and no empty one")
        self._keys = dict(keys)
        self._reload = reload
        self._derived: dict[str, tuple[dict[str, bytes], KeyRing]] = {}
        self.current = current

    def __repr__(self) -> str:
        return f"<KeyRing {sorted(self._keys)} current={self.current!r}>"

    def __reduce__(self) -> str:
        raise TypeError("a KeyRing holds secrets and is not pickled")

    @property
    def ids(self) -> list[str]:
        """Of the keys, oldest first."""
        return list(self._keys)

    def refresh(self) -> bool:
        """Take over what changed meanwhile; whether something did."""
        fresh = self._reload() if self._reload else None
        if fresh is not None:
            self._keys, self.current = fresh._keys, fresh.current
            self._reload = fresh._reload  # last: whoever finds that nothing changed has the keys
        return fresh is not None

    def derive(self, purpose: str) -> KeyRing:
        """Keys for one purpose, under the same ids. Whoever holds them learns nothing of this ring's."""
        keys, found = self._derived.get(purpose, (None, self))
        if keys is not self._keys:
            keys, found = self._keys, self._derive(purpose)
            if len(self._derived) >= DERIVED_KEPT:
                self._derived.clear()
            self._derived[purpose] = keys, found
        return found

    def _derive(self, purpose: str) -> KeyRing:
        made = {key_id: hmac.digest(key, b"derive" + purpose.encode(), "sha256") for key_id, key in self._keys.items()}

        def reload() -> KeyRing | None:
            self.refresh()
            fresh = self._derive(purpose)
            return None if fresh._keys == made else fresh

        return KeyRing(made, self.current, reload)

    @property
    def keys(self) -> dict[str, bytes]:
        """The secrets: for `store/secret` and `store/grant` alone."""
        return dict(self._keys)

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """(key id, 32 bytes)."""
        return self.current, hmac.digest(self._keys[self.current], data, "sha256")

    def verify(self, key_id: str, mac: bytes, data: bytes) -> None:
        """Raises `SignatureRefused` unless that key signed exactly these bytes."""
        key = self._keys.get(key_id)
        if key is None:
            self.refresh()
            key = self._keys.get(key_id)
        if key is None:
            text = (
                f"signed with key {key_id[:32]!r}, which this app does not have here: copy its key file to this machine"
            )
            raise SignatureRefused(text, key_id=key_id)
        if not hmac.compare_digest(mac, hmac.digest(key, data, "sha256")):
            raise SignatureRefused("the signature does not hold: altered, moved, or signed with another key")


def context(app: str, step: str, code: bytes, origin: str) -> bytes:
    """What a signature is bound to beside the bytes; length-prefixed, so that no two contexts read the same."""
    parts = (app.encode(), step.encode(), code, origin.encode())
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
