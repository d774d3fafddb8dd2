"""Workflows through the public API on real workers: ordinary control flow, durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status, Worker, current, errors, first, gather
from blazing_nb.client.step import Step
from tests.condition import until


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    raise LookupError(f"no {x}")


def hold(path: str) -> str:
    """Runs until the file is there, or it is told to stop."""
    Path(path + ".ran").touch()
    end = time.monotonic() + 30
    while not Path(path).exists() and not current().cancelled and time.monotonic() < end:
        time.sleep(0.01)
    return "stopped" if current().cancelled else "held"


def totals(app: Blazing, step: str) -> Any:
    return next(found for found in app.snapshot().steps if found.step == step)


@pytest.fixture
def steps(app: Blazing) -> tuple[Step, Step, Step]:
    return app.step(double), app.step(fail), app.step(hold)


def test_a_workflow_awaits_steps_one_after_the_other_and_together(
    app: Blazing, worker: Worker, steps: tuple[Step, ...]
) -> None:
    twice, *_ = steps

    @app.workflow
    async def order(x: int) -> list[int]:
        a = await twice(x)
        b, c = await gather(twice(a), twice(a + 1))
        return [a, b, c]

    operation = order.enqueue(1)
    assert operation.result(10) == [2, 4, 6]
    assert operation.attempt == 1
    assert totals(app, "double").succeeded == 3
    assert totals(app, "order").succeeded == 1
    events = list(operation.history()["event"])
    assert events == ["enqueued", *["claimed", "waited"] * 2, "claimed", "started", "succeeded"]


def test_an_exception_of_a_step_is_raised_at_the_await_as_it_was(
    app: Blazing, worker: Worker, steps: tuple[Step, ...]
) -> None:
    twice, failing, _ = steps

    @app.workflow
    async def order(x: int) -> list[Any]:
        try:
            await failing(x)
        except LookupError as error:
            caught = str(error)
        both = await gather(twice(x), failing(x), return_exceptions=True)
        return [caught, both[0], type(both[1]).__name__]

    @app.workflow
    async def careless(x: int) -> int:
        return int(await failing(x))

    assert order.enqueue(3).result(10) == ["no 3", 6, "LookupError"]
    operation = careless.enqueue(4)
    with pytest.raises(LookupError, match="no 4"):
        operation.result(10)
    assert operation.status is Status.FAILED


def test_waiting_takes_no_slot_and_shows_as_scheduled(
    app: Blazing, url: str, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    *_, holding = steps
    go = tmp_path / "go"

    @app.workflow
    async def order(path: str) -> str:
        return str(await holding(path))

    holding.pause()
    worker = Worker(app.app_id, url=url, threads=2).start()
    try:
        operations = [order.enqueue(str(go)) for _ in range(20)]
        until(lambda: totals(app, "order").claimed == 20 and app.snapshot().parked == 20)
        assert [op.status for op in operations] == [Status.SCHEDULED] * 20
        assert [op.attempt for op in operations] == [1] * 20
        assert app.snapshot().claimed == 0
        go.touch()
        holding.resume()
        assert [op.result(20) for op in operations] == ["held"] * 20
    finally:
        worker.close()


def test_sleep_and_time_outs_are_durable_timers(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    twice, _, holding = steps

    @app.workflow
    async def patient(path: str) -> list[Any]:
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(0.3)
        slept = asyncio.get_running_loop().time() - begun
        try:
            await asyncio.wait_for(holding(path), 0.3)
        except TimeoutError:
            late = "late"
        try:
            async with asyncio.timeout(0.2):
                await asyncio.sleep(60)
        except TimeoutError:
            late += " too"
        async with asyncio.timeout(30):
            in_time = await twice(4)
        return [slept > 0.299, late, in_time]

    began = time.monotonic()
    assert patient.enqueue(str(tmp_path / "never")).result(20) == [True, "late too", 8]
    assert time.monotonic() - began >= 0.8
    until(lambda: totals(app, "hold").finished == 1)


def test_the_form_that_finishes_first_wins_again_at_each_replay(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    twice, _, holding = steps

    @app.workflow
    async def race(path: str) -> list[Any]:
        slow, fast = holding(path), twice(1)
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        first = [found.result() for found in done]
        await asyncio.sleep(0.2)
        Path(path).touch()
        second = await slow
        return [*first, second, await twice(5)]

    assert race.enqueue(str(tmp_path / "go")).result(20) == [2, "held", 10]


def test_the_first_of_several_and_the_others_are_given_up(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    twice, failing, holding = steps

    @app.workflow
    async def race(path: str) -> list[Any]:
        one = await first([holding(path), failing(1), twice(3)])
        two = await first([twice(1), twice(2), holding.options(delay=60)(path)], 2)
        try:
            await first([failing(5), holding.options(delay=60)(path)], 2)
        except LookupError as error:
            return [one, sorted(two), str(error)]
        return []

    assert race.enqueue(str(tmp_path / "go")).result(20) == [[6], [2, 4], "no 5"]
    until(lambda: totals(app, "hold").finished == 3)


def test_a_cancelled_call_raises_at_its_await_and_a_retry_begins_anew(
    app: Blazing, worker: Worker, steps: tuple[Step, ...]
) -> None:
    twice, *_ = steps
    twice.pause()

    @app.workflow
    async def order(x: set[int]) -> int:
        return int(await twice(len(x)))

    operation = order.options(key="7").enqueue({1, 2})
    assert order.options(key="7").enqueue({1, 2}).id == operation.id
    until(lambda: len(app.operations(step="double")) == 1)
    [call] = app.operations(step="double").to_frame()["id"]
    app.attach(call).cancel()
    with pytest.raises(errors.OperationCancelled):
        operation.result(10)
    assert operation.status is Status.FAILED
    twice.resume()
    assert operation.retry().result(10) == 4


def test_coroutines_of_its_own_run_beside_each_other(app: Blazing, worker: Worker, steps: tuple[Step, ...]) -> None:
    twice, *_ = steps

    @app.workflow
    async def tree(n: int) -> list[int]:
        async def branch(x: int) -> int:
            for _ in range(3):
                x = await twice(x)
            return x

        first = await gather(*(branch(x) for x in range(n)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(x)) for x in first]
        return [task.result() for task in tasks]

    assert tree.enqueue(4).result(30) == [64 * x for x in range(4)]
    assert totals(app, "double").succeeded == 24


def test_a_workflow_awaits_another_one_and_a_flow(app: Blazing, worker: Worker, steps: tuple[Step, ...]) -> None:
    twice, *_ = steps
    flow = twice >> twice

    @app.workflow
    async def inner(x: int) -> int:
        return int(await twice(x)) + 1

    @app.workflow
    async def outer(x: int) -> int:
        return int(await flow(await inner(x)))

    assert outer.enqueue(5).result(10) == 44
    assert totals(app, "inner").succeeded == 1


def test_a_cancel_reaches_what_it_awaits_and_what_that_awaits(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    *_, holding = steps
    go = str(tmp_path / "go")

    @app.workflow
    async def inner(path: str) -> str:
        return str(await holding(path))

    @app.workflow
    async def outer(path: str) -> list[Any]:
        return list(await gather(inner(path), holding.options(delay=60)(path)))

    operation = outer.enqueue(go)
    until(lambda: Path(go + ".ran").exists())
    assert operation.cancel() is Status.CANCELLED
    with pytest.raises(errors.OperationCancelled):
        operation.result(10)
    until(lambda: totals(app, "hold").finished == 2)
    assert totals(app, "inner").cancelled == totals(app, "outer").cancelled == 1
    assert app.snapshot().parked == 0


def test_what_nobody_awaits_any_more_is_cancelled_at_its_end(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], tmp_path: Path
) -> None:
    twice, _, holding = steps

    @app.workflow
    async def race(path: str) -> int:
        later = holding.options(delay=60)(path)
        done, _ = await asyncio.wait([later, twice(2)], return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()  # type: ignore[no-any-return]

    assert race.enqueue(str(tmp_path / "go")).result(10) == 4
    until(lambda: totals(app, "hold").cancelled == 1)


def test_options_of_a_call_hold_and_arguments_that_are_no_plain_data_arrive(app: Blazing, worker: Worker) -> None:
    @app.step(backoff=0.01)
    def unsteady(x: set[int]) -> tuple[int, str]:
        if current().attempt < 3:
            raise OSError(x)
        return len(x), current().operation

    @app.workflow
    async def order() -> tuple[int, str]:
        return await unsteady.options(retries=2, priority="high")({1, 2, 3})  # type: ignore[no-any-return]

    size, operation = order.enqueue().result(10)
    assert size == 3
    assert operation.startswith("unsteady:h:@0:")


@pytest.mark.parametrize(
    ("forbidden", "kind"),
    [
        (lambda step: step.enqueue(1), errors.NotDeterministic),
        (lambda step: step.map([1]), errors.NotDeterministic),
        (lambda step: asyncio.get_running_loop().run_in_executor(None, print), errors.NotDeterministic),
        (lambda step: asyncio.to_thread(print), errors.NotDeterministic),
        (lambda step: step.options(key="k")(1), errors.UsageError),
        (lambda step: asyncio.get_running_loop().create_future(), errors.UsageError),
        (lambda step: gather(*(step(x) for x in range(1001))), errors.UsageError),
    ],
)
def test_what_would_differ_at_a_replay_is_refused_where_it_can_be_seen(
    app: Blazing, worker: Worker, steps: tuple[Step, ...], forbidden: Callable[[Step], Any], kind: type[Exception]
) -> None:
    twice, *_ = steps

    @app.workflow
    async def order() -> Any:
        return await forbidden(twice)

    with pytest.raises(kind):
        order.enqueue().result(10)
    assert all(step.enqueued == 0 for step in app.snapshot().steps if step.step == "double")


def test_a_step_that_nobody_recorded_is_named(app: Blazing, worker: Worker) -> None:
    stranger = Step(app, double, "stranger")

    @app.workflow
    async def order() -> Any:
        return await stranger(1)

    with pytest.raises(errors.UnknownStep, match="stranger"):
        order.enqueue().result(10)


def test_a_workflow_is_an_async_def_without_retries_of_its_own(app: Blazing) -> None:
    with pytest.raises(errors.UsageError, match="async def"):
        app.workflow(double)

    @app.workflow(name="named", retention=60)
    async def order() -> None: ...

    assert app["named"] is order
    assert "Workflow named" in repr(order)
    for options in ({"retries": 1}, {"timeout": 1.0}):
        with pytest.raises(errors.UsageError, match="for the steps of a workflow"):
            order.options(**options)
    with pytest.raises(errors.UsageError, match="started by enqueue"):
        order()
    with pytest.raises(errors.UsageError, match="return_exceptions"):
        gather(return_exceptions=True)


def test_a_hundred_calls_together_wake_it_once(app: Blazing, worker: Worker, steps: tuple[Step, ...]) -> None:
    twice, *_ = steps

    @app.workflow
    async def wide(n: int) -> int:
        return sum(await gather(*(twice(x) for x in range(n))))

    assert wide.enqueue(100).result(20) == 9900
    assert totals(app, "wide").claimed == 2


def test_a_workflow_awaits_itself(app: Blazing, worker: Worker, steps: tuple[Step, ...]) -> None:
    twice, *_ = steps

    @app.workflow
    async def power(n: int) -> int:
        return int(await twice(await power(n - 1))) if n else 1

    assert power.enqueue(6).result(20) == 64
    assert totals(app, "power").succeeded == 7
