"""Workers that die, stop and come back, as real processes (failures.md W4, W8, W18, W20; I3, I4, I14)."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status
from tests.condition import until

LEASE = 1.5


def hold_until(released: str, marker: str) -> str:
    """Say that it runs, then wait for a file."""
    import os
    import pathlib

    with open(marker, "a") as file:
        file.write(f"{os.getpid()}\n")
    end = time.monotonic() + 60
    while not pathlib.Path(released).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return f"by {os.getpid()}"


def pids(marker: Path) -> list[int]:
    return [int(line) for line in marker.read_text().split()] if marker.exists() else []


def test_a_worker_killed_in_mid_work_is_replaced_within_its_lease(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    step = app.step(hold_until)
    marker, go = tmp_path / "ran", tmp_path / "go"
    victim = worker_process(lease=LEASE)
    ops = [step.enqueue(str(go), str(marker)) for _ in range(3)]
    until(lambda: len(pids(marker)) == 3)
    keeper = worker_process(lease=LEASE)
    victim.kill()
    killed = app.snapshot().at_ms
    until(lambda: len(pids(marker)) == 6, LEASE + 5)
    # On the server's clock: the claims were rescued when the lease ended, and taken within a second of it.
    assert app.snapshot().at_ms - killed <= (LEASE + 1) * 1000 + 500
    go.touch()
    assert [op.result(10) for op in ops] == [f"by {keeper.pid}"] * 3
    assert [op.attempt for op in ops] == [1, 1, 1]
    assert app.snapshot().steps[0].succeeded == 3


def test_a_worker_stopped_beyond_its_lease_is_fenced_and_the_rest_of_its_claims_with_it(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    step = app.step(hold_until)
    marker, go = tmp_path / "ran", tmp_path / "go"
    zombie = worker_process(lease=LEASE)
    ops = [step.enqueue(str(go), str(marker)) for _ in range(4)]
    until(lambda: len(pids(marker)) == 4)
    keeper = worker_process(lease=LEASE)
    zombie.send(signal.SIGSTOP)
    until(lambda: pids(marker).count(keeper.pid) == 4, LEASE + 10)
    late = [step.enqueue(str(go), str(tmp_path / "late")) for _ in range(4)]
    go.touch()
    assert [op.result(10) for op in ops] == [f"by {keeper.pid}"] * 4
    before = app.snapshot().steps[0]
    zombie.send(signal.SIGCONT)
    zombie.wait_for_line(lambda line: "lease was lost" in line or "fenced" in line)
    assert [op.result(10).startswith("by ") for op in late] == [True] * 4
    after = app.snapshot().steps[0]
    assert (before.enqueued, after.succeeded, after.lost) == (8, 8, 0)
    assert [op.result() for op in ops] == [f"by {keeper.pid}"] * 4


def test_sigterm_finishes_what_is_in_flight(app: Blazing, worker_process: Any, tmp_path: Path) -> None:
    step = app.step(hold_until)
    marker, go = tmp_path / "ran", tmp_path / "go"
    worker = worker_process(lease=LEASE)
    first = [step.enqueue(str(go), str(marker)) for _ in range(8)]
    until(lambda: len(pids(marker)) == 8)
    worker.send(signal.SIGTERM)
    until(lambda: "stopping" in "".join(worker.lines))
    later = step.enqueue(str(go), str(marker))
    go.touch()
    assert [op.result(10) for op in first] == [f"by {worker.pid}"] * 8
    assert worker.wait() == 0
    assert later.status is Status.PENDING
    assert app.snapshot().workers == []


def test_what_is_left_after_the_grace_period_is_released_at_once(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    step = app.step(hold_until)
    marker, go = tmp_path / "ran", tmp_path / "go"
    worker = worker_process("--grace", "0.3", lease=60.0)
    ops = [step.enqueue(str(go), str(marker)) for _ in range(3)]
    until(lambda: len(pids(marker)) == 3)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 1
    other = worker_process(lease=60.0)
    until(lambda: pids(marker).count(other.pid) == 3, 5)
    go.touch()
    assert [op.result(10) for op in ops] == [f"by {other.pid}"] * 3
    assert [op.attempt for op in ops] == [1, 1, 1]
    assert app.snapshot().steps[0].released == 3


def kill_worker(x: int) -> None:
    import os

    os._exit(x)


def test_an_operation_that_kills_its_worker_is_lost_at_the_third_death(app: Blazing, worker_process: Any) -> None:
    from blazing_nb.errors import OperationLost

    op = app.step(kill_worker).enqueue(3)
    for _ in range(3):
        assert worker_process(lease=0.5).wait(30) == 3
    keeper = worker_process(lease=0.5)
    with pytest.raises(OperationLost, match=f"^{op.id}: its worker died under it 3 times"):
        op.result(20)
    assert op.status is Status.LOST
    assert keeper.process.poll() is None
    assert app.step(lambda: "well", name="other").enqueue().result(10) == "well"


def test_two_workers_commit_each_operation_once(app: Blazing, worker_process: Any) -> None:
    step = app.step(lambda x: x * x, name="square")
    for _ in range(2):
        worker_process()
    assert step.map(range(3000)).results(60) == [x * x for x in range(3000)]
    stats = app.snapshot().steps[0]
    assert (stats.enqueued, stats.succeeded, stats.fenced, stats.failed) == (3000, 3000, 0, 0)


def test_a_payload_that_was_altered_ends_failed_and_runs_nothing(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    step = app.step(hold_until)
    op = step.enqueue((str(tmp_path / "go"),), str(marker))
    key = f"{app.store.keys.prefix}seg:{op.id.rpartition(':')[0]}"
    call = app.store.connection().call
    (entry_id, fields), *_ = call("XRANGE", key, "-", "+")
    envelope = bytearray(fields[1])
    envelope[-3] ^= 1
    call("XGROUP", "DESTROY", key, "w")
    call("XTRIM", key, "MAXLEN", 0)
    call("DEL", key)
    call("XGROUP", "CREATE", key, "w", "0", "MKSTREAM")
    call("XADD", key, entry_id, "p", bytes(envelope), "t", fields[3])
    worker_process()
    from blazing_nb.errors import SignatureRefused

    with pytest.raises(SignatureRefused):
        op.result(20)
    assert not marker.exists()
