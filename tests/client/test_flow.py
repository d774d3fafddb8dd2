"""Pipelines through the public API on real workers: item by item, failures, cancels, deaths, attaching."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blazing_nb import Blazing, Status, Worker, current, errors
from blazing_nb.client.flow import Flow
from blazing_nb.core.diagram import StageCounts, pipeline
from tests.condition import until


def load(x: int) -> int:
    return x + 1


def clean(x: int) -> int:
    return x * 10


def save(x: int) -> str:
    return f"saved {x}"


def picky(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def hold(path: str) -> str:
    Path(path + ".ran").touch()
    end = time.monotonic() + 30
    while not Path(path).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path


def flow_of(app: Blazing, *functions: Callable[..., Any]) -> Flow:
    first, second, *rest = map(app.step, functions)
    flow = first >> second
    for step in rest:
        flow = flow >> step
    return flow


def test_an_item_goes_through_the_stages_and_its_handle_has_the_last_value(app: Blazing, worker: Worker) -> None:
    flow = flow_of(app, load, clean, save)
    assert len(flow) == 3
    item = flow.enqueue(1)
    assert item.result(10) == "saved 20"
    assert item.status is Status.SUCCEEDED
    assert item.stage == "save"
    assert "SUCCEEDED" in repr(item)


def test_many_items_in_order_each_stage_once(app: Blazing, worker: Worker) -> None:
    batch = flow_of(app, load, clean, save).map(range(300), name="many")
    assert batch.results(30) == [f"saved {(x + 1) * 10}" for x in range(300)]
    assert [stage.done for stage in batch.stages()] == [300, 300, 300]
    assert [(step.enqueued, step.succeeded) for step in app.snapshot().steps] == [(300, 300)] * 3
    assert [op.result(0) for op in batch.as_completed(5)][:1]


def test_a_value_that_is_no_plain_data_goes_on_signed(app: Blazing, worker: Worker) -> None:
    def make(n: int) -> np.ndarray[Any, Any]:
        return np.arange(n)

    def total(values: np.ndarray[Any, Any]) -> int:
        return int(values.sum())

    assert flow_of(app, make, total).enqueue(5).result(10) == 10


def test_a_failure_ends_the_item_and_names_the_stage(app: Blazing, worker: Worker) -> None:
    flow = flow_of(app, load, picky, save)
    item = flow.enqueue(2)
    with pytest.raises(ValueError, match="3 is odd") as caught:
        item.result(10)
    assert caught.value.__notes__[0].startswith("in stage picky (2 of 3) of the flow load >> picky >> save")
    assert (item.status, item.stage) == (Status.FAILED, "picky")
    assert isinstance(item.exception(1), ValueError)
    batch = flow.map(range(6))
    values = batch.results(10, return_exceptions=True)
    assert [str(value) for value in values] == [f"{x + 1} is odd" if x % 2 == 0 else f"saved {x + 1}" for x in range(6)]
    assert batch.stages() == [StageCounts("load", 0, 6), StageCounts("picky", 0, 3, 3), StageCounts("save", 0, 3)]
    assert "save" not in [op.op.step for op in app.failed()]


def test_a_retry_of_the_failed_stage_goes_on_from_there(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    marker = tmp_path / "broken"
    marker.touch()

    def fragile(x: int) -> int:
        if marker.exists():
            raise OSError("not now")
        return x

    item = flow_of(app, load, fragile, save).enqueue(1)
    assert isinstance(item.exception(10), OSError)
    marker.unlink()
    again = item.retry()
    assert again.result(10) == "saved 2"
    assert app["load"].name in {step.step for step in app.snapshot().steps if step.succeeded == 1}


def test_options_of_a_stage_hold_there(app: Blazing, worker: Worker) -> None:
    def unsteady(x: int) -> str:
        if current().attempt < 3:
            raise OSError(x)
        return current().operation

    first, second = app.step(load), app.step(unsteady, backoff=0.01)
    flow = first >> second.options(retries=2, priority="high") >> app.step(save).options(delay=0.05)
    text = flow.enqueue(1).result(10)
    assert text.startswith("saved unsteady:h:@0:")


def test_a_cancel_reaches_the_stage_where_it_is(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def gate(path: str) -> str:
        return path

    flow = flow_of(app, gate, hold, save)
    item = flow.enqueue(str(go))
    until(lambda: (tmp_path / "go.ran").exists())
    assert item.cancel() is Status.RUNNING
    go.touch()
    with pytest.raises(errors.OperationCancelled):
        item.result(10)
    assert item.stage == "hold"
    assert {step.step for step in app.snapshot().steps if step.enqueued} == {"gate", "hold"}
    app["hold"].pause()
    waiting = flow.map([str(go)] * 5)
    until(lambda: [stage.here for stage in waiting.stages()] == [0, 5, 0])
    assert waiting.cancel() == {"CANCELLED": 5}
    assert waiting.wait(10)
    assert waiting.failed_count == 5


def test_it_goes_on_without_its_client_and_is_found_again(
    app: Blazing, url: str, worker: Worker, tmp_path: Path
) -> None:
    go = tmp_path / "go"

    def gate(path: str) -> str:
        return path

    with Blazing(app.app_id, url=url, node_id="gone") as other:
        flow = flow_of(other, gate, hold, save)
        flow.map([str(go)] * 3, name="found")
        one = flow.enqueue(str(go)).id
        until(lambda: (tmp_path / "go.ran").exists())
    go.touch()
    here = flow_of(app, gate, hold, save)
    batch, item = here.attach("found"), here.attach(one)
    assert batch.results(10) == [f"saved {go}"] * 3  # type: ignore[union-attr]
    assert item.result(10) == f"saved {go}"  # type: ignore[union-attr]


def test_the_same_key_gives_the_same_item(app: Blazing, worker: Worker) -> None:
    flow = app.step(load).options(key="k") >> app.step(save)
    assert flow.enqueue(1).result(10) == flow.enqueue(1).result(10) == "saved 2"
    assert app.snapshot().finished == 2


def test_a_large_value_arrives_though_it_does_not_travel_with_the_news(app: Blazing, worker: Worker) -> None:
    def grow(n: int) -> str:
        return "x" * n

    def same(x: str) -> str:
        return x

    assert flow_of(app, grow, same, same).map([20_000] * 3).results(10) == ["x" * 20_000] * 3


def test_forget_drops_the_outcomes_of_all_stages(app: Blazing, worker: Worker) -> None:
    batch = flow_of(app, load, clean, save).map(range(4), name="gone")
    batch.results(10)
    assert batch.forget() == 12
    assert app.statuses([op.id for op in batch]) == [None] * 4


def test_stages_of_coroutines_and_processes(app: Blazing, worker: Worker) -> None:
    async def ahead(x: int) -> int:
        return x + 1

    flow = app.step(ahead) >> app.step(clean, lane="process") >> app.step(save)
    assert flow.enqueue(1).result(30) == "saved 20"


@pytest.mark.parametrize(
    "options",
    [{"key": "k"}, {"block": 1.0}, {"at": "2026-01-01T00:00:00+00:00"}, {"expires": "2026-01-01T00:00:00+00:00"}],
)
def test_a_later_stage_refuses_what_makes_no_sense_there(app: Blazing, options: dict[str, Any]) -> None:
    from datetime import datetime

    given = {k: datetime.fromisoformat(v) if isinstance(v, str) and k != "key" else v for k, v in options.items()}
    with pytest.raises(errors.UsageError, match="comes after another"):
        app.step(load) >> app.step(save).options(**given)


def test_a_first_stage_waits_for_others_and_a_later_one_takes_no_policy_for_that(app: Blazing, worker: Worker) -> None:
    first, second = app.step(load), app.step(clean)
    assert (first >> second).enqueue(first.enqueue(1)).result(10) == 30
    assert (first >> second).map(first.map([1, 2])).results(10) == [30, 40]
    with pytest.raises(errors.UsageError, match="begins only after a success"):
        (first >> second.options(on_failure="collect")).enqueue(1)


def test_a_flow_is_made_of_steps_of_one_app(app: Blazing) -> None:
    with pytest.raises(errors.UsageError, match="made of steps"):
        app.step(load) >> 3  # type: ignore[operator]
    with pytest.raises(errors.UsageError, match="is of app"):
        app.step(load) >> Blazing("another").step(save)


def test_the_drawing_escapes_names_and_shows_counts(app: Blazing, worker: Worker) -> None:
    text = pipeline([StageCounts("<b>&", 1, 2, 3), StageCounts("x" * 40)])
    assert "<b>" not in text
    assert "1 here, 2 done, 3 ended" in text
    flow = app.step(load) >> app.step(save, name="save<i>")
    batch = flow.map(range(3))
    batch.results(10)
    assert "<i>" not in flow._repr_html_() + batch._repr_html_()
    assert "0 here, 3 done" in flow._repr_html_()
    assert "0 here, 3 done" in batch._repr_html_()
    assert Blazing("away").step(load).__rshift__(Blazing("away").step(save))._repr_html_().startswith("<svg")


def test_its_progress_shows_the_stages_with_live_counts(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def gate(path: str) -> str:
        return path

    batch = flow_of(app, gate, hold, save).map([str(go)] * 4)
    until(lambda: [stage.here for stage in batch.stages()] == [0, 4, 0])
    shown = batch.progress()
    assert "4 here, 0 done" in shown._repr_html_()  # type: ignore[attr-defined]
    assert shown._explain() == "4 in hold"  # type: ignore[attr-defined]
    go.touch()
    assert batch.wait(10)
    assert "0 here, 4 done" in shown._repr_html_()  # type: ignore[attr-defined]
    assert batch.whereabouts() == ""


def stamped(folder: str, stage: str) -> Callable[[Any], Any]:
    def stamp(x: int) -> int:
        with open(f"{folder}/{stage}", "a") as file:
            file.write(f"{time.monotonic_ns()} {x}\n")
        if stage == "b" and x == 3:
            raise ValueError(f"{x} is not possible")
        time.sleep(0.01 * (x % 3))
        return x

    return stamp


def moments(path: Path) -> list[int]:
    return [int(line.split()[0]) for line in path.read_text().splitlines()]


def test_with_a_barrier_a_stage_begins_when_the_one_before_is_over(
    app: Blazing, worker: Worker, tmp_path: Path
) -> None:
    a, b, c = (app.step(stamped(str(tmp_path), name), name=name) for name in "abc")
    flow = a >> b >> c
    batch = flow.map(range(30), barrier=True, name="staged")
    values = batch.results(30, return_exceptions=True)
    assert isinstance(values[3], ValueError)
    assert values[3].__notes__[-1] == "in stage b (2 of 3) of the flow a >> b >> c"
    assert values[:3] + values[4:] == [x for x in range(30) if x != 3]
    with pytest.raises(ValueError, match="3 is not possible"):
        batch.results(1)
    assert batch.stages() == [StageCounts("a", 0, 30), StageCounts("b", 0, 29, 1), StageCounts("c", 0, 29)]
    assert "0 here, 30 done" in batch._repr_html_()
    assert max(moments(tmp_path / "a")) < min(moments(tmp_path / "b"))
    assert max(moments(tmp_path / "b")) < min(moments(tmp_path / "c"))
    found = flow.attach("staged")
    assert found.results(10, return_exceptions=True)[4:] == values[4:]  # type: ignore[union-attr]
    assert found.stages() == batch.stages()  # type: ignore[union-attr]
    assert found.forget() == 90  # type: ignore[union-attr]


def test_a_barrier_refuses_what_does_not_fit_before_anything_is_sent(app: Blazing, worker: Worker) -> None:
    first, second = app.step(load), app.step(save)
    with pytest.raises(errors.UsageError, match="takes no priority"):
        (first >> second.options(priority="high")).map([1], barrier=True)
    with pytest.raises(errors.UsageError, match="not continued"):
        (first >> second).map([1], barrier=True, resume=True, name="x")
    assert (first >> second).map([], barrier=True).results(1) == []
    assert app.snapshot().segments == []


def test_a_cancel_with_a_barrier_ends_all_stages(app: Blazing, worker: Worker) -> None:
    first, second = app.step(load), app.step(save)
    first.pause()
    batch = (first >> second).map(range(5), barrier=True)
    answers = batch.cancel()
    assert answers.keys() <= {"FINAL", "CANCELLED"}
    assert sum(answers.values()) == 5
    values = batch.results(10, return_exceptions=True)
    assert [type(value) for value in values] == [errors.OperationCancelled] * 5
    assert values[0].__notes__ == ["in stage load (1 of 2) of the flow load >> save"]
