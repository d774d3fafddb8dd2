"""`workers`: the app's worker processes on this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.workers import Workers


def workers(app: Blazing, args: argparse.Namespace) -> Workers:
    if args.n is not None:
        app.workers.scale(args.n)
    return app.workers


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", type=int, nargs="?", metavar="N", help="how many processes shall run on this machine")


def _text(found: Workers) -> str:
    return "\n".join([*(f"pid {process.pid}, log {process.log}" for process in found), repr(found)])


WORKERS = Verb("workers", "show the app's workers, or scale them to N", workers, _arguments, text=_text)
