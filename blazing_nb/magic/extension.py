"""The extension: says a verb of the tree to the notebook's app, and gives its value to the cell."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class

from blazing_nb.client.app import Blazing
from blazing_nb.command import DEFAULT_APP, build_parser, verbs
from blazing_nb.errors import BlazingError, OperationError, RemoteTraceback
from blazing_nb.magic.completion import Completer
from blazing_nb.notebook.pump import pump

NAME = "app"
"""The variable that `up` sets."""


@magics_class
class BlazingMagics(Magics):
    """The magic of one kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell = shell
        self.completer = Completer(shell)

    @line_cell_magic
    def blazing(self, line: str, cell: str | None = None) -> Any:
        """A durable task queue, driven from a notebook.

            %blazing up --workers 2     connect, or start a server, and two workers; sets the variable `app`
            %blazing status             counts, depths and workers now
            %blazing dashboard          all views in one, live
            %%blazing run --name train  run the cell on a worker; it outlives the kernel
            %blazing down               stop the workers and the server

        All verbs: `%blazing --help` and `%%blazing --help`; the options of one: `%blazing up --help`.
        """
        args = _parsed("%blazing" if cell is None else "%%blazing", line)
        if args is None:
            return None
        args.cell, args.shell = cell, self._shell
        try:
            value = args.verb.run(self._app(args.app, args.url), args)
        except BlazingError as error:
            # What a step raised is the user's own, and keeps its traceback.
            if isinstance(error, OperationError) or isinstance(error.__cause__, RemoteTraceback):
                raise
            raise UsageError(str(error)) from None
        if isinstance(value, Blazing):
            self._shell.user_ns[NAME] = value
        return value

    def _app(self, app_id: str | None, url: str | None) -> Blazing:
        """The notebook's app: the variable `app` where it fits, else a new one."""
        found = self._shell.user_ns.get(NAME)
        if isinstance(found, Blazing) and not found.closed and (app_id or found.app_id) == found.app_id:
            if url is not None and found.url != url:
                raise UsageError(f"app {found.app_id!r} is connected to another store; %blazing down first.")
            return found
        return Blazing(app_id or DEFAULT_APP, url=url)


def _parsed(prog: str, line: str) -> argparse.Namespace | None:
    """What was said; None where it was help."""
    parser = build_parser(prog)
    quoted = next((verb.quoted for verb in verbs(prog) if verb.name == line.split(" ")[0]), str)
    try:
        args = parser.parse_args(shlex.split(quoted(line)))
    except SystemExit:
        return None  # --help has printed
    except ValueError as error:
        raise UsageError(str(error)) from None
    if args.verb is None:
        parser.print_help()
        return None
    return args


_loaded: dict[int, BlazingMagics] = {}


def load_ipython_extension(ip: InteractiveShell) -> None:
    """`%load_ext blazing_nb`; a second time changes nothing."""
    if id(ip) in _loaded:
        return
    magics = _loaded[id(ip)] = BlazingMagics(ip)
    ip.register_magics(magics)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """Remove the magic and its completion; freeze what is shown, leave apps and workers alone."""
    magics = _loaded.pop(id(ip), None)
    if magics is None:
        return
    pump.close()
    magics.completer.close()
    for kind in ("line", "cell"):
        ip.magics_manager.magics[kind].pop("blazing", None)
