"""`%%blazing run`, `%%blazing map`: durable cells."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import TYPE_CHECKING

from blazing_nb.verb import Place, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.step import Step
    from blazing_nb.notebook.cell import CellRun

LANES = ("thread", "process")
_OPTIONS = r"(?:\s+--[a-z][a-z-]*(?:(?:=|\s+)(?!-)\S+)?)*"
_EACH = re.compile(rf"(?P<head>\s*map{_OPTIONS})\s+(?P<each>[\w(\[*][^=]*?\s+in\s.+?)(?P<tail>{_OPTIONS})\s*")
_FLAGS = re.compile(r"--(?:wait|again|resume|help)$")


def run(app: Blazing, args: argparse.Namespace) -> CellRun:
    from blazing_nb.errors import UsageError
    from blazing_nb.notebook import cell

    batch = _named(app, args)
    if batch is None:
        made = cell.run(app, args.shell, args.cell, _step(app, args), name=args.name or "", out=args.out or "")
        return _waited(made) if args.wait else made
    found = cell.cell_of(app, batch, args.name, args.shell)
    if found is None:
        raise UsageError(f"{args.name!r} is a batch, and not a cell.")
    return _waited(found) if args.wait else found


def map_cell(app: Blazing, args: argparse.Namespace) -> Batch:
    from blazing_nb.client.progress import show
    from blazing_nb.errors import UsageError
    from blazing_nb.notebook import cell

    target, _, items = args.each.partition(" in ")
    if not items:
        raise UsageError("Say %%blazing map VAR in ITERABLE.")
    batch = _named(app, args) or cell.map_cell(
        app,
        args.shell,
        args.cell,
        _step(app, args),
        eval(items, args.shell.user_ns),  # nosec B307  # noqa: S307 - it stands in the user's own cell
        target=target.strip(),
        name=args.name or "",
        out=args.out or "",
    )
    if args.wait:
        show(batch, None)
    return batch


def _named(app: Blazing, args: argparse.Namespace) -> Batch | None:
    """With --resume: what has that name already. With --again it is forgotten; with neither a name is given once."""
    from blazing_nb.errors import BatchExists, BatchUnknown, UsageError

    if (args.resume and args.again) or ((args.resume or args.again) and not args.name):
        raise UsageError("--resume or --again is for a cell with a --name.")
    try:
        batch: Batch | None = app.attach(args.name) if args.name else None  # type: ignore[assignment]
    except BatchUnknown:
        return None
    if batch is None or args.resume:
        return batch
    if not args.again:
        raise BatchExists(
            f"A cell or batch {args.name!r} was sent before: --resume follows it, --again forgets it and runs this.",
            name=args.name,
        )
    batch.forget()
    return None


def _waited(made: CellRun) -> CellRun:
    made.watch(errors=False)
    made.result(0)
    return made


def _step(app: Blazing, args: argparse.Namespace) -> Step:
    from blazing_nb.notebook.cell import cell_step

    return cell_step(app, args.lane).options(timeout=args.timeout, retries=args.retries)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="find it again by that: %%blazing attach NAME")
    parser.add_argument("--wait", action="store_true", help="block until it is done, and raise as it did")
    parser.add_argument("--out", metavar="VAR", help="the variable that comes back (default: all small ones)")
    parser.add_argument("--lane", choices=LANES, default="thread", help="where it runs (default: thread)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds that an attempt may take")
    parser.add_argument("--retries", type=int, metavar="N", help="attempts after a failed one")
    parser.add_argument("--resume", action="store_true", help="follow what has that name, if there is something")
    parser.add_argument("--again", action="store_true", help="forget what is finished and has that name first")


def _map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("each", metavar="VAR in ITERABLE", help="what is assigned, and an expression of the items")
    _options(parser)


def _quoted(line: str) -> str:
    """The same, with `VAR in ITERABLE` as one word."""
    found = _EACH.fullmatch(line)
    return line if found is None else f"{found['head']} {shlex.quote(found['each'])} {found['tail']}"


RUN = Verb(
    "run",
    "run the cell on a worker, and show its output here",
    run,
    _options,
    Place.CELL,
    examples=("run --name train --lane process",),
)
MAP = Verb(
    "map",
    "run the cell on workers, once for each item",
    map_cell,
    _map,
    Place.CELL,
    quoted=_quoted,
    examples=("map page in range(1, 200) --name pages --out table",),
)
