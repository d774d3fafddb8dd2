"""`ops`, `retry`: operations of the app, whoever enqueued them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.batch import Batch
    from blazing_nb.client.failed import Failed
    from blazing_nb.client.listing import Listing


def ops(app: Blazing, args: argparse.Namespace) -> Listing:
    return app.operations(args.status, step=args.step, since=args.since, limit=args.limit)


def retry(app: Blazing, args: argparse.Namespace) -> Batch | Failed:
    failed = app.failed(args.step)
    return failed if args.dry_run else failed.retry()


def _ops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status", metavar="STATUS", help="of that status only")
    parser.add_argument("--step", metavar="STEP", help="of that step only")
    parser.add_argument("--since", type=float, metavar="S", help="finished at most so many seconds ago")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most N (default: 20)")


def _retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step", metavar="STEP", help="of that step only")
    parser.add_argument("--dry-run", action="store_true", help="only show which")


def _listed(listing: Listing) -> str:
    return "\n".join(f"{row.status:9} {row.op.text}  {row.error}".rstrip() for row in listing)


def _retried(found: Batch | Failed) -> str:
    from blazing_nb.client.batch import Batch

    return f"{len(found)} operations {'were' if isinstance(found, Batch) else 'would be'} enqueued anew"


OPS = Verb("ops", "list operations, those that are not final first", ops, _ops, text=_listed)
RETRY = Verb("retry", "enqueue what ended without success anew", retry, _retry, text=_retried)
