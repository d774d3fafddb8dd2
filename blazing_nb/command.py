"""The verbs, once: one argparse tree serves `%blazing` and `blazing-nb`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import NoReturn

from blazing_nb.errors import UsageError

DEFAULT_APP = "demo"


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of ending the process, so that a notebook survives a typing error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. {self.format_usage().strip()}")


def build_parser(*, magic: bool) -> Parser:
    """The tree; `magic` leaves out what makes no sense in a cell."""
    prog = "%blazing" if magic else "blazing-nb"
    parser = Parser(prog=prog, description="A durable task queue, driven from a notebook.", add_help=True)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    up = _verb(verbs, "up", "connect, starting the embedded server and workers where they do not run")
    up.add_argument("--workers", type=int, metavar="N", help="scale the app's workers on this machine to N")
    up.add_argument(
        "--url", help="redis://, rediss:// or unix://; default: BLAZING_REDIS_URL, else the embedded server"
    )

    _verb(verbs, "status", "counts, depths and workers at this moment")
    workers = _verb(verbs, "workers", "show the app's workers, or scale them to N")
    workers.add_argument("n", type=int, nargs="?", metavar="N", help="how many processes shall run on this machine")
    segments = _verb(verbs, "segments", "depths of every segment")
    if magic:
        segments.add_argument("--once", action="store_true", help="a frame of this moment instead of a live view")
    _listing(verbs)
    retry = _verb(verbs, "retry", "enqueue what ended without success anew")
    retry.add_argument("--step", metavar="NAME", help="of that step only")
    retry.add_argument("--dry-run", action="store_true", help="only say how many")
    doctor = _verb(verbs, "doctor", "look at the server, the key and the workers, and say what to do")
    doctor.add_argument("--url", help="the store; default: BLAZING_REDIS_URL, else the embedded server")
    down = _verb(verbs, "down", "stop the app's workers here, and the embedded server")
    down.add_argument("--keep-server", action="store_true", help="stop the workers only")
    if not magic:
        top = _verb(verbs, "top", "the app live in the terminal, until Ctrl-C")
        top.add_argument("--seconds", type=float, metavar="S", help="end after so many seconds")
        _worker(verbs)
        _demo(verbs)
    return parser


def _verb(verbs: argparse._SubParsersAction[Parser], name: str, text: str) -> Parser:
    verb = verbs.add_parser(name, help=text, description=text.capitalize() + ".")
    verb.add_argument("--app", default=None, metavar="NAME", help=f"the app (default: {DEFAULT_APP})")
    return verb


def _listing(verbs: argparse._SubParsersAction[Parser]) -> None:
    ops = _verb(verbs, "ops", "list operations, those that are not final first")
    ops.add_argument("--status", metavar="STATUS", help="of that status only")
    ops.add_argument("--step", metavar="NAME", help="of that step only")
    ops.add_argument("--since", type=float, metavar="S", help="finished at most so many seconds ago")
    ops.add_argument("--limit", type=int, default=20, metavar="N", help="at most N (default: 20)")


def _worker(verbs: argparse._SubParsersAction[Parser]) -> None:
    worker = _verb(verbs, "worker", "run one worker in this process until SIGTERM")
    worker.add_argument("--url", help="the store; default: BLAZING_REDIS_URL, else the embedded server")
    worker.add_argument("--worker-id", metavar="NAME", help="a name to be seen by; default: unique")
    worker.add_argument("--lease", type=float, default=10.0, metavar="S", help="seconds (default: 10)")
    worker.add_argument("--threads", type=int, default=8, metavar="N", help="plain functions at once (default: 8)")
    worker.add_argument("--processes", type=int, metavar="N", help="of steps with lane=process (default: the cores)")
    worker.add_argument("--grace", type=float, default=30.0, metavar="S", help="seconds to finish (default: 30)")


def _demo(verbs: argparse._SubParsersAction[Parser]) -> None:
    demo = _verb(verbs, "demo", "parse the standard library's sources on workers, and draw what happened")
    demo.add_argument("--files", type=int, metavar="N", help="at most N files (default: all)")
    demo.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default: 2)")
    demo.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    demo.add_argument("--name", help="the batches' name (default: unique)")
    demo.add_argument("--resume", metavar="NAME", help="finish an interrupted demo of that name")
    demo.add_argument("--out", default="demo.html", metavar="PATH", help="the page (default: demo.html)")
    demo.add_argument("--keep", action="store_true", help="leave the embedded server running")
