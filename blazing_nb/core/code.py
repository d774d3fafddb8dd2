"""The record that maps a step to its code: always signed, addressed by its content."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from blazing_nb.core import source
from blazing_nb.core.codec import HASH_SIZE
from blazing_nb.core.policy import Policy
from blazing_nb.core.signature import MAC_SIZE, KeyRing, context
from blazing_nb.errors import CodeRefused, PayloadInvalid

HOOK = "@start"
"""Stands among the steps for what a worker runs when it starts; no step's name begins so."""
PYTHON = ".".join(map(str, sys.version_info[:2]))


class CodeRecord(msgspec.Struct, frozen=True):
    """`kind` is "import" (`ref` is module:qualname) or "source" (`blob` is a cloudpickle, by value).

    `policy` is a pickled `Policy`, empty for the default. `texts`, of source, are for tracebacks only.
    """

    kind: str
    name: str
    python: tuple[int, int]
    is_async: bool
    ref: str = ""
    blob: bytes = b""
    policy: bytes = b""
    texts: dict[str, str] = {}


def seal_code(record: CodeRecord, app: str, step: str, ring: KeyRing) -> tuple[bytes, bytes]:
    """(hash of 12 bytes, sealed record)."""
    data = msgspec.msgpack.encode(record)
    digest = hashlib.sha256(data).digest()[:HASH_SIZE]
    key_id, mac = ring.sign(context(app, step, digest, "code") + data)
    name = key_id.encode()
    return digest, bytes((len(name),)) + name + mac + data


def unseal_code(sealed: bytes, digest: bytes, app: str, step: str, ring: KeyRing) -> CodeRecord:
    """The record. Raises `SignatureRefused`, `CodeRefused` or `PayloadInvalid`."""
    if not sealed or len(sealed) < 1 + sealed[0] + MAC_SIZE:
        raise PayloadInvalid("the code record is cut off")
    at = 1 + sealed[0]
    data = sealed[at + MAC_SIZE :]
    signed = context(app, step, digest, "code") + data
    ring.verify(sealed[1:at].decode(errors="replace"), sealed[at : at + MAC_SIZE], signed)
    if hashlib.sha256(data).digest()[:HASH_SIZE] != digest:
        raise CodeRefused("the code record is not the one that the operation names")
    try:
        return msgspec.msgpack.decode(data, type=CodeRecord)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PayloadInvalid(f"the code record does not decode: {error}") from error


class CodeNotHere(Exception):
    """The code cannot be loaded here now; elsewhere it may be: a missing module, another Python (`python`: which)."""

    def __init__(self, reason: str, python: str = "") -> None:
        super().__init__(reason)
        self.python = python


def load_function(record: CodeRecord) -> Callable[..., Any]:
    """The function of a record whose signature was verified. Raises `CodeNotHere`."""
    return _import(record.ref) if record.kind == "import" else _unpickle(record)


def load_policy(record: CodeRecord) -> Policy:
    """The rules of its step; of a record whose signature was verified."""
    return pickle.loads(record.policy) if record.policy else Policy()  # nosec B301  # noqa: S301 - it was verified


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
        raise CodeNotHere(f"step {record.name!r} was defined in Python {made}, this is {PYTHON}", made)
    try:
        function: Callable[..., Any] = pickle.loads(record.blob)  # nosec B301  # noqa: S301 - the signature was verified
    except (ImportError, AttributeError) as error:
        raise CodeNotHere(f"step {record.name!r} needs something that is not here: {error}") from error
    source.show(function, record.texts)
    return function
