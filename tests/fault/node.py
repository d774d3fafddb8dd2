"""A node of the soak as a process: enqueues one named batch, and continues it where an earlier start was killed.

python -m tests.fault.node --url U --node node-0 --batch b0 --start 0 --ops 1000 --journal D --nap 0.002 --pace 500
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from blazing_nb import Blazing
from tests.fault import fan_in, trace
from tests.fault.work import work

CAP = 2000


def items(app: Blazing, args: argparse.Namespace) -> Iterator[tuple[int, str, float]]:
    """No faster than `pace` a second; what was enqueued before is skipped at once. Joins come between."""
    began = time.monotonic()
    for i in range(args.ops):
        if i and i % fan_in.every(args.ops) == 0:
            fan_in.enqueue(app, args.batch, i // fan_in.every(args.ops), args.journal)
        yield args.start + i, args.journal, args.nap
        if i >= args.skip:
            time.sleep(max(0.0, began + (i - args.skip) / args.pace - time.monotonic()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--node", "--batch", "--journal"):
        parser.add_argument(name, required=True)
    for name in ("--start", "--ops"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--nap", type=float, default=0.002)
    parser.add_argument("--pace", type=float, default=1000.0)
    args = parser.parse_args()
    trace.install()
    with Blazing("soak", url=args.url, node_id=args.node, segment_cap=CAP) as app:
        args.skip = sum(map(len, app.store.batch(args.batch)))
        step = app.step(work, retries=3, backoff=0.05)
        step.options(block=600).starmap(items(app, args), name=args.batch, resume=True)
    print("all enqueued", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
