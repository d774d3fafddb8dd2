"""What a commit enqueues: the next stage of a flow, whose argument is the value; and what a workflow calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from blazing_nb.core.codec import Prepared, prepare_call, seal_call
from blazing_nb.core.policy import CallOptions
from blazing_nb.core.replay import Invocation
from blazing_nb.core.signature import KeyRing, context
from blazing_nb.worker.job import Job, Next
from blazing_nb.worker.replay import Wait, digest_of

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


def calls(
    app: str,
    ring: KeyRing,
    job: Job,
    options: CallOptions,
    made: Mapping[int, Invocation],
    code: Callable[[str], bytes],
) -> tuple[Next, ...]:
    """What a workflow calls, each signed under the workflow's id and the call's position.

    Raises:
        UnknownStep: `code` knows no step of that name.
    """
    return tuple(_call(app, ring, job, options, i, invocation, code(invocation.step)) for i, invocation in made.items())


def _call(
    app: str, ring: KeyRing, job: Job, options: CallOptions, position: int, made: Invocation, digest: bytes
) -> Next:
    ctx = context(app, made.step, digest, f"{job.operation}#{position}")
    payload = seal_call(made.prepared, digest, ring, ctx, _options(made.options, (), options))
    delay_ms = max(1, made.at_ms - job.claimed_ms) if made.at_ms else made.delay_ms
    deadline_ms = max(1, made.expires_at_ms - job.claimed_ms) if made.expires_at_ms else made.expires_ms
    prio = "n" if made.prio == "d" else made.prio
    return Next(made.step, prio, payload, position, digest_of(made), delay_ms, deadline_ms)


def wait_body(job: Job, wait: Wait) -> bytes:
    """As the store takes a workflow that waits (`_wait.lua`)."""
    return b"W" + _encode([wait.timer_ms, wait.told, wait.groups, wait.gone, job.claimed_ms])


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
