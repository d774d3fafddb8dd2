"""The files of an app's workers on this machine, through which kernels and the supervisor speak: what is wanted
(`orders.json`), what is (`state.json`), logs. Private to the user. A changed order is followed by SIGHUP.

The supervisor holds `guard` locked for as long as it lives, so that there is never a second one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from blazing_nb.core.supervision import Orders, State
from blazing_nb.store.home import file_name, home, private
from blazing_nb.store.process import is_alive

Record = TypeVar("Record", Orders, State)
TAIL_BYTES = 16 << 10
TAIL_LINES = 8


class Station:
    """The files of one app; made where they are first needed."""

    def __init__(self, app_id: str) -> None:
        self.folder = home() / "workers" / file_name(app_id)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by whoever reads and changes the orders. The system drops it with its process."""
        private(self.folder)
        with open(os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def guard(self) -> IO[str] | None:
        """The locked guard, to be kept open; None where a supervisor holds it."""
        private(self.folder)
        file = open(os.open(self.folder / "guard", os.O_CREAT | os.O_RDWR, 0o600), "w")  # noqa: SIM115 - kept open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    @property
    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        if not self.folder.exists():
            return False
        file = self.guard()
        if file is not None:
            file.close()
        return file is None

    def orders(self) -> Orders:
        return self._read("orders", Orders) or Orders()

    def state(self) -> State | None:
        """What the last supervisor wrote last; it may be gone since."""
        return self._read("state", State)

    def write(self, record: Orders | State) -> None:
        """Whole or not at all. Only under the lock for orders; only by the supervisor for its state."""
        path = self._path(type(record).__name__.lower())
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(record))
        draft.replace(path)

    def call(self) -> None:
        """Let the supervisor look at its orders now; without one nothing happens."""
        state = self.state()
        if state is not None and is_alive(state.pid, state.started):
            with contextlib.suppress(ProcessLookupError):  # it ended between the look and the signal
                os.kill(state.pid, signal.SIGHUP)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str, kind: type[Record]) -> Record | None:
        try:
            return msgspec.json.decode(self._path(name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None  # of another version of the package: it is written anew


def tail(path: Path, start: int = 0) -> str:
    """The last lines of a log, from a position on."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(start, size), size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
