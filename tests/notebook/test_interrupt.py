"""Ctrl-C at random moments of enqueue, map and wait, in a real kernel: no reply is crossed, nothing is stored twice.

BLAZING_INTERRUPTS says how many moments (60; 200 for the measurement).
"""

from __future__ import annotations

import collections
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing
from blazing_nb.client.decode import value_of
from tests.notebook.kernel import Kernel

MOMENTS = int(os.environ.get("BLAZING_INTERRUPTS", "60"))
SETUP = """
import itertools
numbers, asked, got = itertools.count(), [], []
@app.step
def echo(x):
    return x
def busy():
    print('go', flush=True)
    while True:
        one = next(numbers)
        asked.append(one)
        got.append((one, echo.enqueue(one).result(30)))
        many = [next(numbers) for _ in range(10)]
        asked.extend(many)
        got.extend(zip(many, echo.map(many).results(30)))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_interrupts_cross_no_reply_and_store_nothing_twice(
    url: str, app_id: str, worker_process: Any, blazing_home: Path, tmp_path: Path
) -> None:
    worker_process()
    kernel = Kernel({"BLAZING_HOME": str(blazing_home), "IPYTHONDIR": str(tmp_path)})
    chance = random.Random(7)
    try:
        kernel.run(f"%load_ext blazing_nb\n%blazing up --app {app_id} --url {url}")
        kernel.run(SETUP)
        for _ in range(MOMENTS):
            cell = kernel.begin("busy()")
            kernel.until(lambda cell=cell: kernel.text(cell))
            time.sleep(chance.uniform(0, 0.04))
            kernel.interrupt()
            assert kernel.end(cell) == "error"
            assert [error["ename"] for error in kernel.errors(cell)] == ["KeyboardInterrupt"]
            # The next cell works, and its answer is its own.
            assert kernel.value("(lambda n: (n, echo.enqueue(n).result(30)))(-1 - len(asked))[1] == -1 - len(asked)")
        assert kernel.value("[pair for pair in got if pair[0] != pair[1]]") == []
        asked, got = set(kernel.value("asked")), set(kernel.value("[a for a, _ in got]"))
    finally:
        kernel.close()
    stored = results(url, app_id)
    assert len(got) > MOMENTS
    assert got <= set(stored)
    assert [value for value, times in stored.items() if times > 1 and value >= 0] == []
    assert {value for value in stored if value >= 0} <= asked
    assert len(asked) - sum(value >= 0 for value in stored) <= 11 * MOMENTS  # at most what was interrupted


def results(url: str, app_id: str) -> collections.Counter[int]:
    """Every result in the store, once the queue is empty."""
    with Blazing(app_id, url=url) as app:
        assert app.drain(30).empty
        found: collections.Counter[int] = collections.Counter()
        page = app.operations(step="echo", limit=10_000)
        while len(page):
            ids = [row.op for row in page]
            for op, row in zip(ids, app.store.status(ids), strict=True):
                found[value_of(app, op, row.record)] += 1
            page = page.more()
        return found
