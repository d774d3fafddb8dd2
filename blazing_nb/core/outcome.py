"""The record of a finished operation: `<letter><worker incarnation>-<claim number>;` and a msgpack body.

The letter and the token are plain text because Lua reads them: the fence and the repeated commit need no decoding.
"""

from __future__ import annotations

import msgspec

from blazing_nb.core.status import LETTER, Status
from blazing_nb.errors import PayloadInvalid

_Body = tuple[int, int, int, int, int, bytes]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode
_BY_BYTE = {ord(letter): status for letter, status in LETTER.items()}


class Outcome(msgspec.Struct, frozen=True):
    """A final status with its value and times; they never travel apart.

    `worker` is the committing worker's incarnation and `claim` its claim number: together the token. Moments are
    server milliseconds; `queued_us` is from the claim to the start, `run_us` from the start to the end.
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


def encode_body(enqueued_ms: int, claimed_ms: int, queued_us: int, run_us: int, attempt: int, payload: bytes) -> bytes:
    """The body, an array in this order; the script puts letter and token before it."""
    return _encode((enqueued_ms, claimed_ms, queued_us, run_us, attempt, payload))


def decode_outcome(record: bytes) -> Outcome:
    """Raises `PayloadInvalid` where the bytes are no record."""
    try:
        at = record.index(b";", 0, 48)
        worker, _, claim = record[1:at].partition(b"-")
        return Outcome(_BY_BYTE[record[0]], int(worker), int(claim), *_decode(record[at + 1 :]))
    except (ValueError, KeyError, IndexError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PayloadInvalid(f"not an outcome: {record[:40]!r}") from error
