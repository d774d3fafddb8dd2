"""Values to bytes and back. Plain data travels as msgpack; anything else as a signed pickle, verified before use.

Payload: `\\0` + msgpack, or `\\1` + key id's length (1 byte) + key id + mac (32 bytes) + pickle; the mac covers the
context and the pickle. `\\5` is like `\\1`, with the value's large buffers (arrays, columns) beside the pickle.
Envelope of a call: the same, with the 12 bytes of the code's hash after the first byte; where
the first byte has the bit `\\2`, then the length (2 bytes) of the call's options, and they.
"""

from __future__ import annotations

import pickle
import struct
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from blazing_nb.core.signature import MAC_SIZE, KeyRing
from blazing_nb.errors import (
    BlazingError,
    PayloadInvalid,
    RemoteError,
    RemoteTraceback,
    TrustError,
    ValueNotSerializable,
)

PLAIN, SIGNED, OPTIONS, BUFFERS = 0, 1, 2, 4
RESULT = b"result"
"""Stands for the code in the context of a result: a reader no longer knows which code made it."""
HASH_SIZE = 12
ENVELOPE_LIMIT = 64 << 20
"""No call is larger, whatever a client's own limit: a worker decodes no more than this."""
CALL_FIELDS = 4
"""Fields and values of an entry that has nothing but its payload and its moment."""
Prepared = tuple[int, bytes]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN_KEYS = frozenset({str, int})


def is_plain(value: object) -> bool:
    """Whether msgpack gives back exactly this: scalars, lists and dicts (text or integer keys) of exact types."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is list:
        items: Any = value
    elif kind is dict:
        if not set(map(type, value)) <= _PLAIN_KEYS:  # type: ignore[call-overload]
            return False
        items = value.values()  # type: ignore[attr-defined]
    else:
        return False
    return set(map(type, items)) <= _SCALARS or all(map(is_plain, items))


def prepare(value: object, what: str) -> Prepared:
    """Encode, unsigned yet. Raises `ValueNotSerializable` naming `what` and its type."""
    try:
        if is_plain(value):
            return PLAIN, _pack(value)
    except (OverflowError, UnicodeEncodeError, RecursionError):
        pass  # an integer over 64 bits, a lone surrogate, a cycle: pickle takes these
    return _pickle(value, what)


def prepare_call(args: tuple[Any, ...], kwargs: dict[str, Any], swap: Callable[[Any], Any] | None = None) -> Prepared:
    """The arguments of a call as [list, dict]. `swap`: what becomes of them first where they are not plain data.

    Raises:
        ValueNotSerializable: it names the argument.
    """
    if not kwargs and _SCALARS.issuperset(map(type, args)):
        try:
            return PLAIN, _pack((args, kwargs))
        except (OverflowError, UnicodeEncodeError):
            return _pickle([list(args), kwargs], "the arguments")
    value: list[Any] = [list(args), kwargs]
    try:
        if swap is not None and not is_plain(value):
            value = swap(value)
    except RecursionError:
        pass  # a cycle, or too deep to look into: pickle takes the one and refuses the other
    try:
        return prepare(value, "the arguments")
    except ValueNotSerializable:
        for name, each in [*enumerate(value[0], 1), *value[1].items()]:
            prepare(each, f"argument {name}")  # the one that cannot be sent says so
        raise


def seal(prepared: Prepared, ring: KeyRing, ctx: bytes) -> bytes:
    """The payload; signed where it is a pickle."""
    kind, data = prepared
    return b"\0" + data if kind == PLAIN else bytes((kind,)) + _signed(data, ring, ctx + _mark(kind))


def unseal(payload: bytes, ring: KeyRing, ctx: bytes) -> Any:
    """The value. Raises `SignatureRefused` or `PayloadInvalid` before anything is unpickled."""
    return _open(payload[:1], payload[1:], ring, ctx)


def seal_always(value: object, what: str, ring: KeyRing, ctx: bytes) -> bytes:
    """The payload of what several apps read: signed even where it is plain."""
    return _signed(seal(prepare(value, what), ring, ctx), ring, b"always" + ctx)


def unseal_always(payload: bytes, ring: KeyRing, ctx: bytes) -> Any:
    """The value. Raises `SignatureRefused` or `PayloadInvalid` before anything is decoded."""
    return unseal(_verified(payload, ring, b"always" + ctx), ring, ctx)


def seal_call(prepared: Prepared, code: bytes, ring: KeyRing, ctx: bytes, options: bytes = b"") -> bytes:
    """The envelope of a call; the signature of a pickle covers the options too."""
    kind, data = prepared
    head = bytes((kind | (OPTIONS if options else 0),)) + code
    if options:
        head += len(options).to_bytes(2, "big") + options
    return head + (data if kind == PLAIN else _signed(data, ring, ctx + options + _mark(kind)))


def code_of(envelope: bytes) -> bytes:
    """The hash of the code that a call was enqueued with."""
    if len(envelope) <= HASH_SIZE + 1:
        raise PayloadInvalid(f"an envelope of {len(envelope)} bytes")
    return envelope[1 : HASH_SIZE + 1]


def unseal_call(envelope: bytes, ring: KeyRing, ctx: bytes) -> tuple[list[Any], dict[str, Any]]:
    """(args, kwargs). Raises like `unseal`."""
    if len(envelope) > ENVELOPE_LIMIT:
        raise PayloadInvalid(f"an envelope of {len(envelope)} bytes; none has more than {ENVELOPE_LIMIT}")
    at = HASH_SIZE + 1
    if envelope and envelope[0] & OPTIONS:
        options = options_of(envelope)
        at += 2 + len(options)
        ctx += options
    value = _open(bytes((envelope[0] & ~OPTIONS,)) if envelope else b"", envelope[at:], ring, ctx)
    if type(value) is not list or [type(part) for part in value] != [list, dict]:
        raise PayloadInvalid("the arguments are not [list, dict]")
    return value[0], value[1]


def options_of(envelope: bytes) -> bytes:
    """The call's own options as they travel; empty where it has none."""
    if not envelope or not envelope[0] & OPTIONS:
        return b""
    at = HASH_SIZE + 1
    size = int.from_bytes(envelope[at : at + 2], "big")
    if len(envelope) < at + 2 + size:
        raise PayloadInvalid("the options are cut off")
    return envelope[at + 2 : at + 2 + size]


def origin_of(operation: str, fields: Sequence[bytes]) -> str:
    """What a call's signature is bound to, by its entry's fields: its id; its idempotency key, which was known before
    the id; of a workflow's call, that and its position; or, of a retry, what the first call's was bound to."""
    if len(fields) <= CALL_FIELDS:
        return operation
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    if bound := named.get(b"o") or named.get(b"w"):
        return bound.decode()
    return operation.partition(":")[0] + "|" + named[b"k"].decode() if b"k" in named else operation


def encode_failure(exc: BaseException, ring: KeyRing, ctx: bytes) -> bytes:
    """[type, message, traceback, sealed exception or nil]: readable without trusting it."""
    kind = type(exc)
    text = "".join(traceback.format_exception(exc))
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _pack((name, _safe_text(exc), text.encode(errors="replace").decode(), _sealed_exception(exc, ring, ctx)))


def decode_failure(payload: bytes, ring: KeyRing, ctx: bytes) -> BaseException:
    """The exception, of the same type where it can be rebuilt, with the remote traceback as its cause."""
    try:
        name, message, text, sealed = msgspec.msgpack.decode(payload, type=tuple[str, str, str, bytes | None])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PayloadInvalid("not a failure") from error
    rebuilt: BaseException | None = None
    if sealed is not None:
        try:
            rebuilt = unseal(sealed, ring, ctx)
        except PayloadInvalid:
            rebuilt = None
        except TrustError as error:
            rebuilt = error
    if not isinstance(rebuilt, BaseException):
        rebuilt = RemoteError(f"{name}: {message}", type=name, traceback=text)
    if text:
        rebuilt.__cause__ = RemoteTraceback(text)
    return rebuilt


def describe_failure(payload: bytes) -> str:
    """`type: message` of a failure, without trusting it."""
    try:
        name, message, *_ = msgspec.msgpack.decode(payload, type=tuple[str, str, str, bytes | None])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PayloadInvalid("not a failure") from error
    return f"{name}: {message}"


def _mark(kind: int) -> bytes:
    """What a signature covers of the kind: nobody can have a plain pickle read as one with buffers."""
    return b"buffers" if kind & BUFFERS else b""


def _pickle(value: object, what: str) -> Prepared:
    import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    try:
        data: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
    except Exception as error:
        raise ValueNotSerializable(
            f"{what}, of type {type(value).__qualname__}, cannot be sent: neither plain data nor picklable ({error}). "
            "Pass what it is made of, and make it inside the step.",
            type=type(value).__qualname__,
        ) from error
    if not raw:
        return SIGNED, data
    sizes = struct.pack(f">{len(raw) + 2}Q", len(raw), len(data), *(part.nbytes for part in raw))
    return SIGNED | BUFFERS, b"".join((sizes, data, *raw))


def _unpickle(kind: int, data: bytes) -> Any:
    """The value; buffers are copied, so that arrays can be written to as before."""
    if not kind & BUFFERS:
        return pickle.loads(data)  # nosec B301  # noqa: S301 - the signature holds
    count, size = struct.unpack_from(">2Q", data)
    sizes = struct.unpack_from(f">{count}Q", data, 16)
    view, at = memoryview(data), 16 + 8 * count
    body, at = view[at : at + size], at + size
    buffers = []
    for part in sizes:
        buffers.append(bytearray(view[at : at + part]))
        at += part
    return pickle.loads(body, buffers=buffers)  # nosec B301  # noqa: S301 - the signature holds


def _signed(data: bytes, ring: KeyRing, ctx: bytes) -> bytes:
    key_id, mac = ring.sign(ctx + data)
    name = key_id.encode()
    return bytes((len(name),)) + name + mac + data


def _verified(body: bytes, ring: KeyRing, ctx: bytes) -> bytes:
    """What `_signed` was given."""
    if not body or len(body) < 1 + body[0] + MAC_SIZE:
        raise PayloadInvalid(f"a signed payload of {len(body)} bytes is cut off")
    at = 1 + body[0]
    data = body[at + MAC_SIZE :]
    ring.verify(body[1:at].decode(errors="replace"), body[at : at + MAC_SIZE], ctx + data)
    return data


def _open(kind: bytes, body: bytes, ring: KeyRing, ctx: bytes) -> Any:
    if kind == b"\0":
        try:
            return _unpack(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PayloadInvalid(f"the payload does not decode: {error}") from error
    if kind not in (b"\1", b"\5"):
        raise PayloadInvalid(f"a payload of {len(body) + 1} bytes, kind {kind!r}")
    data = _verified(body, ring, ctx + _mark(kind[0]))
    try:
        return _unpickle(kind[0], data)
    except BlazingError:
        raise
    except Exception as error:
        raise PayloadInvalid(f"a signed value cannot be rebuilt here: {error!r}") from error


def _safe_text(exc: BaseException) -> str:
    try:
        return str(exc).encode(errors="replace").decode()
    except Exception as error:
        return f"<its message failed: {type(error).__name__}>"


def _sealed_exception(exc: BaseException, ring: KeyRing, ctx: bytes) -> bytes | None:
    import cloudpickle

    try:
        data = cloudpickle.dumps(exc, protocol=5)
        if type(pickle.loads(data)) is not type(exc):  # nosec B301  # noqa: S301 - our own bytes, of a moment ago
            return None
    except Exception:
        return None
    return b"\1" + _signed(data, ring, ctx)
