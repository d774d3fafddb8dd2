"""Readings: what happened between moments, from roll-ups and snapshots."""

from __future__ import annotations

from blazing_nb.core.reading import quantiles, rate, rates, reading_of, readings, spread
from blazing_nb.core.snapshot import Snapshot, Step


def snapshot(at_s: int, *steps: Step) -> Snapshot:
    return Snapshot("a", at_s * 1000, [], list(steps), [])


def test_steps_are_added_and_put_in_order_though_their_roll_ups_were_written_late() -> None:
    recorded = [("a", 10, {"enqueued": 5}), ("a", 20, {"enqueued": 9}), ("b", 12, {"enqueued": 3, "w40": 3})]
    found = readings(recorded, snapshot(30, Step("a", enqueued=9), Step("b", enqueued=4, wait={40: 4})))
    assert [row.at_ms for row in found] == [11_000, 13_000, 21_000, 30_000]
    assert [row.totals["enqueued"] for row in found] == [8, 8, 12, 13]
    assert [row.latencies is not None for row in found] == [False, True, False, True]
    assert spread(found[1], found[3])["wait"] == {40: 1}


def test_a_step_that_was_still_all_the_time_makes_no_jump() -> None:
    found = readings([("a", 10, {"enqueued": 5})], snapshot(30, Step("a", enqueued=5), Step("old", enqueued=10**6)))
    assert {row.totals["enqueued"] for row in found} == {10**6 + 5}


def test_one_step_alone() -> None:
    found = readings([("a", 10, {"failed": 1}), ("b", 11, {"failed": 7})], snapshot(30, Step("b", failed=8)), "b")
    assert [row.totals["failed"] for row in found] == [7, 8]


def test_what_happened_after_a_silence_happened_in_its_last_second() -> None:
    recorded = [("a", 100, {"enqueued": 0}), ("a", 101, {"enqueued": 50}), ("a", 200, {"enqueued": 80})]
    rows = rates(readings(recorded, snapshot(201, Step("a", enqueued=80))), ["enqueued"], 201_000)
    assert rows[0] == [102_000, 50.0]
    assert rows[1:4] == [[103_000, 0.0], [200_000, 0.0], [201_000, 30.0]]


def test_what_is_old_is_a_mean_of_ten_seconds() -> None:
    recorded = [("a", second, {"enqueued": 10 * second}) for second in range(1000, 1500)]
    rows = rates(readings(recorded, snapshot(1500, Step("a", enqueued=15_000))), ["enqueued"], 1_500_000)
    assert len(rows) < 330
    assert all(row[1] == 10 for row in rows[1:-1])


def test_a_rate_needs_two_moments() -> None:
    a, b = reading_of(snapshot(1, Step("a", succeeded=5))), reading_of(snapshot(3, Step("a", succeeded=25)))
    assert rate(a, a, ["succeeded"]) == [0.0]
    assert rate(a, b, ["succeeded", "failed"]) == [10.0, 0.0]


def test_quantiles_of_nothing_are_none() -> None:
    assert quantiles({}) == [None, None, None]
    low, _, high = quantiles({40: 99, 60: 1})
    assert low is not None
    assert high is not None
    assert low < high
