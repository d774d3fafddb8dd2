"""The tree of verbs: one argparse tree for `%blazing`, `%%blazing` and `blazing-nb`. Imports nothing heavy."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn

from blazing_nb.errors import UsageError
from blazing_nb.verb import (
    Place,
    Verb,
    cell,
    doctor,
    faults,
    flow,
    operations,
    process,
    schedules,
    segments,
    server,
    status,
    trust,
    views,
    workers,
)

DEFAULT_APP = "demo"
VERBS: tuple[Verb, ...] = (
    server.UP,
    server.DOWN,
    server.URL,
    status.STATUS,
    workers.WORKERS,
    segments.SEGMENTS,
    views.DASHBOARD,
    views.SERVE,
    views.TIMELINE,
    operations.OPS,
    operations.OP,
    operations.ATTACH,
    operations.WATCH,
    operations.LOGS,
    operations.RETRY,
    operations.CANCEL,
    flow.PAUSE,
    flow.RESUME,
    flow.DRAIN,
    flow.RESTORED,
    doctor.DOCTOR,
    faults.FAULTS,
    schedules.SCHEDULES,
    trust.ACL,
    trust.KEY,
    cell.RUN,
    cell.MAP,
    process.TOP,
    process.WORKER,
    workers.SUPERVISOR,
    process.DEMO,
)
_PLACES = {
    "%blazing": {Place.ANYWHERE, Place.NOTEBOOK},
    "%%blazing": {Place.CELL},
    "blazing-nb": {Place.ANYWHERE, Place.TERMINAL},
}


_UNKNOWN_VERB = re.compile(r"argument VERB: invalid choice: '(?P<said>.*)' \(choose from (?P<names>.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of ending the process, so that a notebook survives a typing error."""

    def error(self, message: str) -> NoReturn:
        if (unknown := _UNKNOWN_VERB.match(message)) is not None:
            names = re.findall(r"[\w-]+", unknown["names"])
            near = difflib.get_close_matches(unknown["said"], names, 1, 0.6)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{self.prog} has no verb {unknown['said']!r}.{meant} There are: {', '.join(names)}.")
        raise UsageError(f"{message}. {' '.join(self.format_usage().split())}")


def verbs(prog: str) -> Iterable[Verb]:
    """Those that can be said there: after `%blazing`, after `%%blazing`, or after `blazing-nb`."""
    return (verb for verb in VERBS if verb.place in _PLACES[prog])


def build_parser(prog: str) -> Parser:
    """The tree of what can be said there. Parsing gives a namespace with the `Verb` as `verb`, or None."""
    parser = Parser(prog=prog, description="A durable task queue, driven from a notebook.")
    parser.set_defaults(verb=None)
    tree = parser.add_subparsers(metavar="VERB", parser_class=Parser)
    for verb in verbs(prog):
        branch = tree.add_parser(
            verb.name,
            help=verb.help,
            description=f"{verb.help[0].upper()}{verb.help[1:]}.",
            epilog="\n  ".join(["for example:", *(f"{prog} {line}" for line in verb.examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        branch.add_argument("--app", metavar="APP", help=f"the app (default: {DEFAULT_APP})")
        branch.add_argument("--url", help="the store; default: BLAZING_REDIS_URL, else the embedded server")
        branch.set_defaults(verb=verb)
        verb.arguments(branch)
    return parser
