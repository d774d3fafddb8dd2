"""Durable cells: a cell's text with the variables that it reads, sent to a worker; its output shown where it stands."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from IPython.core.interactiveshell import InteractiveShell

from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.client.step import Step
from blazing_nb.client.value import keep
from blazing_nb.core.cell import STEP, Cell, CellResult, is_cell, reads
from blazing_nb.core.codec import Prepared, prepare
from blazing_nb.core.reference import Ref
from blazing_nb.core.status import Status
from blazing_nb.errors import UsageError, ValueNotSerializable
from blazing_nb.notebook.follower import Follower
from blazing_nb.notebook.outlet import CellOutlet, Outlet, here
from blazing_nb.worker.cell import run_cell

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

INLINE = 64 << 10
LISTED = 10 << 20
RETENTION_MS = 86_400_000


class CellRun:
    """The handle of a durable cell: an ordinary operation, whose output is shown where the handle is.

    Attributes:
        operation: the `Operation`.
        name: the batch's name, or "".

    """

    def __init__(self, app: Blazing, operation: Operation, name: str, shell: InteractiveShell | None = None) -> None:
        self._app = app
        self.operation = operation
        self.name = name
        self._shell = shell
        # What the notebook's variables are now: those that the user assigns meanwhile stay.
        self._before = {} if shell is None else {key: id(value) for key, value in shell.user_ns.items()}
        self._shown = ""
        self.follower: Follower | None = None

    def __repr__(self) -> str:
        state = self.status if self.operation.done() else "not finished"
        return f"<CellRun {self.name or self.id} {state}>"

    @property
    def id(self) -> str:
        return self.operation.id

    @property
    def status(self) -> Status:
        return self.operation.status

    def done(self) -> bool:
        return self.operation.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is final; False where `timeout` seconds were not enough."""
        return self.operation.wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait; the variable that --out named, else a dict of the variables that came back. Raises as the cell did."""
        found = self.operation.result(timeout)
        values = self._values(found)
        return values[found.out] if found.out else values

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return self.operation.exception(timeout)

    def cancel(self) -> Status:
        return self.operation.cancel()

    def logs(self) -> str:
        """What it printed and showed so far, as text."""
        return "".join(piece.plain for piece in self.operation.output().read())

    def reproduce(self, *, run: bool = True) -> Any:
        """As `Operation.reproduce`: the cell runs here, and %debug looks into what it raises."""
        return self.operation.reproduce(run=run)

    def _ipython_display_(self) -> None:
        self.show()

    def show(self) -> None:
        """Show its output so far in the cell that runs now, and go on following from a thread."""
        outlet = here(self._shell)
        if not isinstance(outlet, CellOutlet):
            print(repr(self))
        elif outlet.request != self._shown:
            if self.status.is_final:  # all is there: what runs notebooks without a person waits for no thread
                self.watch()
                return
            self._shown = outlet.request
            self.follower = self._follower(outlet)
            self.follower.start()

    def watch(self, *, errors: bool = True) -> None:
        """The same in the foreground, until it is done: for terminals, and where nothing arrives from threads.

        Args:
            errors: show the error that it ended with.
        """
        outlet = here(self._shell)
        self._shown = outlet.request if isinstance(outlet, CellOutlet) else ""
        self._follower(outlet, errors=errors).follow()

    def _follower(self, outlet: Outlet, *, errors: bool = True) -> Follower:
        return Follower(self._app, self.operation, self.name or "cell", outlet, self._bring, errors=errors)

    def _values(self, found: CellResult) -> dict[str, Any]:
        get = self._app.get
        return {name: get(value) if isinstance(value, Ref) else value for name, value in found.values.items()}

    def _bring(self) -> str:
        """Assign what came back, where the notebook's own variable is still what it was; what to say of it."""
        if self._shell is None or self.status is not Status.SUCCEEDED:
            return ""
        names = self._shell.user_ns
        brought, kept = [], []
        for name, value in self._values(self.operation.result(0)).items():
            if name in names and id(names[name]) != self._before.get(name):
                kept.append(name)
            else:
                names[name] = value
                brought.append(name)
        own = f"; {', '.join(kept)} was assigned here meanwhile: .result() has the cell's" if kept else ""
        return (f"here now: {', '.join(brought)}" if brought else "nothing came back") + own


def run(app: Blazing, shell: InteractiveShell, text: str, step: Step, *, name: str = "", out: str = "") -> CellRun:
    """Send a cell. `step` is what `cell_step` gives, perhaps with options.

    Raises:
        SyntaxError: with the cell's own line.
        BatchExists: the name is taken.
        ValueNotSerializable: it reads a variable that cannot be sent.
    """
    cell = _cell(app, shell, text, name, out=out)
    if not name:
        return CellRun(app, step.enqueue(cell), "", shell)
    return CellRun(app, step.map([cell], name=name)[0], name, shell)


def map_cell(
    app: Blazing,
    shell: InteractiveShell,
    text: str,
    step: Step,
    items: Iterable[Any],
    *,
    target: str,
    name: str = "",
    out: str = "",
) -> Batch:
    """Send a cell for each item, which is assigned to `target`. Its text and variables are stored once."""
    cell = app.put(_cell(app, shell, text, name, out=out, target=target))
    return step.starmap(((cell, item) for item in items), name=name or None)


def cell_step(app: Blazing, lane: str) -> Step:
    """The step that runs cells in that lane."""
    name = STEP if lane == "thread" else f"{STEP}-{lane}"
    return app.steps.get(name) or app.step(run_cell, name=name, lane=lane)


def cell_of(app: Blazing, found: Batch | Operation, name: str, shell: InteractiveShell | None) -> CellRun | None:
    """The handle of what was attached to, where it is a cell that is run once."""
    if isinstance(found, Batch):
        if len(found) != 1 or not is_cell(found[0].op.step):
            return None
        return CellRun(app, found[0], name, shell)
    return CellRun(app, found, "", shell) if is_cell(found.op.step) else None


def _cell(app: Blazing, shell: InteractiveShell, text: str, name: str, *, out: str, target: str = "") -> Cell:
    source = "\n" + text
    # Equal names would show another cell's lines in tracebacks.
    file = f"<cell {name}>" if name else f"<cell {crc32(text.encode()):08x}>"
    transformed: str = shell.transform_cell(text)  # type: ignore[no-untyped-call]
    if "get_ipython()" in transformed and "get_ipython()" not in text:
        raise UsageError("Magics and shell lines (%, !, ?) do not run on a worker: use plain Python in a durable cell.")
    own = {node.id for node in ast.walk(ast.parse(target)) if isinstance(node, ast.Name)} if target else set()
    names = [read for read in reads(source, file) if read in shell.user_ns and read not in own]
    return Cell(source, file, _variables(app, {read: shell.user_ns[read] for read in names}), out, target)


def _variables(app: Blazing, found: dict[str, Any]) -> dict[str, Any]:
    """What travels: small values as they are, others stored once. Says first what is large."""
    # A step is sent as the function that it is.
    found = {name: value.function if isinstance(value, Step) else value for name, value in found.items()}
    prepared = {name: _prepared(name, value) for name, value in found.items()}
    sizes = {name: len(data) for name, (_, data) in prepared.items()}
    if sum(sizes.values()) > LISTED:
        print(f"Sending {sum(sizes.values()) / 1e6:.1f} MB to the store:")
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            print(f"  {name:20} {sizes[name] / 1e6:8.1f} MB  {type(found[name]).__name__}")
    return {
        name: value if sizes[name] <= INLINE else keep(app, prepared[name], RETENTION_MS)
        for name, value in found.items()
    }


def _prepared(name: str, value: Any) -> Prepared:
    try:
        return prepare(value, name)
    except ValueNotSerializable as error:
        raise ValueNotSerializable(
            f"The cell reads {name}, of type {type(value).__qualname__}, which cannot be sent: neither plain data nor "
            f"picklable ({error.__cause__ or error}). Make it inside the cell.",
            name=name,
        ) from None
