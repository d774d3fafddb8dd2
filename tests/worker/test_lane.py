"""Lanes, time-outs and the pulse: on real processes (failures.md W9, W16)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Cancel, Status, Worker, current, errors
from tests.client.test_option import same
from tests.condition import until
from tests.worker.test_death import hold_until, pids

LEASE = 1.0


@pytest.fixture
def worker(app: Blazing, url: str) -> Iterator[Worker]:
    made = Worker(app.app_id, url=url, processes=2).start()
    yield made
    made.close()


def pid_of(x: Any) -> tuple[int, Any]:
    return os.getpid(), x


def run_for(marker: str, seconds: float) -> str:
    """Says when it begins and whether it came to its end."""
    import pathlib
    import time

    with open(marker, "a") as file:
        file.write("begun\n")
    time.sleep(seconds)
    with open(marker, "a") as file:
        file.write("ended\n")
    return str(pathlib.Path(marker).name)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_process_step_runs_in_other_processes_with_all_that_a_step_can(app: Blazing, worker: Worker) -> None:
    step = app.step(pid_of, lane="process")
    ref = app.put([1, 2, 3])
    rows = step.map([ref, {1, 2}, "text", *range(20)]).results(60)
    assert [value for _, value in rows] == [[1, 2, 3], {1, 2}, "text", *range(20)]
    pids = {pid for pid, _ in rows}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert app.snapshot().steps[0].succeeded == 23


def test_an_exception_of_a_process_step_is_the_same_and_retried(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    marker = str(tmp_path / "ran")

    def flaky(path: str) -> int:
        with open(path, "a") as file:
            file.write("x\n")
        if current().attempt < 3:
            raise KeyError(f"attempt {current().attempt}")
        return current().attempt

    op = app.step(flaky, lane="process", retries=3, backoff=0.01).enqueue(marker)
    assert op.result(60) == 3
    assert [error for _, _, error in op.failures()] == ["KeyError: 'attempt 1'", "KeyError: 'attempt 2'"]


def test_a_process_that_dies_fails_its_attempt_with_the_reason_and_not_its_worker(app: Blazing, worker: Worker) -> None:
    def crash(how: int) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV) if how else os._exit(7)

    step = app.step(crash, lane="process")
    for how, text in ((0, "exited with code 7"), (1, "SIGSEGV")):
        with pytest.raises(errors.ProcessDied, match=text):
            step.enqueue(how).result(60)
    assert app.step(same).enqueue(1).result(10) == 1
    assert app.step(pid_of, name="after", lane="process").enqueue(2).result(60)[1] == 2


def test_progress_of_a_process_step_is_seen(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    def report(path: str) -> None:
        import pathlib
        import time

        while not pathlib.Path(path).exists():
            current().progress(3, 7, "here")
            time.sleep(0.02)

    op = app.step(report, lane="process").enqueue(str(tmp_path / "go"))
    assert until(lambda: op.progress) == (3, 7, "here")
    (tmp_path / "go").touch()
    assert op.result(20) is None


def test_a_timed_out_process_is_killed_and_replaced(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    step, marker = app.step(run_for, lane="process", timeout=2.0), tmp_path / "ran"
    assert app.step(pid_of, lane="process").enqueue(0).result(60)
    with pytest.raises(errors.AttemptTimeout, match="killed"):
        step.enqueue(str(marker), 60.0).result(20)
    assert lines(marker) == ["begun"]
    assert step.options(timeout=30).enqueue(str(marker), 0.0).result(30) == "ran"


def test_a_cancelled_process_is_killed(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(run_for, lane="process").enqueue(str(tmp_path / "ran"), 60.0)
    until(lambda: lines(tmp_path / "ran"))
    until(lambda: op.status is Status.RUNNING)
    assert op.cancel() is Status.RUNNING
    with pytest.raises(errors.OperationCancelled):
        op.result(20)
    assert lines(tmp_path / "ran") == ["begun"]


def test_a_timed_out_coroutine_is_cancelled_and_counts_as_an_attempt(
    app: Blazing, worker: Worker, tmp_path: Path
) -> None:
    async def slow(path: str) -> None:
        with open(path, "a") as file:
            file.write("begun\n")
        await asyncio.sleep(60)

    op = app.step(slow, timeout=0.1, retries=1, backoff=0.01).enqueue(str(tmp_path / "ran"))
    with pytest.raises(errors.AttemptTimeout, match=r"0\.1 s"):
        op.result(20)
    assert (lines(tmp_path / "ran"), op.attempt) == (["begun"] * 2, 2)

    async def own(x: int) -> None:
        raise TimeoutError("of the step's own")

    with pytest.raises(TimeoutError, match="own"):
        app.step(own, timeout=10).enqueue(1).result(10)


def test_a_timed_out_thread_is_fenced_and_its_place_taken(app: Blazing, url: str, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=url, threads=1).start()
    marker = tmp_path / "ran"
    op = app.step(run_for, timeout=0.2).enqueue(str(marker), 1.5)
    with pytest.raises(errors.AttemptTimeout):
        op.result(10)
    assert lines(marker) == ["begun"]
    # The only thread is still busy with it: another has taken its place.
    assert app.step(same).map(range(50)).results(1.0) == list(range(50))
    until(lambda: lines(marker) == ["begun", "ended"])
    assert app.step(same).map(range(50)).results(10) == list(range(50))
    stats = {step.step: step for step in app.snapshot().steps}["run_for"]
    assert (stats.failed, stats.succeeded, stats.fenced, op.status) == (1, 0, 0, Status.FAILED)
    worker.close()


def test_a_thread_that_looks_at_cancelled_ends_after_its_timeout(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    marker = tmp_path / "stopped"

    def polite(path: str) -> None:
        while not current().cancelled:
            time.sleep(0.01)
        Path(path).touch()
        raise Cancel("it was time")

    with pytest.raises(errors.AttemptTimeout):
        app.step(polite, timeout=0.1).enqueue(str(marker)).result(10)
    until(marker.exists)


@pytest.mark.parametrize(
    ("kind", "lane"), [("sync", "async"), ("async", "thread"), ("async", "process"), ("sync", "x")]
)
def test_a_lane_that_does_not_fit_is_refused(app: Blazing, kind: str, lane: str) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(errors.UsageError, match="lane"):
        app.step(same if kind == "sync" else coroutine, lane=lane)


def hold_the_interpreter(marker: str, seconds: int) -> str:
    """A call into C that keeps the interpreter lock: no other thread of the process runs meanwhile."""
    import ctypes

    with open(marker, "a") as file:
        file.write("begun\n")
    ctypes.PyDLL(None).sleep(seconds)
    return "held"


async def block_the_loop(marker: str, seconds: float) -> str:
    import time

    with open(marker, "a") as file:
        file.write("begun\n")
    time.sleep(seconds)
    return "blocked"


@pytest.mark.parametrize("step", [hold_the_interpreter, block_the_loop])
def test_w9_a_step_that_holds_the_interpreter_keeps_its_lease(
    app: Blazing, worker_process: Any, tmp_path: Path, step: Any
) -> None:
    for _ in range(2):
        worker_process(lease=LEASE)
    op = app.step(step).enqueue(str(tmp_path / "ran"), 4)
    assert op.result(20) in ("held", "blocked")
    assert lines(tmp_path / "ran") == ["begun"]
    stats = app.snapshot().steps[0]
    assert (stats.rescued, stats.fenced, op.attempt) == (0, 0, 1)


def test_the_pulse_of_a_killed_or_stopped_worker_stops_too(app: Blazing, worker_process: Any, tmp_path: Path) -> None:
    killed, stopped = worker_process(lease=LEASE), worker_process(lease=LEASE)
    ops = app.step(run_for).starmap([(str(tmp_path / f"ran{i}"), 3.0) for i in range(2)])
    until(lambda: all(lines(tmp_path / f"ran{i}") for i in range(2)))
    killed.kill()
    stopped.send(signal.SIGSTOP)
    worker_process(lease=LEASE)
    until(lambda: app.snapshot().steps[0].rescued == 2, LEASE + 5)
    assert ops.results(20) == ["ran0", "ran1"]


def test_a_closed_worker_leaves_no_process(app: Blazing, url: str) -> None:
    import psutil

    def children() -> set[psutil.Process]:
        return set(psutil.Process().children(recursive=True))

    others = children()  # the session's servers, whatever tests ran before this one
    worker = Worker(app.app_id, url=url).start()
    assert app.step(pid_of, lane="process").enqueue(1).result(60)
    own = children() - others
    assert len(own) >= 2
    worker.close()
    _, alive = psutil.wait_procs(own, 10)
    left = [" ".join(process.cmdline()) for process in alive]
    assert [line for line in left if "resource_tracker" not in line] == []


def test_on_start_has_run_in_a_process_before_its_first_operation_and_fails_it_where_it_fails(
    app: Blazing, url: str, tmp_path: Path
) -> None:
    marker = str(tmp_path / "warm")

    @app.on_start
    def warm_up() -> None:
        import os

        with open(marker, "a") as file:
            file.write(f"{os.getpid()}\n")

    worker = Worker(app.app_id, url=url, processes=1).start()
    try:
        step = app.step(pid_of, lane="process")
        ran_in, _ = step.enqueue(1).result(60)
        assert step.enqueue(2).result(60)[0] == ran_in
        assert pids(tmp_path / "warm") == [os.getpid(), ran_in]

        @app.on_start
        def fails_in_processes() -> None:
            import multiprocessing

            if multiprocessing.parent_process() is not None:
                raise RuntimeError("no device here")

        with pytest.raises(RuntimeError, match="no device here"):
            step.enqueue(3).result(60)
    finally:
        worker.close()


def hold_or_not(released: str, marker: str) -> str:
    """At once where there is no marker, else as `hold_until`."""
    return hold_until(released, marker) if marker else ""


@pytest.mark.parametrize("before", [0, 3000], ids=["at first", "after short ones"])
def test_an_idle_worker_is_not_starved_by_what_another_claimed_ahead(
    app: Blazing, worker_process: Any, tmp_path: Path, before: int
) -> None:
    """2 workers of 4 threads, 8 operations: all begin, 4 in each, although the first had learnt to claim hundreds."""
    step, marker, go = app.step(hold_or_not), tmp_path / "ran", tmp_path / "go"
    first = worker_process("--threads", "4")
    step.starmap([("", "")] * before).results(60)
    second = worker_process("--threads", "4")
    batch = step.starmap([(str(go), str(marker))] * 8)
    until(lambda: len(pids(marker)) == 8)
    assert (pids(marker).count(first.pid), pids(marker).count(second.pid)) == (4, 4)
    go.touch()
    assert batch.wait(20)
    assert {batch[i].attempt for i in range(8)} == {1}
