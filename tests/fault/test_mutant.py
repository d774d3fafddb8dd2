"""Every deliberate bug is noticed by a test of the scripts; the line says by which."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blazing_nb.store import script
from tests.fault.mutant import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_dies(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.fault.mutant", "tests/store/test_script.py"]
    environment = {**os.environ, "BLAZING_MUTANT": name}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=100, check=False)
    assert done.returncode == 1, f"{name} survived:\n{done.stdout}"
    killed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert killed, done.stdout
    print(f"{name}: {killed[0]}")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_one_change_of_the_scripts_as_they_are(name: str) -> None:
    mutant = MUTANTS[name]
    assert script._source(mutant.file).count(mutant.right) >= 1
    assert mutant.right != mutant.wrong
