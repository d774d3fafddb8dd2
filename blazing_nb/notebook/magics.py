"""`%blazing VERB`: the verbs of `command`, in a notebook. Each returns its value; bad input is one line with a hint."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class

from blazing_nb.client.app import Blazing
from blazing_nb.client.batch import Batch
from blazing_nb.client.doctor import Diagnosis
from blazing_nb.client.listing import Listing
from blazing_nb.command import DEFAULT_APP, build_parser
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import BlazingError
from blazing_nb.notebook import completion
from blazing_nb.notebook.depth import SegmentDepths
from blazing_nb.store import embedded

NAME = "app"
"""The variable that `up` sets."""


@magics_class
class BlazingMagics(Magics):
    """The state of one kernel: its app."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell = shell
        self._parser = build_parser(magic=True)
        self._views: list[SegmentDepths] = []
        self._verbs: dict[str, Callable[[argparse.Namespace], Any]] = {
            "up": self._up,
            "status": self._status,
            "workers": self._workers,
            "segments": self._segments,
            "ops": self._ops,
            "retry": self._retry,
            "doctor": self._doctor,
            "down": self._down,
        }

    @line_cell_magic
    def blazing(self, line: str, cell: str | None = None) -> Any:
        """`%blazing VERB [options]`; `%blazing --help` lists the verbs."""
        if cell is not None:
            raise UsageError("%%blazing has no cell verbs yet; use %blazing VERB on one line.")
        try:
            args = self._parser.parse_args(shlex.split(line))
            if args.verb is None:
                self._parser.print_help()
                return None
            return self._verbs[args.verb](args)
        except SystemExit:
            return None  # --help has printed
        except (BlazingError, ValueError) as error:
            raise UsageError(str(error)) from None

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _up(self, args: argparse.Namespace) -> Blazing:
        app = self._app(args.app, args.url)
        app.connect()
        if args.workers is not None:
            app.workers.scale(args.workers)
        self._shell.user_ns[NAME] = app
        return app

    def _status(self, args: argparse.Namespace) -> Snapshot:
        return self._app(args.app).snapshot()

    def _workers(self, args: argparse.Namespace) -> Any:
        app = self._app(args.app)
        if args.n is not None:
            app.workers.scale(args.n)
        return app.workers

    def _segments(self, args: argparse.Namespace) -> Any:
        app = self._app(args.app)
        if args.once:
            return app.segments()
        view = SegmentDepths(app)
        self._views.append(view)
        return view

    def _ops(self, args: argparse.Namespace) -> Listing:
        return self._app(args.app).operations(args.status, step=args.step, since=args.since, limit=args.limit)

    def _retry(self, args: argparse.Namespace) -> Batch:
        failed = self._app(args.app).failed(args.step)
        print(f"{len(failed)} operations {'would be' if args.dry_run else 'were'} enqueued anew")
        return failed.retry(dry_run=args.dry_run)

    def _doctor(self, args: argparse.Namespace) -> Diagnosis:
        return self._app(args.app, args.url).doctor()

    def _down(self, args: argparse.Namespace) -> None:
        app = self._app(args.app)
        for view in self._views:
            view.close()
        self._views.clear()
        stopped = app.workers.stop()
        app.close()
        server = embedded.stop() if not args.keep_server else False
        print(f"{stopped} workers stopped; the embedded server {'stopped' if server else 'was not touched'}")

    def _app(self, app_id: str | None, url: str | None = None) -> Blazing:
        """The notebook's app: the variable `app` where it fits, else a new one."""
        found = self._shell.user_ns.get(NAME)
        if isinstance(found, Blazing) and not found.closed and (app_id or found.app_id) == found.app_id:
            if url is not None and found.url != url:
                raise UsageError(f"app {found.app_id!r} is connected to another store; %blazing down first.")
            return found
        return Blazing(app_id or DEFAULT_APP, url=url)

    def close(self) -> None:
        """Freeze what is shown; leave app and workers alone."""
        for view in self._views:
            view.close()
        self._views.clear()


_loaded: dict[int, BlazingMagics] = {}


def load_ipython_extension(ip: InteractiveShell) -> None:
    """`%load_ext blazing_nb`; a second time changes nothing."""
    if id(ip) in _loaded:
        return
    magics = _loaded[id(ip)] = BlazingMagics(ip)
    ip.register_magics(magics)
    completion.add(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """Remove the magic and its completion."""
    magics = _loaded.pop(id(ip), None)
    if magics is None:
        return
    magics.close()
    completion.remove(ip)
    for kind in ("line", "cell"):
        ip.magics_manager.magics[kind].pop("blazing", None)
