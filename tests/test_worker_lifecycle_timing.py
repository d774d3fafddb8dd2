"""When workers begin and end: together where they shall, and in order, whatever is in flight."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

from blazing_nb import Blazing, Status, Worker, current
from tests.condition import until
from tests.conftest import WorkerFactory


def hold(folder: str, n: int) -> str:
    """Says that it began, and takes until it may end."""
    here = Path(folder)
    (here / f"began-{n}").touch()
    while not (here / "go").exists():
        time.sleep(0.005)
    current().effect.incr("ended")
    return current().token.rpartition("-")[2]


def began(folder: Path) -> int:
    return len(list(folder.glob("began-*")))


def test_workers_start_together_once_all_are_ready(app: Blazing, url: str, tmp_path: Path) -> None:
    """What is enqueued before the last one is ready begins with all of them."""
    step = app.step(hold)
    (tmp_path / "go").touch()
    workers: list[Worker] = []
    starting = threading.Thread(
        target=lambda: workers.extend(Worker(app.app_id, url=url, threads=2).start() for _ in range(3))
    )
    starting.start()
    with app.workers.barrier(3, 30) as ready:
        assert len(ready) == 3
        batch = step.starmap([(str(tmp_path), n) for n in range(60)])
        assert app.snapshot().waiting == 60
        assert began(tmp_path) == 0
    holders = batch.results(timeout=30)
    starting.join(20)
    assert len(set(holders)) >= 2, "more than one took part"
    for worker in workers:
        worker.close()


def test_a_worker_is_new_ready_draining_and_gone_in_this_order(app: Blazing, url: str, tmp_path: Path) -> None:
    worker = Worker(app.app_id, url=url, threads=1)
    seen = [worker.state]
    worker.start()
    until(lambda: worker.state == "ready")
    seen.append(worker.state)
    batch = app.step(hold).starmap([(str(tmp_path), n) for n in range(5)])
    until(lambda: began(tmp_path) == 1)
    worker.stop_accepting()
    seen.append(worker.state)
    assert worker.wait_for_completion(0.05) is False
    assert batch[0].status in (Status.CLAIMED, Status.RUNNING)
    (tmp_path / "go").touch()
    assert worker.wait_for_completion(20) is True
    assert batch[0].result(20)
    worker.close()
    assert seen == ["new", "ready", "draining"]
    assert app.snapshot().workers == []
    left = [batch[n].status for n in range(1, 5) if not batch[n].done()]
    assert set(left) <= {Status.PENDING, Status.RETRYING}, "what it had not begun waits for others"
    with_another = Worker(app.app_id, url=url).start()
    assert len(batch.results(timeout=20)) == 5
    with_another.close()
    assert app.shared().counter("ended").value == 5


def test_sigterm_drains_in_order_and_claims_nothing_more(
    app: Blazing, worker_process: WorkerFactory, tmp_path: Path
) -> None:
    child = worker_process("--threads", "2")
    step = app.step(hold)
    first = step.starmap([(str(tmp_path), n) for n in range(2)])
    until(lambda: began(tmp_path) == 2, 20)
    child.send(signal.SIGTERM)
    child.wait_for_line(lambda line: line.startswith("stopping"))
    second = step.starmap([(str(tmp_path), n) for n in range(2, 4)])
    (tmp_path / "go").touch()
    assert len(first.results(timeout=20)) == 2
    assert child.wait() == 0
    order = [line.split()[0] for line in child.lines if line.split(maxsplit=1)[:1] and line[0].islower()]
    assert order.index("ready") < order.index("stopping") < order.index("stopped")
    assert began(tmp_path) == 2
    assert second[0].status is Status.PENDING
    assert app.snapshot().workers == []


def test_a_second_signal_gives_back_at_once_and_another_worker_ends_it_once(
    app: Blazing, worker_process: WorkerFactory, tmp_path: Path
) -> None:
    child = worker_process("--threads", "1")
    operation = app.step(hold).enqueue(str(tmp_path), 0)
    until(lambda: began(tmp_path) == 1, 20)
    child.send(signal.SIGTERM)
    child.wait_for_line(lambda line: line.startswith("stopping"))
    child.send(signal.SIGTERM)
    assert child.wait() == 1
    assert operation.status in (Status.PENDING, Status.RETRYING, Status.SCHEDULED)
    (tmp_path / "go").touch()
    worker_process()
    assert operation.result(20)
    assert operation.attempt == 1, "a release is no attempt"
    assert app.shared().counter("ended").value == 1
