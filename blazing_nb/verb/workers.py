"""`workers`: the app's worker processes on this machine, and `supervisor`, which runs them in the foreground."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from blazing_nb.errors import UsageError
from blazing_nb.verb import Place, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.workers import Workers

OPTIONS = ("lease", "threads", "processes", "grace", "patience", "max_operations", "max_memory_mb")


def workers(app: Blazing, args: argparse.Namespace) -> Workers:
    options = _given(args)
    if args.adapt is not None and args.n is not None:
        raise UsageError("workers takes a number or --adapt, not both.")
    if args.adapt is not None:
        minimum, maximum = args.adapt
        app.workers.adapt(minimum, maximum, args.target_wait, **options)
    elif args.n is not None:
        app.workers.scale(args.n, **options)
    elif options:
        raise UsageError("workers takes options with a number or with --adapt.")
    return app.workers


def supervisor(app: Blazing, args: argparse.Namespace) -> int:
    """In this process, until SIGTERM: for a service manager or a container. The store need not be there yet."""
    from blazing_nb.store import embedded
    from blazing_nb.worker.supervisor import main

    url = args.url or os.environ.get("BLAZING_REDIS_URL") or embedded.ensure().url
    app.workers.want(args.n, url, **_given(args))
    return main(app.app_id)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lease", type=float, metavar="S", help="seconds (default: as they run, else 10)")
    parser.add_argument("--threads", type=int, metavar="T", help="plain functions at once (as they run, else 8)")
    parser.add_argument("--processes", type=int, metavar="P", help="of steps with lane=process (else the cores)")
    parser.add_argument("--grace", type=float, metavar="S", help="seconds to finish what is in flight (else 30)")
    parser.add_argument("--patience", type=float, metavar="S", help="seconds to become ready (else 120)")
    parser.add_argument("--max-operations", type=int, metavar="K", help="replace one that has done K")
    parser.add_argument("--max-memory-mb", type=float, metavar="MB", help="replace one that has more")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", type=int, nargs="?", metavar="N", help="how many processes shall run on this machine")
    parser.add_argument("--adapt", type=int, nargs=2, metavar=("MIN", "MAX"), help="let their number follow the load")
    parser.add_argument("--target-wait", type=float, default=2.0, metavar="S", help="what --adapt aims at (default: 2)")
    _options(parser)


def _supervisor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", type=int, metavar="N", help="how many processes")
    _options(parser)


def _text(found: Workers) -> str:
    lines = []
    for row in found.to_frame().itertuples():
        pid = f"pid {row.pid}" if row.pid else "no process"
        lines.append(f"{row.place:>3}  {row.state:9}  {pid:12}  {row.done} done, {row.memory_mb:.0f} MB  {row.reason}")
    return "\n".join([*(line.rstrip() for line in lines), repr(found)])


WORKERS = Verb(
    "workers",
    "show the app's workers here, have N, or let their number follow the load",
    workers,
    _arguments,
    text=_text,
    examples=(
        "workers",
        "workers 4 --threads 16",
        "workers --adapt 1 8 --target-wait 5",
    ),
)
SUPERVISOR = Verb(
    "supervisor",
    "have N workers, and supervise them in this process until SIGTERM",
    supervisor,
    _supervisor,
    Place.TERMINAL,
    examples=("supervisor 4 --app reports",),
)
