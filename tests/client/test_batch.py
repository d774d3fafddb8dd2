"""Batches: order, names, resuming, attaching from elsewhere, waiting for several."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blazing_nb import Blazing, Operation, OperationTimeout, Worker, as_completed, errors, gather, wait


def double(x: Any) -> Any:
    return x * 2


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_map_keeps_the_order_of_its_items_and_is_repeatable(app: Blazing, worker: Worker) -> None:
    batch = app.step(double).map(range(5000))
    assert batch.results(30) == list(range(0, 10_000, 2))
    assert batch.results() == batch.results()
    assert (len(batch), batch.done_count, batch.failed_count, batch.done()) == (5000, 5000, 0, True)
    assert batch[-1].result() == 9998


def test_a_batch_iterates_as_its_operations_finish(app: Blazing, worker: Worker) -> None:
    batch = app.step(nap).map([0.6, 0.01, 0.3])
    assert [op.result() for op in batch] == [0.01, 0.3, 0.6]


def test_a_short_operation_does_not_wait_behind_a_long_one_of_its_batch(app: Blazing, worker: Worker) -> None:
    """The lane has learned that operations are short, and gets one that is not."""
    app.step(double).map(range(2000)).results(10)
    batch = app.step(nap).map([20.0, 0.0, 0.0, 0.0])
    assert [op.result() for op in itertools.islice(batch.as_completed(timeout=10), 3)] == [0.0] * 3


def test_a_batch_is_indexed_in_the_items_order_and_a_slice_is_a_list_of_operations(
    app: Blazing, worker: Worker
) -> None:
    batch = app.step(nap).map([0.3, 0.0, 0.1])
    values = batch.results(10)
    for part in (slice(None), slice(0, 2), slice(-2, None), slice(None, None, -1), slice(5, 9)):
        assert [op.result() for op in batch[part]] == values[part]
    assert (batch[-3].result(), batch[0].result()) == (0.3, 0.3)
    assert app.step(sum, name="total").enqueue(batch[1:]).result(10) == 0.1


def test_an_index_that_does_not_fit_says_what_would(app: Blazing) -> None:
    batch = app.step(double).map([1, 2, 3])
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"^no item {index}: the batch has 3, numbered from 0"):
            batch[index]
    with pytest.raises(TypeError, match="an item's number or a slice, not str; results"):
        batch["a"]  # type: ignore[call-overload]


def test_an_empty_batch_is_done(app: Blazing) -> None:
    batch = app.step(double).map([])
    assert (len(batch), batch.results(), list(batch), batch.to_frame().shape[0]) == (0, [], [], 0)


def test_a_failure_is_raised_or_stands_in_the_list(app: Blazing, worker: Worker) -> None:
    batch = app.step(lambda x: 1 // x, name="inverse").map([1, 0, 1])
    with pytest.raises(ZeroDivisionError):
        batch.results(10)
    first, second, third = batch.results(10, return_exceptions=True)
    assert (first, third, batch.failed_count) == (1, 1, 1)
    assert isinstance(second, ZeroDivisionError)
    frame = batch.to_frame()
    assert list(frame.status) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "ZeroDivisionError" in frame.error[1]
    assert frame.attempt.tolist() == [1, 1, 1]
    assert (frame.wait_s >= 0).all()


def test_a_bad_item_says_how_many_were_sent_before_it(app: Blazing) -> None:
    items = [*range(100), (x for x in ())]
    with pytest.raises(errors.ValueNotSerializable) as caught:
        app.step(double).map(items)
    assert caught.value.sent == 64
    assert app.snapshot().waiting == 64


def test_a_timeout_says_how_far_it_came(app: Blazing) -> None:
    with pytest.raises(OperationTimeout, match="0 of 3") as caught:
        app.step(double).map([1, 2, 3], name="slow").results(0.05)
    assert (caught.value.done, caught.value.total) == (0, 3)


def test_gather_wait_and_as_completed(app: Blazing, worker: Worker) -> None:
    step, slow = app.step(double), app.step(nap)
    assert gather(step.enqueue(1), step.map([2, 3]), step.enqueue(4)).results(10) == [2, [4, 6], 8]
    assert gather().results() == []
    late, soon = slow.enqueue(0.5), slow.enqueue(0.01)
    assert list(as_completed([late, soon], timeout=10)) == [soon, late]
    endless = slow.enqueue(30)
    assert wait([soon, endless], timeout=0.05) == ({soon}, {endless})
    with pytest.raises(OperationTimeout):
        list(as_completed([endless], timeout=0.05))
    with pytest.raises(errors.UsageError):
        gather(3)  # type: ignore[arg-type]


def test_a_taken_name_is_refused_and_resume_continues_it(app: Blazing, worker: Worker) -> None:
    step = app.step(double)
    step.map(range(100), name="run")
    with pytest.raises(errors.BatchExists, match="resume=True"):
        step.map(range(5), name="run")
    batch = step.map(range(150), name="run", resume=True)
    assert batch.results(10) == list(range(0, 300, 2))
    assert app.snapshot().steps[0].enqueued == 150


def test_attach_finds_batches_and_operations(app: Blazing, url: str, worker: Worker) -> None:
    step = app.step(double)
    op = step.enqueue(21)
    step.map(range(300), name="named").wait(10)
    with Blazing(app.app_id, url=url) as other:
        again = other.attach(op.id)
        assert isinstance(again, Operation)
        assert again.result(10) == 42
        assert other.attach("named").results(10) == list(range(0, 600, 2))
        with pytest.raises(errors.BatchUnknown):
            other.attach("no-such-batch")
        with pytest.raises(errors.OperationUnknown):
            other.attach(op.id.rpartition("-")[0] + "-999999")
        with pytest.raises(errors.InvalidOperationId):
            other.attach("a:b:c:d")


def test_an_attached_batch_follows_what_is_not_finished_yet(app: Blazing, url: str) -> None:
    app.step(double).map(range(50), name="later")
    with Blazing(app.app_id, url=url) as other:
        batch = other.attach("later")
        assert batch.done_count == 0
        worker = Worker(app.app_id, url=url).start()
        assert batch.results(10) == list(range(0, 100, 2))
        worker.close()


KERNEL = """
    import sys
    from blazing_nb import Blazing
    def endless():
        for i in range(10**9):
            yield i
            if i == 3000: print("under way", flush=True)
    app = Blazing(sys.argv[1], url=sys.argv[2], node_id="kernel")
    app.step(lambda x: x + 1, name="next").map(endless(), name="killed")
"""


@pytest.fixture
def kernel(url: str, app_id: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(KERNEL), app_id, url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_kernel_killed_in_the_middle_of_map_loses_nothing_that_was_acknowledged(
    app: Blazing, url: str, kernel: subprocess.Popen[str]
) -> None:
    assert kernel.stdout is not None
    assert kernel.stdout.readline().strip() == "under way"
    kernel.kill()
    kernel.wait(10)
    stored = app.store.batch("killed")
    count = sum(map(len, stored))
    assert count >= 1000
    worker = Worker(app.app_id, url=url).start()
    assert app.attach("killed").results(60) == list(range(1, count + 1))
    assert app.snapshot().steps[0].enqueued == count
    worker.close()


@pytest.mark.parametrize(
    "ignored",
    [
        lambda step: step.map([1], resume=True),
        lambda step: step.enqueue(1).logs(timeout=1.0),
        lambda step: step.options(block=1.0).every("5m"),
    ],
    ids=["resume", "logs", "block"],
)
def test_an_option_that_would_be_ignored_is_refused(app: Blazing, ignored: Callable[[Any], object]) -> None:
    with pytest.raises(errors.UsageError, match=r"name=|follow=True|block="):
        ignored(app.step(double))
