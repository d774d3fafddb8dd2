"""`blazing-nb`: the verbs on the command line. An error is one line that says what to do, and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence

from blazing_nb.command import DEFAULT_APP, build_parser
from blazing_nb.errors import BlazingError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    parser = build_parser(magic=False)
    try:
        args = parser.parse_args(argv)
        if args.verb is None:
            parser.print_help()
            return 0
        args.app = args.app or DEFAULT_APP
        return _VERBS[args.verb](args)
    except BlazingError as error:
        print(f"blazing-nb: {error}", file=sys.stderr)
        return 2


def _worker(args: argparse.Namespace) -> int:
    from blazing_nb.worker.worker import Worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    worker = Worker(
        args.app,
        args.worker_id,
        url=args.url,
        threads=args.threads,
        processes=args.processes,
        lease=args.lease,
        grace=args.grace,
    )
    return worker.run()


def _demo(args: argparse.Namespace) -> int:
    from blazing_nb.demo.run import run

    return run(args)


def _up(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app, url=args.url) as app:
        if args.workers is not None:
            app.workers.scale(args.workers)
        print(f"{args.app} is up at {app.url}; {app.workers!r}")
    return 0


def _status(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app) as app:
        snapshot = app.snapshot()
        print(snapshot)
        for step in snapshot.steps:
            counts = f"{step.enqueued} enqueued, {step.succeeded} succeeded, {step.failed} failed, {step.lost} lost"
            print(f"  {step.step}: {counts}")
        for worker in snapshot.workers:
            print(f"  {worker.worker_id}: {worker.host} pid {worker.pid}, {worker.done} done")
    return 0


def _workers(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app) as app:
        if args.n is not None:
            app.workers.scale(args.n)
        for process in app.workers:
            print(f"pid {process.pid}, log {process.log}")
        print(repr(app.workers))
    return 0


def _segments(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app) as app:
        print(app.segments().to_string(index=False))
    return 0


def _down(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing
    from blazing_nb.store import embedded

    stopped = Blazing(args.app).workers.stop()
    server = embedded.stop() if not args.keep_server else False
    print(f"{stopped} workers stopped; the embedded server {'stopped' if server else 'was not touched'}")
    return 0


def _ops(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app) as app:
        for row in app.operations(args.status, step=args.step, since=args.since, limit=args.limit):
            print(f"{row.status:9} {row.op.text}  {row.error}".rstrip())
    return 0


def _retry(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with Blazing(args.app) as app:
        failed = app.failed(args.step)
        failed.retry(dry_run=args.dry_run)
        print(f"{len(failed)} operations {'would be' if args.dry_run else 'were'} enqueued anew")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from blazing_nb.client.app import Blazing

    with contextlib.closing(Blazing(args.app, url=args.url)) as app:
        found = app.doctor()
    print(found)
    return 0 if found.healthy else 1


def _top(args: argparse.Namespace) -> int:
    from rich.console import Console

    from blazing_nb.client.app import Blazing
    from blazing_nb.top import Top

    with Blazing(args.app) as app, contextlib.suppress(KeyboardInterrupt):
        Top(app).run(Console(), args.seconds)
    return 0


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "worker": _worker,
    "demo": _demo,
    "up": _up,
    "status": _status,
    "workers": _workers,
    "segments": _segments,
    "ops": _ops,
    "retry": _retry,
    "doctor": _doctor,
    "top": _top,
    "down": _down,
}
