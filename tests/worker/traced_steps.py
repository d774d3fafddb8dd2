"""Steps whose module sets OpenTelemetry up, as a worker process imports it."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from blazing_nb import Blazing, current

if not isinstance(trace.get_tracer_provider(), TracerProvider):
    trace.set_tracer_provider(TracerProvider())

app = Blazing("by-import")


@app.step
def whose() -> tuple[str, int, bool]:
    """The trace that it runs in, its attempt, and whether a span of this process records it."""
    span = trace.get_current_span()
    return f"{span.get_span_context().trace_id:032x}", current().attempt, span.is_recording()
