"""What the scaler sees of an app's load: what waits for a worker, and what a worker would not get."""

from __future__ import annotations

from blazing_nb import Blazing
from blazing_nb.core.scaling import Adapt
from blazing_nb.core.supervision import Setting
from blazing_nb.worker.scaler import Scaler
from tests.condition import until


def wish(app: Blazing) -> str:
    return Scaler().decide(Adapt(maximum=64), Setting(), app.store, (), 1).reason


def double(x: int) -> int:
    return 2 * x


def test_a_delay_that_is_over_waits_for_a_worker_as_anything_else(app: Blazing) -> None:
    step = app.step(double)
    step.options(delay=60).map(range(5))
    step.map(range(3))
    assert "64" not in wish(app)
    assert wish(app) == "1 would do"
    step.options(delay=0.05).map(range(4096))
    until(lambda: wish(app) == "64 would do")


def test_what_a_limit_or_a_pause_holds_back_needs_no_worker(app: Blazing) -> None:
    for limits in ({"max_in_flight": 4}, {"rate": "1/s"}):
        app.step(double, name=f"limited_{next(iter(limits))}", **limits).map(range(5000))  # type: ignore[arg-type]
    assert wish(app) == "1 would do"
    free = app.step(double, name="free")
    free.map(range(5000))
    assert wish(app) == "64 would do"
    free.pause()
    assert wish(app) == "1 would do"
