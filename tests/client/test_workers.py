"""`app.workers`: processes that outlive the kernel, and that say why they did not start."""

from __future__ import annotations

import os

import pytest

from blazing_nb import Blazing, errors


def pid(_: int) -> int:
    import time

    time.sleep(0.05)
    return os.getpid()


@pytest.mark.slow
def test_workers_start_scale_and_stop(app: Blazing, url: str) -> None:
    app.workers.start(2)
    try:
        assert len(app.workers) == len(app.snapshot().workers) == 2
        assert len(set(app.step(pid).map(range(40)).results(30))) == 2
        with Blazing(app.app_id, url=url) as other:
            assert {process.pid for process in other.workers} == {process.pid for process in app.workers}
            other.workers.scale(1)
        assert len(app.workers) == 1
        assert app.workers.scale(1) is app.workers
        assert len(app.workers) == 1
    finally:
        assert app.workers.stop() == 1
    assert (len(app.workers), app.snapshot().workers) == (0, [])


def test_a_worker_that_cannot_start_says_why(app: Blazing) -> None:
    with pytest.raises(errors.WorkersNotReady, match="lease") as caught:
        app.workers.start(1, lease=0.01)
    assert len(caught.value.reasons) == 1
    assert len(app.workers) == 0


@pytest.mark.parametrize("n", [0, 65, -1])
def test_a_senseless_number_is_refused(app: Blazing, n: int) -> None:
    with pytest.raises(errors.UsageError):
        app.workers.start(n)
