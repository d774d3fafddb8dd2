"""I11 under faults: what waits for others starts exactly once, whoever dies, and with committed values."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Operation, Status
from blazing_nb.client.proxy import Proxy
from blazing_nb.core.dependency import Members
from blazing_nb.core.dot import Range
from blazing_nb.store.join import Join
from blazing_nb.store.request import Chunk, Group
from blazing_nb.store.store import Store
from tests.client.test_option import same
from tests.condition import until
from tests.fault.test_row import executed, mark, restart
from tests.store.test_script import BODY

LEASE = 1.5
ROUNDS = 150


def once(parts: list[int], path: str) -> int:
    """Sums, and leaves a line for each execution."""
    with open(path, "a") as file:
        file.write("x\n")
    return sum(parts)


CLIENT = """
import os, signal, sys
from blazing_nb import Blazing
from blazing_nb.store.store import Store
from tests.client.test_option import same
from tests.fault.test_join_fault import once
app_id, url, path, n, when = sys.argv[1:]

class Killed(Store):
    def enqueue(self, chunk, **more):
        if chunk.joins and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().enqueue(chunk, **more)

with Blazing(app_id, url=url, node_id="gone") as app:
    app.store.__class__ = Killed
    step = app.step(once)
    parts = app.step(same).map(range(int(n)), name="parts")
    print(step.enqueue(parts, path).id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run_client(app: Blazing, path: Path, n: int, when: str) -> str:
    command = [sys.executable, "-c", CLIENT, app.app_id, app.url, str(path), str(n), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("n", [3, 2000])
def test_a_client_killed_right_after_its_enqueue_is_not_needed_any_more(
    app: Blazing, worker_process: Any, tmp_path: Path, n: int
) -> None:
    op = app.attach(run_client(app, tmp_path / "ran", n, "after"))
    assert isinstance(op, Operation)
    assert op.status is Status.SCHEDULED
    for _ in range(2):
        worker_process(lease=LEASE)
    assert op.result(30) == sum(range(n))
    assert executed(tmp_path / "ran") == 1


def test_a_client_killed_between_registering_members_and_the_enqueue_leaves_nothing_that_starts(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    assert run_client(app, tmp_path / "ran", 2000, "before") == ""
    worker_process(lease=LEASE)
    batch = app.attach("parts")
    assert batch.results(30) == list(range(2000))  # type: ignore[union-attr]
    assert [segment.step for segment in app.snapshot().segments] == ["same"]
    prefix = app.store.keys.prefix
    assert app.store.connection().call("KEYS", f"{prefix}next:*") == []
    [left] = app.store.connection().call("KEYS", f"{prefix}join:*")
    assert 0 < app.store.connection().call("PTTL", left) <= 3_600_000


def test_two_workers_that_commit_the_last_two_at_once_start_it_once(url: str, app_id: str) -> None:
    """A hundred times and more, each on a connection of its own, let go together."""
    store = Store(app_id, url)
    node = store.open_node("n1")
    workers = {f"w.{store.open_worker('w', 60_000)}": 0 for _ in range(2)}
    barrier = threading.Barrier(2)
    counter, started = 1, []

    def commit(worker: str, id_: str) -> None:
        group = Group("f:n:n1", 10, 60_000, [id_], [1], [7], [1])
        barrier.wait(10)
        store.turn(worker, int(worker.partition(".")[2]), [group], [BODY], [])

    for _ in range(ROUNDS):
        store.enqueue(Chunk("f", "n", "n1", node, counter, [b"x"] * 2))
        join = Join((Members.of([Range("f", "n", "n1", node, counter, counter + 1)]),))
        store.enqueue(Chunk("g", "d", "n1", node, counter + 2, [b"y"], joins=[join]))
        claims = [
            store.turn(worker, int(worker.partition(".")[2]), [], [], [(1, ["f"])]).claims[0].entries[0][0].decode()
            for worker in workers
        ]
        threads = [threading.Thread(target=commit, args=pair) for pair in zip(workers, claims, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for worker in workers:
            turn = store.turn(worker, int(worker.partition(".")[2]), [], [], [(9, ["g"])])
            started += [entry[0].decode() for claim in turn.claims for entry in claim.entries]
        counter += 3
    store.close()
    assert started == [f"{node}-{3 * i + 3}" for i in range(ROUNDS)]


def test_a_worker_killed_with_the_reply_to_the_commit_that_completes_a_join(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    victim = worker_process("--url", proxy.url, lease=LEASE)
    part = app.step(mark).enqueue(str(tmp_path / "part"), 0.2, "committed")
    op = app.step(same).enqueue([part, 1])
    until(lambda: executed(tmp_path / "part") == 1)
    proxy.forget_replies(b"committed")
    assert part.result(10) == "committed"
    victim.kill()
    worker_process(lease=LEASE)
    assert op.result(LEASE + 10) == ["committed", 1]
    assert executed(tmp_path / "part") == 1


def test_a_worker_killed_before_the_commit_that_would_have_completed_a_join(
    app: Blazing, proxy: Proxy, worker_process: Any, tmp_path: Path
) -> None:
    victim = worker_process("--url", proxy.url, lease=LEASE)
    part = app.step(mark).enqueue(str(tmp_path / "part"), 0.2)
    op = app.step(once).enqueue([1, 1], str(tmp_path / "other"))
    waits = app.step(same).enqueue([part, op])
    until(lambda: executed(tmp_path / "part") == 1)
    proxy.partition("requests")
    victim.kill()
    assert waits.status is Status.SCHEDULED
    worker_process(lease=LEASE)
    assert waits.result(LEASE + 10) == ["done", 2]
    assert waits.attempt == 1


def test_a_server_killed_while_something_waits_goes_on_with_it(short_dir: Path, app_id: str) -> None:
    from blazing_nb import Worker
    from blazing_nb.store.candidate import find_binary

    folder = short_dir / f"{app_id}"
    folder.mkdir()
    socket = folder / "s.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(socket.exists)
        with Blazing(app_id, url=f"unix://{socket}") as app:
            step = app.step(same)
            parts = step.map(range(300))
            ops = [step.enqueue(parts), step.enqueue([parts[0], parts[299]])]
            process = restart(process, command)
            worker = Worker(app_id, url=app.url).start()
            assert [op.result(30) for op in ops] == [list(range(300)), [0, 299]]
            worker.close()
    finally:
        process.kill()
        process.wait()
