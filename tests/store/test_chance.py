"""Our random numbers are ours."""

from __future__ import annotations

import os
import random

import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.store.chance import CHANCE


def same(x: int) -> int:
    return x


def test_what_a_notebook_draws_is_not_disturbed(app: Blazing, url: str) -> None:
    random.seed(7)
    before = random.getstate()
    worker = Worker(app.app_id, url=url).start()
    assert app.step(same).map(range(100)).results(20) == list(range(100))
    worker.close()
    assert random.getstate() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_draws_other_numbers() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, CHANCE.getrandbits(64).to_bytes(8, "big"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert int.from_bytes(os.read(reading, 8), "big") != CHANCE.getrandbits(64)
