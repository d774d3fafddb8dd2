"""`app.workers`: processes that a supervisor watches, that outlive the kernel, and that say why they did not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, errors
from blazing_nb.store.process import is_alive
from tests.worker.test_death import until


@pytest.fixture
def app(url: str, app_id: str) -> Iterator[Blazing]:
    """Whatever a test leaves behind is stopped."""
    with Blazing(app_id, url=url, node_id="n1") as made:
        yield made
        made.workers.stop(timeout=5)


def pid(_: int) -> int:
    import time

    time.sleep(0.05)
    return os.getpid()


def post(app: Blazing, place: int = 0) -> dict[str, Any]:
    """What is known of one place."""
    frame = app.workers.to_frame()
    rows = frame[(frame.place == place) & (frame.state != "leaving")].to_dict("records")
    return dict(rows[0]) if rows else {}


def supervisor(app: Blazing) -> int:
    state = app.workers._supervising.station.state()
    assert state is not None
    return state.pid


def test_started_again_it_is_the_same_workers_and_the_same_supervisor(app: Blazing, url: str) -> None:
    app.workers.start(2)
    pids, first = {process.pid for process in app.workers}, supervisor(app)
    app.workers.start(2)
    with Blazing(app.app_id, url=url) as other:
        other.workers.start(1)
        assert {process.pid for process in other.workers} == pids
        assert supervisor(other) == first
        other.workers.scale(1)
    until(lambda: len(app.workers) == 1)
    assert app.workers.scale(1) is app.workers
    assert {process.pid for process in app.workers} < pids
    assert app.workers.stop() == 1
    assert (len(app.workers), app.snapshot().workers, app.workers.stop()) == (0, [], 0)
    until(lambda: not app.workers._supervising.station.supervised)


def test_a_worker_that_is_killed_is_followed_by_another_and_says_how_it_ended(app: Blazing) -> None:
    app.workers.start(1)
    killed = post(app)["pid"]
    os.kill(killed, signal.SIGKILL)
    found = until(lambda: (now := post(app))["state"] == "ready" and now["pid"] != killed and now)
    assert (found["starts"], found["failures"]) == (2, 1)
    assert "SIGKILL" in found["reason"]
    assert "ready" in found["reason"], "the last lines of its log are kept"
    assert [what for what in app.workers.events().what if f"pid {killed}" in what][-1].startswith(f"pid {killed} died")


def test_what_a_dead_worker_held_runs_elsewhere_before_its_lease_ends(app: Blazing, tmp_path: Path) -> None:
    from tests.worker.test_death import hold_until, pids

    app.workers.start(2, lease=120)
    marker, go = tmp_path / "ran", tmp_path / "go"
    op = app.step(hold_until).enqueue(str(go), str(marker))
    victim = until(lambda: pids(marker))[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(pids(marker)) == 2)
    go.touch()
    assert op.result(20) == f"by {pids(marker)[1]}"
    assert (op.attempt, app.snapshot().steps[0].rescued) == (1, 1)


def crash(x: int) -> None:
    import ctypes

    ctypes.string_at(0)


@pytest.mark.slow
def test_a_segfault_is_named_and_its_operation_ends_as_lost_while_others_go_on(app: Blazing) -> None:
    """W14 under a supervisor: three deaths, then LOST; the pauses between the starts grow."""
    app.workers.start(1, lease=60)
    with pytest.raises(errors.OperationLost, match="died under it 3 times"):
        app.step(crash).enqueue(1).result(60)
    until(lambda: post(app)["state"] == "ready")
    found = post(app)
    assert (found["starts"], found["failures"]) == (4, 3)
    assert "SIGSEGV" in found["reason"]
    assert "crash" in found["log"] + found["reason"], "faulthandler says where"
    assert app.step(lambda: "well", name="other").enqueue().result(20) == "well"


def test_a_worker_that_cannot_start_says_why_and_is_not_started_at_full_speed(
    app: Blazing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blazing_nb.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)  # workers start where the kernel is, and find this first
    with pytest.raises(errors.WorkersNotReady, match="a_module_that_is_missing") as caught:
        app.workers.start(1, wait=60)
    assert list(caught.value.reasons) == [0]
    assert len(app.workers) <= 1
    found = post(app)
    assert found["failures"] >= 3
    assert "code 1" in found["reason"]
    told = [what for what in app.workers.events().what if "was started" in what]
    assert len(told) == found["starts"] <= 5


@pytest.mark.parametrize("n", [0, 65, -1])
def test_a_senseless_number_is_refused(app: Blazing, n: int) -> None:
    with pytest.raises(errors.UsageError):
        app.workers.start(n)


@pytest.mark.parametrize(
    "options", [{"lease": 0.01}, {"threads": 0}, {"grace": -1}, {"max_operations": 0}, {"max_memory_mb": -5}]
)
def test_senseless_options_are_refused_and_start_nothing(app: Blazing, options: Any) -> None:
    with pytest.raises(errors.UsageError):
        app.workers.start(1, **options)
    assert len(app.workers) == 0
    with pytest.raises(TypeError, match="treads"):
        app.workers.start(1, treads=3)  # type: ignore[call-arg]


@pytest.mark.slow
def test_a_worker_is_replaced_after_so_many_operations_and_nothing_is_executed_twice(app: Blazing) -> None:
    app.workers.start(1, max_operations=20, lease=1.0)
    first = post(app)["pid"]
    assert set(app.step(pid).map(range(20)).results(20)) == {first}
    second = until(lambda: (now := post(app))["state"] == "ready" and now["pid"] != first and now["pid"])
    assert set(app.step(pid).map(range(5)).results(20)) == {second}
    stats = app.snapshot().steps[0]
    assert (stats.succeeded, stats.rescued, stats.released, stats.fenced) == (25, 0, 0, 0)
    assert any("max_operations=20" in what for what in app.workers.events().what)


@pytest.mark.slow
def test_a_worker_above_its_memory_is_replaced_when_another_is_ready(app: Blazing) -> None:
    def grow(mb: int) -> int:
        import sys

        sys.grown = bytearray(mb << 20)  # type: ignore[attr-defined]
        return len(app_grown := sys.grown) and app_grown.count(0) >> 20  # type: ignore[attr-defined]

    app.workers.start(1, max_memory_mb=200)
    first = post(app)["pid"]
    assert app.step(grow).enqueue(300).result(20) == 300
    until(lambda: (now := post(app))["pid"] != first and now["state"] == "ready")
    assert any("max_memory_mb=200" in what for what in app.workers.events().what)
    until(lambda: len(app.workers) == 1)


@pytest.mark.slow
def test_other_options_replace_the_workers_one_by_one(app: Blazing) -> None:
    app.workers.start(2, threads=1)
    pids = {process.pid for process in app.workers}
    app.workers.start(2, threads=3)
    until(lambda: not pids & {process.pid for process in app.workers})
    until(lambda: [worker.slots for worker in app.snapshot().workers] == [3, 3])


def kernel(app_id: str, url: str, code: str) -> subprocess.Popen[bytes]:
    """Another kernel, which starts workers and then waits."""
    text = f"""
import time
from blazing_nb import Blazing
app = Blazing({app_id!r}, url={url!r})
{code}
print("up", flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    child.stdout.close()
    return child


@pytest.mark.slow
def test_detached_workers_outlive_a_kernel_that_is_killed_and_others_end_with_it(app: Blazing, url: str) -> None:
    child = kernel(app.app_id, url, "app.workers.start(1); app.workers.start(1, detached=False)")
    both = {process.pid: process for process in app.workers}
    assert len(both) == 2
    own = [pid for pid, owner in zip(app.workers.to_frame().pid, app.workers.to_frame().owner, strict=True) if owner]
    child.kill()
    child.wait()
    until(lambda: not both[own[0]].alive)
    assert [process.pid for process in app.workers] == [pid for pid in both if pid not in own]
    assert app.step(pid).enqueue(1).result(20) in both


@pytest.mark.slow
def test_workers_end_with_their_kernel_even_where_their_supervisor_was_killed(app: Blazing, url: str) -> None:
    child = kernel(app.app_id, url, "app.workers.start(1, detached=False)")
    worker = next(iter(app.workers))
    os.kill(supervisor(app), signal.SIGKILL)
    child.kill()
    child.wait()
    until(lambda: not worker.alive)


@pytest.mark.slow
def test_the_next_supervisor_adopts_what_a_killed_one_left(app: Blazing) -> None:
    app.workers.start(2)
    pids, first = {process.pid for process in app.workers}, supervisor(app)
    os.kill(first, signal.SIGKILL)
    until(lambda: not app.workers._supervising.station.supervised)
    assert {process.pid for process in app.workers} == pids
    app.workers.start(2)
    assert supervisor(app) != first
    assert {process.pid for process in app.workers} == pids
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len({process.pid for process in app.workers} - {victim}) == 2)
    assert app.workers.stop() == 2


def test_a_supervisor_that_is_told_to_end_stops_its_workers_in_order(app: Blazing) -> None:
    app.workers.start(1)
    worker, boss = next(iter(app.workers)), supervisor(app)
    state = app.workers._supervising.station.state()
    os.kill(boss, signal.SIGTERM)
    until(lambda: not worker.alive)
    assert state is not None
    until(lambda: not is_alive(state.pid, state.started))
    assert app.snapshot().workers == []
    assert len(app.workers) == 0
