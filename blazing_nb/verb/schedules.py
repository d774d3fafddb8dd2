"""`schedules`: what is enqueued by the clock; pause, resume or remove one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.schedule import Schedules


def schedules(app: Blazing, args: argparse.Namespace) -> Schedules:
    """Those that there are then."""
    from blazing_nb.errors import UsageError

    if (args.what is None) != (args.name is None):
        raise UsageError("Say pause, resume or remove, and the schedule's name; or neither.")
    if args.what is not None:
        getattr(app.schedules()[args.name], args.what)()
    return app.schedules()


def _schedules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("pause", "resume", "remove"), help="default: list them")
    parser.add_argument("name", nargs="?", metavar="SCHEDULE", help="which")


SCHEDULES = Verb(
    "schedules",
    "list the app's schedules; pause, resume or remove one",
    schedules,
    _schedules,
    examples=(
        "schedules",
        "schedules pause morning",
    ),
)
