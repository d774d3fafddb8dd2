"""What follows a stage of a flow: its value goes on as the argument of the next one."""

from __future__ import annotations

import msgspec

from blazing_nb.core.codec import Prepared, prepare_call, seal_call
from blazing_nb.core.policy import CallOptions
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.worker.job import Job, Next

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CallOptions).decode


def next_stage(app: str, ring: KeyRing, job: Job, options: CallOptions, value: object) -> Next:
    """The next stage's call, signed under this operation's id: only its commit enqueues it.

    Raises:
        ValueNotSerializable.
    """
    stage, *rest = options.flow
    ctx = context(app, stage.step, stage.code, job.operation)
    payload = seal_call(_argument(value), stage.code, ring, ctx, _options(stage.options, tuple(rest), options))
    return Next(stage.step, stage.prio, payload, len(options.flow), _root(job), stage.delay_ms, stage.deadline_ms)


def _argument(value: object) -> Prepared:
    return prepare_call((value,), {})


def _options(own: bytes, rest: tuple[object, ...], before: CallOptions) -> bytes:
    """The stage's own options, the stages after it, and the trace that they all belong to."""
    if not rest and not before.traceparent:
        return own
    options = _decode(own) if own else CallOptions()
    trace = {"traceparent": before.traceparent, "tracestate": before.tracestate}
    return _encode(msgspec.structs.replace(options, flow=rest, **trace))


def _root(job: Job) -> str:
    """The flow's first operation as the entry names it; empty where this is it."""
    fields = job.entry[1]
    for at in range(4, len(fields), 2):
        if fields[at] == b"r":
            return str(fields[at + 1].decode())
    return ""
