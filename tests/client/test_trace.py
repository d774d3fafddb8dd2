"""OpenTelemetry: one trace from the enqueue to each attempt, by the SDK's in-memory exporter."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from blazing_nb import Blazing, Cancel, Worker, errors
from blazing_nb.client import trace as client_trace
from blazing_nb.core.codec import options_of
from blazing_nb.worker.journal import JsonFormatter
from tests.client.test_option import same
from tests.condition import until


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """OpenTelemetry takes one provider a process."""
    made = TracerProvider()
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def of_kind(spans: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is kind]


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def inner(x: int) -> int:
    with trace.get_tracer("user").start_as_current_span("inside"):
        return x


async def inner_async(x: int) -> int:
    await asyncio.sleep(0)
    return inner(x)


@pytest.mark.parametrize("function", [inner, inner_async])
def test_one_trace_from_the_enqueue_to_what_the_step_does(
    app: Blazing, worker: Worker, spans: InMemorySpanExporter, function: Any
) -> None:
    with trace.get_tracer("user").start_as_current_span("outside") as outside:
        op = app.step(function).enqueue(1)
    op.result(10)
    until(lambda: of_kind(spans, SpanKind.CONSUMER))
    [producer], [consumer] = of_kind(spans, SpanKind.PRODUCER), of_kind(spans, SpanKind.CONSUMER)
    [inside] = [span for span in spans.get_finished_spans() if span.name == "inside"]
    assert (producer.name, consumer.name) == (f"send {function.__name__}", f"process {function.__name__}")
    assert parent(producer) == outside.get_span_context().span_id
    assert parent(consumer) == producer.context.span_id
    assert parent(inside) == consumer.context.span_id
    traces = {span.context.trace_id for span in (producer, consumer, inside)}
    assert traces == {outside.get_span_context().trace_id}
    assert consumer.attributes is not None
    expected = {"messaging.message.id": op.id, "blazing_nb.attempt": 1, "blazing_nb.app": app.app_id}
    assert expected.items() <= consumer.attributes.items()


def test_a_batch_has_one_producer_and_each_attempt_its_consumer(
    app: Blazing, worker: Worker, spans: InMemorySpanExporter
) -> None:
    def often(x: int) -> int:
        from blazing_nb import current

        if current().attempt == 1:
            raise ValueError(x)
        if x == 2:
            raise Cancel("enough")
        return x

    batch = app.step(often, retries=1, backoff=0.001).options(retention=60).map(range(3))
    batch.wait(10)
    until(lambda: len(of_kind(spans, SpanKind.CONSUMER)) == 6)
    [producer], consumers = of_kind(spans, SpanKind.PRODUCER), of_kind(spans, SpanKind.CONSUMER)
    assert producer.attributes is not None
    assert producer.attributes["messaging.batch.message_count"] == 3
    assert {parent(span) for span in consumers} == {producer.context.span_id}
    by_attempt: dict[Any, list[ReadableSpan]] = {1: [], 2: []}
    for span in consumers:
        assert span.attributes is not None
        by_attempt[span.attributes["blazing_nb.attempt"]].append(span)
    assert [span.status.status_code for span in by_attempt[1]] == [StatusCode.ERROR] * 3
    assert all(span.events[0].name == "exception" for span in by_attempt[1])
    assert [span.status.status_code for span in by_attempt[2]] == [StatusCode.UNSET] * 3


def test_a_keyed_operation_is_traced_too(app: Blazing, worker: Worker, spans: InMemorySpanExporter) -> None:
    assert app.step(same).options(key="k").enqueue(3).result(10) == 3
    until(lambda: of_kind(spans, SpanKind.CONSUMER))
    [producer], [consumer] = of_kind(spans, SpanKind.PRODUCER), of_kind(spans, SpanKind.CONSUMER)
    assert parent(consumer) == producer.context.span_id


def test_the_stages_of_a_flow_are_one_trace(app: Blazing, worker: Worker, spans: InMemorySpanExporter) -> None:
    first, second = app.step(lambda x: x + 1, name="first"), app.step(lambda x: x * 2, name="second")
    assert (first >> second).enqueue(3).result(10) == 8
    until(lambda: len(of_kind(spans, SpanKind.CONSUMER)) == 2)
    [producer], consumers = of_kind(spans, SpanKind.PRODUCER), of_kind(spans, SpanKind.CONSUMER)
    assert {(span.name, parent(span)) for span in consumers} == {
        ("process first", producer.context.span_id),
        ("process second", producer.context.span_id),
    }


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_the_trace_goes_on_in_other_processes(
    app: Blazing, worker_process: Any, spans: InMemorySpanExporter, lane: str
) -> None:
    from tests.worker.traced_steps import whose

    worker_process()
    found = app.step(whose, lane=lane).enqueue().result(60)
    [producer] = of_kind(spans, SpanKind.PRODUCER)
    assert found == (f"{producer.context.trace_id:032x}", 1, True)


def test_the_trace_travels_under_the_signature(app: Blazing, url: str, spans: InMemorySpanExporter) -> None:
    op = app.step(same).options(timeout=9).enqueue({1, 2})  # a set travels as a signed pickle
    key = f"{app.store.keys.prefix}seg:{op.op.segment}"
    [[entry, fields]] = app.store.connection().call("XRANGE", key, "-", "+")
    [producer] = of_kind(spans, SpanKind.PRODUCER)
    options = msgspec.msgpack.decode(options_of(fields[1]))
    identity = options.pop("traceparent")
    assert identity.startswith(f"00-{producer.context.trace_id:032x}-{producer.context.span_id:016x}-")
    assert options == {"timeout_ms": 9000}
    forged = fields[1].replace(identity.encode(), f"00-{'1' * 32}-{'2' * 16}-01".encode())
    app.store.connection().call("XDEL", key, entry)
    app.store.connection().call("XADD", key + "x", entry, "p", forged, *fields[2:])
    app.store.connection().call("RENAME", key + "x", key)
    app.store.connection().call("XGROUP", "CREATE", key, "w", "0")
    worker = Worker(app.app_id, url=url).start()
    with pytest.raises(errors.SignatureRefused):
        op.result(10)
    worker.close()


def test_where_nobody_traces_nothing_travels(app: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    with client_trace.sending("a", "s", 1, b"as they were") as options:
        assert options == b"as they were"


def test_a_record_of_the_json_log_says_its_span(spans: InMemorySpanExporter) -> None:
    record = logging.LogRecord("mine", logging.INFO, __file__, 1, "late", None, None)
    formatter = JsonFormatter("a", "w")
    assert "trace_id" not in json.loads(formatter.format(record))
    with trace.get_tracer("user").start_as_current_span("outside") as outside:
        row = json.loads(formatter.format(record))
    context = outside.get_span_context()
    assert (row["trace_id"], row["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
