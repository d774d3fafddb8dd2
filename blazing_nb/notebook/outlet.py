"""Where output goes: the cell that runs now, later and from any thread too; or a terminal."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from IPython.core.interactiveshell import InteractiveShell

from blazing_nb.core.output import CLEARED, SHOWN, STDOUT, Display, Piece


class Outlet(Protocol):
    """Takes pieces of output, a line of state that changes, and at last perhaps an error."""

    def put(self, piece: Piece) -> None: ...
    def state(self, html: str, plain: str, *, first: bool) -> None: ...
    def error(self, error: BaseException) -> None: ...


class CellOutlet:
    """The output of the cell that runs now. What is sent names its request, as the kernel's own messages do, so it
    lands there whatever runs by then. A thread may not print: its text would land elsewhere.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        publisher: Any = shell.display_pub
        self._publisher = publisher
        self._parent = dict(self._publisher.parent_header)
        self._id = f"bz-{self._parent.get('msg_id', id(self))}-{id(self)}"

    @property
    def request(self) -> str:
        """Which execution of which cell it is."""
        return str(self._parent.get("msg_id", ""))

    def put(self, piece: Piece) -> None:
        if piece.stream == SHOWN:
            self._show(Display.decode(piece.text))
        elif piece.stream == CLEARED:
            self._send("clear_output", {"wait": True})
        else:
            self._send("stream", {"name": _name(piece), "text": piece.text})

    def state(self, html: str, plain: str, *, first: bool) -> None:
        self._show(Display({"text/html": html, "text/plain": plain}, {}, self._id, not first))

    def error(self, error: BaseException) -> None:
        text = [str(error.__cause__ or "").strip("\n"), f"{type(error).__name__}: {error}"]
        lines = [line for line in text[:1] or text if line]
        self._send("error", {"ename": type(error).__name__, "evalue": str(error), "traceback": lines or text[1:]})

    def _show(self, shown: Display) -> None:
        transient = {"display_id": shown.id} if shown.id else {}
        content = {"data": shown.data, "metadata": shown.metadata, "transient": transient}
        self._send("update_display_data" if shown.update else "display_data", content)

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        publisher = self._publisher
        publisher.session.send(publisher.pub_socket, kind, content, parent=self._parent, ident=publisher.topic)


class Terminal:
    """Prints, in the foreground only."""

    def put(self, piece: Piece) -> None:
        getattr(sys, _name(piece)).write(piece.plain)

    def state(self, html: str, plain: str, *, first: bool) -> None:
        """Not here: it would scroll."""

    def error(self, error: BaseException) -> None:
        print(f"{error.__cause__ or ''}\n{type(error).__name__}: {error}", file=sys.stderr)


def _name(piece: Piece) -> str:
    """What is logged stands with the errors, as a kernel has it."""
    return "stdout" if piece.stream in (STDOUT, SHOWN, CLEARED) else "stderr"


def here(shell: InteractiveShell | None) -> CellOutlet | Terminal:
    """That of the cell that runs now, or the terminal's."""
    return Terminal() if shell is None or getattr(shell, "kernel", None) is None else CellOutlet(shell)
