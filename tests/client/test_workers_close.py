"""`app.workers.close()` ends for good what was ordered before it, on every machine; what is ordered after it holds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from blazing_nb import Blazing, errors
from tests.condition import until

QUIET_S = 1.5
"""A supervisor's look at the store, and some."""


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    with Blazing(app_id, url=url, node_id="n1") as made:
        yield made
        made.workers.stop(timeout=5)


def supervised(app: Blazing) -> bool:
    return app.workers._supervising.station.supervised


def pids(app: Blazing) -> set[int]:
    return {process.pid for process in app.workers}


def kill_supervisor(app: Blazing) -> None:
    state = app.workers._supervising.station.state()
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    until(lambda: not supervised(app))


def ends_for_good(app: Blazing) -> None:
    """Nothing lives, and the supervisor has ended: nobody is there to start anything."""
    until(lambda: not pids(app) and not supervised(app))
    assert (pids(app), app.snapshot().workers) == (set(), [])


def one() -> int:
    return os.getpid()


def test_close_ends_adapt_and_its_supervisor_for_good_and_adapt_begins_anew(app: Blazing) -> None:
    app.workers.adapt(minimum=1, maximum=2)
    assert app.workers.close() == 1
    ends_for_good(app)
    app.workers.adapt(minimum=1, maximum=2)
    assert len(app.workers) == 1
    assert app.step(one).enqueue().result(20) in pids(app)


def test_start_right_after_close_begins_anew_with_the_number_that_is_asked_now(app: Blazing) -> None:
    app.workers.start(2, threads=3)
    first = pids(app)
    assert app.workers.close() == 2
    app.workers.start(1, wait=0)
    ready = app.workers.wait_ready(1, timeout=30)
    assert [worker.slots for worker in ready] == [8], "the options of what was closed do not hold any more"
    until(lambda: len(app.workers) == 1)
    assert not pids(app) & first
    time.sleep(QUIET_S)
    assert len(app.workers) == 1


def test_start_that_waits_right_after_close_returns_when_a_new_worker_is_ready(app: Blazing) -> None:
    app.workers.start(1)
    first = pids(app)
    app.workers.close()
    app.workers.start(1)
    assert len(app.snapshot().workers) == 1
    assert app.step(one).enqueue().result(20) not in first


def test_close_ends_workers_that_are_only_starting(app: Blazing) -> None:
    app.workers.start(2, wait=0)
    app.workers.close()
    ends_for_good(app)


def test_close_ends_adapt_with_a_minimum_of_none_that_has_no_worker(app: Blazing) -> None:
    app.workers.adapt(minimum=0, maximum=1)
    assert (len(app.workers), app.workers.close()) == (0, 0)
    until(lambda: not supervised(app))
    assert app.step(one).enqueue().status.name == "PENDING"
    ends_for_good(app)


def test_close_ends_workers_that_their_kernel_owns_beside_those_that_outlive_it(app: Blazing) -> None:
    app.workers.start(1)
    app.workers.start(1, detached=False)
    assert app.workers.close() == 2
    ends_for_good(app)
    app.workers.start(1, detached=False)
    assert len(app.workers) == 1


def test_after_close_without_a_supervisor_the_next_one_starts_only_what_is_asked_of_it(app: Blazing) -> None:
    app.workers.start(2)
    app.workers.start(1, detached=False)
    kill_supervisor(app)
    assert app.workers.close() == 3
    until(lambda: not pids(app))
    app.workers.start(1)
    assert len(app.workers) == 1
    time.sleep(QUIET_S)
    assert len(app.workers) == 1


def test_close_ends_workers_that_are_dead_and_that_nobody_saw_die(app: Blazing) -> None:
    app.workers.start(2, lease=1.0)
    victims = pids(app)
    kill_supervisor(app)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    app.workers.close()
    assert app.snapshot().workers == []


def test_two_that_close_at_once_close_once_and_start_beside_close_never_returns_with_too_few(
    app: Blazing, url: str
) -> None:
    app.workers.start(2)
    found: list[object] = []

    def close() -> None:
        with Blazing(app.app_id, url=url) as other:
            found.append(other.workers.close())

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(found, key=str) == 2
    app.workers.start(1)
    assert len(app.snapshot().workers) == 1


def test_start_that_another_node_closes_meanwhile_says_so(app: Blazing, url: str) -> None:
    @app.on_start
    def slow() -> None:
        time.sleep(30)

    raised: list[Exception] = []

    def start() -> None:
        try:
            app.workers.start(1)
        except errors.WorkersNotReady as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    with Blazing(app.app_id, url=url) as other:
        until(lambda: other.snapshot().workers)
        other.workers.close()
    thread.join()
    assert "meanwhile" in str(raised[0])
    assert "start again" in str(raised[0])


def test_stop_and_scale_after_close_have_nothing_left_to_do(app: Blazing) -> None:
    app.workers.start(1)
    app.workers.close()
    app.workers.stop()
    assert app.workers.stop() == 0
    app.workers.scale(0)
    ends_for_good(app)
