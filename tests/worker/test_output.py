"""What steps print, on worker processes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, errors
from tests.condition import until


def chatty(x: int) -> int:
    print("out", x)
    print("err", x, file=sys.stderr)
    warnings.warn("careful", UserWarning, stacklevel=1)
    logging.getLogger("chatty").info("logged %d", x)
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
        assert batch[i].logs(stream="stdout") == f"out {i}\n"
        assert batch[i].logs(stream="log") == f"INFO chatty: logged {i}\n"
        error = batch[i].logs(stream="stderr")
        assert error.startswith(f"err {i}\n")
        assert error.count("UserWarning: careful") == 1  # each operation has its own
    with pytest.raises(errors.UsageError, match="stdout, stderr, log"):
        batch[0].logs(stream="out")
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


async def noted(x: int) -> int:
    logging.getLogger("mine").warning("before <%d>", x)
    await asyncio.sleep(0.01)
    if x == 3:
        raise ValueError(x)
    return x


@pytest.mark.parametrize("lane", ["async", "thread", "process"])
def test_each_record_of_the_log_says_its_operation_and_attempt(app: Blazing, worker_process: Any, lane: str) -> None:
    worker = worker_process("--log-format", "json", "--log-level", "debug", "--worker-id", "w1")
    if lane == "async":
        batch = app.step(noted).map(range(5))
    else:
        batch = app.step(lambda x: asyncio.run(noted(x)), name="noted", lane=lane).map(range(5))
    batch.wait(60)
    ops = {batch[i].id: i for i in range(5)}
    worker.wait_for_line(lambda line: "attempt 1 of" in line)
    rows = [json.loads(line) for line in worker.lines if line.startswith("{")]
    mine = [row for row in rows if row["logger"] == "mine"]
    assert {row["operation"]: row["message"] for row in mine} == {op: f"before <{i}>" for op, i in ops.items()}
    expected = {"level": "WARNING", "app": app.app_id, "worker": "w1", "step": "noted", "attempt": 1}
    assert all(expected.items() <= row.items() for row in mine)
    [failed] = [row for row in rows if "exception" in row]
    assert ops[failed["operation"]] == 3
    assert "ValueError: 3" in failed["exception"]
    assert all("operation" not in row for row in rows if row["logger"] == "blazing_nb.worker.heartbeat")


def test_the_text_log_says_it_too_and_levels_hold(app: Blazing, worker_process: Any) -> None:
    worker = worker_process("--log-level", "error")
    op = app.step(lambda: (logging.warning("not this"), logging.error("but this")), name="loud").enqueue()
    op.result(10)
    line = worker.wait_for_line(lambda line: "but this" in line)
    assert line.endswith(f"ERROR but this [{op.id} attempt 1]\n")
    assert "not this" not in "".join(worker.lines) + op.logs()


def test_output_that_could_not_be_stored_is_told_again() -> None:
    from blazing_nb.worker.current import Running
    from blazing_nb.worker.output import STDERR, STDOUT, Catcher

    catcher, told = Catcher(), []
    execution = Running("a", "s:n:n:1-1", 1, "", None)
    for stream, text in ((STDOUT, "a"), (STDOUT, "b"), (STDERR, "c"), (STDOUT, "d")):
        catcher.add(execution, stream, text)

    def refuse(rows: Any) -> None:
        told.append(list(rows))
        raise errors.StoreUnavailable

    with pytest.raises(errors.StoreUnavailable):
        catcher.tell(refuse)
    assert catcher
    catcher.tell(lambda rows: told.append(list(rows)))
    assert (
        told[0]
        == told[1]
        == [
            ("s:n:n:1-1", 1, i, s, t)
            for i, (s, t) in enumerate((("stdout", "ab"), ("stderr", "c"), ("stdout", "d")), 1)
        ]
    )
    assert not catcher


def test_a_step_puts_a_large_result_and_returns_its_reference(app: Blazing, worker_process: Any) -> None:
    def large(n: int) -> Any:
        from blazing_nb import current

        return current().put(bytes(n), retention=60)

    worker_process()
    ref = app.step(large).enqueue(2 << 20).result(20)
    assert app.get(ref) == bytes(2 << 20)
    key = app.store.keys.blob(ref.digest)
    assert 0 < app.store.connection().call("PTTL", key) <= 60_000

    def never(n: int) -> Any:
        from blazing_nb import current

        return current().put(n, retention=0)

    with pytest.raises(errors.UsageError, match="1 second at least"):
        app.step(never).enqueue(1).result(20)
