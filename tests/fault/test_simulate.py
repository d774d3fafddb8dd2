"""A few dozen schedules of the simulation; thousands by hand: `python -m tests.fault.simulate --seeds 2000`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.simulate import World, search, witnesses

FATES = {"drop_request", "drop_reply", "delay", "double", "crash", "pause", "clock_jump", "fall_back", "reasserted"}


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, blazing_home: Path) -> None:
    monkeypatch.setenv("BLAZING_HOME", str(blazing_home))  # the simulation's server sets its own


def test_all_invariants_hold_in_every_schedule() -> None:
    """5: a claim that was executed late, after its worker had asked for what it did not know. 39: an operation that its
    worker claimed again after the store fell back, and brought twice in one commit. 1191: a commit repeated after its
    segment had gone."""
    found = search(range(16))
    assert found["violations"] == {}
    assert set(found["faults"]) == FATES
    assert found["executions"] > 1500
    assert search([5, 39, 1191], wide=False)["violations"] == {}


def test_what_the_wide_ones_found_holds() -> None:
    """20: what runs alone and needs a Python was given to another. 34: what was to be cancelled ran again where its
    worker gave it back."""
    assert search([20, 34])["violations"] == {}


def test_a_seed_is_a_schedule(url: str) -> None:
    with witnesses():
        first, again, other = (World(url, seed) for seed in (3, 3, 4))
        assert first.run() == again.run() == other.run() == []
    assert first.notes == again.notes != other.notes
    assert len(first.notes) > 20


@pytest.mark.parametrize("mutant", ["no_fence", "two_step_claim", "cap_ignored", "join_is_not_handed_on"])
def test_a_deliberate_bug_dies(mutant: str) -> None:
    assert search(range(20), mutant, first_only=True)["violations"]
