"""A consumer span round each attempt, the child of the span that enqueued it, where OpenTelemetry is in use here.

Never imports OpenTelemetry by itself: a worker is traced where its steps' modules, or `opentelemetry-instrument`, set
up an SDK. Its other half is `client/trace`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from blazing_nb import __version__
from blazing_nb.core.control import Cancel, Retry
from blazing_nb.core.policy import CallOptions
from blazing_nb.worker.current import Running

_NOTHING = nullcontext()


def processing(execution: Running | None, options: CallOptions, traced: bool) -> AbstractContextManager[None]:
    """Round the call of the step's function; spans that the step makes are its children."""
    if execution is None or not (traced or options.traceparent) or "opentelemetry.trace" not in sys.modules:
        return _NOTHING
    return _processing(execution, options)


@contextmanager
def _processing(execution: Running, options: CallOptions) -> Iterator[None]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    step = execution.operation.partition(":")[0]
    carrier = {"traceparent": options.traceparent, "tracestate": options.tracestate}
    with trace.get_tracer("blazing_nb", __version__).start_as_current_span(
        f"process {step}",
        context=TraceContextTextMapPropagator().extract(carrier) if options.traceparent else None,
        kind=trace.SpanKind.CONSUMER,
        attributes={
            "messaging.system": "blazing_nb",
            "messaging.operation.type": "process",
            "messaging.destination.name": step,
            "messaging.message.id": execution.operation,
            "blazing_nb.app": execution.app,
            "blazing_nb.attempt": execution.attempt,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except (Retry, Cancel):  # how a step says what shall follow
            raise
        except BaseException as error:
            span.record_exception(error)
            span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))
            raise
