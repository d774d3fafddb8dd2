"""Laws of the outcome order (failures.md P1, P2, P3, P5, P7), and two orders that look right and are not."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from blazing_nb.core.lattice import RANK, Absent, ContentConflict, Final, Known, Live, Place, Retired, join, key
from blazing_nb.core.status import Status

small = st.integers(0, 2)
places = st.builds(Place, small, st.sampled_from(["a", "b"]), small, small, small)


def result_of(status: Status, place: Place) -> bytes:
    """P3: the key determines the content."""
    return f"{status}{place}".encode()


finals = st.builds(lambda s, p: Final(s, result_of(s, p), p), st.sampled_from(sorted(RANK)), places)
states: st.SearchStrategy[Known] = st.one_of(st.just(Absent()), st.builds(Live, places), finals, st.just(Retired()))


@given(states, states)
def test_join_is_commutative(a: Known, b: Known) -> None:
    assert join(a, b) == join(b, a)


@given(states, states, states)
def test_join_is_associative(a: Known, b: Known, c: Known) -> None:
    assert join(join(a, b), c) == join(a, join(b, c))


@given(states)
def test_join_is_idempotent_and_absent_is_its_unit(a: Known) -> None:
    assert join(a, a) == join(a, Absent()) == a


@given(states, states)
def test_join_never_goes_down(a: Known, b: Known) -> None:
    assert key(join(a, b)) >= key(a)


@given(finals, states)
def test_final_is_absorbing(final: Known, other: Known) -> None:
    assert isinstance(join(final, other), Final | Retired)


@given(st.lists(states, min_size=1, max_size=4), st.data())
def test_any_order_with_repetitions_converges(known: list[Known], data: st.DataObject) -> None:
    repeated = known + data.draw(st.lists(st.sampled_from(known), max_size=3))
    ends = {reduce(join, order) for order in permutations(repeated[:6])} if len(repeated) < 6 else set()
    ends.add(reduce(join, data.draw(st.permutations(repeated))))
    assert ends == {reduce(join, known)}


@given(places, places, st.sampled_from([s for s in RANK if s is not Status.SUCCEEDED]))
def test_a_success_anywhere_outranks_every_other_ending(a: Place, b: Place, other: Status) -> None:
    success = Final(Status.SUCCEEDED, b"value", a)
    assert join(success, Final(other, b"", b)) is success


def test_two_contents_at_one_place_are_an_error() -> None:
    with pytest.raises(ContentConflict) as caught:
        join(Final(Status.SUCCEEDED, b"1"), Final(Status.SUCCEEDED, b"2"))
    assert caught.value.left.result == b"1"


def test_attempt_before_phase_would_let_a_finished_operation_run_again() -> None:
    def wrong(a: Known, b: Known) -> Known:
        def order(known: Known) -> tuple[int, int]:
            place = getattr(known, "place", Place())
            return place.attempt, int(isinstance(known, Final))

        return a if order(a) >= order(b) else b

    pair = find(st.tuples(finals, st.builds(Live, places)), lambda p: isinstance(wrong(*p), Live))
    assert isinstance(join(*pair), Final)


def test_a_field_by_field_merge_would_mix_one_status_with_anothers_result() -> None:
    def wrong(a: Final, b: Final) -> Final:
        status = max(a.status, b.status, key=lambda s: (RANK[s], s))
        place = max(a.place, b.place)
        return Final(status, (a if place == a.place else b).result, place)

    def mixed(pair: tuple[Final, Final]) -> bool:
        merged = wrong(*pair)
        return merged.result != result_of(merged.status, merged.place)

    pair = find(st.tuples(finals, finals), mixed)
    assert not mixed((join(*pair), join(*pair)))  # type: ignore[arg-type]
