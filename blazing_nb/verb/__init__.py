"""The verbs of `%blazing` and `blazing-nb`, each once: what may be said, and what it does.

A verb is a function `(app, args) -> value` and a line in `command.VERBS`. In a notebook the value is the cell's, in a
terminal its text is printed. Modules here import nothing heavy at their top: the whole tree is built at each call.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


class Place(Enum):
    """Where a verb can be said."""

    ANYWHERE = "on the command line and after %blazing"
    TERMINAL = "on the command line only; its value is the exit code"
    NOTEBOOK = "after %blazing only"
    CELL = "after %%blazing; `args.cell` is the cell's text, `args.shell` the shell"


def nothing(parser: argparse.ArgumentParser) -> None:
    """A verb that takes no arguments of its own."""


class Verb(NamedTuple):
    """One verb.

    Attributes:
        help: one line for `--help`.
        run: what it does; the app is connected at its first use.
        arguments: adds what it takes to its parser. A metavar of STEP, OP, or NAME (of a batch), or several of them
            with `|` between, is completed.
        text: the value as a terminal prints it.
        failed: whether a terminal's exit code says so.
        quoted: its line in a notebook with what is one word in quotes, before it is split as a shell splits.
        examples: lines that can be said, below its `--help`.
    """

    name: str
    help: str
    run: Callable[[Blazing, argparse.Namespace], Any]
    arguments: Callable[[argparse.ArgumentParser], None] = nothing
    place: Place = Place.ANYWHERE
    text: Callable[[Any], str] = str
    failed: Callable[[Any], bool] = lambda value: False
    quoted: Callable[[str], str] = str
    examples: tuple[str, ...] = ()


class Text(str):
    """A text that a cell shows as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)
