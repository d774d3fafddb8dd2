"""Faults on real processes while work goes on; every transition is witnessed, and the history is checked.

    python -m tests.fault.soak --ops 20000 --faults 120 --seed 1 --json
    python -m tests.fault.soak --ops 20000 --cuts 1000 --json     # nothing but connections that are cut

Workers and nodes are killed (-9), workers stopped beyond their lease, connections cut, replies dropped by a proxy,
scripts flushed, the server killed and restarted on its append-only file (fsync always), and stopped for twice the
lease. The scripts carry a witness (`trace.py`); `checker.py` reads its events. Exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from blazing_nb import Batch, Blazing
from blazing_nb.client.proxy import Proxy
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.errors import BatchUnknown, BlazingError, OperationLost, StoreError
from blazing_nb.store.candidate import find_binary
from blazing_nb.store.connection import Connection
from tests.fault import fan_in
from tests.fault.checker import Checker

LEASE_S = 1.5
GAP_S = 0.2
CUT_GAP_S = 0.03
WORKERS = 3
NODES = 2
RESTARTS = 20  # of nodes that failed by themselves, in one run
PREFIX = "bz:{soak:0}:"
_decode = msgspec.msgpack.Decoder(strict=False).decode
WEIGHTS: dict[str, float] = {
    "kill_worker": 40,
    "pause_worker": 11,
    "cut_connections": 6,
    "drop_replies": 6,
    "flush_scripts": 3,
    "kill_node": 3,
    "kill_server": 1.3,
    "stop_server": 1,
}
STRUCTURE = """
local P, wrong = KEYS[1], {}
for _, name in ipairs(redis.call('ZRANGE', P .. 'segs', 0, -1)) do
  local seg, step, prio = P .. 'seg:' .. name, string.match(name, '^([^:]*):([^:]*):')
  local waiting = redis.call('XLEN', seg) - redis.call('XPENDING', seg, 'w')[1]
  local active = redis.call('ZSCORE', P .. 'active:' .. step .. ':' .. prio, name)
  if waiting > 0 and not active then wrong[#wrong + 1] = name end
  for _, row in ipairs(redis.call('XPENDING', seg, 'w', '-', '+', 5000, '@parked')) do
    local member = name .. '|' .. row[1]
    if not (redis.call('ZSCORE', P .. 'parked:' .. step, member) or redis.call('ZSCORE', P .. 'solo', member)) then
      wrong[#wrong + 1] = member
    end
  end
end
return wrong
"""


class Soak:
    """One run in a directory of its own."""

    def __init__(self, seed: int, nap: float, pace: float, *, cuts: bool = False) -> None:
        self.random = random.Random(seed)
        self.nap, self.pace, self.cuts = nap, pace, cuts
        self.folder = Path(tempfile.mkdtemp(prefix="bzf-", dir="/tmp"))
        os.environ["BLAZING_HOME"] = str(self.folder / "home")
        self.journal = self.folder / "journal"
        self.journal.mkdir()
        self.socket = self.folder / "s.sock"
        self.url = f"unix://{self.socket}"
        self.proxy = Proxy(self.url, self.folder / "p.sock", seed=seed)
        self.faults: collections.Counter[str] = collections.Counter()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.nodes: list[subprocess.Popen[bytes] | None] = [None] * NODES
        self.node_commands: list[list[str]] = []
        self.server: subprocess.Popen[bytes] | None = None
        self.checker = Checker()
        self.timers: list[threading.Timer] = []
        self.lock = threading.RLock()
        self.over = threading.Event()
        self.joins = self.joins_failed = 0

    # -- processes

    def start_server(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        self.server = subprocess.Popen([str(find_binary()), *options], stdout=subprocess.DEVNULL)
        connection = Connection(self.url, deadline_s=60)
        connection.call("PING")
        connection.close()

    def spawn(self, command: list[str], log: str, url: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "BLAZING_REDIS_URL": url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen([sys.executable, "-m", *command], stdout=file, stderr=file, env=environment)

    def start_worker(self) -> None:
        """Every other one behind the proxy, or all."""
        url = self.proxy.url if self.cuts else self.random.choice([self.url, self.proxy.url])
        command = ["tests.fault.trace", "worker", "--app", "soak", "--lease", str(LEASE_S)]
        self.workers.append(self.spawn(command, "workers.log", url))

    def start_node(self, i: int) -> None:
        self.nodes[i] = self.spawn(self.node_commands[i], f"node-{i}.log", self.url)

    def tail(self, log: str) -> str:
        return (self.folder / log).read_text()[-2000:]

    def end(self) -> None:
        self.over.set()
        for timer in self.timers:
            timer.cancel()
        for process in [*self.workers, *self.nodes, self.server]:
            if process is not None:
                process.kill()
                process.wait()
        self.proxy.close()
        shutil.rmtree(self.folder)

    # -- faults

    def kill_worker(self) -> None:
        victim = self.workers.pop(self.random.randrange(len(self.workers)))
        victim.kill()
        victim.wait()
        self.start_worker()

    def pause_worker(self) -> None:
        """Beyond its lease, while other faults go on; it may be killed meanwhile."""
        victim = self.random.choice(self.workers)
        victim.send_signal(signal.SIGSTOP)
        timer = threading.Timer(LEASE_S * 1.5, lambda: victim.poll() is None and victim.send_signal(signal.SIGCONT))
        self.timers = [timer, *(t for t in self.timers if t.is_alive())]
        timer.start()

    def kill_node(self) -> None:
        """An enqueuing process; another start of it goes on where it was."""
        with self.lock:
            i = self.random.randrange(NODES)
            victim = self.nodes[i]
            if victim is not None and victim.poll() is None:
                victim.kill()
                victim.wait()
                self.start_node(i)

    def cut_connections(self) -> None:
        self._call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def drop_replies(self) -> None:
        self.proxy.drop_replies(0.1 + 0.2 * self.random.random())

    def flush_scripts(self) -> None:
        self._call("SCRIPT", "FLUSH")

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        time.sleep(self.random.random())
        self.start_server()

    def stop_server(self) -> None:
        """An outage of twice the lease: no deaths are counted for it."""
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)
        time.sleep(2 * LEASE_S)
        self.server.send_signal(signal.SIGCONT)

    def _call(self, *words: str) -> None:
        connection = Connection(self.url, deadline_s=60)
        connection.call(*words)
        connection.close()

    def inject(self, n: int) -> None:
        # Every kind of fault takes part; the rest by weight.
        kinds = [*WEIGHTS, *self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=max(0, n - len(WEIGHTS)))][:n]
        self.random.shuffle(kinds)
        for kind in kinds:
            getattr(self, kind)()
            self.faults[kind] += 1
            time.sleep(GAP_S * self.random.random())

    def cut(self, n: int) -> None:
        """One connection after the other, somebody's at random; every twentieth time all of them."""
        for i in range(n):
            before = self.proxy.cuts
            if i % 20:
                self.proxy.cut_one()
            else:
                self.proxy.cut()
            self.faults["cut"] += 1
            self.faults["connections_cut"] += self.proxy.cuts - before
            time.sleep(2 * CUT_GAP_S * self.random.random())

    # -- witnesses

    def watch(self) -> None:
        """Read the events as they come, and drop what was read."""
        connection, position = Connection(self.url, deadline_s=60), "0-0"
        while True:
            last_round = self.over.is_set()
            try:
                reply = connection.call("XREAD", "COUNT", 2000, "STREAMS", PREFIX + "trace", position)
            except StoreError:
                continue
            for entry, fields in reply[0][1] if reply else []:
                position = entry.decode()
                self.checker.see(_decode(fields[1]))
            if reply:
                connection.call("XTRIM", PREFIX + "trace", "MINID", position)
            elif last_round:
                connection.close()
                return
            else:
                time.sleep(0.05)

    def inspect(self) -> None:
        """I9, I19: at any moment the accounts balance and the registers cover what waits."""
        store = Blazing("soak", url=self.url).store
        while not self.over.wait(0.5):
            try:
                snapshot = store.snapshot()
                wrong = store.connection().call("EVAL", STRUCTURE, 1, PREFIX)
            except StoreError:
                continue
            depth = snapshot.waiting + snapshot.parked + snapshot.claimed
            for step in snapshot.steps:
                self.checker.demand(step.enqueued == depth + step.finished, f"I19: {step} with {depth} in its segments")
            self.checker.demand(not wrong, f"I9: {wrong}")
        store.close()

    # -- the run

    def run(self, ops: int, faults: int, cuts: int = 0) -> dict[str, Any]:
        began = time.monotonic()
        self.start_server()
        share = ops // NODES
        for i in range(NODES):
            command = [
                "tests.fault.node",
                "--url",
                self.url if i % 2 and not cuts else self.proxy.url,
                "--node",
                f"node-{i}",
            ]
            command += [
                "--batch",
                f"b{i}",
                "--start",
                str(i * share),
                "--ops",
                str(share),
                "--journal",
                str(self.journal),
            ]
            self.node_commands.append([*command, "--nap", str(self.nap), "--pace", str(self.pace / NODES)])
            self.start_node(i)
        for _ in range(WORKERS):
            self.start_worker()
        watchers = [threading.Thread(target=target) for target in (self.watch, self.inspect)]
        for watcher in watchers:
            watcher.start()
        injector = threading.Thread(target=self.cut if cuts else self.inject, args=(cuts or faults,))
        injector.start()
        self.enqueue_all()
        injector.join()
        with Blazing("soak", url=self.url) as app:
            batches = [self.attach(app, f"b{i}") for i in range(NODES)]
            joins = [list(fan_in.attach(app, f"b{i}")) for i in range(NODES)]
            done = all(batch.wait(300) for batch in itertools.chain(batches, *joins))
            self.over.set()
            for watcher in watchers:
                watcher.join()
            report = self.check(app, batches, joins, share, done)
        return {**report, "faults": dict(self.faults), "seconds": round(time.monotonic() - began, 1)}

    def enqueue_all(self) -> None:
        """Until both nodes have said that all is enqueued; one that failed is started again, 20 times."""
        while True:
            with self.lock:
                codes = [node.poll() if node else None for node in self.nodes]
                if codes == [0] * NODES:
                    return
                for i, code in enumerate(codes):
                    if code not in (None, 0):
                        self.faults["node_restarted"] += 1
                        if self.faults["node_restarted"] > RESTARTS:
                            raise RuntimeError(f"node-{i} fails again and again: {self.tail(f'node-{i}.log')}")
                        self.start_node(i)
            time.sleep(0.2)

    def attach(self, app: Blazing, name: str) -> Batch:
        found = app.attach(name)
        if not isinstance(found, Batch):
            raise BatchUnknown(name)
        return found

    def check(
        self, app: Blazing, batches: list[Batch], joins: list[list[Batch]], share: int, done: bool
    ) -> dict[str, Any]:
        ops, demand = share * NODES, self.checker.demand
        self.checker.finish()
        demand([len(batch) for batch in batches] == [share] * NODES, f"I1, I2: {batches}")
        final, given_up = 0, set[int]()
        for i, batch in enumerate(batches):
            for x, value in enumerate(self.values(app, batch), i * share):
                final += value is not None
                if isinstance(value, OperationLost):
                    given_up.add(x)
                elif value is not None and value != x * x:
                    demand(False, f"operation {x} gave {value!r}")
        snapshot = app.snapshot()
        [step] = [s for s in snapshot.steps if s.step == "work"]
        executed = self.executions()
        demand(done and final == ops, f"stuck: {ops - final} of {ops}")
        demand(step.enqueued == ops, f"I1, I2: {step.enqueued} enqueued of {ops}")
        demand(step.finished == ops, f"I3, I19: {step.finished} commits of {ops}")
        demand(step.succeeded == ops - len(given_up), f"I3: {step.succeeded} successes of {ops - len(given_up)}")
        depth = snapshot.waiting + snapshot.parked + snapshot.claimed
        demand(depth == 0, f"I9, I19: {depth} left in the segments")
        never = set(range(ops)) - executed.keys()  # a worker may die thrice between claim and execution
        demand(never <= given_up, f"I1, I10: {len(never - given_up)} succeeded and were never executed")
        for i, mine in enumerate(joins):
            failed = [fan_in.check(batch, i * share, given_up, self.journal, demand) for batch in mine]
            self.joins += len(mine)
            self.joins_failed += sum(error is not None for error in failed)
        demand(self.joins > 0 or share <= fan_in.EVERY, "no joins were enqueued")
        return self.report(ops, final, len(given_up), step, executed)

    def report(self, ops: int, final: int, given_up: int, step: Any, executed: Any) -> dict[str, Any]:
        recovery = sorted(self.checker.recovery_ms) or [0.0]
        return {
            "ops": ops,
            "final": final,
            "lost": ops - final,
            "double_commits": max(0, step.finished - ops),
            "stuck": ops - final,
            "violations": self.checker.violations,
            "executed_more_than_once": sum(n > 1 for n in executed.values()),
            "gave_up_at_third_death": given_up,
            "joins": self.joins,
            "joins_failed_with_a_lost_member": self.joins_failed,
            "fenced": step.fenced,
            "rescued": step.rescued,
            "retried": step.retried,
            "events": sum(self.checker.counts.values()),
            "claimed_again_ms_after_lease": {"median": statistics.median(recovery), "max": recovery[-1]},
            "dropped_replies": self.proxy.dropped,
        }

    def values(self, app: Blazing, batch: Batch) -> list[Any]:
        """I8: what was seen is what is stored."""
        ops = [batch[i] for i in range(len(batch))]
        rows = app.store.status([op.op for op in ops])
        found: list[Any] = []
        for op, row, record in zip(ops, rows, batch._results.records, strict=True):
            if record is None:
                found.append(None)
                continue
            self.checker.demand(row.record == record, f"I8: {op.id} was {decode_outcome(record)} and is {row.record!r}")
            try:
                found.append(op.result(0))
            except BlazingError as error:
                found.append(error)
        return found

    def executions(self) -> collections.Counter[int]:
        lines = [line for path in self.journal.iterdir() for line in path.read_text().splitlines()]
        # A killed process may leave its last line cut off; that execution is not counted.
        return collections.Counter(int(line) for line in lines if line.isdigit())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=4000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--cuts", type=int, default=0, help="instead of faults: connections cut, all of them proxied")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nap", type=float, default=0.002, help="mean seconds that an operation takes")
    parser.add_argument("--pace", type=float, default=500.0, help="operations enqueued a second by all nodes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    soak = Soak(args.seed, args.nap, args.pace, cuts=bool(args.cuts))
    try:
        report = soak.run(args.ops, args.faults, args.cuts)
    finally:
        soak.end()
    print(json.dumps(report) if args.json else "\n".join(f"{key:30} {value}" for key, value in report.items()))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
