"""What steps print, on worker processes."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, errors
from tests.worker.test_death import until


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    with Blazing(app_id, url=url, node_id="n1") as made:
        yield made


def chatty(x: int) -> int:
    print("out", x)
    print("err", x, file=sys.stderr)
    warnings.warn("careful", UserWarning, stacklevel=1)
    return x


async def chatty_async(x: int) -> int:
    print("before", x)
    await asyncio.sleep(0.02)
    print("after", x)
    return x


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_what_a_step_prints_is_with_its_operation(app: Blazing, worker_process: Any, lane: str) -> None:
    worker = worker_process()
    batch = app.step(chatty, lane=lane).map(range(20))
    assert batch.results(60) == list(range(20))
    for i in range(20):
        text = batch[i].logs()
        assert text.startswith(f"out {i}\nerr {i}\n")
    assert any("UserWarning: careful" in batch[i].logs() for i in range(20))
    assert not [line for line in worker.lines if line.startswith(("out", "err"))]


def test_coroutines_that_take_turns_do_not_mix_their_output(app: Blazing, worker_process: Any) -> None:
    worker_process()
    batch = app.step(chatty_async).map(range(50))
    batch.results(20)
    assert [batch[i].logs() for i in range(50)] == [f"before {i}\nafter {i}\n" for i in range(50)]


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_output_is_followed_while_it_runs(app: Blazing, worker_process: Any, tmp_path: Path, lane: str) -> None:
    def speak(path: str) -> None:
        import pathlib

        print("first")
        while not pathlib.Path(path).exists():
            time.sleep(0.01)
        print("last")

    worker_process()
    op = app.step(speak, lane=lane).enqueue(str(tmp_path / "go"))
    parts = op.logs(follow=True, timeout=30)
    text = ""
    while text != "first\n":
        text += next(parts)
    assert not op.done()
    (tmp_path / "go").touch()
    assert "".join(parts) == "last\n"
    assert op.logs() == "first\nlast\n"


def test_following_ends_after_its_timeout(app: Blazing) -> None:
    with pytest.raises(errors.OperationTimeout):
        list(app.step(chatty).enqueue(1).logs(follow=True, timeout=0.3))


def test_output_is_capped_and_of_every_attempt(app: Blazing, worker_process: Any) -> None:
    def flood(x: int) -> None:
        from blazing_nb import current

        print(f"attempt {current().attempt}")
        for _ in range(1000):
            print("x" * 999)
        if current().attempt == 1:
            raise OSError

    worker_process()
    op = app.step(flood, retries=1, backoff=0.01).enqueue(1)
    op.result(20)
    text = op.logs()
    assert text.count("attempt") == 2
    assert text.count("was cut off") == 2
    assert len(text) < 2 * 70_000


def test_output_goes_with_its_operation(app: Blazing, worker_process: Any) -> None:
    worker_process()
    op = app.step(chatty).options(retention=1).enqueue(1)
    op.result(10)
    key = f"{app.store.keys.prefix}log:{op.id}"
    left = app.store.connection().call("PTTL", key)
    assert 0 < left <= 1000
    assert app.store.connection().call("EXISTS", f"{app.store.keys.prefix}marks") == 0
    until(lambda: op.logs() == "")


def test_a_worker_in_this_process_leaves_its_output_alone(app: Blazing, url: str, capsys: Any) -> None:
    from blazing_nb import Worker

    worker = Worker(app.app_id, url=url).start()
    op = app.step(lambda: print("here"), name="here").enqueue()
    op.result(10)
    assert (op.logs(), capsys.readouterr().out) == ("", "here\n")
    worker.close()
