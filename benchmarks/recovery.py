"""Seconds from kill -9 of a worker in mid-operation until another worker executes the operation again.

python -m benchmarks.recovery --trials 50 --default-trials 5 --supervised 10 --peers celery,dramatiq --json
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blazing_nb
from benchmarks.peers import ROOT, Report, environment
from benchmarks.server import server
from benchmarks.work import hold
from blazing_nb import Blazing, Operation

LEASE_S, DEFAULT_LEASE_S = 1.0, 10.0
PEER_S = 60.0
WAIT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="with a lease of 1 s")
    parser.add_argument("--default-trials", type=int, default=5, help="with the default lease")
    parser.add_argument("--supervised", type=int, default=10, help="of app.workers, whose supervisor sees the death")
    parser.add_argument("--peers", default="celery,dramatiq", help="each once, for 60 s; empty: none")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {**_peers([peer for peer in args.peers.split(",") if peer]), **_ours(args)}
    report["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report["date"] = datetime.date.today().isoformat()
    print(json.dumps(report) if args.json else json.dumps(report, indent=2))
    return 0


def _ours(args: argparse.Namespace) -> Report:
    with server(aof=False) as (url, binary):
        return {
            "version": blazing_nb.__version__,
            "server": f"{binary.brand} {binary.version}",
            "lease_1s": _summary(_unsupervised(url, args.trials, LEASE_S), LEASE_S),
            "lease_default": _summary(_unsupervised(url, args.default_trials, DEFAULT_LEASE_S), DEFAULT_LEASE_S),
            "supervised": _summary(_supervised(url, args.supervised), DEFAULT_LEASE_S),
        }


def _summary(seconds: list[float], lease_s: float) -> Report:
    if not seconds:
        return {"trials": 0, "lease_s": lease_s}
    median, worst = statistics.median(seconds), max(seconds)
    shares = {"median_to_lease": round(median / lease_s, 3), "worst_to_lease": round(worst / lease_s, 3)}
    rounded = {"median_s": round(median, 3), "worst_s": round(worst, 3), "least_s": round(min(seconds), 3)}
    return {"trials": len(seconds), "lease_s": lease_s, **rounded, **shares}


# -- workers as a service manager would start them -------------------------------------------------------------------


def _unsupervised(url: str, trials: int, lease_s: float) -> list[float]:
    """Two workers; the one that executes is killed, and replaced for the next trial."""
    if not trials:
        return []
    with Blazing(f"recovery-{lease_s:g}", url=url) as app, contextlib.ExitStack() as stack:
        processes = [_worker(app, url, lease_s, stack) for _ in range(2)]
        seconds = []
        for _ in range(trials):
            _ready(app, 2)

            def kill(pid: int) -> None:
                victim = next(process for process in processes if process.pid == pid)
                victim.kill()
                victim.wait()

            seconds.append(_trial(app, kill))
            for process in [process for process in processes if process.poll() is not None]:
                processes[processes.index(process)] = _worker(app, url, lease_s, stack)
        return seconds


def _worker(app: Blazing, url: str, lease_s: float, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app.app_id, "--lease", str(lease_s)]
    command += ["--grace", "0"]
    environment = {**os.environ, "BLAZING_REDIS_URL": url}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# -- workers of app.workers ------------------------------------------------------------------------------------------


def _supervised(url: str, trials: int) -> list[float]:
    """Two workers of the default lease under their supervisor; it is let finish its restart before the next trial."""
    if not trials:
        return []
    os.environ["BLAZING_REDIS_URL"] = url
    with Blazing("recovery-supervised", url=url) as app:
        app.workers.start(2)
        seconds = []
        try:
            for _ in range(trials):
                _ready(app, 2)
                seconds.append(_trial(app, lambda pid: os.kill(pid, signal.SIGKILL)))
        finally:
            app.workers.stop()
        return seconds


# -- one trial -------------------------------------------------------------------------------------------------------


def _ready(app: Blazing, n: int) -> None:
    """That many live processes are registered, and nothing else."""

    def ready() -> bool:
        workers = app.snapshot().workers
        return len(workers) == n and all(map(_lives, (worker.pid for worker in workers)))

    _until(ready)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _trial(app: Blazing, kill: Callable[[int], None]) -> float:
    """Seconds from the kill to the second begin of the operation, which is asked for its result at last."""
    with _marks() as marks:
        op = app.step(hold).enqueue(str(marks))
        _until(lambda: len(begun(marks)) == 1)
        [(pid, _)] = begun(marks)
        killed_s = time.monotonic()
        kill(pid)
        _until(lambda: len(begun(marks)) == 2)
        (marks / "go").touch()
        _check(op)
        return begun(marks)[1][1] - killed_s


def _check(op: Operation) -> None:
    assert op.result(WAIT_S) == "held"
    assert op.attempt == 1, "a death is not an attempt"


@contextlib.contextmanager
def _marks() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bzr-", dir="/tmp") as folder:
        yield Path(folder)


def begun(marks: Path) -> list[tuple[int, float]]:
    """(process id, moment) of each begin; the moments are of the machine's monotonic clock."""
    file = marks / "begun"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(at)) for pid, at in map(str.split, lines)]


def _until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not so within {WAIT_S:g} s")
        time.sleep(0.005)


# -- the same kill with others ---------------------------------------------------------------------------------------


def _peers(peers: list[str]) -> Report:
    """Side by side: they mostly wait."""
    if not peers:
        return {}
    python, report = environment(), {}
    with contextlib.ExitStack() as stack:
        processes = {}
        for peer in peers:
            url, _ = stack.enter_context(server(aof=False))
            marks = stack.enter_context(_marks())
            command = [python, "-m", "benchmarks.peer.recovery_driver", "--url", url, "--marks", str(marks)]
            variables = {**os.environ, "PYTHONPATH": str(ROOT), "RECOVERY_PEER": peer, "PEER_URL": url}
            processes[peer] = subprocess.Popen(
                [*command, "--seconds", str(PEER_S)], stdout=subprocess.PIPE, text=True, env=variables
            )
        for peer, process in processes.items():
            line, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the driver of {peer} ended with {process.returncode}")
            report[peer] = json.loads(line)
    return report


if __name__ == "__main__":
    sys.exit(main())
