"""The README's table of measured figures, made from `results/`: nothing is typed by hand.

`python -m benchmarks.table` writes it between its marks; `tests/test_docs.py` compares.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- measured: python -m benchmarks.table -->\n).*?(<!-- end -->)", re.DOTALL)
QUEUES = {"ours": "blazing_nb", "celery": "Celery", "dramatiq": "dramatiq", "huey": "huey", "rq": "RQ"}
QUEUES |= {
    "dask": "dask.distributed",
    "ipyparallel": "ipyparallel",
    "ipyparallel_chunked": "ipyparallel, 100 calls a task,",
}


def main() -> int:
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(lambda found: found[1] + table() + found[2], text), encoding="utf-8")
    return 0


def table() -> str:
    peers = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    recovery = json.loads((RESULTS / "recovery.json").read_text(encoding="utf-8"))
    runs = "one run" if peers["repeat"] == 1 else f"medians of {peers['repeat']} runs"
    rows = [
        "| | operations a second | ours to it | idle round trip, p50 | ours to it | again after `kill -9` |",
        "|---|---|---|---|---|---|",
        *(_row(peers, recovery, key) for key in QUEUES if key in peers),
        "",
        f"{peers['ops']:,} calls of `add(int, int)` with results kept and collected, each queue at its best of several "
        f"settings, {runs}; {peers['server']}, {peers['machine']}, {peers['date']}; kills: {recovery['date']}, the "
        "median. A shared machine: read ratios, not absolutes. [How it was measured](benchmarks/README.md).",
    ]
    return "\n".join(rows) + "\n"


def _row(peers: dict[str, Any], recovery: dict[str, Any], key: str) -> str:
    found = peers[key]
    name = QUEUES[key] if key == "ours" else f"{QUEUES[key]} {peers['versions'][key]}"
    rate, trip = (str(peers["ratios"].get(f"{figure}_to_{key}", "")) for figure in ("map", "p50"))
    cells = (name, f"{found['map_per_s']:,.0f}", rate, f"{found['p50_ms']:.2f} ms", trip, _again(recovery, key))
    return f"| {' | '.join(cells)} |"


def _again(recovery: dict[str, Any], key: str) -> str:
    if key == "ours":
        supervised, lease = recovery["supervised"], recovery["lease_default"]
        return f"{supervised['median_s']} s supervised, else {lease['median_s']:.1f} s"
    if key not in recovery:
        return "not measured"
    return f"not within {recovery[key]['watched_s']:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
