"""`--metrics-port`: the app's and the worker's figures for Prometheus. Asks the store when it is scraped; owns its HTTP
server. Needs the extra `metrics`.

Every worker answers for its whole app (the counters are the store's, and survive workers), so scrapes of several
workers agree: take `max by (app, step)`. Only `blazing_worker_*` and `process_*` are the worker's own.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from blazing_nb.core.metrics import Histogram, cumulative, total_s
from blazing_nb.core.snapshot import Snapshot, Step
from blazing_nb.errors import StoreError, UsageError
from blazing_nb.store.shards import open_store

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)
DEADLINE_S = 2.0
COUNTERS = {
    "enqueued": "operations enqueued",
    "claimed": "claims, those after a retry, a release or a death too",
    "retried": "attempts that failed and are followed by another",
    "released": "claims given back by a live worker",
    "rescued": "claims given back because their worker's lease was over",
    "fenced": "commits refused because another worker had taken over",
}
FINAL = ("succeeded", "failed", "cancelled", "expired", "lost")
HISTOGRAMS = {
    "wait": "from enqueued to claimed",
    "run": "of execution, each attempt",
    "total": "from enqueued to committed",
}
Own = Callable[[], dict[str, int]]


class Exporter:
    """Answers scrapes from `start` to `close`. `own`: the worker's own counts, `<name>` a gauge, `<name>_total` a
    counter."""

    def __init__(self, app: str, url: str, worker: str, own: Own, host: str, ports: Sequence[int]) -> None:
        self._app, self._url, self._worker, self._own = app, url, worker, own
        self._host, self._ports, self._port = host, ports, 0
        self._server: Any = None
        self._thread: Any = None

    @property
    def address(self) -> str:
        """Where to scrape."""
        return f"http://{self._host}:{self._port}/metrics"

    def start(self) -> None:
        """Raises `UsageError` without the extra, or where all ports are taken."""
        try:
            import prometheus_client
            from prometheus_client import start_http_server
            from prometheus_client.registry import Collector
        except ImportError:
            raise UsageError("Metrics need prometheus-client: pip install 'blazing_nb[metrics]'.") from None
        registry = prometheus_client.CollectorRegistry(auto_describe=False)
        prometheus_client.ProcessCollector(registry=registry)
        registry.register(type("App", (Collector,), {"collect": lambda _: self.collect()})())
        self._server, self._thread = self._listen(lambda port: start_http_server(port, self._host, registry))
        self._port = self._server.server_port
        log.info("metrics at %s", self.address)

    def _listen(self, listen: Callable[[int], Any]) -> Any:
        """At the first port that is free."""
        reason = ""
        for port in self._ports:
            try:
                return listen(port)
            except (OSError, OverflowError) as error:
                reason = str(error)
        asked = " to ".join(str(port) for port in (self._ports[0], self._ports[-1])[: len(self._ports)])
        raise UsageError(f"No metrics at {self._host} port {asked}: {reason}. Name another port.")

    def close(self) -> None:
        """Stop. Repeatable."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()

    def collect(self) -> Iterator[Metric]:
        """All figures at this moment; only the worker's own where the store does not answer."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        snapshot = self._snapshot()
        up = GaugeMetricFamily("blazing_store_up", "whether the store answered", labels=["app"])
        up.add_metric([self._app], snapshot is not None)
        yield up
        for name, value in self._own().items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            own = kind(f"blazing_worker_{name}", "of this worker process", labels=["app", "worker"])
            own.add_metric([self._app, self._worker], value)
            yield own
        if snapshot is not None:
            yield from _app(snapshot)
            yield from _depths(snapshot)
            yield from _counters(snapshot)
            yield from _histograms(snapshot)

    def _snapshot(self) -> Snapshot | None:
        # A store of this scrape's own: each comes in a thread of its own, and the store keeps a connection a thread.
        try:
            found = open_store(self._app, self._url, timeout_s=DEADLINE_S, deadline_s=DEADLINE_S)
            with contextlib.closing(found) as store:
                return store.snapshot()
        except StoreError as error:
            log.warning("scraped, but %s", error)
            return None


def _app(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    late = sum(worker.lease_ms_left < 0 for worker in snapshot.workers)
    figures = {
        "workers": (len(snapshot.workers), "registered workers"),
        "workers_late": (late, "workers whose lease is over, and whose claims go back in a moment"),
        "alarms": (len(snapshot.alarms), "what workers could not load; `doctor` says what to do"),
    }
    for name, (value, text) in figures.items():
        gauge = GaugeMetricFamily(f"blazing_{name}", text, labels=["app"])
        gauge.add_metric([snapshot.app], value)
        yield gauge


def _depths(snapshot: Snapshot) -> Iterator[Metric]:
    """By step and priority, summed over the nodes that enqueue."""
    from prometheus_client.metrics_core import GaugeMetricFamily

    states = {
        "waiting": ("waiting", "operations that wait to be claimed"),
        "parked": ("parked", "operations that wait for a moment: delays, retries, releases"),
        "in_flight": ("claimed", "operations that workers hold"),
    }
    for name, (field, text) in states.items():
        depths: Counter[tuple[str, str]] = Counter()
        for segment in snapshot.segments:
            depths[segment.step, segment.prio] += getattr(segment, field)
        gauge = GaugeMetricFamily(f"blazing_{name}", text, labels=["app", "step", "prio"])
        for (step, prio), value in sorted(depths.items()):
            gauge.add_metric([snapshot.app, step, prio], value)
        yield gauge
    oldest: dict[str, int] = {}
    for segment in snapshot.segments:
        oldest[segment.step] = max(oldest.get(segment.step, 0), segment.head_age_ms or 0)
    gauge = GaugeMetricFamily("blazing_oldest_seconds", "age of the oldest that is not final", labels=["app", "step"])
    for step, age_ms in sorted(oldest.items()):
        gauge.add_metric([snapshot.app, step], age_ms / 1000)
    yield gauge


def _counters(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily

    for field, text in COUNTERS.items():
        counter = CounterMetricFamily(f"blazing_{field}", text, labels=["app", "step"])
        for step in snapshot.steps:
            counter.add_metric([snapshot.app, step.step], getattr(step, field))
        yield counter
    commits = CounterMetricFamily("blazing_finished", "operations that became final", labels=["app", "step", "status"])
    for step in snapshot.steps:
        for status in FINAL:
            commits.add_metric([snapshot.app, step.step, status], getattr(step, status))
    yield commits


def _histograms(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.metrics_core import HistogramMetricFamily

    for name, text in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"blazing_{name}_seconds", f"seconds {text}", labels=["app", "step"])
        for step in snapshot.steps:
            counts = _counts(step, name)
            buckets = [("+Inf" if math.isinf(bound) else f"{bound:g}", float(n)) for bound, n in cumulative(counts)]
            family.add_metric([snapshot.app, step.step], buckets, total_s(counts))
        yield family


def _counts(step: Step, name: str) -> Histogram:
    counts: Histogram = getattr(step, name)
    return counts
