"""`worker`, `demo`, `top`: what takes a process or a terminal for itself."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
from typing import TYPE_CHECKING

from blazing_nb.verb import Place, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


def worker(app: Blazing, args: argparse.Namespace) -> int:
    from blazing_nb.store.process import unique_name
    from blazing_nb.worker.journal import Journal
    from blazing_nb.worker.worker import Worker

    if args.key_file:
        os.environ["BLAZING_KEY_FILE"] = os.path.abspath(args.key_file)  # for the processes that it starts, too
    name = args.worker_id or unique_name()
    Journal(app.app_id, name, args.log_format, args.log_level).configure()
    faulthandler.enable()
    return Worker(
        app.app_id,
        name,
        url=args.url,
        threads=args.threads,
        processes=args.processes,
        lease=args.lease,
        grace=args.grace,
        metrics_port=args.metrics_port,
        metrics_host=args.metrics_host,
        patience=args.patience,
    ).run(args.owner)


def demo(app: Blazing, args: argparse.Namespace) -> int:
    from blazing_nb.demo.run import run

    args.app = app.app_id
    return run(args)


def top(app: Blazing, args: argparse.Namespace) -> int:
    from rich.console import Console

    from blazing_nb.top import Top

    with contextlib.suppress(KeyboardInterrupt):
        Top(app).run(Console(), args.seconds)
    return 0


def _ports(text: str) -> range:
    """`9100`, or `9100-9163` with its end."""
    first, _, last = text.partition("-")
    found = range(int(first), int(last or first) + 1) if first.isdigit() and (last or first).isdigit() else None
    if not found or found[-1] > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a port nor FIRST-LAST")
    return found


def _worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--worker-id", metavar="WORKER", help="a name to be seen by; default: unique")
    parser.add_argument("--lease", type=float, default=10.0, metavar="S", help="seconds (default: 10)")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="plain functions at once (default: 8)")
    parser.add_argument("--processes", type=int, metavar="N", help="of steps with lane=process (default: the cores)")
    parser.add_argument("--patience", type=float, default=120.0, metavar="S", help="seconds to reach the store (120)")
    parser.add_argument("--owner", default="", metavar="PID:START", help="end with that process")
    parser.add_argument("--grace", type=float, default=30.0, metavar="S", help="seconds to finish (default: 30)")
    parser.add_argument("--key-file", metavar="PATH", help="the app's keys, mode 0600; default: BLAZING_KEY_FILE")
    port = os.environ.get("BLAZING_METRICS_PORT") or None
    text = "for Prometheus; 0: any; 9100-9163: the first free one; default: BLAZING_METRICS_PORT, else none"
    parser.add_argument("--metrics-port", type=_ports, default=port, metavar="PORT", help=text)
    parser.add_argument("--metrics-host", default="127.0.0.1", metavar="HOST", help="default: 127.0.0.1")
    format_, level = os.environ.get("BLAZING_LOG_FORMAT", "text"), os.environ.get("BLAZING_LOG_LEVEL", "info")
    text = "of the log on stderr; default: BLAZING_LOG_FORMAT, else text"
    parser.add_argument("--log-format", choices=("text", "json"), default=format_, help=text)
    levels = ("debug", "info", "warning", "error")
    text = "debug: why attempts failed, too; default: BLAZING_LOG_LEVEL, else info"
    parser.add_argument("--log-level", choices=levels, default=level, help=text)


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, metavar="N", help="at most N files (default: all)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--name", help="the batches' name (default: unique)")
    parser.add_argument("--resume", metavar="NAME", help="finish an interrupted demo of that name")
    parser.add_argument("--out", default="demo.html", metavar="PATH", help="the page (default: demo.html)")
    parser.add_argument("--keep", action="store_true", help="leave the embedded server running")


def _top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so many seconds")


WORKER = Verb(
    "worker",
    "run one worker in this process until SIGTERM",
    worker,
    _worker,
    Place.TERMINAL,
    examples=("worker --app reports --grace 60 --log-format json",),
)
DEMO = Verb(
    "demo",
    "parse the standard library's sources on workers, and draw what happened",
    demo,
    _demo,
    Place.TERMINAL,
    examples=("demo",),
)
TOP = Verb(
    "top",
    "the app live in the terminal, until Ctrl-C",
    top,
    _top,
    Place.TERMINAL,
    examples=("top --app reports",),
)
