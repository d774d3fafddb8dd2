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
from tests.condition import until


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
    assert "a_module_that_is_missing" in str(app.doctor())
    assert not app.doctor().healthy
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
def test_a_worker_that_never_becomes_ready_is_killed_with_that_reason_and_stop_ends_one_that_hangs(
    app: Blazing,
) -> None:
    @app.on_start
    def for_ever() -> None:
        import time

        time.sleep(600)

    app.workers.start(1, wait=0, patience=0.5)
    found = until(lambda: "was not ready within" in (now := post(app)).get("reason", "") and now)
    assert found["failures"] >= 1
    assert until(lambda: [process.pid for process in app.workers])
    hung = next(iter(app.workers))
    os.kill(hung.pid, signal.SIGSTOP)
    assert app.workers.stop(timeout=0.2) == 1
    assert not hung.alive


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


# -- becoming ready ----------------------------------------------------------------------------------------------------


def test_ready_means_that_on_start_has_run_and_workers_may_start_before_any_step(app: Blazing, tmp_path: Path) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"

    @app.on_start
    def warm_up() -> None:
        import os
        import time

        with open(ran, "a") as file:
            file.write(f"{os.getpid()}\n")
        while not os.path.exists(go):
            time.sleep(0.01)

    app.workers.start(1, wait=0)
    until(ran.exists)
    assert [worker.state for worker in app.snapshot().workers] == ["warming"]
    op = app.step(lambda: "ran", name="waits").enqueue()
    with pytest.raises(errors.WorkersNotReady, match="starting"):
        app.workers.start(1, wait=0.3)
    assert op.status.name == "PENDING"
    go.touch()
    app.workers.start(1)
    assert op.result(20) == "ran"
    assert len(ran.read_text().split()) == 1


def test_a_new_on_start_runs_on_workers_that_run_already_before_they_claim_more(app: Blazing, tmp_path: Path) -> None:
    app.workers.start(1)
    marker = str(tmp_path / "warm")

    @app.on_start
    async def warm_up() -> None:
        open(marker, "w").close()

    def is_warm() -> bool:
        import os

        return os.path.exists(marker)

    assert app.step(is_warm).enqueue().result(20) is True


@pytest.mark.slow
def test_a_worker_whose_on_start_fails_says_so_and_is_ready_when_it_is_mended(app: Blazing) -> None:
    @app.on_start
    def broken() -> None:
        raise RuntimeError("no such model")

    with pytest.raises(errors.WorkersNotReady, match="no such model"):
        app.workers.start(1, wait=60)

    @app.on_start
    def mended() -> None:
        pass

    app.workers.start(1, wait=60)
    found = post(app)
    assert found["starts"] >= 4
    assert found["failures"] == 0, "whoever asks again begins anew"


def test_workers_that_cannot_load_a_step_of_this_app_are_not_ready(
    app: Blazing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "only_here.py"
    module.write_text("def there(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    app.step(only_here.there)
    module.unlink()
    sys.path.remove(str(tmp_path))
    with pytest.raises(errors.WorkersNotReady, match="cannot load 'there'"):
        app.workers.start(1, wait=3)
    assert app.step(lambda: "well", name="other").enqueue().result(20) == "well"


# -- all workers of an app, everywhere ---------------------------------------------------------------------------------


def test_all_workers_can_be_told_to_drain_and_then_to_leave_and_nobody_follows_them(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    from tests.worker.test_death import hold_until, pids

    alone = worker_process(lease=60.0)  # as on another machine: no supervisor knows it
    app.workers.start(1)
    marker, go = tmp_path / "ran", tmp_path / "go"
    step = app.step(hold_until)
    ops = [step.enqueue(str(go), str(marker)) for _ in range(4)]
    until(lambda: len(pids(marker)) == 4)
    assert app.workers.stop_accepting() == 2
    late = step.enqueue(str(go), str(tmp_path / "late"))
    assert app.workers.wait_for_completion(0.3) is False
    go.touch()
    assert app.workers.wait_for_completion(20) is True
    assert [op.status.name for op in [*ops, late]] == ["SUCCEEDED"] * 4 + ["PENDING"]
    assert app.workers.close(grace=1) == 2
    assert alone.wait() == 3
    until(lambda: len(app.workers) == 0)
    assert app.snapshot().workers == []
    until(lambda: not app.workers._supervising.station.supervised)
    app.workers.start(1)
    assert late.result(20).startswith("by ")


def test_workers_that_were_drained_accept_again_where_they_are_started_again(app: Blazing) -> None:
    app.workers.start(1)
    first = post(app)["pid"]
    assert app.workers.stop_accepting() == 1
    app.workers.start(1)
    assert app.step(pid).enqueue(1).result(20) == first


def test_close_gives_back_what_is_not_finished_in_time(app: Blazing, url: str, tmp_path: Path) -> None:
    from blazing_nb import Worker
    from tests.worker.test_death import hold_until, pids

    worker = Worker(app.app_id, url=url).start()
    op = app.step(hold_until).enqueue(str(tmp_path / "go"), str(tmp_path / "ran"))
    until(lambda: pids(tmp_path / "ran"))
    assert app.workers.close(grace=0.1) == 1
    assert op.status.name == "RETRYING"
    until(lambda: not worker.alive)  # it left the store before; its thread ends by itself
    (tmp_path / "go").touch()
    worker.close()


def test_a_batch_enqueued_inside_a_barrier_begins_with_all_workers(app: Blazing) -> None:
    app.workers.start(2, threads=2)
    step = app.step(pid)
    with app.workers.barrier(2) as ready:
        assert len(ready) == 2
        batch = step.map(range(4))
        assert batch.wait(0.5) is False
        assert app.snapshot().claimed == 0
    assert len(set(batch.results(20))) == 2
    with pytest.raises(errors.WorkersNotReady, match="2 of 3"):
        app.workers.wait_ready(3, timeout=0.1)


def test_a_barrier_whose_maker_is_gone_ends_by_itself(app: Blazing) -> None:
    app.workers.start(1)
    app.store.instruct("hold 700")
    until(lambda: app.snapshot().workers[0].state == "held")
    assert app.step(lambda: 1, name="one").enqueue().result(20) == 1


# -- following the load ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_number_of_workers_follows_the_load_and_every_change_has_its_reason(app: Blazing) -> None:
    app.workers.adapt(minimum=1, maximum=2, target_wait=0.5, dwell=1.0, threads=1)
    assert len(app.workers) == 1
    batch = app.step(pid).map(range(100))
    until(lambda: len(app.workers) == 2)
    batch.results(60)
    until(lambda: len(app.workers) == 1, 40)
    decisions = app.workers.decisions()
    assert decisions.after.max() == 2
    assert list(decisions.after)[-1] == 1
    assert decisions.reason.str.contains("operations wait").all()
    stats = app.snapshot().steps[0]
    assert (stats.succeeded, stats.released, stats.rescued) == (100, 0, 0)
    app.workers.scale(2)
    assert len(app.workers) == 2


def test_senseless_bounds_are_refused_and_start_nothing(app: Blazing) -> None:
    with pytest.raises(errors.UsageError):
        app.workers.adapt(minimum=3, maximum=2)
    with pytest.raises(errors.UsageError):
        app.workers.adapt(maximum=65)
    assert len(app.workers) == 0


# -- on the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_scales_adapts_and_shows(app: Blazing, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from blazing_nb.cli import main

    assert main(["workers", "1", "--app", app.app_id, "--url", url, "--threads", "2"]) == 0
    assert "  0  ready" in capsys.readouterr().out
    assert [worker.slots for worker in app.snapshot().workers] == [2]
    assert main(["workers", "--adapt", "1", "2", "--app", app.app_id, "--url", url]) == 0
    assert "1 processes" in capsys.readouterr().out
    assert main(["workers", "3", "--adapt", "1", "2", "--app", app.app_id, "--url", url]) == 2
    assert main(["workers", "--threads", "2", "--app", app.app_id, "--url", url]) == 2
    assert "not both" in capsys.readouterr().err


@pytest.mark.slow
def test_a_supervisor_in_the_foreground_waits_for_its_server_and_stops_its_workers_on_sigterm(
    short_dir: Path, tmp_path: Path, app_id: str
) -> None:
    from blazing_nb.store.candidate import find_binary
    from tests.conftest import Child, python_command

    socket = short_dir / f"sv-{app_id}.sock"
    there = f"unix://{socket}"
    boss = Child(python_command("supervisor", "2", "--app", app_id, "--url", there))
    try:
        boss.wait_for_line(lambda line: "place 1" in line and "was started" in line)
        command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
        server = Child([*command, "--dir", str(tmp_path), "--save", "", "--appendonly", "no", "--logfile", ""])
        try:
            server.wait_for_line(lambda line: "ready to accept connections" in line.lower())
            with Blazing(app_id, url=there) as late:
                assert len(late.workers.wait_ready(2)) == 2
                late.workers.start(2)
                assert supervisor(late) == boss.pid
                assert late.step(pid).enqueue(1).result(20) > 0
                boss.send(signal.SIGTERM)
                assert boss.wait() == 0
                assert late.snapshot().workers == []
        finally:
            server.kill()
    finally:
        boss.kill()
