"""Laws of the shared values (failures.md P1, P2, P3, P4, P5), for every kind, over all deltas of its mutators."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blazing_nb.core import shared
from blazing_nb.core.shared import COUNTER, MAP, REGISTER, SET, Fields, join
from blazing_nb.errors import PayloadInvalid

WRITERS = st.integers(1, 3)
VALUES = st.sampled_from([b"", b"\0a", b"\0b b", b"\xff"])


def content(stamp: int, writer: int) -> bytes:
    """P3: (stamp, writer) determines the value."""
    return b"" if (stamp + writer) % 3 == 0 else b"v%d/%d" % (stamp, writer)


def element(writer: int, n: int) -> bytes:
    return b"e%d" % ((writer + n) % 3)


counts = st.builds(shared.count, WRITERS, st.integers(0, 2**60), st.integers(0, 5))
stamps = st.integers(1, 12)
additions = st.builds(lambda w, n: shared.add(w, n, element(w, n)), WRITERS, st.integers(1, 12))
removals = st.builds(lambda w, n: shared.discard([b"%d-%d" % (w, n)]), WRITERS, st.integers(1, 12))


def writes(keys: list[str]) -> st.SearchStrategy[Fields]:
    return st.builds(lambda k, s, w: shared.write(k, s, w, content(s, w)), st.sampled_from(keys), stamps, WRITERS)


DELTAS = {COUNTER: counts, SET: additions | removals, REGISTER: writes([""]), MAP: writes(["a", "b", "ü:|"])}
kinds = pytest.mark.parametrize("kind", DELTAS)


def states(kind: str) -> st.SearchStrategy[Fields]:
    return st.lists(DELTAS[kind], max_size=5).map(lambda deltas: reduce(lambda a, b: join(kind, a, b), deltas, {}))


def value(kind: str, state: Fields) -> object:
    """As a reader sees it."""
    if kind == COUNTER:
        return shared.total(state)
    return set(shared.additions(state).values()) if kind == SET else shared.written(state)


@kinds
@given(data=st.data())
def test_join_is_commutative_associative_and_idempotent(kind: str, data: st.DataObject) -> None:
    a, b, c = (data.draw(states(kind)) for _ in range(3))
    assert join(kind, a, b) == join(kind, b, a)
    assert join(kind, join(kind, a, b), c) == join(kind, a, join(kind, b, c))
    assert join(kind, a, a) == join(kind, a, {}) == a


@kinds
@given(data=st.data())
def test_a_mutator_joins_its_delta_and_never_goes_down(kind: str, data: st.DataObject) -> None:
    state, delta = data.draw(states(kind)), data.draw(DELTAS[kind])
    after = join(kind, state, delta)
    assert join(kind, after, state) == join(kind, after, delta) == after


@kinds
@given(data=st.data())
def test_any_order_of_deltas_with_repetitions_converges(kind: str, data: st.DataObject) -> None:
    deltas = data.draw(st.lists(DELTAS[kind], min_size=1, max_size=7))
    repeated = deltas + data.draw(st.lists(st.sampled_from(deltas), max_size=4))
    ends = [reduce(lambda a, b: join(kind, a, b), data.draw(st.permutations(repeated)), {}) for _ in range(3)]
    ends.append(reduce(lambda a, b: join(kind, a, b), deltas, {}))
    assert all(a == b for a, b in pairwise(ends))
    assert all(value(kind, a) == value(kind, b) for a, b in pairwise(ends))


@kinds
@given(data=st.data())
def test_three_replicas_that_meet_at_random_converge(kind: str, data: st.DataObject) -> None:
    """P6: each goes on by itself; now and then one hears of another."""
    replicas: list[Fields] = [{}, {}, {}]
    for _ in range(data.draw(st.integers(1, 8))):
        i, j = data.draw(st.permutations([0, 1, 2]))[:2]
        news = data.draw(DELTAS[kind]) if data.draw(st.booleans()) else replicas[j]
        replicas[i] = join(kind, replicas[i], news)
    healed = [join(kind, join(kind, a, b), c) for a, b, c in permutations(replicas)]
    assert all(state == healed[0] for state in healed)


@given(st.lists(st.tuples(WRITERS, st.integers(-9, 9))))
def test_a_counter_is_the_sum_of_what_was_added(steps: list[tuple[int, int]]) -> None:
    state: Fields = {}
    totals = {writer: [0, 0] for writer in (1, 2, 3)}
    for writer, by in steps:
        totals[writer][by < 0] += abs(by)
        state = join(COUNTER, state, shared.count(writer, *totals[writer]))
    assert shared.total(state) == sum(by for _, by in steps)


def test_an_addition_that_the_remover_had_not_seen_stays() -> None:
    first, second = shared.add(1, 1, b"x"), shared.add(2, 1, b"x")
    removed = join(SET, first, shared.discard(shared.additions(first)))
    assert shared.additions(removed) == {}
    assert shared.additions(join(SET, removed, second)) == {b"2-1": b"x"}
    assert shared.additions(join(SET, removed, first)) == {}, "what was removed does not come back by a late delta"


def test_who_writes_later_wins_whatever_came_between() -> None:
    state = shared.write("", 1, 9, b"a")
    later = shared.write("", shared.stamp_of(state, "") + 1, 2, b"b")
    assert shared.written(join(REGISTER, later, state)) == {"": b"b"}
    assert shared.written(join(REGISTER, later, shared.write("", 3, 1, b""))) == {}


@pytest.mark.parametrize("value", [b"", b"1", b"1 2", b"x 1 v"])
def test_what_is_no_register_is_refused(value: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        join(REGISTER, {b"v:": value}, {b"v:": b"1 1 x"})
