"""How workers end: signals, grace, what is given back, and what they are told through the store (failures.md W18)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status, Worker
from tests.condition import until
from tests.worker.test_death import hold_until, pids


async def wait_until(released: str, marker: str) -> str:
    """As `hold_until`, a coroutine."""
    with open(marker, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(released):
        await asyncio.sleep(0.01)
    return f"by {os.getpid()}"


async def work(marker: str, seconds: float) -> None:
    with open(marker, "a") as file:
        file.write("x\n")
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("lane", ["async", "process"])
def test_what_is_interrupted_at_the_end_of_the_grace_is_given_back_not_ended(
    app: Blazing, worker_process: Any, tmp_path: Path, lane: str
) -> None:
    step = app.step(wait_until) if lane == "async" else app.step(hold_until, lane="process")
    marker, go = tmp_path / "ran", tmp_path / "go"
    worker = worker_process("--grace", "0.2", "--processes", "2", lease=60.0)
    ops = [step.enqueue(str(go), str(marker)) for _ in range(2)]
    until(lambda: len(pids(marker)) == 2)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 1
    assert [op.status for op in ops] == [Status.RETRYING] * 2
    worker_process("--processes", "2", lease=60.0)
    until(lambda: len(pids(marker)) == 4)
    go.touch()
    assert all(op.result(20).startswith("by ") for op in ops)
    assert [op.attempt for op in ops] == [1, 1]


def test_enough_grace_executes_nothing_again(app: Blazing, worker_process: Any, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    worker = worker_process("--grace", "10", lease=60.0)
    batch = app.step(work).starmap([(str(marker), 0.5)] * 100)
    until(lambda: marker.exists() and len(marker.read_text().split()) == 100)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert batch.results(10) == [None] * 100
    stats = app.snapshot().steps[0]
    assert (len(marker.read_text().split()), stats.released, stats.rescued) == (100, 0, 0)


def test_too_little_grace_releases_all_at_once_and_another_claims_them(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    marker, go = tmp_path / "ran", tmp_path / "go"
    worker = worker_process("--grace", "0.2", lease=60.0)
    step = app.step(wait_until)
    batch = step.starmap([(str(go), str(marker))] * 100)
    until(lambda: len(pids(marker)) == 100)
    other = worker_process(lease=60.0)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 1
    until(lambda: pids(marker).count(other.pid) == 100, 10)
    go.touch()
    assert batch.results(20) == [f"by {other.pid}"] * 100
    stats = app.snapshot().steps[0]
    assert (stats.released, stats.rescued, stats.fenced) == (100, 0, 0)
    history = batch[0].history()
    assert list(history["event"])[:4] == ["enqueued", "claimed", "released", "claimed"]


def test_a_request_to_cancel_is_heard_by_a_worker_that_claims_nothing_more(
    app: Blazing, url: str, tmp_path: Path
) -> None:
    worker = Worker(app.app_id, url=url).start()
    try:
        op = app.step(wait_until).enqueue(str(tmp_path / "go"), str(tmp_path / "ran"))
        until((tmp_path / "ran").exists)
        worker.stop_accepting()
        op.cancel()
        until(lambda: op.status is Status.CANCELLED)
        assert worker.wait_for_completion(10)
    finally:
        worker.close()


def fork_and_hold(marker: str) -> None:
    """A process that it forks outlives its worker, and holds every descriptor open."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    with open(marker, "a") as file:
        file.write(f"{child}\n")
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_a_step_forked_does_not_keep_a_dead_workers_lease(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    worker = worker_process(lease=1.0)
    op = app.step(fork_and_hold).enqueue(str(marker))
    until(lambda: len(pids(marker)) == 1)
    os.kill(worker.pid, signal.SIGKILL)
    try:
        until(lambda: app.store.rescue() >= 0 and op.status is Status.RETRYING, 20)
    finally:
        os.kill(pids(marker)[0], signal.SIGKILL)


def test_a_worker_waits_for_a_server_that_is_not_there_yet(short_dir: Path, app_id: str, tmp_path: Path) -> None:
    from blazing_nb.store.candidate import find_binary
    from tests.conftest import Child, python_command

    socket = short_dir / f"late-{app_id}.sock"
    worker = Child(python_command("worker", "--app", app_id, "--url", f"unix://{socket}", "--patience", "60"))
    try:
        worker.wait_for_line(lambda line: "waiting for the store" in line)
        command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
        server = Child([*command, "--dir", str(tmp_path), "--save", "", "--appendonly", "no", "--logfile", ""])
        try:
            worker.wait_for_line(lambda line: line.startswith("ready"))
            with Blazing(app_id, url=f"unix://{socket}") as app:
                assert app.step(lambda x: x + 1, name="late").enqueue(1).result(20) == 2
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
        finally:
            server.kill()
    finally:
        worker.kill()


def test_patience_is_bounded(short_dir: Path, app_id: str) -> None:
    from tests.conftest import Child, python_command

    nowhere = f"unix://{short_dir}/nowhere.sock"
    worker = Child(python_command("worker", "--app", app_id, "--url", nowhere, "--patience", "0.5"))
    try:
        assert worker.wait() == 2
        worker.wait_for_line(lambda line: "blazing-nb:" in line)
    finally:
        worker.kill()
