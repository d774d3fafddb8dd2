"""Follows one operation: its output goes to an outlet, its state to a line above it, until it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from blazing_nb.core.output import STDERR
from blazing_nb.core.status import Status
from blazing_nb.errors import BlazingError, StoreError

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.operation import Operation
    from blazing_nb.notebook.outlet import Outlet

TURN_S = 0.2
STATE_S = 0.5
MARKS = {Status.SUCCEEDED: "✓", Status.FAILED: "✗", Status.LOST: "✗", Status.CANCELLED: "■", Status.EXPIRED: "■"}


class Follower:
    """One thread, or the foreground. `on_done` is told once, and its answer ends the line of state. `errors`: whether
    an error is shown, else whoever follows raises it."""

    def __init__(
        self,
        app: Blazing,
        operation: Operation,
        title: str,
        outlet: Outlet,
        on_done: Callable[[], str],
        *,
        errors: bool = True,
    ) -> None:
        self._app = app
        self._operation = operation
        self._title = title
        self._outlet = outlet
        self._on_done = on_done
        self._errors = errors
        self._output = operation.output()
        self._claim = 0
        self._told = ""
        self._at_s = 0.0
        self.thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Follower of {self._title}: {self._told or 'not begun'}>"

    def start(self) -> None:
        """Follow in a thread, which ends with the operation or the kernel."""
        self._tell(self._now())
        self.thread = threading.Thread(target=self.follow, name="bz-follow", daemon=True)
        self.thread.start()

    def follow(self) -> None:
        """Follow until it is done, or the app is closed. Ctrl-C ends the following only."""
        try:
            while not self._turn():
                pass
        except KeyboardInterrupt:
            self._tell("goes on, not followed any more: %blazing attach finds it")
            raise

    def _turn(self) -> bool:
        if self._app.closed:
            self._tell("not followed any more: the app was closed")
            return True
        try:
            over = self._operation.wait(TURN_S)
            self._read()
            if over:
                self._finish()
            elif time.monotonic() - self._at_s >= STATE_S:
                self._at_s = time.monotonic()
                self._tell(self._now())
            return over
        except StoreError as error:
            if not self._app.closed:
                self._tell(f"the store does not answer: {error}")
            time.sleep(TURN_S)
            return False

    def _read(self) -> None:
        for piece in self._output.read():
            if self._claim and piece.claim > self._claim:
                self._outlet.put(piece._replace(stream=STDERR, text=f"\n--- begun anew, claim {piece.claim} ---\n"))
            self._claim = max(self._claim, piece.claim)
            self._outlet.put(piece)

    def _now(self) -> str:
        try:
            progress = self._operation.progress
            state = str(self._operation.status)
        except StoreError as error:
            return f"the store does not answer: {error}"
        if state == Status.PENDING and not self._app.snapshot().workers:
            return f"{state}, and there are no workers: %blazing workers 2"
        if progress is None:
            return state
        done, total, text = progress
        return f"{state} {done:g}{f' of {total:g}' if total else ''} {text}".rstrip()

    def _finish(self) -> None:
        """The outcome, once. What cannot be brought back is said, not raised: nobody stands behind a thread."""
        status = self._operation.status
        try:
            note = self._on_done()
        except BlazingError as error:
            note = str(error)
        self._tell(f"{MARKS.get(status, '')} {status}{'; ' + note if note else ''}")
        raised = self._operation.exception(0)
        if raised is not None and self._errors:
            self._outlet.error(raised)

    def _tell(self, state: str) -> None:
        if state != self._told:
            html = (
                f'<div data-testid="bz-cell" data-state="{escape(state)}" style="font:13px/1.6 system-ui,sans-serif;'
                f'color:var(--jp-ui-font-color2,#5b6470)"><b>{escape(self._title)}</b> {escape(state)} '
                f"<code>{escape(self._operation.id)}</code></div>"
            )
            self._outlet.state(html, f"{self._title}: {state}", first=not self._told)
            self._told = state
