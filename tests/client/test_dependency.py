"""Handles as arguments: the store starts an operation when those that it depends on are final, with their results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb import Blazing, Status, Worker, first, gather
from blazing_nb import errors as e
from blazing_nb.core.dependency import Dependency, replace
from tests.condition import until

WAIT = 20


def same(x: Any) -> Any:
    return x


def add(x: int, y: int) -> int:
    return x + y


def fail(text: str) -> None:
    raise ValueError(text)


def total(values: list[int]) -> int:
    return sum(values)


def shape(*args: Any, **kwargs: Any) -> str:
    return repr((args, kwargs))


@pytest.fixture
def steps(app: Blazing) -> Iterator[Any]:
    class Steps:
        pass

    made: Any = Steps()
    for function in (same, add, fail, total, shape):
        setattr(made, function.__name__, app.step(function))
    yield made


def test_an_operation_as_an_argument_is_a_dependency(steps: Any, worker: Worker) -> None:
    a, b = steps.add.enqueue(1, 2), steps.same.enqueue({"x": (1, 2)})
    assert steps.add.enqueue(a, 10).result(WAIT) == 13
    assert steps.add.enqueue(y=a, x=a).result(WAIT) == 6
    assert steps.same.enqueue(b).result(WAIT) == {"x": (1, 2)}


def test_dependencies_at_any_depth_in_lists_tuples_and_dicts(steps: Any, worker: Worker) -> None:
    a, batch = steps.same.enqueue("a"), steps.same.map(range(3))
    op = steps.shape.enqueue([a, 1, (a, [batch])], {"k": batch, "l": [a, a]}, last=(batch, {"m": [{"n": a}]}))
    expected = (["a", 1, ("a", [[0, 1, 2]])], {"k": [0, 1, 2], "l": ["a", "a"]})
    assert op.result(WAIT) == repr((expected, {"last": ([0, 1, 2], {"m": [{"n": "a"}]})}))


def test_it_waits_until_the_last_one_is_final(app: Blazing, steps: Any, worker: Worker) -> None:
    app["same"].pause()
    late = steps.same.enqueue(5)
    op = steps.add.enqueue(late, 1)
    chained = steps.add.enqueue(op, 1)
    assert [o.status for o in (op, chained)] == [Status.SCHEDULED] * 2
    app["same"].resume()
    assert chained.result(WAIT) == 7
    assert op.result(WAIT) == 6


def test_fan_out_and_fan_in(steps: Any, worker: Worker) -> None:
    parts = steps.same.map(range(1000))
    assert steps.total.enqueue(parts).result(WAIT) == 499_500
    assert steps.total.enqueue([parts[0], parts[7], parts[9]]).result(WAIT) == 16
    assert steps.total.enqueue(steps.same.map([])).result(WAIT) == 0


def test_each_operation_of_a_batch_is_a_dependency_of_its_own_call(steps: Any, worker: Worker) -> None:
    squares = steps.same.map(range(300))
    assert steps.same.map(squares, name="next").results(WAIT) == list(range(300))
    assert steps.add.starmap([(op, 1) for op in squares.operations()]).results(WAIT) == list(range(1, 301))


def test_of_a_flow_the_last_stage_is_waited_for(app: Blazing, steps: Any, worker: Worker) -> None:
    flow = steps.same >> steps.same >> steps.same
    app["same"].pause()
    item, items = flow.enqueue(5), flow.map(range(300))
    op, some, enough = steps.add.enqueue(item, 1), steps.total.enqueue(items), steps.total.enqueue(first(items, 2))
    app["same"].resume()
    assert (op.result(WAIT), some.result(WAIT)) == (6, sum(range(300)))
    assert enough.result(WAIT) >= 1
    items.wait(WAIT)
    assert steps.total.enqueue(items).result(WAIT) == sum(range(300))
    with pytest.raises(e.DependencyFailed, match=r"fail:n:@0:.* ended FAILED"):
        steps.same.enqueue((steps.same >> steps.fail).enqueue("x")).result(WAIT)


def test_what_is_already_final_is_taken(app: Blazing, steps: Any, worker: Worker) -> None:
    done = steps.same.enqueue(4)
    assert done.result(WAIT) == 4
    assert steps.add.enqueue(done, app.attach(done.id)).result(WAIT) == 8


def test_other_nodes_and_keyed_operations(app: Blazing, url: str, steps: Any, worker: Worker) -> None:
    with Blazing(app.app_id, url=url, node_id="n2") as other:
        theirs = other.step(same).enqueue(20)
        keyed = steps.same.options(key="once").enqueue(1)
        assert steps.add.enqueue(app.attach(theirs.id), keyed).result(WAIT) == 21


def test_values_that_are_not_plain_and_references_arrive(app: Blazing, steps: Any, worker: Worker) -> None:
    kept = app.put({"big": 1})
    assert steps.shape.enqueue(steps.same.enqueue({1, 2}), kept).result(WAIT) == repr((({1, 2}, {"big": 1}), {}))


def test_a_coroutine_and_a_process_get_theirs(app: Blazing, steps: Any, worker: Worker) -> None:
    async def later(values: list[int]) -> int:
        await asyncio.sleep(0)
        return sum(values)

    parts = steps.same.map(range(10))
    assert app.step(later).enqueue(parts).result(WAIT) == 45
    assert app.step(total, name="total_process", lane="process").enqueue(parts).result(WAIT) == 45


class TestFailure:
    """What follows where one of them does not succeed."""

    def test_fail_is_the_default_and_names_the_cause(self, steps: Any, worker: Worker) -> None:
        broken = steps.fail.enqueue("no bread")
        op = steps.add.enqueue(broken, 1)
        with pytest.raises(e.DependencyFailed, match="ended FAILED") as caught:
            op.result(WAIT)
        assert caught.value.operation == broken.id
        assert isinstance(caught.value.__cause__, ValueError)
        assert (op.status, op.attempt) == (Status.FAILED, 0)

    def test_the_cause_of_a_chain_is_found(self, steps: Any, worker: Worker) -> None:
        last = steps.fail.enqueue("first")
        for _ in range(3):
            last = steps.same.enqueue(last)
        error: BaseException | None = last.exception(WAIT)
        kinds = []
        while error is not None and not isinstance(error, e.RemoteTraceback):
            kinds.append(type(error))
            error = error.__cause__
        assert kinds == [e.DependencyFailed] * 3 + [ValueError]

    def test_collect_gets_exceptions_as_values(self, steps: Any, worker: Worker) -> None:
        broken, fine = steps.fail.enqueue("x"), steps.same.enqueue(1)
        op = steps.shape.options(on_failure="collect").enqueue(broken, [broken, fine])
        assert op.result(WAIT) == repr(((ValueError("x"), [ValueError("x"), 1]), {}))

    def test_skip_leaves_failed_ones_out_of_batches_and_lists(self, app: Blazing, steps: Any, worker: Worker) -> None:
        def odd(x: int) -> int:
            if x % 2:
                return x
            raise ValueError(x)

        odds, broken = app.step(odd).map(range(6)), steps.fail.enqueue("x")
        skip = steps.shape.options(on_failure="skip")
        assert skip.enqueue(odds, [7, broken, 8], [broken, broken]).result(WAIT) == repr((([1, 3, 5], [7, 8], []), {}))

    @pytest.mark.parametrize("wrap", [lambda op: op, lambda op: (op, 1), lambda op: {"k": op}])
    def test_skip_skips_the_operation_where_it_cannot_be_left_out(self, steps: Any, worker: Worker, wrap: Any) -> None:
        broken = steps.fail.enqueue("x")
        op = steps.shape.options(on_failure="skip").enqueue(wrap(broken))
        with pytest.raises(e.OperationCancelled, match=f"skipped: {broken.id} ended FAILED"):
            op.result(WAIT)

    def test_cancelled_expired_and_forgotten_ones_count_as_failures(
        self, app: Blazing, steps: Any, worker: Worker
    ) -> None:
        gone = steps.same.map([1])
        assert gone.results(WAIT) == [1]
        gone.forget()
        app["same"].pause()
        cancelled, late = steps.same.enqueue(1), steps.same.options(expires=0.05).enqueue(1)
        ops = [steps.shape.enqueue(op) for op in (cancelled, late, gone)]
        cancelled.cancel()
        time.sleep(0.1)  # past its deadline
        assert "ended CANCELLED" in str(ops[0].exception(WAIT))
        app["same"].resume()
        assert "ended EXPIRED" in str(ops[1].exception(WAIT))
        assert "is not in the store" in str(ops[2].exception(WAIT))

    def test_what_was_forgotten_while_it_waited_is_named_where_it_runs(
        self, app: Blazing, steps: Any, worker: Worker
    ) -> None:
        done = steps.same.map([1])
        done.results(WAIT)
        app["same"].pause()
        late = steps.same.enqueue(2)
        op = steps.shape.enqueue(done, late)
        kept = steps.shape.options(on_failure="collect").enqueue(done, late)
        done.forget()
        app["same"].resume()
        with pytest.raises(e.DependencyFailed, match="is not in the store"):
            op.result(WAIT)
        assert "OperationUnknown" in kept.result(WAIT)

    def test_a_retry_of_what_expired_waits_again(self, app: Blazing, steps: Any, worker: Worker) -> None:
        app["same"].pause()
        late = steps.same.enqueue(2)
        op = steps.shape.options(expires=0.05).enqueue([late, 1])
        assert isinstance(op.exception(WAIT), e.OperationExpired)
        again = op.retry()
        until(lambda: again.status is Status.SCHEDULED)
        app["same"].resume()
        assert again.result(WAIT) == repr((([2, 1],), {}))
        assert again.attempt == 1

    def test_a_retry_of_what_failed_with_another_fails_again(self, steps: Any, worker: Worker) -> None:
        op = steps.shape.enqueue(steps.fail.enqueue("x"))
        assert isinstance(op.exception(WAIT), e.DependencyFailed)
        assert isinstance(op.retry().exception(WAIT), e.DependencyFailed)


class TestFirst:
    """`first(batch, k)`: enough of many."""

    @pytest.fixture
    def gate(self, app: Blazing, worker: Worker) -> Iterator[Any]:
        """A step whose operations end when the test says."""
        GATES.update({i: threading.Event() for i in range(5)})
        yield app.step(pass_gate)
        for event in GATES.values():
            event.set()

    def test_the_first_that_succeed_are_enough(self, steps: Any, gate: Any) -> None:
        batch = gate.map(range(5))
        op = steps.same.enqueue(first(batch, 2))
        for i in (4, 3, 1):
            GATES[i].set()
            assert batch[i].exception(WAIT) is None or i == 4
        assert op.result(WAIT) == [3, 1]

    def test_collect_takes_the_first_that_end(self, steps: Any, gate: Any) -> None:
        batch = gate.map(range(5))
        op = steps.shape.options(on_failure="collect").enqueue(first(batch))
        GATES[4].set()
        assert op.result(WAIT) == repr((([ValueError(4)],), {}))

    def test_too_many_failures_end_it_and_skip_takes_what_there_is(self, steps: Any, worker: Worker) -> None:
        broken = steps.fail.map(["a", "b"])
        one = steps.same.enqueue(1)
        some = [*broken.operations(), one]
        with pytest.raises(e.DependencyFailed):
            steps.same.enqueue(first(some, 2)).result(WAIT)
        assert steps.same.options(on_failure="skip").enqueue(first(some, 2)).result(WAIT) == [1]


GATES: dict[int, threading.Event] = {}


def pass_gate(i: int) -> int:
    GATES[i].wait(WAIT)
    if i == 4:
        raise ValueError(i)
    return i


def test_it_can_be_cancelled_expire_and_be_delayed(app: Blazing, steps: Any, worker: Worker) -> None:
    app["same"].pause()
    late = steps.same.enqueue(1)
    cancelled, expired = steps.shape.enqueue(late), steps.shape.options(expires=0.2).enqueue(late)
    delayed = steps.same.options(delay=0.3).enqueue(late)
    assert cancelled.cancel() is Status.CANCELLED
    assert isinstance(expired.exception(WAIT), e.OperationExpired)
    app["same"].resume()
    assert delayed.result(WAIT) == 1
    assert isinstance(cancelled.exception(WAIT), e.OperationCancelled)


def test_what_cannot_be_waited_for_is_refused_before_anything_is_sent(app: Blazing, url: str, steps: Any) -> None:
    op = steps.same.enqueue(1)
    with Blazing(f"{app.app_id}-other", url=url) as other, pytest.raises(e.UsageError, match="pass its result"):
        other.step(same).enqueue(op)
    with pytest.raises(e.ValueNotSerializable, match="elsewhere pass its id"):
        steps.same.enqueue({op})
    with pytest.raises(e.UsageError, match="priority"):
        steps.same.options(priority="high").enqueue(op)
    with pytest.raises(e.UsageError, match="key"):
        steps.same.options(key="k").enqueue(op)
    with pytest.raises(e.UsageError, match="on_failure"):
        steps.same.options(on_failure="explode")
    for wrong in (lambda: first([], 1), lambda: first([op], 2), lambda: first([op], 0), lambda: first([1])):  # type: ignore[list-item]
        with pytest.raises(e.UsageError):
            wrong()


def test_a_gathered_is_a_list_of_its_handles(steps: Any, worker: Worker) -> None:
    both = gather(steps.same.enqueue(1), steps.same.map([2, 3]))
    assert steps.same.enqueue(both).result(WAIT) == [1, [2, 3]]


def test_replacing_keeps_everything_else(steps: Any) -> None:
    value = {"a": [1, (2, {"b": None})], "c": "text"}
    assert replace(value, lambda item, _: item) == value
    assert replace(value, lambda item, _: item) is not value
    assert Dependency("all", (), 0).members.needed == 0
