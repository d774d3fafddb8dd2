"""The scripts of schedules: a tick is fired once, whoever comes, and every call twice is as once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from blazing_nb.errors import ScriptRefused
from blazing_nb.store import query, timetable
from blazing_nb.store.store import Store
from tests.store.test_script import T0


@pytest.fixture
def store(url: str, app_id: str) -> Iterator[Store]:
    made = Store(app_id, url)
    yield made
    made.close()


def define(store: Store, name: str = "s", version: str = "v1", due_ms: int = T0 + 1000, **options: int) -> bool:
    return timetable.schedule(store, name, version, "f", b"record", b"payload", due_ms=due_ms, now_ms=T0, **options)


def fire(store: Store, due_ms: int, ticks: list[int], next_ms: int, *, version: str = "v1", now_ms: int = T0) -> int:
    return timetable.tick(store, "s", version, due_ms, ticks, next_ms, now_ms=now_ms)


def entries(store: Store) -> list[dict[bytes, bytes]]:
    rows = store.connection().call("XRANGE", f"{store.keys.prefix}seg:f:n:@0", "-", "+")
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in rows]


def test_a_tick_is_fired_once_and_the_next_one_is_due(store: Store) -> None:
    define(store)
    assert timetable.upcoming(store, now_ms=T0 + 500) == (T0 + 500, [timetable.Due("s", T0 + 1000, b"record")])
    define(store, "later", due_ms=T0 + 9000)
    assert len(timetable.upcoming(store, now_ms=T0 + 500)[1]) == 1
    timetable.remove(store, "later")
    assert [fire(store, T0 + 1000, [T0 + 1000], T0 + 6000) for _ in range(3)] == [1, 0, 0]
    [entry] = entries(store)
    assert (entry[b"p"], entry[b"o"], entry[b"k"]) == (b"payload", b"f|@s", b"@s@%d" % (T0 + 1000))
    [row] = timetable.rows(store)
    assert row == timetable.Row("s", T0 + 6000, b"record", 1, T0 + 1000)
    assert store.snapshot(now_ms=T0).segments[0].waiting == 1


def test_a_tick_that_is_fired_again_after_a_rollback_is_the_same_operation(store: Store) -> None:
    define(store)
    fire(store, T0 + 1000, [T0 + 1000], T0 + 6000)
    timetable.postpone(store, "s", T0 + 1000)
    assert fire(store, T0 + 1000, [T0 + 1000, T0 + 2000], T0 + 6000) == 1
    assert [entry[b"k"] for entry in entries(store)] == [b"@s@%d" % (T0 + 1000), b"@s@%d" % (T0 + 2000)]


def test_many_workers_at_the_same_tick_fire_it_once(store: Store) -> None:
    define(store)
    fired: list[int] = []
    gate = threading.Barrier(8)

    def run() -> None:
        gate.wait(10)
        fired.append(fire(store, T0 + 1000, [T0 + 1000], T0 + 6000))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(fired) == [0] * 7 + [1]


def test_a_schedule_defined_again_goes_on_and_another_version_replaces_it(store: Store) -> None:
    assert [define(store), define(store, due_ms=T0 + 9000)] == [True, False]
    assert timetable.rows(store)[0].due_ms == T0 + 1000
    assert define(store, version="v2", due_ms=T0 + 9000)
    assert timetable.rows(store)[0].due_ms == T0 + 9000
    assert fire(store, T0 + 9000, [T0 + 9000], T0 + 10000, version="v1") == 0


def test_what_is_paused_or_removed_or_drains_is_not_fired(store: Store) -> None:
    define(store)
    assert [timetable.postpone(store, "s", 0), timetable.postpone(store, "s", 0)] == [True, True]
    assert timetable.rows(store)[0].due_ms is None
    assert fire(store, T0 + 1000, [T0 + 1000], T0 + 6000) == 0
    timetable.postpone(store, "s", T0 + 1000)
    store.connection().call("HSET", store.keys.meta, "draining", "1")
    assert fire(store, T0 + 1000, [T0 + 1000], T0 + 6000) == 0
    store.connection().call("HDEL", store.keys.meta, "draining")
    assert [timetable.remove(store, "s"), timetable.remove(store, "s")] == [True, False]
    assert fire(store, T0 + 1000, [T0 + 1000], T0 + 6000) == 0
    assert timetable.postpone(store, "s", T0) is False
    assert entries(store) == []
    assert timetable.rows(store) == []


def test_the_last_tick_leaves_a_schedule_that_is_never_due(store: Store) -> None:
    define(store, expires_ms=500)
    assert fire(store, T0 + 1000, [T0 + 1000], 0) == 1
    assert entries(store)[0][b"x"] == b"%d" % (T0 + 500)
    assert timetable.rows(store)[0].due_ms is None
    assert query.paused(store) == []


def test_what_does_not_fit_is_refused(store: Store) -> None:
    with pytest.raises(ScriptRefused, match="BZARG"):
        fire(store, T0, [T0] * 101, T0)
    with pytest.raises(ScriptRefused, match="BZARG"):
        timetable.postpone(store, "s", -2)
    with pytest.raises(ScriptRefused, match="BZARG"):
        define(store, name="")
