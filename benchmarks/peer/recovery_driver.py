"""A worker of Celery (acks late) or dramatiq, both at their defaults, is killed in mid-task, with all of its processes.

Another is started at once. Says whether the task begins again within `--seconds`, as one line of JSON. Runs in the
peers' environment; which one is in RECOVERY_PEER, because their workers import this module too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peer.harness import url
from benchmarks.work import hold as work

MODULE = "benchmarks.peer.recovery_driver"
PEER = os.environ["RECOVERY_PEER"]
START_S = 60.0

if PEER == "celery":
    from celery import Celery

    ADDRESS = url().replace("unix://", "redis+socket://")
    app = Celery("recovery", broker=ADDRESS, backend=ADDRESS)
    app.conf.task_acks_late = True
    task = app.task(name="hold")(work)
    WORKER = ["-W", "ignore", "-m", "celery", "-A", MODULE, "--quiet", "worker", "--concurrency=2", "--loglevel=ERROR"]
    SETTINGS = "acks_late, else the defaults (visibility_timeout 3600 s)"
else:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url())
    dramatiq.set_broker(broker)
    task = dramatiq.actor(work, actor_name="hold", broker=broker)
    WORKER = ["-m", "dramatiq", MODULE, "--processes=1", "--threads=2", "--skip-logging"]
    SETTINGS = "the defaults (heartbeat_timeout 60 s)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--marks", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    begun = Path(args.marks) / "begun"
    with _worker() as first:
        (task.delay if PEER == "celery" else task.send)(args.marks)
        assert _lines(begun, 1, START_S), "no worker took the task"
        killed_s = time.monotonic()
        os.killpg(first.pid, signal.SIGKILL)
    with _worker():
        again = _lines(begun, 2, args.seconds)
    seconds = round(float(again[1].split()[1]) - killed_s, 3) if again else None
    report = {"again_after_s": seconds, "watched_s": args.seconds, "settings": SETTINGS}
    print(json.dumps(report | {"version": importlib.metadata.version(PEER)}))


@contextlib.contextmanager
def _worker():
    process = subprocess.Popen([sys.executable, *WORKER], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(file: Path, n: int, seconds: float) -> list[str]:
    """The first n lines, once they are there; none where they are not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= n:
            return lines[:n]
        time.sleep(0.01)
    return []


if __name__ == "__main__":
    main()
