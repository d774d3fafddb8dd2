"""Limits, progress, history, references, listing, dead letters, forgetting: through the public API on real workers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from blazing_nb import Blazing, Status, Worker, current, errors
from tests.client.test_option import begun, flaky, nap_marked, same
from tests.condition import until


def report(marker: str) -> str:
    """Says how far it is, until the file is there."""
    for done in itertools.count(1):
        current().progress(done, 1000, "at <it>")
        if Path(marker).exists():
            return "done"
        time.sleep(0.01)
    raise AssertionError


def failing(text: str) -> None:
    raise ValueError(text)


def fails_while(marker: str, x: int) -> int:
    if Path(marker).exists():
        raise OSError(f"{x} is not possible now")
    return x * x


class Gauge:
    """How many run at once, in this process."""

    now = most = 0
    lock = threading.Lock()


def gauged(seconds: float) -> None:
    with Gauge.lock:
        Gauge.now += 1
        Gauge.most = max(Gauge.most, Gauge.now)
    time.sleep(seconds)
    with Gauge.lock:
        Gauge.now -= 1


@pytest.fixture
def two_workers(url: str, app: Blazing) -> Iterator[None]:
    made = [Worker(app.app_id, url=url).start() for _ in range(2)]
    yield
    for worker in made:
        worker.close()


def test_no_more_run_at_once_than_allowed_over_all_workers(app: Blazing, two_workers: None) -> None:
    Gauge.now = Gauge.most = 0
    step = app.step(gauged, max_in_flight=3)
    step.map([0.01] * 60).results(30)
    assert Gauge.most == 3
    assert app.snapshot().steps[0].succeeded == 60


def test_a_rate_is_kept_and_other_steps_do_not_wait_for_it(app: Blazing, two_workers: None) -> None:
    slow = app.step(same, name="slow", rate="50/s").map(range(30))
    assert app.step(same, name="fast").map(range(100)).results(10) == list(range(100))
    assert slow.results(20) == list(range(30))
    frame = slow.to_frame()
    started = frame["started_at"].sort_values()
    # At most rate * (w + 0.1) in any window of w seconds: 30 take at least 25 intervals of 20 ms.
    assert (started.iloc[-1] - started.iloc[0]).total_seconds() >= 0.48


@pytest.mark.parametrize(
    "limits",
    [{"rate": "fast"}, {"rate": 0}, {"rate": "5/day"}, {"rate": -1}, {"max_in_flight": 0}, {"max_in_flight": 1.5}],
)
def test_limits_that_do_not_fit_are_refused(app: Blazing, limits: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        app.step(same, **limits)


def test_progress_of_a_running_operation_is_seen_from_elsewhere(
    app: Blazing, url: str, worker: Worker, tmp_path: Path
) -> None:
    op = app.step(report).enqueue(str(tmp_path / "go"))
    done, total, text = until(lambda: op.progress)
    assert (done >= 1, total, text) == (True, 1000, "at <it>")
    with Blazing(app.app_id, url=url) as other:
        until(lambda: other.attach(op.id).progress[0] > done)
        until(lambda: other.attach(op.id).status is Status.RUNNING)
    (tmp_path / "go").touch()
    assert op.result(10) == "done"
    assert app.step(same).enqueue(1).progress is None


def test_the_history_of_an_operation_tells_every_attempt(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(flaky, retries=3, backoff=0.01).enqueue(str(tmp_path / "ran"), 3)
    assert op.result(10) == 3
    frame = op.history()
    assert list(frame["event"]) == ["enqueued", *["claimed", "retried"] * 2, "claimed", "started", "succeeded"]
    assert list(frame["attempt"]) == [0, 1, 1, 2, 2, 3, 3, 3]
    assert frame["at"].is_monotonic_increasing
    assert set(frame["worker"]) == {"", worker.worker_id}
    assert list(frame["error"].loc[lambda e: e != ""]) == ["OSError: attempt 1", "OSError: attempt 2"]
    assert str(frame["at"].dt.tz) == "UTC"


def test_the_history_of_what_still_runs_and_of_what_was_cancelled(
    app: Blazing, url: str, worker: Worker, tmp_path: Path
) -> None:
    running = app.step(nap_marked).enqueue(str(tmp_path / "ran"), 0.5)
    begun(tmp_path / "ran")
    assert list(running.history()["event"]) == ["enqueued", "claimed"]
    step = app.step(same)
    step.pause()
    op = step.enqueue(1)
    op.cancel()
    assert list(op.history()["event"]) == ["enqueued", "cancelled"]
    running.result(10)


def test_a_value_that_was_put_is_passed_by_reference_at_any_depth(app: Blazing, worker: Worker) -> None:
    big = np.arange(500_000)
    ref = app.put(big)
    assert app.put(np.arange(500_000)) == ref
    total = app.step(lambda x, more: int(x.sum() + more["also"][0].sum()), name="total")
    assert total.enqueue(ref, {"also": [ref]}).result(10) == 2 * int(big.sum())
    assert np.array_equal(app.get(ref), big)
    assert app.step(same).enqueue(app.put({"plain": [1, 2]})).result(10) == {"plain": [1, 2]}
    assert "500000" not in repr(ref)
    assert len(repr(ref).splitlines()) == 1


def test_a_reference_that_is_gone_or_another_apps_says_so(app: Blazing, url: str, worker: Worker) -> None:
    ref = app.put([1, 2, 3])
    app.store.connection().call("DEL", app.store.keys.blob(ref.digest))
    with pytest.raises(errors.ReferenceUnknown, match="retention"):
        app.get(ref)
    with pytest.raises(errors.ReferenceUnknown, match="retention"):
        app.step(same).enqueue(ref).result(10)
    with Blazing(app.app_id + "-other", url=url) as other:
        foreign = other.put([1])
        with pytest.raises(errors.ReferenceUnknown):
            app.get(foreign)
    with pytest.raises(errors.UsageError):
        app.get("text")  # type: ignore[arg-type]


def test_a_value_that_was_altered_in_the_store_is_refused(app: Blazing, worker: Worker) -> None:
    ref = app.put({1, 2, 3})
    key = app.store.keys.blob(ref.digest)
    data = bytearray(app.store.connection().call("GET", key))
    data[-2] ^= 1
    app.store.connection().call("SET", key, bytes(data))
    with pytest.raises(errors.SignatureRefused):
        app.step(same).enqueue(ref).result(10)


def test_frames_and_arrays_travel_both_ways_and_can_be_written_to(app: Blazing, worker: Worker) -> None:
    frame = pd.DataFrame({"x": np.arange(1000.0), "name": [f"n{i}" for i in range(1000)]})
    back = app.step(same).enqueue(frame).result(10)
    pd.testing.assert_frame_equal(back, frame)
    back.loc[0, "x"] = 5.0

    def double(array: Any) -> Any:
        array *= 2
        return array

    assert np.array_equal(app.step(double).enqueue(np.arange(10)).result(10), np.arange(10) * 2)


def test_operations_are_listed_by_status_step_and_time(app: Blazing, url: str, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=url).start()
    app.step(same).map(range(300)).results(10)
    bad = app.step(failing).map(["<b>one</b>", "two"])
    bad.wait(10)
    worker.close()
    app.step(same, name="later").options(delay=600).enqueue(1)
    waiting = app.step(same).map(range(7))
    assert len(app.operations(limit=1000)) == 310
    assert len(app.operations("SUCCEEDED", step="same", limit=1000)) == 300
    assert {row.op.text for row in app.operations(Status.FAILED)} == {op.id for op in bad}
    assert [row.status for row in app.operations(step="later")] == [Status.SCHEDULED]
    assert {row.op.text for row in app.operations("PENDING")} == {waiting[i].id for i in range(7)}
    assert len(app.operations(since=3600.0, limit=1000)) == 302
    frame = app.operations(Status.FAILED).to_frame()
    assert sorted(frame["error"]) == ["ValueError: <b>one</b>", "ValueError: two"]
    assert "<b>" not in app.operations(Status.FAILED)._repr_html_()
    first = app.operations("SUCCEEDED", limit=200)
    second, third = first.more(), first.more()
    assert (len(first), len(second), len(third)) == (200, 100, 0)
    assert len({row.op for page in (first, second) for row in page}) == 300
    for wrong in ({"status": "GONE"}, {"limit": 0}, {"since": "yesterday"}):
        with pytest.raises(errors.UsageError):
            app.operations(**wrong)


def test_dead_letters_are_shown_and_retried_once(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    step, marker = app.step(fails_while), tmp_path / "broken"
    marker.touch()
    batch = step.starmap([(str(marker), x) for x in range(5)])
    batch.wait(10)
    failed = app.failed()
    assert len(failed) == 5
    assert set(failed.to_frame()["error"]) == {f"OSError: {x} is not possible now" for x in range(5)}
    assert len(failed.retry(dry_run=True)) == 0
    assert len(app.failed("fails_while")) == 5
    marker.unlink()
    one = batch[3].retry()
    assert one.result(10) == 9
    assert batch[3].retry() == one != batch[3]
    assert batch[3].status is Status.FAILED
    again = app.failed().retry()
    assert sorted(again.results(10)) == [0, 1, 4, 16]
    assert len(app.failed()) == 0
    with pytest.raises(errors.NotRetryable):
        one.retry()


def test_a_retry_keeps_signed_arguments_and_a_key(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    marker = tmp_path / "broken"
    marker.touch()

    def total(path: Any, values: set[int]) -> int:
        if path.exists():
            raise OSError("not now")
        return sum(values)

    step = app.step(total)
    ops = [step.enqueue(marker, {1, 2}), step.options(key="once").enqueue(marker, {3, 4})]
    for op in ops:
        assert isinstance(op.exception(10), OSError)
    again = [op.retry() for op in ops]
    assert [isinstance(op.exception(10), OSError) for op in again] == [True, True]
    marker.unlink()
    assert [op.retry().result(10) for op in again] == [3, 7]


def test_a_batch_is_forgotten_only_when_it_is_done(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    step.pause()
    batch = step.map(range(300), name="run")
    with pytest.raises(errors.BatchUnfinished, match="300 of 300"):
        batch.forget()
    step.resume()
    assert batch.results(10) == list(range(300))
    assert [batch.forget(), batch.forget()] == [300, 0]
    assert batch.results() == list(range(300))
    with pytest.raises(errors.BatchUnknown):
        app.attach("run")
    with pytest.raises(errors.OperationUnknown):
        app.attach(batch[0].id)


def test_an_endless_iterator_is_read_a_window_ahead(app: Blazing, worker: Worker) -> None:
    source = itertools.count()
    results = app.step(same).imap(source, window=100)
    assert list(itertools.islice(results, 1000)) == list(range(1000))
    results.close()  # type: ignore[attr-defined]
    assert next(source) <= 1000 + 100
    assert sorted(app.step(same).imap(range(50), window=8, ordered=False)) == list(range(50))
    assert list(app.step(same).imap([])) == []
    with pytest.raises(errors.UsageError):
        list(app.step(same).imap([1], window=0))


def test_a_dashboard_that_is_opened_later_sees_what_happened(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    for _ in range(3):
        step.map(range(50)).results(10)
        time.sleep(0.7)  # roll-ups are of whole seconds of the server's clock
    frame = app.roll_ups(60)
    assert (frame["enqueued"].sum(), frame["succeeded"].sum()) == (150, 150)
    assert len(frame) >= 2
    assert frame["at"].is_monotonic_increasing
    with pytest.raises(errors.UsageError):
        app.roll_ups(0)


def test_nothing_is_enqueued_when_memory_is_nearly_used_up_and_commits_still_pass(app_id: str) -> None:
    """R14: with noeviction."""
    from benchmarks.server import server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLAZING_HOME", "")
        with server(aof=False) as (url, _), Blazing(app_id, url=url) as app:
            step = app.step(same)
            batch = step.map([b"x" * 1000] * 2000)
            used, _ = app.store.memory()
            app.store.connection().call("CONFIG", "SET", "maxmemory", used)
            app.store._admission.allowance = 0
            with pytest.raises(errors.StoreFull) as caught:
                step.enqueue(b"y" * 1000)
            assert caught.value.limit == used
            worker = Worker(app_id, url=url).start()
            assert batch.results(20) == [b"x" * 1000] * 2000
            worker.close()
            snapshot = app.snapshot()
            assert (snapshot.waiting, snapshot.steps[0].enqueued, snapshot.finished) == (0, 2000, 2000)


def test_the_status_of_thousands_is_asked_in_few_calls(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    step.map(range(2000)).results(20)
    step.pause()
    batch = step.map(range(2500))
    assert app.statuses(batch[i] for i in range(2500)) == [Status.PENDING] * 2500
    known = batch[0].id
    assert app.statuses([known, known.rpartition("-")[0] + "-999999"]) == [Status.PENDING, None]
    with pytest.raises(errors.InvalidOperationId):
        app.statuses(["no id"])
    step.resume()
