"""The same operation, results kept and collected, with us and with other queues, each with its own best settings.

python -m benchmarks.peers --peers celery,dramatiq,huey,rq,dask,ipyparallel --ops 5000 --repeat 3 --json
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir
from rich.console import Console
from rich.table import Table

from benchmarks.server import server

ROOT = Path(__file__).parents[1]
PEERS = ("celery", "dramatiq", "huey", "rq", "dask", "ipyparallel", "ipyparallel_chunked")
# hiredis for all of them, as we have it too.
REQUIREMENTS = (
    *("celery[redis]>=5.6", "kombu>=5.7", "dramatiq[redis]>=2", "hiredis>=3", "huey>=3", "rq>=2"),
    *("distributed>=2026.1", "ipyparallel>=9"),
)
FIGURES = {"map": "map_per_s", "p50": "p50_ms", "p99": "p99_ms"}
STOP_S = 60
Report = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--ops", type=int, default=5000)
    parser.add_argument("--round-trips", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    peers = args.peers.split(",")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    report = _report(args, peers)
    if args.json:
        print(json.dumps(report))
    else:
        _print(report, peers)
    return 0


def _report(args: argparse.Namespace, peers: list[str]) -> Report:
    """Interleaved: the first repeat of all, then the second of all, ..."""
    python, names = environment(), ["ours", *peers]
    runs: dict[str, list[Report]] = {name: [] for name in names}
    for _ in range(args.repeat):
        for name in names:
            runs[name].append(_run(name, sys.executable if name == "ours" else python, args))
    medians = {name: _median(runs[name]) for name in names}
    return medians | {
        "ratios": {
            f"{key}_to_{peer}": round(medians["ours"][figure] / medians[peer][figure], 3)
            for key, figure in FIGURES.items()
            for peer in peers
        },
        "ops": args.ops,
        "repeat": args.repeat,
        "payload": "add(int, int) -> int",
        "server": runs["ours"][0]["server"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: runs[name][0]["version"] for name in names},
        "date": datetime.date.today().isoformat(),
    }


def _run(name: str, python: str, args: argparse.Namespace) -> Report:
    """One driver on a server of its own: its line."""
    with server(aof=False) as (url, binary):
        command = [python, str(ROOT / "benchmarks" / "peer" / f"{name}_driver.py"), "--url", url]
        command += ["--ops", str(args.ops), "--round-trips", str(args.round_trips)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        try:
            line, _ = process.communicate()
        finally:
            process.terminate()
            process.wait(STOP_S)
        if process.returncode:
            raise RuntimeError(f"the driver of {name} ended with {process.returncode}")
        return {**json.loads(line), "server": f"{binary.brand} {binary.version}"}


def _median(runs: list[Report]) -> Report:
    figures = {key: round(statistics.median(run[key] for run in runs), 3) for key in FIGURES.values()}
    return {**figures, "settings": statistics.mode(run["settings"] for run in runs)}


def environment() -> str:
    """The python of an environment with the peers, which is made once for this Python and these requirements."""
    key = hashlib.sha256("\n".join((platform.python_version(), *REQUIREMENTS)).encode()).hexdigest()[:12]
    folder = Path(user_cache_dir("blazing_nb", appauthor=False)) / f"peers-{key}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        complete.touch()
    return str(python)


def _print(report: Report, peers: list[str]) -> None:
    table = Table(title=f"{report['ops']} operations, {report['server']}, {report['machine']}")
    for column in ("queue", "map, 1/s", "ours to it", "p50, ms", "ours to it", "p99, ms"):
        table.add_column(column, justify="left" if column == "queue" else "right")
    for name in ("ours", *peers):
        row = report[name]
        to_map, to_p50 = (str(report["ratios"].get(f"{key}_to_{name}", "")) for key in ("map", "p50"))
        rate = f"{row['map_per_s']:,.0f}"
        table.add_row(name, rate, to_map, f"{row['p50_ms']:.2f}", to_p50, f"{row['p99_ms']:.2f}")
    console = Console()
    console.print(table)
    for name in ("ours", *peers):
        console.print(f"{name} {report['versions'][name]}: {report[name]['settings']}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
