"""Rows of failures.md on real processes, each named by its test. `docs/faults.md` is the whole table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import server
from blazing_nb import Blazing, Status, Worker, errors
from blazing_nb.client.proxy import Proxy
from blazing_nb.store.connection import Connection
from blazing_nb.store.store import Store
from tests.client.test_option import same
from tests.condition import until
from tests.worker.test_death import hold_until, pids

LEASE = 1.5


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server whose settings the test may change."""
    monkeypatch.setenv("BLAZING_HOME", "")
    with server(aof=True) as (url, _):
        yield url


def executed(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


def mark(path: str, seconds: float = 0.0, result: str = "done") -> str:
    import time

    with open(path, "a") as file:
        file.write("x\n")
    time.sleep(seconds)
    return result


def test_w1_a_worker_killed_before_it_claims_changes_nothing(app: Blazing, worker_process: Any) -> None:
    worker_process(lease=LEASE).kill()
    worker_process(lease=LEASE)
    op = app.step(same).enqueue(1)
    assert (op.result(10), op.attempt) == (1, 1)
    assert app.snapshot().steps[0].rescued == 0


def test_w2_a_worker_killed_with_an_unread_claim_is_rescued(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    step = app.step(mark)
    step.code()
    victim = worker_process("--url", proxy.url, lease=LEASE)
    proxy.forget_replies(str(tmp_path / "ran").encode())
    op = step.enqueue(str(tmp_path / "ran"))
    until(lambda: op.status is Status.CLAIMED)
    victim.kill()
    worker_process(lease=LEASE)
    assert op.result(LEASE + 10) == "done"
    assert (executed(tmp_path / "ran"), op.attempt) == (1, 1)
    assert app.snapshot().steps[0].rescued == 1


def test_w3_a_lost_claim_reply_costs_no_lease(app: Blazing, proxy: Proxy, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=proxy.url, lease=60).start()
    step = app.step(mark)
    assert step.enqueue(str(tmp_path / "warm")).result(10) == "done"
    proxy.forget_replies(str(tmp_path / "ran").encode())
    op = step.enqueue(str(tmp_path / "ran"))
    until(lambda: op.status is Status.CLAIMED and proxy.dropped)
    proxy.heal()
    proxy.cut()
    assert op.result(15) == "done"
    assert (executed(tmp_path / "ran"), list(op.history()["claim"])[-1]) == (1, 1)
    worker.close()


def test_w5_a_worker_killed_between_execution_and_commit_executes_again_and_commits_once(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    victim = worker_process("--url", proxy.url, lease=LEASE)
    op = app.step(mark).enqueue(str(tmp_path / "ran"), 0.2)
    until(lambda: executed(tmp_path / "ran") == 1)
    proxy.partition("requests")
    time.sleep(0.5)  # it has executed, and its commit waits in the proxy
    victim.kill()
    worker_process(lease=LEASE)
    assert op.result(LEASE + 10) == "done"
    assert (executed(tmp_path / "ran"), app.snapshot().steps[0].succeeded) == (2, 1)


def test_w6_a_commit_whose_reply_is_lost_with_its_worker_stands(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    victim = worker_process("--url", proxy.url, lease=LEASE)
    op = app.step(mark).enqueue(str(tmp_path / "ran"), 0.2, "committed")
    until(lambda: executed(tmp_path / "ran") == 1)
    proxy.forget_replies(b"committed")
    assert op.result(10) == "committed"
    victim.kill()
    worker_process(lease=LEASE)
    time.sleep(LEASE + 1)  # nobody executes it again: what must not happen cannot be waited for
    assert (executed(tmp_path / "ran"), app.snapshot().steps[0].succeeded) == (1, 1)


def test_w7_a_commit_whose_reply_is_lost_is_repeated_and_counts_once(
    app: Blazing, proxy: Proxy, tmp_path: Path
) -> None:
    worker = Worker(app.app_id, url=proxy.url, lease=60).start()
    op = app.step(mark).enqueue(str(tmp_path / "ran"), 0.2, "committed")
    until(lambda: executed(tmp_path / "ran") == 1)
    proxy.forget_replies(b"committed")
    assert op.result(10) == "committed"
    proxy.heal()
    proxy.cut()
    assert app.step(same).enqueue(5).result(15) == 5
    worker.stop_accepting()
    assert worker.wait_for_completion(10)
    stats = {step.step: step for step in app.snapshot().steps}
    assert (stats["mark"].succeeded, stats["mark"].fenced, worker.fenced) == (1, 0, 0)
    worker.close()


async def wait_long(marker: str) -> str:
    import asyncio
    import pathlib

    pathlib.Path(marker).touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pathlib.Path(marker).write_text("cancelled")
        raise
    return "not cancelled"


def test_w10_a_worker_that_says_nothing_for_less_than_its_lease_loses_nothing(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    worker = worker_process(lease=6.0)
    op = app.step(hold_until).enqueue(str(tmp_path / "go"), str(tmp_path / "ran"))
    until(lambda: len(pids(tmp_path / "ran")) == 1)
    [before] = app.snapshot().workers
    worker.send(signal.SIGSTOP)
    until(lambda: app.snapshot().workers[0].lease_ms_left < 6000 - 2800)  # more than one heartbeat was due
    worker.send(signal.SIGCONT)
    other = worker_process()
    (tmp_path / "go").touch()
    assert op.result(20) == f"by {worker.pid}"
    [step] = app.snapshot().steps
    assert (step.claimed, step.rescued, step.fenced) == (1, 0, 0)
    assert before.consumer in {found.consumer for found in app.snapshot().workers}
    assert other.process.poll() is None


CLOCK = """
import itertools, time

jumps = itertools.cycle((3600, -3600, 0, 86400))
real = time.time
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
"""


def test_w12_a_worker_whose_clock_jumps_by_hours_works_as_any_other(
    app: Blazing, worker_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    monkeypatch.syspath_prepend(str(tmp_path))
    worker_process(lease=2.0)

    def wall() -> float:
        import time

        return time.time()

    moments = app.step(wall).starmap([()] * 8).results(20)
    assert max(moments) - min(moments) > 3000  # its clock does jump
    step = app.step(same, name="tried", retries=2, backoff=0.01, timeout=30.0)
    delayed = step.options(delay=0.5, expires=60.0).map(range(20))
    assert step.map(range(200)).results(20) == list(range(200))
    assert delayed.results(20) == list(range(20))
    stats = {found.step: found for found in app.snapshot().steps}["tried"]
    assert (stats.succeeded, stats.rescued, stats.fenced, stats.retried, stats.expired) == (220, 0, 0, 0, 0)


def test_w11_what_runs_under_a_lost_lease_is_told_to_stop(app: Blazing, url: str, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=url, lease=60).start()
    op = app.step(wait_long).enqueue(str(tmp_path / "ran"))
    until((tmp_path / "ran").exists)
    worker.stop_accepting()
    assert app.store.retire(worker.consumer)
    until(lambda: (tmp_path / "ran").read_text() == "cancelled", 30)
    assert op.status is Status.RETRYING
    worker.close()


def test_w13_two_workers_of_one_name_are_two_and_are_told(
    app: Blazing, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Worker(app.app_id, "twin", url=url).start()
    assert not [record for record in caplog.records if "twin" in record.message]
    twins = [first, Worker(app.app_id, "twin", url=url).start()]
    assert any("another worker is named twin" in record.message for record in caplog.records)
    assert any("named twin" in finding.seen for finding in app.doctor().findings)
    assert app.step(same).map(range(500)).results(20) == list(range(500))
    snapshot = app.snapshot()
    assert len({worker.consumer for worker in snapshot.workers}) == 2
    assert (snapshot.steps[0].succeeded, snapshot.steps[0].fenced) == (500, 0)
    for twin in twins:
        twin.close()


def test_w14_a_poisonous_operation_ends_as_lost_and_its_neighbours_succeed(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    def deadly(x: int) -> int:
        import os
        import time

        if x == 3:
            os._exit(9)
        time.sleep(0.05)
        return x

    batch = app.step(deadly).options(retries=0).map(range(8))
    for _ in range(3):
        assert worker_process(lease=0.5, ready=False).wait(30) == 9  # it may die before it has said that it is
    worker_process(lease=0.5)
    values = batch.results(30, return_exceptions=True)
    assert [value for value in values if isinstance(value, int)] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(values[3], errors.OperationLost)
    assert list(batch[3].history()["event"]) == ["enqueued", *["claimed", "rescued"] * 3, "lost"]
    assert [op.id for op in app.failed()] == [batch[3].id]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_w18_a_second_signal_gives_back_at_once(
    app: Blazing, worker_process: Any, tmp_path: Path, number: signal.Signals
) -> None:
    worker = worker_process("--grace", "60", lease=60.0)
    op = app.step(hold_until).enqueue(str(tmp_path / "go"), str(tmp_path / "ran"))
    until(lambda: len(pids(tmp_path / "ran")) == 1)
    worker.send(number)
    worker.wait_for_line(lambda line: "stopping" in line)
    worker.send(number)
    assert worker.wait(10) == 1
    assert op.status is Status.RETRYING
    assert app.snapshot().steps[0].released == 1


FORK = """
import os, sys
from blazing_nb import Blazing
from blazing_nb.errors import UsageError
from tests.client.test_option import same

with Blazing(sys.argv[1], url=sys.argv[2], node_id="n1") as app:
    step = app.step(same)
    before = step.options(delay=0.5).enqueue(1)
    child = os.fork()
    if not child and not before.done():
        try:
            before.result(20)
            raise SystemExit("an inherited handle waits for ever")
        except UsageError as error:
            assert "app.attach" in str(error)
    mine = range(100, 150) if child else range(200, 250)
    assert step.map(mine).results(20) == list(mine)
    assert app.attach(before.id).result(20) == 1  # who holds a handle of before the fork attaches to it
    os.write(1, f"{app.writer().incarnation} ".encode())  # in one piece: two processes write to one pipe
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_w22_a_forked_client_speaks_for_itself(app: Blazing, url: str) -> None:
    worker = Worker(app.app_id, url=url).start()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, app.app_id, url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split())) == 2  # two incarnations of the node
    worker.close()


def test_w23_a_full_disk_under_the_log_stops_nobody(app: Blazing, url: str) -> None:
    command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app.app_id, "--url", url]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with open("/dev/full", "w") as full:
        worker = subprocess.Popen(command, stdout=full, stderr=full, env=environment)
    try:
        assert app.step(same).map(range(100)).results(20) == list(range(100))
        assert isinstance(app.step(failing).enqueue().exception(10), ValueError)
    finally:
        worker.terminate()
        assert worker.wait(20) in (0, 120)  # 120: Python could not flush its output at the end


def failing() -> None:
    raise ValueError


def test_c7_names_that_would_break_a_key_are_refused(app: Blazing, url: str) -> None:
    for name in ("a{b}", "a:b", "a\0b", "x" * 10_000):
        with pytest.raises(errors.InvalidName):
            app.step(same, name=name)
        with pytest.raises(errors.InvalidName):
            Blazing(name, url=url)


def test_c8_a_cancelled_await_crosses_no_reply(app: Blazing, url: str) -> None:
    import asyncio

    async def cancelled_waits() -> list[int]:
        step = app.step(same)
        for i in range(50):
            waiting = asyncio.ensure_future(_await(step.enqueue(i)))
            await asyncio.sleep(0)
            waiting.cancel()
        return list(await step.map(range(100)))

    worker = Worker(app.app_id, url=url).start()
    assert asyncio.run(cancelled_waits()) == list(range(100))
    assert app.snapshot().steps[0].enqueued == 150
    worker.close()


async def _await(op: Any) -> Any:
    return await op


def test_c12_no_free_connection_is_a_bounded_wait_and_heartbeats_go_on(own_server: str, app_id: str) -> None:
    worker = Worker(app_id, url=own_server, lease=1.0).start()
    with Blazing(app_id, url=own_server) as app:
        op = app.step(mark_long).enqueue(2.5)
        until(lambda: op.status is Status.RUNNING)
        clients = app.store.check()["connected_clients"]
        app.store.connection().call("CONFIG", "SET", "maxclients", clients)
        refused = Connection(own_server, deadline_s=0.5)
        with pytest.raises(errors.StoreUnavailable):
            refused.call("PING")
        refused.close()
        assert op.result(20) == 2.5
        assert op.attempt == 1
    worker.close()


def mark_long(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("value", [b"", "", None, [], "\ud800", 1 << 80, [[[[[]]]]]], ids=repr)
def test_c14_small_and_odd_values_pass(app: Blazing, url: str, value: Any) -> None:
    worker = Worker(app.app_id, url=url).start()
    assert app.step(same).enqueue(value).result(10) == value
    worker.close()


def test_c14_what_is_too_large_or_too_deep_is_refused_at_the_client(app: Blazing) -> None:
    step = app.step(same)
    with pytest.raises(errors.PayloadTooLarge, match="104,857"):
        step.enqueue(b"x" * (100 << 20))
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(errors.ValueNotSerializable):
        step.enqueue(deep)
    assert app.snapshot().segments == []


def restart(process: subprocess.Popen[bytes], command: list[str]) -> subprocess.Popen[bytes]:
    process.kill()
    process.wait()
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_r1_r2_r4_a_killed_server_comes_back_with_everything(short_dir: Path, app_id: str, fsync: str) -> None:
    """R2: of a killed process, not of a lost machine: the write precedes the reply. R4: LOADING is waited for."""
    from blazing_nb.store.candidate import find_binary

    folder = short_dir / f"{app_id}"
    folder.mkdir()
    socket = folder / "s.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", fsync]
    command += ["--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with Blazing(app_id, url=f"unix://{socket}") as app:
            until(socket.exists)
            step = app.step(same)
            batch = step.map(range(2000))
            process = restart(process, command)
            assert step.enqueue(-1).status is Status.PENDING
            assert app.snapshot().waiting == 2001
            worker = Worker(app_id, url=app.url).start()
            assert batch.results(30) == list(range(2000))
            worker.close()
    finally:
        process.kill()
        process.wait()


def test_r5_an_append_only_file_that_was_cut_off_keeps_every_step_whole(short_dir: Path, app_id: str) -> None:
    from blazing_nb.store.candidate import find_binary

    folder = short_dir / f"{app_id}"
    folder.mkdir()
    socket = folder / "s.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "yes"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(socket.exists)
        with Blazing(app_id, url=f"unix://{socket}", node_id="n1", redo=False) as app:  # what was cut off stays away
            step = app.step(same)
            for i in range(20):
                step.enqueue(i)
            process.kill()
            process.wait()
            [file] = (folder / "appendonlydir").glob("*.incr.aof")
            data = file.read_bytes()
            file.write_bytes(data[: len(data) - 40])  # in the middle of the last enqueue
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            snapshot = until(app.snapshot)
            assert snapshot.waiting == snapshot.steps[0].enqueued == 19
    finally:
        process.kill()
        process.wait()


def test_r3_a_server_without_an_append_only_file_is_said(url: str, app_id: str, caplog: Any) -> None:
    caplog.set_level("INFO")
    store = Store(app_id, url)
    store.check()
    store.close()
    assert "append-only" in caplog.text


def test_r17_a_busy_server_is_waited_for(own_server: str) -> None:
    blocker, other = Connection(own_server), Connection(own_server)
    other.call("CONFIG", "SET", "busy-reply-threshold", 50)

    def block() -> None:
        with pytest.raises(errors.ScriptRefused):
            blocker.call("EVAL", "while true do end", 0)

    thread = threading.Thread(target=block)
    thread.start()
    time.sleep(0.3)  # until the server says BUSY
    killer = threading.Timer(0.5, lambda: Connection(own_server).call("SCRIPT", "KILL"))
    killer.start()
    assert other.call("ECHO", "waited") == b"waited"
    thread.join()
    killer.join()
    blocker.close()
    other.close()


def test_r17_no_script_takes_longer_than_its_bound(app: Blazing, url: str) -> None:
    """At most 256 operations a claim and 1,000 a chunk: the slowest call stays in the milliseconds."""
    app.store.connection().call("SLOWLOG", "RESET")
    before = app.store.connection().call("CONFIG", "GET", "slowlog-log-slower-than")[1]
    app.store.connection().call("CONFIG", "SET", "slowlog-log-slower-than", 100_000)
    try:
        worker = Worker(app.app_id, url=url).start()
        assert app.step(same).map(range(20_000)).results(60) == list(range(20_000))
        worker.close()
        assert app.store.connection().call("SLOWLOG", "LEN") == 0
    finally:
        app.store.connection().call("CONFIG", "SET", "slowlog-log-slower-than", before)
