"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_is_lost_or_committed_twice_under_faults() -> None:
    command = [sys.executable, "-m", "tests.fault.soak", "--ops", "4000", "--faults", "25", "--seed", "11", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["final"], report["double_commits"], report["stuck"]) == (4000, 0, 0)
    assert report["joins"] >= 10
    assert sum(report["faults"].values()) >= 25
