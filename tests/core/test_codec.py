"""Values to bytes and back; what is not plain is signed, and nothing is unpickled before its signature holds."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blazing_nb.core import codec
from blazing_nb.core.code import CodeRecord, seal_code, unseal_code
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.errors import (
    CodeRefused,
    PayloadInvalid,
    RemoteError,
    SignatureRefused,
    TrustError,
    ValueNotSerializable,
)

RING = KeyRing({"k1": b"s" * 32}, "k1")
OTHER = KeyRing({"k1": b"t" * 32}, "k1")
CTX = context("app", "step", b"c" * 12, "step:n:node:1-1")
CODE = b"c" * 12

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
odd = (
    st.tuples(scalars)
    | st.sets(st.integers())
    | st.integers(2**64, 2**90)
    | st.just("\ud800")
    | st.just(OrderedDict(a=1))
)


def types(value: Any) -> Any:
    """The exact types all the way down."""
    if isinstance(value, dict):
        return type(value), [(type(k), types(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types(item) for item in value]
    return type(value)


def same(a: Any, b: Any) -> bool:
    return types(a) == types(b) and a == b


@given(plain)
def test_plain_data_comes_back_exactly_and_unsigned(value: Any) -> None:
    payload = codec.seal(codec.prepare(value, "it"), RING, CTX)
    assert payload[0] == codec.PLAIN or "\\ud" in repr(value)
    assert same(codec.unseal(payload, RING, CTX), value)


@given(odd | st.lists(odd, min_size=1) | st.dictionaries(st.text(), odd, min_size=1))
def test_anything_else_comes_back_exactly_and_signed(value: Any) -> None:
    payload = codec.seal(codec.prepare(value, "it"), RING, CTX)
    assert payload[0] == codec.SIGNED
    assert same(codec.unseal(payload, RING, CTX), value)


@given(st.lists(plain, max_size=4), st.dictionaries(st.text(max_size=5), plain, max_size=3))
def test_a_call_comes_back_as_it_went(args: list[Any], kwargs: dict[str, Any]) -> None:
    envelope = codec.seal_call(codec.prepare_call(tuple(args), kwargs), CODE, RING, CTX)
    assert codec.code_of(envelope) == CODE
    assert codec.unseal_call(envelope, RING, CTX) == (args, kwargs)


@given(st.binary(max_size=200))
def test_garbage_is_refused_as_such(payload: bytes) -> None:
    for read in (codec.unseal, codec.unseal_call):
        try:
            read(payload, RING, CTX)
        except (PayloadInvalid, SignatureRefused):
            continue
        assert payload[:1] == b"\0"


def test_arrays_and_subclasses_are_not_flattened() -> None:
    for value in (np.float64(1.5), np.arange(3), True, OrderedDict(a=[1])):
        back = codec.unseal(codec.seal(codec.prepare(value, "it"), RING, CTX), RING, CTX)
        assert type(back) is type(value)


def test_a_list_that_holds_itself_survives() -> None:
    value: list[Any] = [1]
    value.append(value)
    back = codec.unseal(codec.seal(codec.prepare(value, "it"), RING, CTX), RING, CTX)
    assert back[1] is back


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(ValueNotSerializable, match="argument 2, of type generator"):
        codec.prepare_call((1, (n for n in ())), {"key": 2})
    with pytest.raises(ValueNotSerializable, match="argument key, of type generator"):
        codec.prepare_call((1, [2]), {"key": (n for n in ())})


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


CONTEXTS = [
    context("other", "step", b"c" * 12, "step:n:node:1-1"),
    context("app", "other", b"c" * 12, "step:n:node:1-1"),
    context("app", "step", b"d" * 12, "step:n:node:1-1"),
    context("app", "step", b"c" * 12, "step:n:node:1-2"),
]


def refused(payload: bytes, ring: KeyRing = RING, ctx: bytes = CTX) -> None:
    with pytest.raises(TrustError):
        codec.unseal(payload, ring, ctx)


def test_nothing_is_unpickled_before_its_signature_holds(tmp_path: Path) -> None:
    marker = tmp_path / "exploded"
    payload = codec.seal((codec.SIGNED, pickle.dumps(Bomb(str(marker)))), RING, CTX)
    for ctx in CONTEXTS:
        refused(payload, ctx=ctx)
    refused(payload, OTHER)
    refused(payload, KeyRing({"k2": b"s" * 32}, "k2"))
    for at in range(1, len(payload), 7):
        refused(payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
        refused(payload[:at])
    refused(payload + b"x")
    assert not marker.exists()
    codec.unseal(payload, RING, CTX)
    assert marker.exists()


def test_an_older_key_still_verifies_after_rotation() -> None:
    payload = codec.seal(codec.prepare((1,), "it"), RING, CTX)
    assert codec.unseal(payload, KeyRing({"k1": b"s" * 32, "k2": b"u" * 32}, "k2"), CTX) == (1,)


@given(st.tuples(st.text(), st.text(), st.binary(), st.text()), st.tuples(st.text(), st.text(), st.binary(), st.text()))
def test_contexts_are_unambiguous(a: tuple[str, str, bytes, str], b: tuple[str, str, bytes, str]) -> None:
    assert (context(*a) == context(*b)) == (a == b)


def test_a_key_ring_shows_and_pickles_no_secret() -> None:
    assert "s" * 8 not in repr(RING)
    with pytest.raises(TypeError):
        pickle.dumps(RING)
    with pytest.raises(ValueError):
        KeyRing({"a": b"1"}, "b")


def test_a_failure_is_rebuilt_with_its_traceback() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        payload = codec.encode_failure(error, RING, CTX)
    back = codec.decode_failure(payload, RING, CTX)
    assert isinstance(back, KeyError)
    assert "test_codec.py" in str(back.__cause__)


class NeedsTwo(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}{b}")


def test_a_failure_that_cannot_be_rebuilt_or_trusted_says_so() -> None:
    back = codec.decode_failure(codec.encode_failure(NeedsTwo(1, 2), RING, CTX), RING, CTX)
    assert isinstance(back, RemoteError)
    assert "NeedsTwo" in str(back.type)
    forged = codec.decode_failure(codec.encode_failure(ValueError("x"), OTHER, CTX), RING, CTX)
    assert isinstance(forged, SignatureRefused)
    with pytest.raises(PayloadInvalid):
        codec.decode_failure(b"\x01\x02", RING, CTX)


def test_a_code_record_is_bound_to_its_step_and_its_hash() -> None:
    record = CodeRecord("source", "f", (3, 11), False, blob=b"code")
    digest, sealed = seal_code(record, "app", "f", RING)
    assert unseal_code(sealed, digest, "app", "f", RING) == record
    with pytest.raises(SignatureRefused):
        unseal_code(sealed, digest, "app", "g", RING)
    with pytest.raises(SignatureRefused):
        unseal_code(sealed, digest, "app", "f", OTHER)
    with pytest.raises(SignatureRefused):
        unseal_code(sealed[:-1] + b"X", digest, "app", "f", RING)
    with pytest.raises((PayloadInvalid, CodeRefused)):
        unseal_code(b"", digest, "app", "f", RING)
