"""Retries, delays, deadlines, priorities, keys, cancelling, pausing: through the public API on real workers."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Cancel, Retry, Status, Worker, current, errors


def flaky(marker: str, good_at: int) -> int:
    """Fails until its attempt number `good_at`."""
    attempt = current().attempt
    with open(marker, "a") as file:
        file.write(f"{attempt}\n")
    if attempt < good_at:
        raise OSError(f"attempt {attempt}")
    return attempt


def same(x: Any) -> Any:
    return x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def begun(marker: Path) -> None:
    """Wait until a step has said that it runs."""
    end = time.monotonic() + 10
    while not marker.exists():
        assert time.monotonic() < end
        time.sleep(0.005)


def nap_marked(marker: str, seconds: float) -> float:
    Path(marker).touch()
    time.sleep(seconds)
    return seconds


def attempts(marker: Path) -> list[int]:
    return [int(line) for line in marker.read_text().split()]


def test_a_failed_attempt_is_repeated_and_its_errors_stay_visible(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(flaky, retries=3, backoff=0.01).enqueue(str(tmp_path / "ran"), 3)
    assert op.result(10) == 3
    assert attempts(tmp_path / "ran") == [1, 2, 3]
    assert (op.attempt, op.status) == (3, Status.SUCCEEDED)
    assert [error for _, _, error in op.failures()] == ["OSError: attempt 1", "OSError: attempt 2"]
    assert all(abs((datetime.now(UTC) - failed.at).total_seconds()) < 60 for failed in op.failures())
    assert re.fullmatch(
        r"<claim 1 failed at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC: OSError: attempt 1>", repr(op.failures()[0])
    )
    stats = app.snapshot().steps[0]
    assert (stats.retried, stats.succeeded, stats.failed, stats.fenced) == (2, 1, 0, 0)


def test_retries_that_are_used_up_end_as_failed(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(flaky, retries=1, backoff=0.01).enqueue(str(tmp_path / "ran"), 9)
    with pytest.raises(OSError, match="attempt 2"):
        op.result(10)
    assert (attempts(tmp_path / "ran"), op.attempt) == ([1, 2], 2)


def test_only_what_is_worth_it_is_repeated(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    for name, rules in (("a", {"retry_on": KeyError}), ("b", {"give_up_on": OSError})):
        marker = tmp_path / name
        op = app.step(flaky, name=name, retries=5, backoff=0.01, **rules).enqueue(str(marker), 9)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="attempt 1"):
            op.result(10)
        assert attempts(marker) == [1]


def test_a_call_can_have_other_retries_than_its_step(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    step = app.step(flaky, retries=0, backoff=0.01)
    assert step.options(retries=4).enqueue(str(tmp_path / "ran"), 4).result(10) == 4


@pytest.mark.parametrize("raised", [True, False])
def test_a_step_can_ask_for_another_attempt(app: Blazing, worker: Worker, raised: bool) -> None:
    def patient(raised: bool) -> Any:
        if current().attempt >= 3:
            return current().attempt
        if raised:
            raise Retry("not yet", after=0.01)
        return Retry("not yet", after=0.01)

    op = app.step(patient, retries=2).enqueue(raised)
    assert op.result(10) == 3
    with pytest.raises(Retry, match="not yet"):
        app.step(patient, retries=1).enqueue(raised).result(10)


def test_a_back_off_is_waited_for(app: Blazing, worker: Worker) -> None:
    def once(_: int) -> float:
        if current().attempt == 1:
            raise Retry(after=0.4)
        return time.time()

    began = time.time()
    op = app.step(once, retries=1).enqueue(1)
    while op.status is not Status.RETRYING:
        assert not op.done()
    assert op.result(10) - began >= 0.4


def test_a_delayed_operation_waits_and_is_seen_as_scheduled(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    soon = step.options(delay=0.4).enqueue("later")
    moment = datetime.now(UTC) + timedelta(hours=1)
    late = step.options(at=moment).map([1, 2])
    assert soon.status is Status.SCHEDULED
    assert soon.attempt == 0
    assert soon.result(10) == "later"
    assert soon.attempt == 1
    frame = app.step(same).options(delay=0.2).map([7]).results(10)
    assert frame == [7]
    assert late[0].status is Status.SCHEDULED
    assert app.snapshot().parked == 2
    assert late.cancel() == {"CANCELLED": 2}


def test_an_operation_past_its_deadline_ends_expired_without_running(app: Blazing, url: str) -> None:
    step = app.step(same)
    late = step.options(expires=0.05).map([1, 2, 3])
    kept = step.options(expires=datetime.now(UTC) + timedelta(hours=1)).enqueue(4)
    time.sleep(0.1)  # the deadline is on the server's clock
    worker = Worker(app.app_id, url=url).start()
    assert kept.result(10) == 4
    with pytest.raises(errors.OperationExpired, match="deadline"):
        late.results(10)
    assert [op.status for op in late] == [Status.EXPIRED] * 3
    stats = app.snapshot().steps[0]
    assert (stats.expired, stats.claimed) == (3, 1)
    worker.close()


def test_high_goes_first_and_low_is_not_starved(app: Blazing, url: str) -> None:
    step = app.step(same)
    low = step.options(priority="low").map(range(10))
    normal = step.map(range(100))
    high = step.options(priority="high").map(range(10))
    order = [c.segment.split(":")[1] for _ in range(16) for c in _claims(app)]
    assert order[0] == "h"
    assert order.index("n") < order.index("l") or "l" in order[:9]
    assert "l" in order[:9]
    assert len(low) + len(normal) + len(high) == 120


def _claims(app: Blazing) -> list[Any]:
    """Claim five at a time as a worker of the test's own."""
    if not hasattr(app, "_tester"):
        app._tester = app.store.open_worker("tester", 60_000)  # type: ignore[attr-defined]
    incarnation = app._tester  # type: ignore[attr-defined]
    return app.store.turn(f"tester.{incarnation}", incarnation, [], [], [(5, ["same"])]).claims


def test_a_key_gives_one_operation_from_any_node(app: Blazing, url: str, worker: Worker) -> None:
    with Blazing(app.app_id, url=url, node_id="n2") as other:
        first = app.step(same).options(key="order-1").enqueue(("signed", 1))
        second = other.step(same).options(key="order-1").enqueue(("other", 2))
        assert first == second
        assert second.result(10) == first.result(10) == ("signed", 1)
        assert app.step(same).options(key="order-1").enqueue("after it was final") == first
        third = app.step(same).options(key="order-2").enqueue(3)
        assert third != first
        assert third.result(10) == 3
    assert app.snapshot().steps[0].enqueued == 2


def test_waiting_operations_are_cancelled_at_once(app: Blazing, url: str) -> None:
    step = app.step(same)
    batch = step.map(range(5))
    assert batch[2].cancel() is Status.CANCELLED
    assert batch[2].cancel() is Status.CANCELLED
    with pytest.raises(errors.OperationCancelled):
        batch[2].result(5)
    worker = Worker(app.app_id, url=url).start()
    assert [type(r).__name__ for r in batch.results(10, return_exceptions=True)] == [
        *["int"] * 2,
        "OperationCancelled",
        *["int"] * 2,
    ]
    assert batch[0].cancel() is Status.SUCCEEDED
    assert batch.cancel() == {"FINAL": 5}
    worker.close()


def test_a_running_coroutine_is_cancelled(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    async def long(marker: str) -> None:
        Path(marker).touch()
        await asyncio.sleep(60)

    op = app.step(long).enqueue(str(tmp_path / "begun"))
    begun(tmp_path / "begun")
    assert op.cancel() is Status.RUNNING
    with pytest.raises(errors.OperationCancelled):
        op.result(10)
    assert worker.wait_for_completion(5)


def test_a_running_function_sees_that_it_was_cancelled(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    def patient(marker: str) -> None:
        Path(marker).touch()
        while not current().cancelled:
            time.sleep(0.005)
        raise Cancel("told so")

    op = app.step(patient).enqueue(str(tmp_path / "begun"))
    begun(tmp_path / "begun")
    assert op.cancel() is Status.RUNNING
    with pytest.raises(errors.OperationCancelled, match="told so"):
        op.result(10)


def test_an_operation_cancelled_before_it_began_does_not_run(app: Blazing, url: str, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=url, threads=1).start()
    step = app.step(nap_marked)
    first = step.enqueue(str(tmp_path / "first"), 0.5)
    begun(tmp_path / "first")
    second = step.enqueue(str(tmp_path / "second"), 0.0)
    second.cancel()
    assert first.result(10) == 0.5
    with pytest.raises(errors.OperationCancelled):
        second.result(10)
    assert not (tmp_path / "second").exists()
    worker.close()


def test_a_commit_that_comes_first_wins_over_a_cancel(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(nap_marked).enqueue(str(tmp_path / "begun"), 0.3)
    begun(tmp_path / "begun")
    assert op.cancel() is Status.RUNNING
    assert op.result(10) == 0.3
    assert op.cancel() is Status.SUCCEEDED


def test_a_failed_attempt_that_was_cancelled_is_not_repeated(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    def slow_failure(marker: str) -> None:
        Path(marker).touch()
        time.sleep(0.3)
        raise OSError("again")

    op = app.step(slow_failure, retries=5, backoff=0.01).enqueue(str(tmp_path / "begun"))
    begun(tmp_path / "begun")
    op.cancel()
    with pytest.raises(errors.OperationCancelled):
        op.result(10)


def test_a_paused_step_waits_while_others_go_on(app: Blazing, worker: Worker) -> None:
    step, other = app.step(same), app.step(nap)
    assert step.pause()
    assert not step.pause()
    waiting = step.map(range(20))
    assert other.enqueue(0.0).result(10) == 0.0
    assert waiting.done_count == 0
    assert step.resume()
    assert waiting.results(10) == list(range(20))


def test_current_tells_about_the_attempt(app: Blazing, worker: Worker) -> None:
    def describe() -> list[Any]:
        me = current()
        return [me.app, me.operation, me.attempt, me.deadline, me.token]

    op = app.step(describe, timeout=5.0).enqueue()
    name, operation, attempt, deadline, token = op.result(10)
    assert (name, operation, attempt, deadline) == (app.app_id, op.id, 1, 5.0)
    assert token.startswith("00000001-")
    with pytest.raises(errors.UsageError):
        current()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": 1, "at": datetime(2099, 1, 1, tzinfo=UTC)},
        {"at": datetime(2030, 1, 1)},
        {"priority": "urgent"},
        {"priority": "high", "delay": 1},
        {"key": "a:b"},
        {"key": "a", "delay": 1},
        {"expires": 0},
        {"retries": -1},
        {"retries": 1.5},
        {"timeout": 0},
        {"retention": 0},
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_before_anything_is_sent(app: Blazing, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        app.step(same).options(**options)
    assert app.snapshot().segments == []


def test_rules_of_a_step_that_do_not_fit_are_refused(app: Blazing) -> None:
    for rules in ({"retries": -1}, {"backoff": -1}, {"retry_on": 3}, {"retry_on": [int]}, {"retention": 0}):
        with pytest.raises((errors.UsageError, TypeError)):
            app.step(same, **rules)  # type: ignore[call-overload]
    with pytest.raises(errors.UsageError, match="enqueue"):
        app.step(same).options(key="k").map([1])
