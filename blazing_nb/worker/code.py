"""From a code hash to a function. Owns the cache of loaded code; trusts only records that this app's key signed."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from blazing_nb.core.code import CodeRecord, unseal_code
from blazing_nb.core.policy import Policy
from blazing_nb.core.signature import KeyRing

PYTHON = ".".join(map(str, sys.version_info[:2]))


class Code(msgspec.Struct, frozen=True):
    """A loaded step body."""

    function: Callable[..., Any]
    is_async: bool
    policy: Policy


class CodeNotHere(Exception):
    """This worker cannot load the code now; another may (a missing module, another Python). `python`: which one can."""

    def __init__(self, reason: str, python: str = "") -> None:
        super().__init__(reason)
        self.python = python


class CodeLoader:
    """Loads each hash once. `fetch` reads the sealed record from the store."""

    def __init__(self, app: str, ring: KeyRing, fetch: Callable[[bytes], bytes | None]) -> None:
        self._app = app
        self._ring = ring
        self._fetch = fetch
        self._loaded: dict[tuple[str, bytes], Code] = {}

    def load(self, step: str, digest: bytes) -> Code:
        """The function of that hash.

        Raises:
            CodeNotHere: try again elsewhere or later.
            TrustError: never here.
        """
        found = self._loaded.get((step, digest))
        if found is None:
            found = self._loaded[step, digest] = self._load(step, digest)
        return found

    def _load(self, step: str, digest: bytes) -> Code:
        sealed = self._fetch(digest)
        if sealed is None:
            raise CodeNotHere(f"the code {digest.hex()} of step {step!r} is not in the store")
        record = unseal_code(sealed, digest, self._app, step, self._ring)
        function = _import(record.ref) if record.kind == "import" else _unpickle(record)
        policy = pickle.loads(record.policy) if record.policy else Policy()  # noqa: S301 - the signature was verified
        return Code(function, record.is_async, policy)


def _import(ref: str) -> Callable[..., Any]:
    module, _, qualname = ref.partition(":")
    try:
        target: Any = importlib.import_module(module)
        for name in qualname.split("."):
            target = getattr(target, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise CodeNotHere(f"{ref} cannot be imported here: {error}") from error
    function: Callable[..., Any] = getattr(target, "function", target)
    return function


def _unpickle(record: CodeRecord) -> Callable[..., Any]:
    made = ".".join(map(str, record.python))
    if made != PYTHON:
        raise CodeNotHere(f"step {record.name!r} was defined in Python {made}, this worker is {PYTHON}", made)
    try:
        function: Callable[..., Any] = pickle.loads(record.blob)  # noqa: S301 - the signature was verified
    except (ImportError, AttributeError) as error:
        raise CodeNotHere(f"step {record.name!r} needs something that is not here: {error}") from error
    return function
