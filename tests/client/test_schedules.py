"""Schedules through the public API, on real workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from blazing_nb import Blazing, Worker, current, errors
from blazing_nb.cli import main
from blazing_nb.core.codec import seal_always
from blazing_nb.core.signature import context
from blazing_nb.store import timetable
from tests.condition import until
from tests.conftest import WorkerFactory


def count(x: int = 1) -> int:
    current().effect.incr("runs", x)
    return x


@pytest.fixture
def three_workers(url: str, app: Blazing) -> Iterator[None]:
    made = [Worker(app.app_id, url=url).start() for _ in range(3)]
    yield
    for worker in made:
        worker.close()


def keys(app: Blazing) -> list[str]:
    """Of ticks: one an operation."""
    found = app.store.connection().call("KEYS", f"{app.store.keys.prefix}uniq:*".replace("[", "\\["))
    return sorted(key.decode().rpartition("@")[2] for key in found)


def test_each_tick_is_one_operation_however_many_workers(app: Blazing, three_workers: None) -> None:
    schedule = app.step(count).every(0.2, args=[1])
    until(lambda: app.schedules()["count"].fired >= 6, 20)
    schedule = schedule.pause()
    fired = schedule.fired
    assert until(lambda: app.shared().counter("runs").value == fired)
    ticks = [int(key) for key in keys(app)]
    assert len(ticks) == fired == app.snapshot().steps[0].enqueued
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {200}
    assert schedule.next is None
    assert schedule.resume().next is not None
    schedule.remove()
    assert app.schedules() == []
    with pytest.raises(errors.ScheduleUnknown):
        schedule.pause()


def test_ticks_go_on_without_a_gap_when_a_worker_is_killed(app: Blazing, worker_process: WorkerFactory) -> None:
    first, _ = worker_process(lease=1.0), worker_process(lease=1.0)
    app.step(count).every(0.2, missed="all")
    until(lambda: app.schedules()["count"].fired >= 4, 20)
    first.kill()
    fired = app.schedules()["count"].fired
    until(lambda: app.schedules()["count"].fired >= fired + 6, 20)
    app.schedules()["count"].pause()
    ticks = [int(key) for key in keys(app)]
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {200}
    assert until(lambda: app.shared().counter("runs").value == len(ticks), 20)


@pytest.mark.parametrize(("missed", "fired"), [("skip", 0), ("one", 1), ("all", 5)])
def test_ticks_that_nobody_fired_do_as_asked(app: Blazing, url: str, missed: str, fired: int) -> None:
    schedule = app.step(count).every("1h", missed=missed)
    hour = 3_600_000
    now = timetable.moment(app.store)
    # As if it had been defined five and a half hours ago, and no worker were there since.
    anchor = now - 5 * hour - hour // 2
    plan = schedule._plan
    moved = msgspec.structs.replace(plan, rule=msgspec.structs.replace(plan.rule, anchor_ms=anchor))
    ctx = context(app.app_id, "schedule", b"", "count")
    record = seal_always(msgspec.to_builtins(moved), "it", app.ring, ctx)
    app.store.connection().call("HSET", f"{app.store.keys.prefix}sched:count", "record", record)
    timetable.postpone(app.store, "count", anchor + hour)
    worker = Worker(app.app_id, url=url).start()
    until(lambda: (app.schedules()["count"].next or schedule.next) > datetime.now(UTC))
    until(lambda: app.shared().counter("runs").value == fired)
    worker.close()
    found = app.schedules()["count"]
    assert found.fired == fired
    assert found.next == datetime.fromtimestamp((anchor + 6 * hour) / 1000, UTC)


def test_a_cell_that_is_run_again_changes_nothing_and_another_rule_replaces_it(app: Blazing) -> None:
    step = app.step(count)
    first = step.cron("0 3 * * MON-FRI", tz="Europe/Berlin", name="nightly", args=[2])
    again = step.cron("0 3 * * MON-FRI", tz="Europe/Berlin", name="nightly", args=[2])
    assert (first.next, len(app.schedules())) == (again.next, 1)
    assert first.next is not None
    assert first.next.utcoffset() == timedelta(0)
    assert repr(first).startswith("<Schedule nightly: count 0 3 * * MON-FRI (Europe/Berlin), next 2")
    other = step.options(priority="high", expires=60).every(timedelta(hours=2), name="nightly")
    assert (other.rule, other.missed, len(app.schedules())) == ("every 7200 s", "one", 1)
    frame = app.schedules().to_frame()
    assert list(frame.columns) == ["name", "step", "rule", "missed", "next", "last", "fired"]
    assert "<table" in app.schedules()._repr_html_()


def test_objects_travel_signed_under_the_schedules_name(app: Blazing, three_workers: None) -> None:
    schedule = app.step(lambda when: when.isoformat(), name="iso").every(0.2, args=[datetime(2026, 1, 1)])
    [first] = until(lambda: [r for r in app.operations("SUCCEEDED", limit=1)], 20)[:1]
    schedule.remove()
    assert app.attach(first.op.text).result(10) == "2026-01-01T00:00:00"


def test_a_record_that_was_altered_fires_nothing(app: Blazing, three_workers: None, caplog: Any) -> None:
    step = app.step(count)
    step.every("1h", name="a")
    call, prefix = app.store.connection().call, app.store.keys.prefix
    call(
        "HSET",
        prefix + "sched:b",
        "record",
        call("HGET", prefix + "sched:a", "record"),
        "version",
        "x",
        "step",
        "count",
    )
    call("ZADD", prefix + "schedules", 1, "b")
    until(lambda: "schedule 'b' is not fired" in caplog.text)
    assert app.snapshot().steps[0].enqueued == 0
    with pytest.raises(errors.SignatureRefused):
        app.schedules()


@pytest.mark.parametrize("interval", ["5", "5 minutes", "1.2.3s", "0s", 0, -1, True, float("nan"), "400d", ""])
def test_what_is_no_interval_is_refused(app: Blazing, interval: Any) -> None:
    with pytest.raises(errors.UsageError, match="interval"):
        app.step(count).every(interval)
    assert app.schedules() == []


@pytest.mark.parametrize(
    ("expression", "options"),
    [
        ("every day", {}), ("61 * * * *", {}), ("", {}), ("0 0 31 2 *", {}), ("* * * * *", {"tz": "Mars/Olympus"}),
        ("* * * * *", {"tz": "../etc/passwd"}), ("* * * * *", {"missed": "some"}), ("* * * * *", {"name": "a:b"}),
        ("* * * * *", {"args": [1, 2]}),
    ],
)  # fmt: skip
def test_what_is_no_cron_expression_or_zone_is_refused(app: Blazing, expression: str, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        app.step(count).cron(expression, **options)
    with pytest.raises(errors.UsageError, match="no key="):
        app.step(count).options(key="k").cron("* * * * *")
    assert app.schedules() == []


def test_the_command_lists_pauses_and_removes(app: Blazing, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    app.step(count).every("1h", name="hourly")
    common = ["--app", app.app_id, "--url", url]
    assert main(["schedules", *common]) == 0
    assert main(["schedules", "pause", "hourly", *common]) == 0
    assert main(["schedules", "remove", "hourly", *common]) == 0
    assert main(["schedules", "remove", "hourly", *common]) == 2
    assert main(["schedules", "pause", *common]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert ["next" in lines[0], "paused" in lines[1], lines[2]] == [True, True, "no schedules"]
