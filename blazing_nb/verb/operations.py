"""`ops`, `op`, `attach`, `watch`, `logs`, `retry`, `cancel`: operations and batches, whoever enqueued them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.core.cell import is_cell
from blazing_nb.core.name import printable
from blazing_nb.core.status import Status
from blazing_nb.verb import Text, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.failed import Failed
    from blazing_nb.client.listing import Listing
    from blazing_nb.client.operation import Operation
    from blazing_nb.notebook.cell import CellRun

RETRIED = 100_000


def ops(app: Blazing, args: argparse.Namespace) -> Listing:
    return app.operations(args.status, step=args.step, since=args.since, limit=args.limit)


def op(app: Blazing, args: argparse.Namespace) -> Operation:
    from blazing_nb.client.operation import Operation
    from blazing_nb.errors import UsageError

    found = app.attach(args.op)
    if not isinstance(found, Operation):
        raise UsageError(f"{args.op!r} is a batch; %blazing attach {args.op} gives it.")
    return found


def attach(app: Blazing, args: argparse.Namespace) -> Batch | Operation | CellRun:
    found = app.attach(args.name)
    return _cell(app, found, args) or found


def watch(app: Blazing, args: argparse.Namespace) -> Batch | Operation | CellRun | None:
    """Blocks, and shows what comes: for terminals, and front ends that deliver nothing from threads."""
    if args.name is None:
        from blazing_nb.notebook.depth import SegmentDepths

        SegmentDepths(app).watch(timeout=args.timeout)
        return None
    from blazing_nb.client.operation import Operation
    from blazing_nb.client.progress import show

    found = app.attach(args.name)
    cell = _cell(app, found, args)
    if cell is not None:
        cell.watch()
        return cell
    if isinstance(found, Operation):
        _follow(found, args.timeout)
    else:
        show(found, args.timeout)
    return found


def logs(app: Blazing, args: argparse.Namespace) -> Text | Operation:
    found = op(app, args)
    if args.follow:
        _follow(found, args.timeout)
        return found
    return Text(found.logs())


def retry(app: Blazing, args: argparse.Namespace) -> Batch | Failed:
    only = app.attach(args.name) if args.name else None
    failed = app.failed(args.step, only=only, limit=RETRIED)
    return failed if args.dry_run else failed.retry()


def cancel(app: Blazing, args: argparse.Namespace) -> Status | dict[str, int]:
    return app.attach(args.name).cancel()


def _cell(app: Blazing, found: Batch | Operation, args: argparse.Namespace) -> CellRun | None:
    """Its handle, where it is a durable cell."""
    from blazing_nb.client.operation import Operation

    op = found.op if isinstance(found, Operation) else next(iter(found.ids()), None)
    if op is None or not is_cell(op.step):
        return None
    from blazing_nb.notebook.cell import cell_of

    return cell_of(app, found, args.name, getattr(args, "shell", None))


def _follow(operation: Operation, timeout: float | None) -> None:
    for text in operation.logs(follow=True, timeout=timeout):
        print(printable(text, "\n\t"), end="", flush=True)


def _ops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", choices=list(map(str, Status)), metavar="STATUS", help="of that status only")
    parser.add_argument("--step", metavar="STEP", help="of that step only")
    parser.add_argument("--since", type=float, metavar="S", help="finished at most so many seconds ago")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most N (default: 20)")


def _op(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("op", metavar="OP", help="the operation's id")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME|OP", help="a batch's name or an operation's id")


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME|OP", nargs="?", help="a batch or an operation; default: the segments")
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="S", help="at most so long (default: 3600)")


def _logs(parser: argparse.ArgumentParser) -> None:
    _op(parser)
    parser.add_argument("--follow", action="store_true", help="print what comes until it is finished")
    parser.add_argument("--timeout", type=float, metavar="S", help="follow at most so long")


def _retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME|OP", nargs="?", help="of that batch, or that operation, only")
    parser.add_argument("--step", metavar="STEP", help="of that step only")
    parser.add_argument("--dry-run", action="store_true", help="only show which")


def _listed(listing: Listing) -> str:
    return "\n".join(f"{row.status:9} {row.op.text}  {row.error}".rstrip() for row in listing) or "no operations"


def _told(operation: Operation) -> str:
    return f"{operation!r}\n{operation.history().to_string(index=False)}"


def _retried(found: Batch | Failed) -> str:
    from blazing_nb.client.batch import Batch

    return f"{len(found)} operations {'were' if isinstance(found, Batch) else 'would be'} enqueued anew"


OPS = Verb(
    "ops",
    "list operations, those that are not final first",
    ops,
    _ops,
    text=_listed,
    examples=(
        "ops --status FAILED --since 3600",
        "ops --step charge --limit 5",
    ),
)
OP = Verb(
    "op",
    "one operation, and what befell it",
    op,
    _op,
    text=_told,
    examples=("op charge:n:etl-1:3749-7",),
)
ATTACH = Verb(
    "attach",
    "the handle of a batch or an operation, whoever made it",
    attach,
    _name,
    examples=("attach charges",),
)
WATCH = Verb(
    "watch",
    "block, and show how far it is, until it is done",
    watch,
    _watch,
    examples=("watch charges --timeout 60",),
)
LOGS = Verb(
    "logs",
    "what an operation printed",
    logs,
    _logs,
    examples=(
        "logs charge:n:etl-1:3749-7",
        "logs charge:n:etl-1:3749-7 --follow",
    ),
)
RETRY = Verb(
    "retry",
    "enqueue what ended without success anew",
    retry,
    _retry,
    text=_retried,
    examples=(
        "retry --step charge --dry-run",
        "retry charges",
    ),
)
CANCEL = Verb(
    "cancel",
    "ask that it does not run, or stops",
    cancel,
    _name,
    examples=("cancel charges",),
)
