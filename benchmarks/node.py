"""A node as a process: waits for the others, then maps its share or keeps a pace.

python -m benchmarks.node --url U --node n0 --ops 1000 --barrier KEY --of 10 [--bare | --pace 800 --seconds 60]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from benchmarks.work import add
from blazing_nb import Blazing, Step

SLICE_S = 0.01
BARE_CHUNK = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--barrier", required=True)
    parser.add_argument("--of", type=int, required=True)
    parser.add_argument("--ops", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.0, help="operations a second, instead of as fast as possible")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--bare", action="store_true", help="no queue: as many values through a list of its own")
    args = parser.parse_args()
    with Blazing("bench", url=args.url, node_id=args.node) as app:
        step = app.step(add)
        step.code()
        call = app.store.connection().call
        call("INCR", args.barrier)
        while int(call("GET", args.barrier)) < args.of:
            time.sleep(0.001)
        began = time.time()
        report = _bare(step, args) if args.bare else _pace(step, args) if args.pace else _map(step, args.ops)
        print(json.dumps({"began": began, "ended": time.time(), **report}))
    return 0


def _map(step: Step, ops: int) -> dict[str, Any]:
    assert step.starmap([(i, 1) for i in range(ops)]).results(600) == list(range(1, ops + 1))
    return {"ops": ops}


def _bare(step: Step, args: argparse.Namespace) -> dict[str, Any]:
    """What as many processes as these can do on this machine, whatever the queue: encode, store, take, decode."""
    call, key = step.app.store.connection().call, f"bare:{args.node}"
    for start in range(0, args.ops, BARE_CHUNK):
        call("RPUSH", key, *(json.dumps((i, 1)) for i in range(start, start + BARE_CHUNK)))
        values = [sum(json.loads(value)) for value in call("LPOP", key, BARE_CHUNK)]
        assert values[-1] == start + BARE_CHUNK
    return {"ops": args.ops}


def _pace(step: Step, args: argparse.Namespace) -> dict[str, Any]:
    """A slice every 10 ms; and what a round trip to the store takes beside it."""
    call, pings = step.app.store.connection().call, []
    began = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - began) < args.seconds:
        due = int(now * args.pace) - sent
        if due:
            step.starmap([(i, 1) for i in range(due)])
            sent += due
        asked = time.perf_counter()
        call("PING")
        pings.append(time.perf_counter() - asked)
        time.sleep(SLICE_S)
    pings.sort()
    return {"ops": sent, "ping_p99_ms": pings[int(0.99 * len(pings))] * 1000}


if __name__ == "__main__":
    sys.exit(main())
