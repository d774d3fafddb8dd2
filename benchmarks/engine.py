"""The engine's own limits, each beside what it is measured against in the same run.

python -m benchmarks.engine --sections lua,busy,single,segments,nodes,pace,aof,listing,fairness --json
python -m benchmarks.engine --sections flat --flat-ops 10000000
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.server import server, worker
from benchmarks.work import add, fail, nap
from blazing_nb import Blazing, Step, __version__
from blazing_nb.core.metrics import difference, quantile
from blazing_nb.store.reply import parse_info
from blazing_nb.store.request import Chunk, Group
from blazing_nb.store.store import Store

Figures = dict[str, Any]
OPS = 20_000
BARE = """
local out = {}
redis.call('XGROUP', 'CREATE', KEYS[1], 'w', '0', 'MKSTREAM')
for i = 1, ARGV[1] do
  local id = redis.call('XADD', KEYS[1], '*', 'p', ARGV[2], 't', '1800000000000')
  redis.call('XREADGROUP', 'GROUP', 'w', 'c', 'COUNT', 1, 'STREAMS', KEYS[1], '>')
  redis.call('XACK', KEYS[1], 'w', id)
  redis.call('XDEL', KEYS[1], id)
  redis.call('HSET', KEYS[2] .. math.floor(i / 128), i % 128, ARGV[3])
end
redis.call('DEL', KEYS[1])
"""


@contextlib.contextmanager
def stage(workers: int = 1, *options: str, aof: bool = False) -> Iterator[tuple[Blazing, str]]:
    """A fresh server, an app and ready workers."""
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(server(aof=aof))
        app = stack.enter_context(Blazing("bench", url=url, node_id="node-0"))
        app.step(add).code()
        for _ in range(workers):
            stack.enter_context(worker("bench", url, *options))
        yield app, url


def info(app: Blazing) -> dict[str, float]:
    pairs = parse_info(app.store.connection().call("INFO", "everything"))
    names = ("used_cpu_sys", "used_cpu_user", "total_reads_processed", "used_memory", "aof_current_size")
    return {name: float(pairs.get(name, 0)) for name in names}


def cpu_us(after: dict[str, float], before: dict[str, float]) -> float:
    return sum(after[f"used_cpu_{kind}"] - before[f"used_cpu_{kind}"] for kind in ("sys", "user")) * 1e6


def seconds(once: Callable[[], object]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def map_all(step: Step, ops: int = OPS) -> None:
    assert step.starmap([(i, 1) for i in range(ops)]).results(300) == list(range(1, ops + 1))


def lua() -> Figures:
    """Redis CPU and socket reads per operation at map, against the same five commands one by one in a Lua loop."""
    with stage() as (app, _):
        step = app["add"]
        map_all(step)
        before = info(app)
        map_all(step)
        middle = info(app)
        payload, record = step._sender.prepare((1, 1), {})[1] + b"c" * 13, b"S3677244071431581-1;" + b"r" * 30
        for _ in range(OPS // 1000):
            app.store.connection().call("EVAL", BARE, 2, "bare", "bare-out:", 1000, payload, record)
        after = info(app)
    ours, bare = cpu_us(middle, before) / OPS, cpu_us(after, middle) / OPS
    reads = (middle["total_reads_processed"] - before["total_reads_processed"]) / OPS
    return {"redis_us": ours, "bare_lua_us": bare, "redis_to_bare_lua": ours / bare, "reads_per_op": reads}


def busy() -> Figures:
    """Operations of 1 ms on 8 threads: the share of the threads' time that is spent in user code."""
    with stage() as (app, _):
        step = app.step(nap)
        step.map([0.001] * 2000).results(60)
        frame_of = step.map([0.001] * OPS)
        frame_of.results(120)
        frame = frame_of.to_frame()
    ended = frame["started_at"].astype("int64") / 1e9 + frame["run_s"]
    elapsed = ended.max() - frame["started_at"].astype("int64").min() / 1e9
    return {"busy_share_1ms": float(frame["run_s"].sum() / (8 * elapsed)), "ops_1ms_per_s": OPS / float(elapsed)}


def single() -> Figures:
    """Long operations, claimed one a free thread: 64 threads, 10 ms each; at most 6,400/s are possible."""
    ops = 12_000
    with stage(1, "--threads", "64") as (app, _):
        step = app.step(nap)
        step.map([0.01] * 1000).results(60)
        took = seconds(lambda: step.map([0.01] * ops).results(120))
    return {"claimed_singly_per_s": ops / took}


def segments() -> Figures:
    """Server time of a turn that commits and claims one operation: 1 active segment among 10 and among 1,000."""
    costs = {count: statistics.median(_turn_us(count) for _ in range(3)) for count in (10, 1000)}
    return {"turn_us_10": costs[10], "turn_us_1000": costs[1000], "segments_1000_to_10": costs[1000] / costs[10]}


def _turn_us(count: int) -> float:
    turns = 2000
    with server(aof=False) as (url, _):
        store = Store("bench", url)
        w = store.open_worker("w", 600_000)
        for i in range(count - 1):
            store.enqueue(Chunk("f", "n", f"n{i}", store.open_node(f"n{i}"), 1, [b"x"]))
        done: list[Any] = []
        while claims := store.turn(f"w.{w}", w, _groups(done), [b"Sx"] * len(done), [(256, ["f"])]).claims:
            done = [(c.segment, e[0].decode()) for c in claims for e in c.entries]
        node = store.open_node("last")
        store.enqueue(Chunk("f", "n", "last", node, 1, [b"x"] * turns))
        store.connection().call("CONFIG", "RESETSTAT")
        done = []
        for _ in range(turns):
            claims = store.turn(f"w.{w}", w, _groups(done), [b"Sx"] * len(done), [(1, ["f"])]).claims
            done = [(c.segment, e[0].decode()) for c in claims for e in c.entries]
        text: bytes = store.connection().call("INFO", "commandstats")
        [line] = [line for line in text.decode().splitlines() if line.startswith("cmdstat_evalsha:")]
        store.close()
    return float(line.split("usec_per_call=")[1].split(",")[0])


def _groups(done: list[tuple[str, str]]) -> list[Group]:
    return [Group(segment, 256, 60_000, [entry], [1], [1], [1]) for segment, entry in done]


def nodes() -> Figures:
    """Ten processes that map a tenth each at once, against one that maps all; both with two workers, in turn. Beside
    it ten processes against one without any queue: what this machine takes for ten."""
    rates: dict[tuple[int, bool], list[float]] = {}
    for _ in range(3):
        for bare, ops in ((False, 60_000), (True, 600_000)):
            for count in (1, 10):
                rates.setdefault((count, bare), []).append(_nodes_rate(count, ops, *["--bare"] * bare))
    one, ten, bare_one, bare_ten = (
        statistics.median(rates[count, bare]) for bare in (False, True) for count in (1, 10)
    )
    return {
        "one_node_per_s": one,
        "ten_nodes_per_s": ten,
        "ten_to_one": ten / one,
        "bare_ten_to_one": bare_ten / bare_one,
    }


def _nodes_rate(count: int, ops: int, *options: str) -> float:
    with stage(2) as (_, url):
        reports = _run_nodes(url, count, "--ops", str(ops // count), *options)
    return ops / float(max(r["ended"] for r in reports) - min(r["began"] for r in reports))


def _run_nodes(url: str, count: int, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.node", "--url", url, "--barrier", "barrier", "--of", str(count)]
    made = [
        subprocess.Popen([*command, "--node", f"node-{i}", *options], stdout=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    return [json.loads(process.communicate(timeout=600)[0]) for process in made]


def pace() -> Figures:
    """8,000 operations a second from ten nodes for 60 s: enqueued to committed, beside a PING of the same processes."""
    length = 60
    with stage(2) as (app, url):
        app["add"].enqueue(1, 1).result(10)
        before = app.snapshot().steps[0]
        reports = _run_nodes(url, 10, "--pace", "800", "--seconds", str(length))
        time.sleep(1.0)
        after = app.snapshot().steps[0]
    total = difference(after.total, before.total)
    return {
        "paced_per_s": (after.succeeded - before.succeeded) / length,
        "paced_p50_ms": quantile(total, 0.5) * 1000,
        "paced_p99_ms": quantile(total, 0.99) * 1000,
        "ping_p99_ms": statistics.median(r["ping_p99_ms"] for r in reports),
    }


def aof() -> Figures:
    """Map with the append-only file (fsync every second) against without, in turn; and its bytes per operation."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    size = 0.0
    for _ in range(3):
        for kept in (False, True):
            with stage(aof=kept) as (app, _):
                step = app["add"]
                map_all(step)
                before = info(app)
                rates[kept].append(OPS * 2 / seconds(lambda step=step: map_all(step, OPS * 2)))  # type: ignore[misc]
                size = (info(app)["aof_current_size"] - before["aof_current_size"]) / OPS / 2
    without, kept_rate = statistics.median(rates[False]), statistics.median(rates[True])
    return {"map_per_s": without, "map_aof_per_s": kept_rate, "aof_to_none": kept_rate / without, "aof_bytes": size}


def listing() -> Figures:
    """Pages of 100 among 100,000 finished operations."""
    with stage() as (app, _):
        map_all(app["add"], 99_990)
        app.step(fail).map(range(10)).wait(20)
        newest = statistics.median(seconds(lambda: app.operations(limit=100)) for _ in range(9))
        failed = statistics.median(seconds(lambda: app.operations("FAILED", limit=100)) for _ in range(9))
        assert len(app.operations("FAILED")) == 10
    return {"list_newest_ms": newest * 1000, "list_failed_ms": failed * 1000}


def fairness() -> Figures:
    """One operation of a quiet node, its wait: alone, and beside a segment flooded with 200,000."""
    with stage(2) as (app, _):
        step = app.step(nap)
        app.step(add)
        quiet = _waits(app, step, 200)
        flood = step.map([0.0005] * 200_000, node_id="flood")
        beside = _waits(app, step, 200)
        left = len(flood) - flood.done_count
        flood.cancel()
    assert left > 0, "the flood was over before the measurement"
    return {"alone_p99_ms": quiet, "beside_flood_p99_ms": beside, "flood_left": left}


def _waits(app: Blazing, step: Step, n: int) -> float:
    waits = []
    for _ in range(n):
        began = time.perf_counter()
        step.enqueue(0.0).result(60)
        waits.append(time.perf_counter() - began)
    waits.sort()
    return waits[int(0.99 * n)] * 1000


def flat(ops: int) -> Figures:
    """Memory of the server while `ops` operations with a retention of 60 s go through: its largest in each third of the
    time after the first 75 s."""
    samples: list[tuple[float, float]] = []
    with stage(1) as (app, _):
        step = app.step(add, name="add").options(retention=60)
        done, began = 0, time.monotonic()
        while done < ops:
            map_all(step, 50_000)
            done += 50_000
            samples.append((time.monotonic() - began, app.store.memory()[0] / 1e6))
    late = [used for at, used in samples if at > 75]
    thirds = [max(late[i * len(late) // 3 : (i + 1) * len(late) // 3], default=0.0) for i in range(3)]
    return {"flat_ops": done, "flat_seconds": samples[-1][0], "flat_mb_by_third": [round(mb, 1) for mb in thirds]}


SECTIONS: dict[str, Callable[[], Figures]] = {
    "lua": lua,
    "busy": busy,
    "single": single,
    "segments": segments,
    "nodes": nodes,
    "pace": pace,
    "aof": aof,
    "listing": listing,
    "fairness": fairness,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--flat-ops", type=int, default=10_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures: Figures = {}
    for name in args.sections.split(","):
        figures |= flat(args.flat_ops) if name == "flat" else SECTIONS[name]()
    figures = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
    figures |= {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(figures) if args.json else "\n".join(f"{key:24} {value}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
