"""`app.executor()` and `app.run`: what code that was written for `concurrent.futures` relies on."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, OperationTimeout, Status, Worker, current, errors
from blazing_nb.client.executor import AppExecutor
from tests.condition import until


def hold(path: str) -> str:
    """Until the file is there."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def fail(text: str) -> None:
    raise KeyError(text)


async def double_later(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


class Account:
    """Has a method, and can be called."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    def add(self, amount: int) -> int:
        return self.balance + amount

    def __call__(self, amount: int) -> int:
        return self.balance - amount


class Gate:
    """Opens for functions that hold in a worker."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        Path(self.path).touch()


@pytest.fixture
def executor(app: Blazing, worker: Worker) -> Iterator[AppExecutor]:
    made = app.executor()
    yield made
    made.shutdown()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


# -- submit ----------------------------------------------------------------------------------------------------------


def test_positional_and_keyword_arguments_arrive_whatever_they_are_called(executor: AppExecutor) -> None:
    assert executor.submit(pow, 2, 8).result(10) == 256
    assert executor.submit(int, "ff", base=16).result(10) == 255
    named = executor.submit(lambda **words: sorted(words), self=1, fn=2, function=3, app=4)
    assert named.result(10) == ["app", "fn", "function", "self"]


def test_any_callable_that_can_be_pickled_can_be_submitted(executor: AppExecutor) -> None:
    factor = 7

    def scale(x: int) -> int:
        return x * factor

    account = Account(10)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
        (scale, (6,), 42),
        (lambda x: x + factor, (1,), 8),
        (functools.partial(divmod, 9), (4,), (2, 1)),
        (account.add, (5,), 15),
        (account, (3,), 7),
        (str.upper, ("a",), "A"),
        (Path, ("a", "b"), Path("a/b")),
        (double_later, (4,), 8),
        (functools.partial(double_later, 5), (), 10),
    ]
    futures = [executor.submit(function, *args) for function, args, _ in calls]
    assert [future.result(10) for future in futures] == [wanted for *_, wanted in calls]


def test_a_step_is_submitted_under_its_own_name_and_rules(app: Blazing, executor: AppExecutor) -> None:
    attempts = app.step(
        lambda: current().attempt if current().attempt > 1 else 1 // 0, name="second", retries=1, backoff=0
    )
    future = executor.submit(attempts)
    assert (future.result(10), future.operation.op.step) == (2, "second")
    assert list(executor.map(app.step(lambda x: x * x, name="square"), range(5), chunksize=2)) == [0, 1, 4, 9, 16]
    assert {row.op.step for row in app.operations("SUCCEEDED")} == {"second", "square"}


def test_what_cannot_be_pickled_is_refused_before_anything_is_sent(app: Blazing, executor: AppExecutor) -> None:
    with pytest.raises(errors.ValueNotSerializable):
        executor.submit(len, (x for x in ()))
    with pytest.raises(errors.ValueNotSerializable):
        executor.map(threading.Lock().acquire, [1])
    assert app.snapshot().segments == []


def test_arguments_above_the_payload_limit_travel_as_a_stored_value(executor: AppExecutor) -> None:
    big = bytes(3_000_000)
    assert executor.submit(len, big).result(20) == 3_000_000
    assert list(executor.map(lambda x: len(big) + x, range(3))) == [3_000_000, 3_000_001, 3_000_002]


def test_large_results_come_back_whole(app: Blazing, executor: AppExecutor) -> None:
    assert len(executor.submit(bytes, 3_000_000).result(20)) == 3_000_000
    assert [len(part) for part in executor.map(bytes, [400_000] * 4, chunksize=4)] == [400_000] * 4
    assert len(asyncio.run(app.run(bytes, 2_000_000))) == 2_000_000


def test_an_operation_survives_in_the_store(app: Blazing, executor: AppExecutor) -> None:
    future = executor.submit(pow, 3, 3)
    assert future.result(10) == 27
    again = app.attach(future.operation.id)
    assert again.result(10) == 27  # type: ignore[union-attr]
    assert future.operation.id in repr(future)


def test_many_threads_submit_at_once(executor: AppExecutor) -> None:
    with ThreadPoolExecutor(16) as threads:
        futures = list(threads.map(lambda x: executor.submit(pow, x, 2), range(400)))
    assert [future.result(30) for future in futures] == [x * x for x in range(400)]


def test_a_process_lane_executes_elsewhere(app: Blazing, worker: Worker) -> None:
    with app.executor(lane="process", timeout=60) as executor:
        pid, other = executor.submit(os.getpid), executor.submit(double_later, 2)
        assert pid.result(60) != os.getpid()
        assert other.result(10) == 4
    assert pid.operation.op.step == "executor-process"


@pytest.mark.parametrize(
    "options", [{"lane": "async"}, {"retries": -1}, {"timeout": 0}, {"retention": 0}, {"name": "a:b"}]
)
def test_senseless_options_are_refused(app: Blazing, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        app.executor(**options)


# -- exceptions ------------------------------------------------------------------------------------------------------


def test_an_exception_arrives_with_the_remote_traceback_as_its_cause(executor: AppExecutor) -> None:
    future = executor.submit(fail, "no such key")
    error = future.exception(10)
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, errors.RemoteTraceback)
    assert "raise KeyError(text)" in str(error.__cause__)
    with pytest.raises(KeyError, match="no such key"):
        future.result()


def test_retries_and_time_outs_of_an_executor_hold_for_its_calls(app: Blazing, worker: Worker) -> None:
    with app.executor("again", retries=2) as executor:
        third = executor.submit(lambda: current().attempt if current().attempt == 3 else 1 // 0)
        assert third.result(20) == 3
    with app.executor("hasty", timeout=0.1) as executor, pytest.raises(errors.AttemptTimeout):
        executor.submit(asyncio.sleep, 30).result(20)


def test_an_exception_that_is_false_is_raised_by_map(executor: AppExecutor) -> None:
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    def empty(_: int) -> None:
        raise Empty("still an error")

    with pytest.raises(Empty):
        next(executor.map(empty, [1]))


# -- map -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_keeps_the_order_and_ends_with_the_shortest(executor: AppExecutor, chunksize: int) -> None:
    assert list(executor.map(pow, range(10), range(12), chunksize=chunksize)) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, [], [])) == []
    assert list(executor.map(double_later, range(7), chunksize=chunksize)) == list(range(0, 14, 2))


def test_chunks_are_operations(app: Blazing, executor: AppExecutor) -> None:
    assert list(executor.map(abs, range(-250, 0), chunksize=50)) == list(range(250, 0, -1))
    assert app.snapshot().steps[0].enqueued == 5


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunksize_below_one_is_a_value_error(executor: AppExecutor, chunksize: int) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=chunksize)


def test_map_sends_before_anybody_iterates(app: Blazing, executor: AppExecutor) -> None:
    executor.map(abs, range(20))
    until(lambda: app.snapshot().finished == 20)


def test_map_gives_what_comes_before_an_exception(executor: AppExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_that_times_out_cancels_what_no_worker_has_claimed(app: Blazing, url: str, gate: Gate) -> None:
    worker = Worker(app.app_id, url=url, threads=1).start()
    results = app.executor().map(lambda x: hold(gate.path) and x, range(3), timeout=0.5)
    with pytest.raises(TimeoutError):
        next(results)
    until(lambda: app.snapshot().steps[0].cancelled == 2)
    gate.open()
    until(lambda: app.snapshot().steps[0].succeeded == 1)
    worker.close()


def test_map_releases_a_result_that_was_taken(executor: AppExecutor) -> None:
    for value in executor.map(Account, [1, 2, 3], chunksize=3):
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


# -- cancel ----------------------------------------------------------------------------------------------------------


def test_a_pending_call_can_be_cancelled_and_never_runs(app: Blazing, tmp_path: Path, url: str) -> None:
    executor, told = app.executor(), []
    future = executor.submit(Path(tmp_path / "ran").touch)
    future.add_done_callback(told.append)
    assert not future.running()
    assert future.cancel()
    assert future.cancel()
    assert (future.cancelled(), future.done(), future.operation.status) == (True, True, Status.CANCELLED)
    assert told == [future]
    with pytest.raises(CancelledError):
        future.result(10)
    with pytest.raises(CancelledError):
        future.exception(10)
    assert wait([future], 10).done == {future}
    worker = Worker(app.app_id, url=url).start()
    assert executor.submit(abs, -1).result(10) == 1
    worker.close()
    assert not (tmp_path / "ran").exists()


def test_a_running_call_is_not_cancelled_and_not_disturbed(executor: AppExecutor, gate: Gate) -> None:
    async def hold_here(path: str) -> str:
        while not Path(path).exists():
            await asyncio.sleep(0.005)
        return path

    futures = [executor.submit(hold, gate.path), executor.submit(hold_here, gate.path)]
    until(lambda: all(future.running() for future in futures))
    assert [future.cancel() for future in futures] == [False, False]
    assert not futures[0].done()
    gate.open()
    assert [future.result(10) for future in futures] == [gate.path] * 2
    assert [future.cancel() for future in futures] == [False, False]
    assert not futures[0].running()


def test_a_call_that_was_cancelled_elsewhere_is_a_cancelled_future(app: Blazing, executor: AppExecutor) -> None:
    future = executor.submit(asyncio.sleep, 60)
    until(future.running)
    assert future.operation.cancel() is Status.RUNNING
    with pytest.raises(CancelledError):
        future.result(10)
    assert future.cancelled()
    assert future.cancel()


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_result_and_exception_time_out(executor: AppExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.path)
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(0.01)
        with pytest.raises(TimeoutError):
            ask(0)
    gate.open()
    assert future.result(10) == gate.path
    assert future.exception() is None


def test_wait_returns_at_the_first_at_an_exception_or_when_all_are_done(executor: AppExecutor, gate: Gate) -> None:
    held, soon, failing = executor.submit(hold, gate.path), executor.submit(abs, -1), executor.submit(fail, "x")
    done, rest = wait([held, soon], 10, return_when=FIRST_COMPLETED)
    assert (done, rest) == ({soon}, {held})
    done, rest = wait([held, failing], 10, return_when=FIRST_EXCEPTION)
    assert (done, rest) == ({failing}, {held})
    done, rest = wait([held, soon, failing], 0.05, return_when=ALL_COMPLETED)
    assert (done, rest) == ({soon, failing}, {held})
    gate.open()
    assert wait([held, soon, failing, soon], 10).done == {held, soon, failing}
    assert wait([], 0).done == set()


def test_as_completed_gives_each_once_as_it_finishes(executor: AppExecutor, gate: Gate) -> None:
    held, soon = executor.submit(hold, gate.path), executor.submit(abs, -1)
    finished = as_completed([held, soon, soon], timeout=20)
    assert next(finished) is soon
    gate.open()
    assert list(finished) == [held]
    mixed = Future[int]()
    mixed.set_result(1)
    assert set(as_completed([mixed, soon], timeout=5)) == {mixed, soon}


def test_as_completed_times_out_and_says_how_many_are_missing(executor: AppExecutor, gate: Gate) -> None:
    held, soon = executor.submit(hold, gate.path), executor.submit(abs, -1)
    soon.result(10)
    given = []
    with pytest.raises(TimeoutError, match=r"1 \(of 2\)"):
        for future in as_completed([held, soon], timeout=0.05):
            given.append(future)
    assert given == [soon]


def test_futures_wait_beside_those_of_other_executors(executor: AppExecutor) -> None:
    with ThreadPoolExecutor(1) as threads:
        futures = [executor.submit(abs, -3), threads.submit(abs, -4)]
        assert {future.result() for future in as_completed(futures, timeout=10)} == {3, 4}


# -- callbacks -------------------------------------------------------------------------------------------------------


def test_callbacks_run_in_order_whatever_they_raise(executor: AppExecutor, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda _: told.append("first"))
    future.add_done_callback(lambda _: 1 // 0)
    future.add_done_callback(lambda f: told.append(str(f.result())))
    until(lambda: len(told) == 2)
    assert told == ["first", "1"]
    assert "exception calling callback" in caplog.text
    future.add_done_callback(lambda _: told.append("late, at once"))
    assert told[-1] == "late, at once"


def test_a_callback_may_submit_and_the_app_goes_on_beside_a_slow_one(app: Blazing, executor: AppExecutor) -> None:
    more: list[Future[int]] = []
    released = threading.Event()

    def follow(future: Future[int]) -> None:
        more.append(executor.submit(abs, future.result() - 10))
        released.wait(20)

    executor.submit(abs, -3).add_done_callback(follow)
    until(lambda: bool(more))
    assert app.step(lambda: "beside", name="beside").enqueue().result(10) == "beside"
    released.set()
    assert more[0].result(10) == 7


# -- the end ---------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_after_a_shutdown(app: Blazing, worker: Worker) -> None:
    with app.executor() as executor:
        future = executor.submit(abs, -1)
    assert future.done()
    for call in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1])):
        with pytest.raises(RuntimeError, match="shut down"):
            call()
    executor.shutdown()
    assert "shut down" in repr(executor)


def test_leaving_waits_for_futures_and_for_what_map_has_sent(executor: AppExecutor, gate: Gate) -> None:
    future, results = executor.submit(hold, gate.path), executor.map(hold, [gate.path] * 2)
    threading.Timer(0.3, gate.open).start()
    executor.shutdown()
    assert future.done()
    assert list(results) == [gate.path] * 2


def test_a_shutdown_without_waiting_returns_and_the_futures_come(executor: AppExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.path)
    executor.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result(10) == gate.path


@pytest.mark.parametrize("waits", [True, False])
def test_a_shutdown_may_cancel_what_has_not_begun(app: Blazing, url: str, gate: Gate, waits: bool) -> None:
    worker = Worker(app.app_id, url=url, threads=1).start()
    executor = app.executor()
    first, results = executor.submit(hold, gate.path), executor.map(hold, [gate.path])
    until(first.running)
    rest = [executor.submit(hold, gate.path) for _ in range(5)]
    threading.Timer(0.3, gate.open).start()
    executor.shutdown(wait=waits, cancel_futures=True)
    assert all(future.cancelled() for future in rest)
    assert first.result(10) == gate.path
    with pytest.raises(CancelledError):
        next(results)
    worker.close()


def test_a_dropped_executor_leaves_no_thread_behind(app: Blazing, worker: Worker, gate: Gate) -> None:
    before, executor = set(threading.enumerate()), app.executor()
    gone, future = weakref.ref(executor), executor.submit(hold, gate.path)
    [thread] = [t for t in threading.enumerate() if t not in before and t.name == "bz-executor"]
    del executor
    gc.collect()
    assert gone() is None
    assert thread.is_alive()
    gate.open()
    assert future.result(10) == gate.path
    thread.join(10)
    assert not thread.is_alive()


def test_what_is_finished_is_not_held(executor: AppExecutor) -> None:
    future = executor.submit(Account, 1)
    value = weakref.ref(future.result(10))
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert (value(), gone()) == (None, None)


def test_closing_the_app_ends_the_waits(url: str, app_id: str) -> None:
    app = Blazing(app_id, url=url)
    future = app.executor().submit(abs, -1)
    app.close()
    with pytest.raises(errors.AppClosed, match=future.operation.id):
        future.result(10)


SCRIPT = """
    import sys
    from blazing_nb import Blazing
    app = Blazing(sys.argv[1], url=sys.argv[2])
    executor = app.executor()
    print(executor.submit(abs, -3).result(20))
    print(executor.submit(abs, -4).operation.id, flush=True)
"""


def test_a_script_that_ends_waits_for_nobody_and_loses_nothing(app: Blazing, worker: Worker, url: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), app.app_id, url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert said.stderr == ""
    first, name = said.stdout.split()
    assert (first, app.attach(name).result(10)) == ("3", 4)  # type: ignore[union-attr]


# -- asyncio ---------------------------------------------------------------------------------------------------------


def test_run_awaits_one_call(app: Blazing, worker: Worker) -> None:
    async def several() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(app.run(pow, x, 2)) for x in range(20)]
            tasks.append(group.create_task(app.run(double_later, x=4)))
        return [task.result() for task in tasks]

    assert asyncio.run(several()) == [*[x * x for x in range(20)], 8]
    with pytest.raises(KeyError, match="gone"):
        asyncio.run(app.run(fail, "gone"))


def test_a_cancelled_run_cancels_its_operation(app: Blazing) -> None:
    async def briefly() -> None:
        async with asyncio.timeout(0.05):
            await app.run(abs, -1)

    with pytest.raises(TimeoutError):
        asyncio.run(briefly())
    [row] = app.operations().rows
    assert row.status is Status.CANCELLED


def test_an_event_loop_takes_it_as_an_executor(app: Blazing, executor: AppExecutor) -> None:
    async def both() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, pow, x, 3) for x in (2, 3)))

    assert asyncio.run(both()) == [8, 27]


def test_a_wait_for_a_handle_and_for_a_future_are_the_same_wait(executor: AppExecutor, gate: Gate) -> None:
    future = executor.submit(hold, gate.path)
    with pytest.raises(OperationTimeout):
        future.operation.result(0.01)
    gate.open()
    assert future.operation.result(10) == future.result(10) == gate.path
