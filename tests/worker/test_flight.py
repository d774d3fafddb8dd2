"""Turns that overlap, where the store is far: what they claim ahead is bounded, and none of it is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.client.proxy import Proxy
from blazing_nb.worker.flight import MOST, Flights
from tests.client.test_option import same
from tests.client.test_outbox import record
from tests.condition import until

FAR_S = 0.02
LEASE_S = 60.0
"""Nothing in here can wait for the end of a lease."""


@pytest.fixture
def proxy(proxy: Proxy) -> Proxy:
    proxy.delay(FAR_S)
    return proxy


@pytest.fixture
def far(app: Blazing, proxy: Proxy) -> Iterator[Worker]:
    made = Worker(app.app_id, url=f"{proxy.url}?socket_timeout=1", lease=LEASE_S).start()
    yield made
    made.close()


def claimed(app: Blazing) -> int:
    return sum(segment.claimed for segment in app.snapshot().segments)


def nap(x: int) -> int:
    import time

    time.sleep(0.001)
    return x


def test_the_next_turn_claims_while_the_last_is_under_way_and_no_deeper(app: Blazing, far: Worker) -> None:
    step = app.step(same)
    step.map(range(2000)).results(60)
    batch, seen = step.map(range(12_000)), []
    while batch.done_count < len(batch):
        seen.append(claimed(app))
    assert 256 < max(seen) <= 512


def test_each_turn_of_a_long_map_overlaps_but_for_the_first_by_each_socket(
    app: Blazing, far: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = Flights.begin, list[bool]()

    def recorded(*args: Any) -> bool:
        begun.append(begin(*args))
        return begun[-1]

    monkeypatch.setattr(Flights, "begin", recorded)
    app.step(same).map(range(12_000)).results(60)
    assert begun.count(True) >= 12_000 // 256 - 4
    assert begun.count(False) <= MOST


def test_a_worker_of_one_thread_executes_in_the_order_of_the_segment(
    app: Blazing, proxy: Proxy, tmp_path: Path
) -> None:
    worker = Worker(app.app_id, url=f"{proxy.url}?socket_timeout=1", lease=LEASE_S, threads=1).start()
    log = tmp_path / "log"
    app.step(record).starmap((str(log), i) for i in range(3000)).results(60)
    worker.close()
    assert log.read_text().split() == [str(i) for i in range(3000)]


def test_overlapping_turns_keep_a_cap_of_operations_in_flight(app: Blazing, far: Worker) -> None:
    step = app.step(nap, max_in_flight=3)
    batch, seen = step.map(range(60)), []
    while batch.done_count < len(batch):
        seen.append(claimed(app))
    assert max(seen) == 3


def test_a_worker_that_ends_gives_back_what_a_turn_under_way_claims(app: Blazing, far: Worker, url: str) -> None:
    step = app.step(same)
    batch = step.map(range(12_000))
    until(lambda: batch.done_count > 1000)
    far.close()
    assert claimed(app) == 0
    other = Worker(app.app_id, url=url).start()
    assert batch.results(30) == list(range(12_000))
    [stats] = app.snapshot().steps
    assert (stats.succeeded, stats.fenced, stats.rescued) == (12_000, 0, 0)
    other.close()


def test_a_worker_that_drains_executes_what_a_turn_under_way_claims(app: Blazing, far: Worker) -> None:
    batch = app.step(same).map(range(12_000))
    until(lambda: batch.done_count > 1000)
    far.stop_accepting()
    assert far.wait_for_completion(30)
    assert (claimed(app), far.held) == (0, 0)
    assert far.done == app.snapshot().steps[0].succeeded


def test_lost_replies_of_overlapping_turns_lose_nothing_and_cost_no_lease(
    app: Blazing, far: Worker, proxy: Proxy
) -> None:
    batch = app.step(same).map(range(12_000))
    for _ in range(8):
        proxy.drop_reply()
        time.sleep(2 * FAR_S)
    assert batch.results(LEASE_S / 2) == list(range(12_000))
    far.stop_accepting()
    assert far.wait_for_completion(30)
    [stats] = app.snapshot().steps
    assert (stats.succeeded, stats.fenced, far.fenced) == (12_000, 0, 0)


def test_turns_that_stay_out_are_given_up_and_sent_again(app: Blazing, far: Worker, proxy: Proxy) -> None:
    batch = app.step(same).map(range(12_000))
    until(lambda: batch.done_count > 1000)
    proxy.half_open()
    time.sleep(0.1)
    proxy.heal()
    assert batch.results(LEASE_S / 2) == list(range(12_000))
    assert app.snapshot().steps[0].succeeded == 12_000
