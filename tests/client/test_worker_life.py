"""The life of a worker in this process."""

from __future__ import annotations

import time

import pytest

from blazing_nb import Blazing, Status, Worker, errors


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_worker_stops_accepting_finishes_and_closes(app: Blazing, url: str) -> None:
    step = app.step(nap)
    worker = Worker(app.app_id, worker_id="w1", url=url).start()
    running = step.enqueue(0.5)
    while running.status is Status.PENDING:
        time.sleep(0.005)
    worker.stop_accepting()
    later = step.enqueue(0.0)
    assert not worker.wait_for_completion(0.05)
    assert worker.wait_for_completion(10)
    assert running.result(5) == 0.5
    assert later.status is Status.PENDING
    worker.close()
    worker.close()
    assert "stopped" in repr(worker)
    assert app.snapshot().workers == []
    with pytest.raises(errors.UsageError):
        worker.start()


def test_a_running_operation_is_seen_as_running(app: Blazing, url: str) -> None:
    worker = Worker(app.app_id, url=url, lease=0.6).start()
    op = app.step(nap).enqueue(1.5)
    seen = set()
    while not op.done():
        seen.add(op.status)
        time.sleep(0.02)
    assert Status.RUNNING in seen
    assert op.result() == 1.5
    worker.close()


@pytest.mark.parametrize("options", [{"lease": 0.1}, {"threads": 0}, {"grace": -1.0}, {"lease": 1e9}])
def test_a_senseless_worker_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(errors.UsageError):
        Worker("app", **options)  # type: ignore[arg-type]
