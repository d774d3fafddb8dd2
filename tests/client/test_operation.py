"""One operation from enqueue to result, and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import numpy as np
import pytest

from blazing_nb import Blazing, OperationTimeout, Status, Worker, errors


def double(x: Any) -> Any:
    return x * 2


async def pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def fail(kind: str) -> None:
    raise {"value": ValueError("no such value"), "key": KeyError("k")}[kind]


class Odd(Exception):
    """Cannot be rebuilt from its pickle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fail_oddly() -> None:
    raise Odd(1, 2)


@pytest.mark.parametrize(
    "value",
    [3, 1.5, "text", b"bytes", [1, [2]], {"a": {1: None}}, (1, 2), {1, 2}, 1 << 70, "\ud800", True],
    ids=repr,
)
def test_a_value_comes_back_as_it_went(app: Blazing, worker: Worker, value: Any) -> None:
    step = app.step(lambda x: x, name="same")
    result = step.enqueue(value).result(10)
    assert result == value
    assert type(result) is type(value)


def test_an_array_comes_back_as_an_array(app: Blazing, worker: Worker) -> None:
    result = app.step(double).enqueue(np.arange(5)).result(10)
    assert isinstance(result, np.ndarray)
    assert result.tolist() == [0, 2, 4, 6, 8]


def test_a_coroutine_function_runs_on_the_event_loop(app: Blazing, worker: Worker) -> None:
    batch = app.step(pause).map([0.05] * 300)
    assert batch.results(10) == [0.05] * 300
    # One after the other this would take 15 s of run time in a row; the frame's moments overlap.
    frame = batch.to_frame()
    spread = (frame.started_at.max() - frame.started_at.min()).total_seconds()
    assert spread < frame.run_s.sum() / 5


def test_an_operation_can_be_awaited(app: Blazing, worker: Worker) -> None:
    step = app.step(double)

    async def main() -> list[Any]:
        first = await step.enqueue(1)
        return [
            first,
            await step.map([2, 3]),
            *await asyncio.gather(*map(_awaited, [step.enqueue(4), step.enqueue(5)])),
        ]

    async def _awaited(op: Any) -> Any:
        return await op

    assert asyncio.run(main()) == [2, [4, 6], 8, 10]


def test_a_remote_exception_is_of_the_same_type_and_carries_the_workers_traceback(app: Blazing, worker: Worker) -> None:
    op = app.step(fail).enqueue("value")
    with pytest.raises(ValueError, match="no such value") as caught:
        op.result(10)
    assert "in fail" in str(caught.value.__cause__)
    assert op.status is Status.FAILED
    assert isinstance(op.exception(), ValueError)
    with pytest.raises(KeyError):
        app["fail"].enqueue("key").result(10)


def test_an_exception_that_cannot_be_rebuilt_is_a_remote_error(app: Blazing, worker: Worker) -> None:
    with pytest.raises(errors.RemoteError, match="1 and 2") as caught:
        app.step(fail_oddly).enqueue().result(10)
    assert str(caught.value.type).endswith("Odd")


def test_a_result_that_does_not_serialise_is_an_error_of_its_own(app: Blazing, worker: Worker) -> None:
    step = app.step(lambda: (n for n in [1]), name="generator")
    with pytest.raises(errors.ResultUnavailable, match="generator"):
        step.enqueue().result(10)


def test_a_result_above_the_limit_is_an_error_of_its_own(app: Blazing, worker: Worker) -> None:
    with pytest.raises(errors.ResultUnavailable, match="limit"):
        app.step(lambda: b"x" * (2 << 20), name="large").enqueue().result(10)


def test_a_large_result_travels_beside_the_completions(app: Blazing, worker: Worker) -> None:
    assert app.step(lambda n: b"x" * n, name="sized").map([100_000, 1, 20_000]).results(10) == [
        b"x" * 100_000,
        b"x",
        b"x" * 20_000,
    ]


def test_bad_arguments_are_refused_before_anything_is_sent(app: Blazing) -> None:
    step = app.step(double)
    with pytest.raises(errors.InvalidArguments, match=r"double\(x"):
        step.enqueue()
    with pytest.raises(errors.InvalidArguments):
        step.enqueue(1, y=2)
    with pytest.raises(errors.ValueNotSerializable, match="lock"):
        step.enqueue(threading.Lock())
    with pytest.raises(errors.PayloadTooLarge, match="limit"):
        step.enqueue(b"x" * (2 << 20))
    assert app.snapshot().segments == []


def test_a_function_that_cannot_be_sent_is_refused(app: Blazing) -> None:
    lock = threading.Lock()
    with pytest.raises(errors.StepNotEnqueueable, match="inside the function"):
        app.step(lambda: lock, name="locked").enqueue()


def test_an_unknown_step_is_named_with_those_there_are(app: Blazing) -> None:
    app.step(double)
    with pytest.raises(errors.UnknownStep, match="double"):
        app["triple"]


def test_a_wait_that_times_out_cancels_nothing(app: Blazing, url: str) -> None:
    op = app.step(double).enqueue(4)
    assert (op.status, op.attempt, op.done()) == (Status.PENDING, 0, False)
    with pytest.raises(OperationTimeout, match="goes on") as caught:
        op.result(0.05)
    assert isinstance(caught.value, TimeoutError)
    worker = Worker(app.app_id, url=url).start()
    assert op.result(10) == 8
    assert (op.status, op.attempt) == (Status.SUCCEEDED, 1)
    worker.close()


def test_an_app_used_after_close_says_so(url: str, app_id: str) -> None:
    app = Blazing(app_id, url=url)
    step = app.step(double)
    app.connect()
    app.close()
    app.close()
    with pytest.raises(errors.AppClosed):
        step.enqueue(1)
    with pytest.raises(errors.AppClosed):
        app.snapshot()


def test_an_app_that_is_dropped_leaves_no_thread(url: str, app_id: str) -> None:
    def drop() -> threading.Thread:
        app = Blazing(app_id, url=url)
        app.step(double).enqueue(1)
        return app.listener._thread

    thread = drop()
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", ["", "a:b", "a{b", "a}b", "a|b", "a\nb", "\0", "x" * 65, "@a"], ids=repr)
def test_a_name_that_keys_cannot_carry_is_refused_at_once(name: str) -> None:
    with pytest.raises(errors.InvalidName):
        Blazing(name)
    with pytest.raises(errors.InvalidName):
        Blazing("fine", node_id=name)
    with pytest.raises(errors.InvalidName):
        Blazing("fine").step(double, name=name or " \t")


def test_representations_escape_what_users_wrote(app: Blazing) -> None:
    step = app.step(double, name="<b>x</b>")
    op = step.enqueue(1)
    for shown in (app, step, op, step.map([1]), app.workers):
        assert "\n" not in repr(shown)
        assert "<b>" not in shown._repr_html_()


def test_a_redefined_step_runs_the_code_it_was_enqueued_with(app: Blazing, url: str) -> None:
    before = app.step(lambda: "old", name="version").enqueue()
    after = app.step(lambda: "new", name="version").enqueue()
    worker = Worker(app.app_id, url=url).start()
    assert (before.result(10), after.result(10)) == ("old", "new")
    worker.close()
