"""The turn loop's thread executes short operations that come alone; nothing waits where one turns out to be long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blazing_nb import Blazing, Operation, Worker
from tests.condition import until


@pytest.fixture
def worker(app: Blazing, url: str) -> Iterator[Worker]:
    made = Worker(app.app_id, url=url, lease=60).start()
    yield made
    made.close()


def hold(folder: str, name: str) -> tuple[str, str]:
    """Begins, and ends when it may; at once where it has no name."""
    import pathlib
    import threading
    import time

    thread = threading.current_thread().name
    if name:
        (pathlib.Path(folder) / f"{name}-began").touch()
        end = time.monotonic() + 30
        while not (pathlib.Path(folder) / f"{name}-may-end").exists() and time.monotonic() < end:
            time.sleep(0.01)
    return name, thread


def test_an_operation_that_holds_up_the_turn_loop_holds_up_no_other(
    app: Blazing, worker: Worker, tmp_path: Path
) -> None:
    step = app.step(hold)
    threads = [step.enqueue(str(tmp_path), "").result(10)[1] for _ in range(20)]
    assert threads[-1] == "bz-turn"
    held = [step.enqueue(str(tmp_path), name) for name in ("a", "b")]
    until(lambda: all((tmp_path / f"{name}-began").exists() for name in ("a", "b")))
    assert step.enqueue(str(tmp_path), "").result(10)[0] == ""
    assert [op.done() for op in held] == [False, False]
    for name in ("a", "b"):
        (tmp_path / f"{name}-may-end").touch()
    assert [op.result(10)[0] for op in held] == ["a", "b"]
    [stats] = app.snapshot().steps
    assert (stats.succeeded, stats.fenced, stats.rescued) == (23, 0, 0)


def held_up(app: Blazing, folder: Path) -> Operation:
    """Known as short, and it is long this time."""
    step = app.step(hold)
    for _ in range(5):
        step.enqueue(str(folder), "").result(10)
    op = step.enqueue(str(folder), "long")
    until(lambda: (folder / "long-began").exists())
    return op


def test_a_worker_whose_loop_was_taken_over_still_cancels_drains_and_ends(
    app: Blazing, worker: Worker, tmp_path: Path
) -> None:
    op = held_up(app, tmp_path)
    worker.stop_accepting()
    assert not worker.wait_for_completion(0.1)
    (tmp_path / "long-may-end").touch()
    assert worker.wait_for_completion(10)
    assert op.result(10)[0] == "long"
    began = time.monotonic()
    worker.close()
    assert (worker.alive, time.monotonic() - began < 10) == (False, True)


def test_a_worker_that_ends_does_not_wait_for_what_held_up_its_loop(
    app: Blazing, worker: Worker, url: str, tmp_path: Path
) -> None:
    op = held_up(app, tmp_path)
    worker.close()
    (tmp_path / "long-may-end").touch()
    other = Worker(app.app_id, url=url).start()
    assert op.result(20)[0] == "long"
    assert app.snapshot().steps[0].succeeded == 6
    other.close()
