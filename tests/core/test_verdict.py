"""When a group of a join is decided: laws of `core/join`, by all orders in which members can become final."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blazing_nb.core.join import Tally, verdict

LETTERS = st.lists(st.sampled_from("SSFCLX?"), min_size=1, max_size=6)
RULES = st.sampled_from([("S", "F"), ("S", "C"), ("*", ""), ("S", "")])


def tally(size: int, needed: int, rule: tuple[str, str]) -> Tally[int]:
    return Tally.begin(set(range(size)), min(needed, size), *rule)


@given(LETTERS, st.integers(1, 6), RULES, st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_the_verdict_does_not_depend_on_the_order(
    letters: list[str], needed: int, rule: tuple[str, str], one: object, other: object
) -> None:
    verdicts = []
    for shuffled in (one, other):
        group, order = tally(len(letters), needed, rule), list(enumerate(letters))
        shuffled.shuffle(order)  # type: ignore[attr-defined]
        for member, letter in order:
            group.tell(member, letter)
        verdicts.append(verdict([group]))
    assert verdicts[0] == verdicts[1] != ""


@given(LETTERS, st.integers(1, 6), RULES)
def test_what_is_told_again_counts_once_and_a_decision_stands(
    letters: list[str], needed: int, rule: tuple[str, str]
) -> None:
    group, decided = tally(len(letters), needed, rule), ""
    for member, letter in enumerate(letters):
        for _ in range(2):
            group.tell(member, letter)
            found = verdict([group])
            assert decided in ("", found)
            decided = found
    assert group.good + group.bad <= len(letters)


@given(LETTERS, st.integers(1, 6))
def test_it_goes_on_exactly_when_enough_succeed(letters: list[str], needed: int) -> None:
    group = tally(len(letters), needed, ("S", "F"))
    for member, letter in enumerate(letters):
        group.tell(member, letter)
    assert verdict([group]) == ("go" if letters.count("S") >= min(needed, len(letters)) else "F")


def test_a_member_that_goes_on_is_waited_for_where_it_is() -> None:
    group = tally(2, 2, ("S", "F"))
    group.move(0, 7)
    group.tell(0, "S")
    group.tell(1, "S")
    assert verdict([group]) == ""
    group.tell(7, "S")
    assert verdict([group]) == "go"
