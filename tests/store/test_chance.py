"""Our random numbers are ours."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from blazing_nb.store.chance import CHANCE

DRAWS = """
import random, sys
from operator import neg
from blazing_nb import Blazing, Worker

random.seed(7)
before = random.getstate()
with Blazing(sys.argv[1], url=sys.argv[2]) as app:
    worker = Worker(sys.argv[1], url=sys.argv[2]).start()
    assert app.step(neg).map(range(100)).results(20) == [-i for i in range(100)]
    worker.close()
assert random.getstate() == before
"""


def test_what_a_notebook_draws_is_not_disturbed(app_id: str, url: str) -> None:
    """In a process of its own: other threads of the tests draw too."""
    done = subprocess.run(
        [sys.executable, "-c", DRAWS, app_id, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_draws_other_numbers() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, CHANCE.getrandbits(64).to_bytes(8, "big"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert int.from_bytes(os.read(reading, 8), "big") != CHANCE.getrandbits(64)
