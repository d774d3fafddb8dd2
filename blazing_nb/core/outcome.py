"""The record of a finished operation: `<letter><worker incarnation>-<claim number>;` and a msgpack body.

The letter and the token are plain text because Lua reads them: the fence and the repeated commit need no decoding.
"""

from __future__ import annotations

import msgspec

from blazing_nb.core.status import LETTER, Status
from blazing_nb.errors import PayloadInvalid


class _Body(msgspec.Struct, array_like=True, frozen=True):
    enqueued_ms: int
    claimed_ms: int
    queued_us: int
    run_us: int
    attempt: int
    payload: bytes
    place: str = ""


_SEVEN = b"\x97"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode
_BY_BYTE = {ord(letter): status for letter, status in LETTER.items()}


class Outcome(msgspec.Struct, frozen=True):
    """A final status with its value and times; they never travel apart.

    `worker` is the committing worker's incarnation and `claim` its claim number: together the token. Moments are
    server milliseconds; `queued_us` is from the claim to the start, `run_us` from the start to the end. `place`:
    where a flow goes on, `<stages left>|<operation>`.
    """

    status: Status
    worker: int
    claim: int
    enqueued_ms: int
    claimed_ms: int
    queued_us: int
    run_us: int
    attempt: int
    payload: bytes
    place: str = ""


def encode_body(
    enqueued_ms: int, claimed_ms: int, queued_us: int, run_us: int, attempt: int, payload: bytes, *, open_: bool = False
) -> bytes:
    """The body, an array in this order; the script puts letter and token before it.

    `open_`: of a stage that another follows; the script appends where, as the seventh.
    """
    body = _encode((enqueued_ms, claimed_ms, queued_us, run_us, attempt, payload))
    return _SEVEN + body[1:] if open_ else body


def goes_on(record: bytes) -> bool:
    """Whether it is of a stage that another follows."""
    at = record.find(b";")
    return record[at + 1 : at + 2] == _SEVEN


def decode_outcome(record: bytes) -> Outcome:
    """Raises `PayloadInvalid` where the bytes are no record."""
    try:
        at = record.index(b";", 0, 48)
        worker, _, claim = record[1:at].partition(b"-")
        body = _decode(record[at + 1 :])
        return Outcome(_BY_BYTE[record[0]], int(worker), int(claim), *msgspec.structs.astuple(body))
    except (ValueError, KeyError, IndexError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PayloadInvalid(f"not an outcome: {record[:40]!r}") from error
