"""The checker finds what it shall find: each history here breaks one invariant; the first breaks none."""

from __future__ import annotations

from typing import Any

import pytest

from blazing_nb.store import script
from tests.fault import trace, zombie
from tests.fault.checker import Checker

SEG = "f:n:n1"
Event = list[Any]


def enqueue(n: int = 1, first: int = 1, segment: str = SEG) -> Event:
    return ["enqueued", 0, segment, "5", first, n]


def claim(counter: int, number: int = 1, worker: str = "a.7", now: int = 1, segment: str = SEG) -> Event:
    return ["claimed", now, worker, [[segment, number, [f"5-{counter}"]]]]


def finish(counter: int, head: str = "S7-1") -> Event:
    return ["finished", 2, SEG, [[f"5-{counter}", head]]]


def rescue(counter: int = 1, now: int = 50) -> list[Event]:
    return [
        ["gave_up", now, "a.7", 40],
        ["died", now, SEG, f"5-{counter}", "a.7"],
        ["parked", now, SEG, f"5-{counter}"],
    ]


JOIN = "j:d:n1"


def join(counter: int) -> list[Event]:
    """It awaits that 1 and 2 succeed."""
    waits = ["awaits", 0, JOIN, f"5-{counter}", [[2, 2, "S", "F"]], [[1, SEG, "5", 1, 2]]]
    return [["enqueued", 0, JOIN, "5", counter, 1], waits]


def check(*events: Event) -> list[str]:
    checker = Checker()
    for event in events:
        checker.see(event)
    checker.finish()
    return [violation.partition(":")[0] for violation in checker.violations]


def test_a_join_may_go_on_once_what_it_awaits_has_succeeded_and_ends_where_it_cannot() -> None:
    go = [enqueue(2), *join(3), claim(1), finish(1), claim(2), finish(2), claim(3, segment=JOIN)]
    assert check(*go, ["finished", 2, JOIN, [["5-3", "S7-1"]]]) == []
    end = [enqueue(2), *join(3), claim(1), finish(1, "F7-1"), ["finished", 2, JOIN, [["5-3", "F0-0"]]]]
    assert check(*end, claim(2), finish(2)) == []


def test_a_good_history_has_no_violation() -> None:
    history = [enqueue(2), claim(1), *rescue(), claim(2, worker="b.8", now=51), claim(1, 2, "b.8", now=52)]
    assert check(*history, finish(1, "S8-2"), finish(2, "F8-1")) == []


@pytest.mark.parametrize(
    ("broken", "history"),
    [
        ("I1", [enqueue(2), claim(1), finish(1)]),
        ("I2", [claim(1)]),
        ("I2", [finish(1)]),
        ("I2, I18", [enqueue(), claim(1), finish(1), enqueue(), claim(1), finish(1)]),
        ("I3", [enqueue(), claim(1), finish(1), finish(1)]),
        ("I4", [enqueue(), claim(1), finish(1, "S8-1")]),
        ("I4", [enqueue(), claim(1), *rescue(), claim(1, 2, "b.8", 60), finish(1, "S7-1")]),
        ("I4", [enqueue(), claim(1), ["fenced", 2, SEG, "5-1", "7-1;"], finish(1)]),
        ("I5, I6", [enqueue(), claim(1, 3), finish(1, "S7-3")]),
        ("I7", [enqueue(), claim(1), claim(1, 2, "b.8"), finish(1, "S8-2")]),
        ("I12", [enqueue(2), claim(2), claim(1), finish(1), finish(2)]),
        ("I14", [enqueue(), claim(1), claim(1, now=45), *rescue(), claim(1, 3, "b.8", 60), finish(1, "S8-3")]),
        ("I14", [enqueue(9), claim(1), *rescue(), *(claim(i, 1, "b.8", 60 + i) for i in range(2, 10))]),
        ("I11", [enqueue(2), *join(3), claim(1), finish(1), claim(3, segment=JOIN)]),
        ("I11", [enqueue(2), *join(3), ["finished", 2, JOIN, [["5-3", "F0-0"]]]]),
        ("I3", [enqueue(), claim(1), finish(1), ["fenced", 3, SEG, "5-1", "7-1;"]]),
        ("I3", [enqueue(), claim(1), *[["followed", 1, SEG, "5-1", "7-1;", "1|z:n:@0:9-1"]] * 2, finish(1)]),
        ("I4", [enqueue(), claim(1), ["suspended", 1, SEG, "5-1", 1, "8-1;"]]),
        (
            "W14",
            [
                enqueue(2),
                claim(1),
                *rescue(),
                claim(1, 2),
                *rescue(),
                ["claimed", 90, "b.8", [[SEG, 3, ["5-1", "5-2"]]]],
            ],
        ),
        ("W17", [enqueue(), claim(1), ["asked", 0, SEG, "5-1"], ["parked", 9, SEG, "5-1"], claim(1, 2, now=10)]),
        ("pause", [enqueue(), ["paused", 0, "f", 1], claim(1)]),
        ("deadline", [["enqueued", 0, SEG, "5", 1, 1, 40], claim(1, now=41)]),
        ("cap", [["enqueued", 0, SEG, "5", 1, 3, 0, 2]]),
        ("the clock went back from 9.0 to 1.0", [["enqueued", 9, SEG, "5", 1, 1], claim(1)]),
        ("I2", [["ticked", 0, "@s@1"], ["ticked", 0, "@s@1"]]),
        ("I15", [enqueue(), enqueue(20, 1, "f:n:n2"), *(claim(i, segment="f:n:n2") for i in range(1, 21))]),
    ],
)
def test_a_bad_history_is_found(broken: str, history: list[Event]) -> None:
    assert broken in check(*history)


def test_ten_live_claims_do_not_let_a_zombie_commit(url: str, app_id: str) -> None:
    report = zombie.run(url, app_id, 2000)
    assert (report["refused"], report["applied"]) == (2000, 0)
    assert report["accepted"] == report["operations"] == 1100
    assert report["committed_by_their_holder"] == 1000


@pytest.mark.parametrize("file", sorted({point[0] for point in trace.POINTS}))
def test_each_witness_has_its_place_in_the_scripts_as_they_are(file: str) -> None:
    assert trace.witnessed(file, script._source(file)).count("witness(") == sum(at == file for at, *_ in trace.POINTS)
