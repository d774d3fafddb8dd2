"""The demo from end to end: three nodes enqueue, workers parse, the client fans in, a page is written."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from blazing_nb.client.app import Blazing
from blazing_nb.client.batch import Batch
from blazing_nb.client.gathering import gather
from blazing_nb.core.metrics import Histogram, difference, quantile
from blazing_nb.core.snapshot import Snapshot, Step
from blazing_nb.demo.report import write_page
from blazing_nb.demo.sampler import Sampler
from blazing_nb.demo.source import Finding, aggregate, measure, source_files
from blazing_nb.errors import UsageError
from blazing_nb.store import embedded

NODES = ("node-a", "node-b", "node-c")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Interrupted(Exception):
    """SIGINT or SIGTERM: stop in order."""


def run(args: argparse.Namespace) -> int:
    """Run the demo as the command line asks; the exit code (130 where it was interrupted)."""
    if args.workers < 1 or (args.files is not None and args.files < 1):
        raise UsageError("The demo needs at least one worker and one file.")
    name = args.resume or args.name or f"demo-{time.strftime('%H%M%S')}"
    ours = embedded.find() is None
    previous = signal.signal(signal.SIGTERM, _interrupt)
    app = Blazing(args.app, url=args.url)
    try:
        with app:
            figures, findings, sampler = _work(app, args, name)
            page = Path(args.out)
            write_page(page, sampler.history, findings, figures)
    except (KeyboardInterrupt, Interrupted):
        print(f"Interrupted; nothing is lost. Finish it: blazing-nb demo --resume {name}", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
        # What is queued is on disk: the next start of the server finds it again.
        if ours and not args.keep:
            embedded.stop()
    if args.json:
        print(json.dumps({**figures, "page": str(page)}))
    else:
        _print(figures, page)
    return 0


def _work(app: Blazing, args: argparse.Namespace, name: str) -> tuple[dict[str, Any], Finding, Sampler]:
    step = app.step(measure)
    files = source_files(args.files)
    app.workers.start(args.workers)
    try:
        began = time.perf_counter()
        with Sampler(app) as sampler:
            batches = [
                step.map(files[i :: len(NODES)], name=f"{name}-{node}", resume=bool(args.resume), node_id=node)
                for i, node in enumerate(NODES)
            ]
            parts = _collect(batches, quiet=args.json)
        seconds = time.perf_counter() - began
    finally:
        app.workers.stop()
    findings = aggregate([finding for part in parts for finding in part])
    return _figures(name, findings, sampler, seconds, args.workers), findings, sampler


def _collect(batches: list[Batch], *, quiet: bool) -> list[list[Finding]]:
    """The fan-in, with a bar."""
    everything = gather(*batches)
    if not quiet:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            tasks = [bar.add_task(str(batch.name), total=len(batch)) for batch in batches]
            while not everything.wait(0.1):
                for task, batch in zip(tasks, batches, strict=True):
                    bar.update(task, completed=batch.done_count)
            for task, batch in zip(tasks, batches, strict=True):
                bar.update(task, completed=len(batch))
    return everything.results()


def _figures(name: str, findings: Finding, sampler: Sampler, seconds: float, workers: int) -> dict[str, Any]:
    step = _since(sampler.history[0], sampler.history[-1])
    return {
        "name": name,
        "findings": findings,
        "operations": findings["files"],
        "seconds": round(seconds, 3),
        "operations_per_s": round(step.finished / seconds, 1),
        "workers": workers,
        "nodes": len(NODES),
        "failed": step.failed,
        "lost": step.lost,
        "latency_ms": _latency(step),
        "deepest": max(snapshot.waiting for snapshot in sampler.history),
    }


def _since(first: Snapshot, last: Snapshot) -> Step:
    """What this run did: totals at its end less those at its start."""
    late = next(step for step in last.steps if step.step == "measure")
    early = next((step for step in first.steps if step.step == "measure"), Step("measure"))
    return Step(
        "measure",
        succeeded=late.succeeded - early.succeeded,
        failed=late.failed - early.failed,
        lost=late.lost - early.lost,
        wait=difference(late.wait, early.wait),
        run=difference(late.run, early.run),
        total=difference(late.total, early.total),
    )


def _latency(step: Step) -> dict[str, dict[str, float | None]]:
    """Milliseconds by kind and quantile; `wait` and `total` are measured on the server's clock of 1 ms."""

    def row(histogram: Histogram) -> dict[str, float | None]:
        values = {label: quantile(histogram, q) * 1000 for label, q in QUANTILES.items()}
        return {label: None if math.isnan(ms) else round(ms, 3) for label, ms in values.items()}

    return {"wait": row(step.wait), "run": row(step.run), "total": row(step.total)}


def _print(figures: dict[str, Any], page: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    findings = figures["findings"]
    totals = Table(
        title=f"{figures['operations']} files in {figures['seconds']:.2f} s: {figures['operations_per_s']}/s"
    )
    for column in ("files", "unparsable", "bytes", "lines", "functions", "classes"):
        totals.add_column(column, justify="right")
    totals.add_row(*(f"{findings[c]:,}" for c in ("files", "unparsable", "bytes", "lines", "functions", "classes")))
    longest = Table(title="The longest functions")
    for column, justify in (("lines", "right"), ("function", "left"), ("file", "left")):
        longest.add_column(column, justify=justify)  # type: ignore[arg-type]
    for lines, function, file in findings["longest"]:
        longest.add_row(str(lines), function, file)
    console = Console()
    console.print(totals, longest)
    console.print(f"What happened, as a page: {page.absolute()}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted
