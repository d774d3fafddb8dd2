"""Every deliberate bug is noticed by a test of the scripts; the line says by which."""

from __future__ import annotations

from pathlib import Path

import pytest

from blazing_nb.store import script
from tests.fault.mutant import MUTANTS, killer

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_dies(name: str) -> None:
    found = killer(name)
    assert found is not None, f"{name} survived"
    print(f"{name}: {found}")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_one_change_of_the_scripts_as_they_are(name: str) -> None:
    mutant = MUTANTS[name]
    assert script._source(mutant.file).count(mutant.right) >= 1
    assert mutant.right != mutant.wrong
