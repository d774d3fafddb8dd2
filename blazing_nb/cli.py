"""`blazing-nb`: the verbs on the command line. An error is one line that says what to do, and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from blazing_nb.command import DEFAULT_APP, build_parser
from blazing_nb.core.name import printable
from blazing_nb.errors import BlazingError
from blazing_nb.verb import Place, Verb

LINES = "\n\t"
"""What a terminal may do with texts that others wrote."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    parser = build_parser("blazing-nb")
    try:
        args = parser.parse_args(argv)
        if args.verb is None:
            parser.print_help()
            return 0
        return _run(args.verb, args)
    except BlazingError as error:
        print(f"blazing-nb: {printable(str(error), LINES)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(verb: Verb, args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with contextlib.closing(Blazing(args.app or DEFAULT_APP, url=args.url)) as app:
        value = verb.run(app, args)
        if verb.place is Place.TERMINAL:
            return int(value)
        if value is not None:
            print(printable(verb.text(value), LINES))
        return int(verb.failed(value))
