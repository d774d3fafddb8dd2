"""The same tests on other servers: `pytest --server valkey|sentinel|cluster TESTS`. Here a few of them, each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SCRIPTS, OPERATIONS = "store/test_script.py", "client/test_operation.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "files"),
    [("valkey", [SCRIPTS, OPERATIONS]), ("sentinel", [OPERATIONS]), ("cluster", [SCRIPTS, OPERATIONS])],
)
def test_the_tests_pass_on(server: str, files: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--server", server]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *(str(TESTS / file) for file in files)], env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
