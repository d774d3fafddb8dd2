"""Rows of failures.md about connections, partitions, a slow server and its clock (C8, C11, R18, R20, R21, R22)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.client.proxy import Proxy
from blazing_nb.store.connection import BACKOFF_BASE_S, BACKOFF_CAP_S, Connection
from tests.client.test_option import same
from tests.condition import until
from tests.fault.test_row import executed, mark
from tests.store.test_script import LEASE, T0, Bench, ids
from tests.store.test_script import bench as bench

LEASE_S = 1.5


def test_c8_a_task_cancelled_inside_a_call_leaves_it_done_once_or_not_at_all(
    app: Blazing, worker: Worker, proxy: Proxy, tmp_path: Path
) -> None:
    """Calls are in threads, 20 ms away from their replies, and are given up at every moment of it."""

    async def give_up(far: Blazing, i: int) -> None:
        call = asyncio.ensure_future(asyncio.to_thread(far.step(mark).enqueue, str(tmp_path / f"{i}")))
        await asyncio.sleep(0.002 * i)
        call.cancel()

    async def all_of_them(far: Blazing) -> list[int]:
        await asyncio.gather(*(give_up(far, i) for i in range(20)))
        return list(await far.step(same).map(range(100)))

    with Blazing(app.app_id, url=proxy.url, node_id="far") as far:
        far.connect()
        proxy.delay(0.01)
        assert asyncio.run(all_of_them(far)) == list(range(100))
        proxy.heal()
    counts = {step.step: (step.enqueued, step.succeeded) for step in until(lambda: at_rest(app))}
    times = [executed(tmp_path / f"{i}") for i in range(20)]
    assert set(times) <= {0, 1}
    assert counts == {"same": (100, 100), "mark": (sum(times), sum(times))}


def at_rest(app: Blazing) -> Any:
    snapshot = app.snapshot()
    return snapshot.waiting + snapshot.claimed == 0 and snapshot.steps


def test_c11_a_waiter_whose_notifications_are_cut_off_hears_of_its_result(
    app: Blazing, worker: Worker, proxy: Proxy, tmp_path: Path
) -> None:
    """Whether it is told that the connection is gone, or not: no later than a reader's time-out (here 1 + 0.5 s)."""
    with Blazing(app.app_id, url=f"{proxy.url}?socket_timeout=0.5") as far:
        step = far.step(mark)
        for number, fault in enumerate((proxy.cut, proxy.half_open, proxy.drop_reply, proxy.cut)):
            operation = step.enqueue(str(tmp_path / f"{number}"), 0.1)
            until(lambda n=number: executed(tmp_path / f"{n}") == 1)
            fault()
            assert operation.result(20) == "done"
    assert app.snapshot().steps[0].succeeded == 4


def test_r18_connections_that_are_reset_again_and_again_lose_and_double_nothing(
    app: Blazing, proxy: Proxy, worker_process: Any, url: str
) -> None:
    worker_process("--url", proxy.url)
    storm = threading.Event()

    def resets() -> None:
        direct = Connection(url)
        while not storm.wait(0.02):
            proxy.cut()
            if proxy.cuts % 5 == 0:
                direct.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        direct.close()

    thread = threading.Thread(target=resets)
    with Blazing(app.app_id, url=proxy.url, node_id="far") as far:
        thread.start()
        batch = far.step(same).map(range(3000))
        ones = [far.step(same).enqueue(i) for i in range(50)]
        values = batch.results(60)
        singles = [one.result(60) for one in ones]
        storm.set()
        thread.join()
    assert (values, singles) == (list(range(3000)), list(range(50)))
    step = app.snapshot().steps[0]
    assert (step.enqueued, step.succeeded) == (3050, 3050)
    assert proxy.cuts > 5


def test_pauses_grow_with_full_jitter_and_end_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    now = time.monotonic()
    sleep, me = time.sleep, threading.get_ident()

    def note(pause: float) -> None:  # others sleep too
        pauses.append(pause) if threading.get_ident() == me else sleep(pause)

    monkeypatch.setattr("blazing_nb.store.connection.time.sleep", note)
    monkeypatch.setattr("blazing_nb.store.connection.time.monotonic", lambda: now + sum(pauses))
    from blazing_nb.errors import StoreUnavailable

    for _ in range(20):
        pauses.clear()
        connection = Connection("unix:///nonexistent/s.sock", deadline_s=8.0)
        with pytest.raises(StoreUnavailable):
            connection.call("PING")
        bounds = [min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**n) for n in range(1, len(pauses) + 1)]
        assert all(0 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
        assert sum(pauses) <= 8.0
        late = pauses[6:]
        assert max(late) - min(late) > BACKOFF_CAP_S / 10, "spread over the whole of it, not around its end"


@pytest.mark.parametrize("way", ["both", "requests", "replies"])
def test_r20_a_partition_shorter_than_the_lease_changes_nothing(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path, way: str
) -> None:
    worker_process("--url", proxy.url, lease=6.0)
    operation = app.step(mark).enqueue(str(tmp_path / "ran"), 0.2)
    until(lambda: executed(tmp_path / "ran") == 1)
    proxy.partition(way)
    time.sleep(0.6)  # it has executed, and cannot say so
    proxy.heal()
    assert operation.result(20) == "done"
    step = app.snapshot().steps[0]
    assert (executed(tmp_path / "ran"), operation.attempt) == (1, 1)
    assert (step.succeeded, step.rescued, step.fenced) == (1, 0, 0)


def test_r20_a_partition_longer_than_the_lease_gives_the_work_to_others_and_fences_the_return(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    cut_off = worker_process("--url", proxy.url, lease=LEASE_S)
    operation = app.step(mark).enqueue(str(tmp_path / "ran"), 0.3)
    until(lambda: executed(tmp_path / "ran") == 1)
    proxy.partition()
    worker_process(lease=LEASE_S)
    assert operation.result(20) == "done"
    proxy.heal()
    cut_off.wait_for_line(lambda line: "lost its lease" in line)
    until(lambda: len(app.snapshot().workers) == 2)
    assert app.step(same).map(range(200)).results(20) == list(range(200))
    step = {step.step: step for step in app.snapshot().steps}["mark"]
    # Its outcome is refused by the store; or dropped by itself, where it has heard of its lease before.
    assert (executed(tmp_path / "ran"), step.succeeded, step.rescued, step.fenced <= 1) == (2, 1, 1, True)


def test_r21_a_server_that_stalls_lets_no_lease_run_out(short_dir: Path, app_id: str, tmp_path: Path) -> None:
    """200 ms of every 300: as with a fork of a large process."""
    from blazing_nb.store.candidate import find_binary

    socket = short_dir / f"{app_id}.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    worker = None
    try:
        with Blazing(app_id, url=f"unix://{socket}") as app:
            worker = Worker(app_id, url=app.url, lease=LEASE_S).start()
            operation = app.step(mark).enqueue(str(tmp_path / "ran"), 2 * LEASE_S)
            while not operation.wait(0.1):
                server.send_signal(signal.SIGSTOP)
                time.sleep(0.2)
                server.send_signal(signal.SIGCONT)
            assert operation.result(0) == "done"
            step = app.snapshot().steps[0]
            assert (executed(tmp_path / "ran"), step.rescued, step.fenced, step.claimed) == (1, 0, 0, 1)
            worker.close()
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


@pytest.mark.parametrize("jump", [60_000, -60_000])
def test_r22_a_servers_clock_that_jumps_doubles_no_commit(bench: Bench, jump: int) -> None:
    """Forward, a lease may end early, and who had it is fenced. Backward, time stands still until it has caught up: the
    lease ends late by the jump at most."""
    bench.enqueue(1)
    [(entry, first)] = ids(bench.claim(bench.a))
    bench.now += jump
    bench.beat(bench.b)
    if jump < 0:
        bench.pass_ms(2 * LEASE, bench.b)
        assert bench.claim(bench.b) == []
        bench.now = T0
    bench.pass_ms(2 * LEASE, bench.b)
    assert ids(bench.claim(bench.b)) == [(entry, first + 1)]
    assert bench.turn(bench.b, [(entry, first + 1)]).accepted == 1
    late = bench.turn(bench.a, [(entry, first)])
    assert (late.accepted, late.lease_lost, len(late.lost)) == (0, True, 1)
    totals = bench.totals()
    assert (totals["succeeded"], totals["rescued"], totals["fenced"]) == (1, 1, 1)
