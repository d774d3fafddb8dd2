"""A producer span round each enqueue, and its context for the envelope, where OpenTelemetry is in use in this process.

Never imports OpenTelemetry by itself: where nobody has, there is nothing to trace. Its other half is `worker/trace`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from blazing_nb import __version__
from blazing_nb.core.policy import CallOptions
from blazing_nb.store.process import is_traced

_options = msgspec.msgpack.Decoder(CallOptions).decode


def sending(app: str, step: str, count: int, options: bytes) -> AbstractContextManager[bytes]:
    """The options that `count` calls travel with: those given, and the span's W3C trace context. One span for all."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not (is_traced() or trace.get_current_span() is not trace.INVALID_SPAN):
        return nullcontext(options)
    return _sending(app, step, count, options)


@contextmanager
def _sending(app: str, step: str, count: int, options: bytes) -> Iterator[bytes]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    attributes: dict[str, str | int] = {
        "messaging.system": "blazing_nb",
        "messaging.operation.type": "send",
        "messaging.destination.name": step,
        "messaging.batch.message_count": count,
        "blazing_nb.app": app,
    }
    tracer = trace.get_tracer("blazing_nb", __version__)
    with tracer.start_as_current_span(f"send {step}", kind=trace.SpanKind.PRODUCER, attributes=attributes):
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        yield _carrying(options, carrier)


def _carrying(options: bytes, carrier: dict[str, str]) -> bytes:
    """Nothing more where there is no trace: an API without an SDK, and no context from outside."""
    if not carrier:
        return options
    call = _options(options) if options else CallOptions()
    return msgspec.msgpack.encode(msgspec.structs.replace(call, **carrier))
