"""Faults on real processes while work goes on; then every operation is accounted for.

    python -m tests.fault.soak --ops 4000 --faults 40 --seed 1 --json

Workers are killed (-9) and stopped beyond their lease, connections are cut, scripts flushed, the server is killed and
restarted on its append-only file (fsync always), and stopped for twice the lease. Exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from blazing_nb import Blazing
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.errors import BlazingError, OperationLost
from blazing_nb.store.candidate import find_binary
from blazing_nb.store.connection import Connection

LEASE_S = 1.5
WORKERS = 3
CHUNK = 200


def work(x: int, journal: str, seconds: float) -> int:
    """Say that it was executed, take time, square."""
    import os
    import time

    with open(f"{journal}/{os.getpid()}", "a") as file:
        file.write(f"{x}\n")
    time.sleep(seconds)
    return x * x


class Soak:
    """One run in a directory of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="bzf-", dir="/tmp"))
        os.environ["BLAZING_HOME"] = str(self.folder / "home")
        self.journal = self.folder / "journal"
        self.journal.mkdir()
        self.url = f"unix://{self.folder}/s.sock"
        self.faults: collections.Counter[str] = collections.Counter()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.server: subprocess.Popen[bytes] | None = None
        self.violations: list[str] = []

    # -- processes

    def start_server(self) -> None:
        options = ["--port", "0", "--unixsocket", f"{self.folder}/s.sock", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        self.server = subprocess.Popen([str(find_binary()), *options], stdout=subprocess.DEVNULL)
        connection = Connection(self.url, deadline_s=20)
        connection.call("PING")
        connection.close()

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "blazing_nb", "worker", "--app", "soak", "--lease", str(LEASE_S)]
        environment = {**os.environ, "BLAZING_REDIS_URL": self.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        log = (self.folder / "workers.log").open("ab")
        self.workers.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        log.close()

    def end(self) -> None:
        for process in [*self.workers, *([self.server] if self.server else [])]:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)

    # -- faults

    def kill_worker(self) -> None:
        victim = self.workers.pop(self.random.randrange(len(self.workers)))
        victim.kill()
        victim.wait()
        self.start_worker()

    def pause_worker(self) -> None:
        victim = self.random.choice(self.workers)
        victim.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S * 1.5)
        victim.send_signal(signal.SIGCONT)

    def cut_connections(self) -> None:
        self._call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def flush_scripts(self) -> None:
        self._call("SCRIPT", "FLUSH")

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        time.sleep(self.random.random())
        self.start_server()

    def stop_server(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)
        time.sleep(2 * LEASE_S)
        self.server.send_signal(signal.SIGCONT)

    def _call(self, *words: str) -> None:
        connection = Connection(self.url)
        connection.call(*words)
        connection.close()

    def inject(self, n: int) -> None:
        kinds = {
            self.kill_worker: 12,
            self.pause_worker: 3,
            self.cut_connections: 6,
            self.flush_scripts: 3,
            self.kill_server: 2,
            self.stop_server: 1,
        }
        for fault in self.random.choices(list(kinds), list(kinds.values()), k=n):
            fault()
            self.faults[fault.__name__] += 1
            time.sleep(0.3 * self.random.random())

    # -- the run

    def run(self, ops: int, faults: int) -> dict[str, Any]:
        began = time.monotonic()
        self.start_server()
        for _ in range(WORKERS):
            self.start_worker()
        with Blazing("soak", url=self.url) as app:
            injector = threading.Thread(target=self.inject, args=(faults,))
            injector.start()
            batches = self.enqueue(app, ops, injector)
            injector.join()
            done = all(batch.wait(120) for batch in batches)
            report = self.check(app, batches, ops, done)
        return {**report, "faults": dict(self.faults), "seconds": round(time.monotonic() - began, 1)}

    def enqueue(self, app: Blazing, ops: int, injector: threading.Thread) -> list[Any]:
        """From two nodes, spread over the time of the faults."""
        step = app.step(work)
        batches = []
        for at in range(0, ops, CHUNK):
            items = [(x, str(self.journal), 0.002) for x in range(at, min(ops, at + CHUNK))]
            batches.append(step.starmap(items, node_id=f"node-{at // CHUNK % 2}"))
            depth = len(batches) * CHUNK - sum(batch.done_count for batch in batches)
            while depth > 4 * CHUNK and injector.is_alive():
                time.sleep(0.05)
                depth = len(batches) * CHUNK - sum(batch.done_count for batch in batches)
        return batches

    def check(self, app: Blazing, batches: list[Any], ops: int, done: bool) -> dict[str, Any]:
        expected, lost, final = iter(range(ops)), 0, 0
        for batch in batches:
            for x, value in zip(expected_part(expected, len(batch)), self.values(batch), strict=True):
                final += value is not None
                lost += isinstance(value, OperationLost)
                if value is not None and not isinstance(value, OperationLost) and value != x * x:
                    self.violations.append(f"operation {x} gave {value!r}")
        snapshot = app.snapshot()
        [step] = [s for s in snapshot.steps if s.step == "work"]
        executed = self.executions()
        self.demand(done and final == ops, f"stuck: {ops - final} of {ops}")
        self.demand(step.enqueued == ops, f"I1, I2: {step.enqueued} enqueued of {ops}")
        self.demand(step.finished == ops, f"I3, I19: {step.finished} commits of {ops}")
        self.demand(step.succeeded == ops - lost, f"I3: {step.succeeded} successes of {ops - lost}")
        depth = snapshot.waiting + snapshot.parked + snapshot.claimed
        self.demand(depth == 0, f"I9, I19: {depth} left in the segments")
        self.demand(set(range(ops)) <= executed.keys() or lost > 0, "I1: an operation was never executed")
        return {
            "ops": ops,
            "final": final,
            "lost": lost,
            "double_commits": max(0, step.finished - ops),
            "stuck": ops - final,
            "violations": self.violations,
            "executed_more_than_once": sum(n > 1 for n in executed.values()),
            "fenced": step.fenced,
            "rescued": step.rescued,
        }

    def values(self, batch: Any) -> list[Any]:
        found = []
        for op, record in zip((batch[i] for i in range(len(batch))), batch._results.records, strict=True):
            if record is None:
                found.append(None)
                continue
            again = app_record(op)
            self.demand(again == record, f"I8: {op.id} was {decode_outcome(record)} and is {again!r}")
            try:
                found.append(op.result(0))
            except BlazingError as error:
                found.append(error)
        return found

    def executions(self) -> collections.Counter[int]:
        lines = [line for path in self.journal.iterdir() for line in path.read_text().splitlines()]
        return collections.Counter(map(int, lines))

    def demand(self, holds: bool, text: str) -> None:
        if not holds and len(self.violations) < 20:
            self.violations.append(text)


def app_record(op: Any) -> bytes:
    """The outcome as the store has it now."""
    record: bytes = op._app.store.status([op.op])[0].record
    return record


def expected_part(numbers: Any, n: int) -> list[int]:
    return [next(numbers) for _ in range(n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=4000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    soak = Soak(args.seed)
    try:
        report = soak.run(args.ops, args.faults)
    finally:
        soak.end()
    print(json.dumps(report) if args.json else "\n".join(f"{key:24} {value}" for key, value in report.items()))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
