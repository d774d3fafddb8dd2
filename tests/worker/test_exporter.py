"""`--metrics-port`, scraped as Prometheus does while work runs."""

from __future__ import annotations

import json
import math
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from blazing_nb import Blazing, Worker, errors
from blazing_nb.cli import main
from blazing_nb.core.metrics import bucket, cumulative, total_s
from tests.client.test_feature import failing
from tests.client.test_option import same
from tests.condition import until
from tests.worker.test_death import hold_until

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(address: str) -> Figures:
    with urllib.request.urlopen(address, timeout=10) as reply:  # noqa: S310 - our own address
        text = reply.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def figure(figures: Figures, name: str, **labels: str) -> float:
    """The only sample of that name with these labels."""
    wanted = frozenset(labels.items())
    [value] = [value for (found, have), value in figures.items() if found == name and wanted <= have]
    return value


def test_a_worker_process_answers_prometheus_while_it_works(app: Blazing, worker_process: Any, tmp_path: Any) -> None:
    worker = worker_process("--metrics-port", "0", "--worker-id", "w1")
    line = worker.wait_for_line(lambda line: "metrics at" in line)
    address = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)[0]  # type: ignore[index]
    app.step(same).map(range(50)).results(10)
    retried = app.step(failing, retries=1, backoff=0.01)
    retried.enqueue("x").exception(10)
    held = app.step(hold_until).enqueue(str(tmp_path / "go"), str(tmp_path / "ran"))
    until((tmp_path / "ran").exists)
    app.step(same).options(delay=3600).map(range(3))
    found = scrape(address)
    assert figure(found, "blazing_store_up") == 1
    assert figure(found, "blazing_finished_total", app=app.app_id, step="same", status="succeeded") == 50
    assert figure(found, "blazing_claimed_total", step="same") == 50
    assert figure(found, "blazing_parked", step="same", prio="d") == 3
    assert figure(found, "blazing_in_flight", step="hold_until") == 1
    assert figure(found, "blazing_retried_total", step="failing") == 1
    assert figure(found, "blazing_finished_total", step="failing", status="failed") == 1
    for name in ("wait", "run", "total"):
        assert figure(found, f"blazing_{name}_seconds_count", step="same") == 50
        assert figure(found, f"blazing_{name}_seconds_bucket", step="same", le="+Inf") == 50
        assert 0 < figure(found, f"blazing_{name}_seconds_sum", step="same") < 50 * 10
    assert figure(found, "blazing_worker_held", worker="w1") == 1
    assert figure(found, "blazing_worker_done_total", worker="w1") == 53 - 1
    assert figure(found, "process_resident_memory_bytes") > 1e6
    assert figure(found, "blazing_alarms") == 0
    (tmp_path / "go").touch()
    held.result(10)
    until(lambda: figure(scrape(address), "blazing_in_flight", step="hold_until") == 0)


def test_a_taken_port_and_a_missing_extra_are_said(app: Blazing, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.UsageError, match="Name another port"):
            Worker(app.app_id, url=url, metrics_port=port).start()
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(errors.UsageError, match=r"blazing_nb\[metrics\]"):
        Worker(app.app_id, url=url, metrics_port=0).start()
    assert app.snapshot().workers == []


def test_workers_that_share_a_range_of_ports_and_an_environment_each_take_one(
    app: Blazing, worker_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        first = free.getsockname()[1]
    monkeypatch.setenv("BLAZING_METRICS_PORT", f"{first}-{first + 20}")
    monkeypatch.setenv("BLAZING_LOG_FORMAT", "json")
    ports = set()
    for _ in range(2):
        line = worker_process().wait_for_line(lambda line: "metrics at" in line)
        ports.add(int(re.findall(r":(\d+)/metrics", json.loads(line)["message"])[0]))
    assert len(ports) == 2
    assert ports <= set(range(first, first + 21))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BLAZING_METRICS_PORT", "9-1", "neither a port"),
        ("BLAZING_METRICS_PORT", "x", "neither a port"),
        ("BLAZING_METRICS_PORT", "70000", "neither a port"),
        ("BLAZING_LOG_FORMAT", "xml", "BLAZING_LOG_FORMAT"),
        ("BLAZING_LOG_LEVEL", "loud", "BLAZING_LOG_LEVEL"),
    ],
)
def test_an_environment_that_does_not_fit_is_said(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["worker", "--app", "nobodys", "--url", "unix:///nowhere"]) == 2
    assert said in capsys.readouterr().err


def test_a_scrape_is_answered_while_the_store_is_away(app: Blazing, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(app.app_id, url=url, metrics_port=0).start()
    exporter = worker._exporter
    assert exporter is not None
    with monkeypatch.context() as patch:
        patch.setattr(exporter, "_url", "unix:///nowhere")
        patch.setattr("blazing_nb.worker.exporter.DEADLINE_S", 0.2)
        found = scrape(exporter.address)
    assert figure(found, "blazing_store_up") == 0
    assert figure(found, "blazing_worker_held") == 0
    worker.close()
    with pytest.raises(OSError, match="refused"):
        scrape(exporter.address)


def test_what_the_page_on_monitoring_names_is_exported(app: Blazing, url: str) -> None:
    worker = Worker(app.app_id, url=url, metrics_port=0).start()
    app.step(same).map(range(3)).results(10)
    assert worker._exporter is not None
    exported = {name for name, _ in scrape(worker._exporter.address)}
    worker.close()
    exported |= {name.removesuffix("_bucket") for name in exported}
    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    named = set(re.findall(r"(?:blazing|process)_[a-z_]+[a-z]", page)) - {"blazing_nb", "blazing_worker", "process_"}
    assert len(named) > 20
    assert named <= exported


@given(st.lists(st.floats(1, 1e9), min_size=1))
def test_octaves_count_what_lies_below_them(times_us: list[float]) -> None:
    histogram: dict[int, int] = {}
    for us in times_us:
        histogram[bucket(us)] = histogram.get(bucket(us), 0) + 1
    rows = cumulative(histogram)
    assert rows[-1] == (math.inf, len(times_us))
    assert [n for _, n in rows] == sorted(n for _, n in rows)
    for bound, n in rows[:-1]:
        assert sum(us < bound * 1e6 * 0.99 for us in times_us) <= n <= sum(us < bound * 1e6 * 1.01 for us in times_us)
    assert total_s(histogram) == pytest.approx(sum(times_us) / 1e6, rel=0.1)
