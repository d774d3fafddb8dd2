"""From a code hash to a function. Owns the cache of loaded code; trusts only records that this app's key signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from blazing_nb.core.code import CodeNotHere, load_function, load_policy, unseal_code
from blazing_nb.core.policy import Policy
from blazing_nb.core.signature import KeyRing


class Code(msgspec.Struct, frozen=True):
    """A loaded step body."""

    function: Callable[..., Any]
    is_async: bool
    policy: Policy


class CodeLoader:
    """Loads each hash once. `fetch` reads the sealed record from the store."""

    def __init__(self, app: str, ring: KeyRing, fetch: Callable[[bytes], bytes | None]) -> None:
        self._app = app
        self._ring = ring
        self._fetch = fetch
        self._loaded: dict[tuple[str, bytes], Code] = {}
        self.loads = 0
        """How many were loaded: importing a step's module may have set up more than the step."""

    def load(self, step: str, digest: bytes) -> Code:
        """The function of that hash.

        Raises:
            CodeNotHere: try again elsewhere or later.
            TrustError: never here.
        """
        found = self._loaded.get((step, digest))
        if found is None:
            found = self._loaded[step, digest] = self._load(step, digest)
            self.loads += 1
        return found

    def _load(self, step: str, digest: bytes) -> Code:
        sealed = self._fetch(digest)
        if sealed is None:
            raise CodeNotHere(f"the code {digest.hex()} of step {step!r} is not in the store")
        record = unseal_code(sealed, digest, self._app, step, self._ring)
        return Code(load_function(record), record.is_async, load_policy(record))
