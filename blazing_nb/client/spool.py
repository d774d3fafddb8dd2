"""The file of an outbox: chunks that wait for the store, in order, with their identities. Owns SQLite; sends nothing.

One process at a time writes it. Each opening is an incarnation of the file's own node, whose name nobody else has.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from blazing_nb.core.dot import OperationId
from blazing_nb.core.snapshot import OutboxState
from blazing_nb.errors import OutboxFull, OutboxUnusable
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.home import file_name, home
from blazing_nb.store.request import Chunk

FORMAT = 1
SLOTS = 64
MERGED, MERGED_BYTES = 1000, 1 << 20
SUFFIX = ".outbox"
_SCHEMA = """
CREATE TABLE meta (app TEXT NOT NULL, node TEXT NOT NULL, incarnation INTEGER NOT NULL, until INTEGER NOT NULL);
CREATE TABLE defined (id INTEGER PRIMARY KEY, step TEXT, digest BLOB, record BLOB, options BLOB, limits TEXT,
  UNIQUE (step, digest));
CREATE TABLE chunk (id INTEGER PRIMARY KEY AUTOINCREMENT, head BLOB, batch TEXT, first INTEGER, last INTEGER, node TEXT,
  incarnation INTEGER, at_ms INTEGER, why TEXT, body BLOB);
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Chunk).decode


class Parcel(msgspec.Struct, frozen=True):
    """What is sent in one call: the chunk, the rows that it is of, and when the first of them was accepted."""

    first: int
    last: int
    at_ms: int
    chunk: Chunk


class Refused(msgspec.Struct, frozen=True):
    """What the store will not take: its operations `first` to `last`, and why.

    Examples:
        >>> [(one.operations, one.why) for one in away.outbox.refused()]
        []
    """

    first: str
    last: str
    operations: int
    why: str


class Spool:
    """An open file; one process a file.

    Args:
        path: made with mode 0600 where it is missing.
        durable: each acceptance is on the disk (fsync) before it returns; else it survives the process, not a power
            failure.

    Raises:
        OutboxUnusable: it cannot be made or read, is another app's, or another process has it.
    """

    def __init__(self, path: Path, app_id: str, *, durable: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self._guard = _guarded(path)
        except OSError as error:
            raise OutboxUnusable(
                f"The outbox {path} cannot be used: {error}. Name another path.", path=str(path)
            ) from None
        try:
            self._open(app_id, durable)
        except BaseException as error:
            os.close(self._guard)
            if isinstance(error, sqlite3.Error | OSError):
                raise OutboxUnusable(f"{path} is no outbox ({error}). Name another path.", path=str(path)) from error
            raise

    def _open(self, app_id: str, durable: bool) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        self.path.chmod(0o600)
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._begin(app_id)
        except BaseException:
            self._db.close()
            raise

    def _begin(self, app_id: str) -> None:
        fresh = f"outbox-{os.urandom(6).hex()}", 0
        [version] = self._db.execute("PRAGMA user_version").fetchone()
        with self._transaction():
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO meta VALUES (?, ?, ?, 0)", (app_id, *fresh))
                self._db.execute(f"PRAGMA user_version={FORMAT}")
            elif version != FORMAT:
                raise OutboxUnusable(
                    f"{self.path} is of another version ({version}) of the package. Name another path.",
                    path=str(self.path),
                )
            owner, self.node, last = self._db.execute("SELECT app, node, incarnation FROM meta").fetchone()
            if owner != app_id:
                raise OutboxUnusable(f"{self.path} is the outbox of the app {owner!r}. Name another path.", app=owner)
            self.incarnation = max((_now_ms() << 11) + CHANCE.getrandbits(11), last + 1)
            self._db.execute("UPDATE meta SET incarnation = ?", (self.incarnation,))
        sizes = self._db.execute("SELECT why IS NULL, sum(last - first + 1) FROM chunk GROUP BY 1").fetchall()
        counts: dict[int, int] = dict(sizes)
        self.depth, self.refused = counts.get(1, 0), counts.get(0, 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let another process have it. What waits stays. Repeatable."""
        with self._lock:
            if self._guard >= 0:
                self._db.close()
                os.close(self._guard)
                self._guard = -1

    # -- accepting -----------------------------------------------------------------------------------------------------

    def add(self, chunk: Chunk) -> None:
        """At the end. It is there when this returns.

        Raises:
            OutboxFull: the disk is; nothing was accepted.
        """
        head = _encode(msgspec.structs.replace(chunk, first=0, payloads=[]))
        row = (
            head,
            chunk.batch,
            chunk.first,
            chunk.range.last,
            chunk.node,
            chunk.incarnation,
            _now_ms(),
            _encode(chunk),
        )
        try:
            with self._transaction():
                self._db.execute(
                    "INSERT INTO chunk (head, batch, first, last, node, incarnation, at_ms, body)"
                    " VALUES (?,?,?,?,?,?,?,?)",
                    row,
                )
                self.depth += len(chunk.payloads)
        except sqlite3.OperationalError as error:
            raise OutboxFull(f"The outbox {self.path} takes no more: {error}.", path=str(self.path)) from error

    def define(self, step: str, digest: bytes, record: bytes, options: bytes, limits: str) -> None:
        """Keep a step's code; it goes before the chunks."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO defined (step, digest, record, options, limits) VALUES (?,?,?,?,?)",
                (step, digest, record, options, limits),
            )

    def has_batch(self, name: str) -> bool:
        """Whether a chunk of that named batch waits here."""
        return self._one("SELECT 1 FROM chunk WHERE batch = ? AND why IS NULL LIMIT 1", name) is not None

    def holds(self, op: OperationId) -> bool:
        """Whether that operation waits here."""
        question = "SELECT 1 FROM chunk WHERE node = ? AND incarnation = ? AND first <= ? AND last >= ? AND why IS NULL"
        return self._one(question, op.node, op.incarnation, op.counter, op.counter) is not None

    # -- sending -------------------------------------------------------------------------------------------------------

    def definitions(self) -> list[tuple[int, str, bytes, bytes, bytes, str]]:
        with self._lock:
            return self._db.execute("SELECT * FROM defined ORDER BY id").fetchall()

    def defined(self, number: int) -> None:
        """The store has it."""
        with self._transaction():
            self._db.execute("DELETE FROM defined WHERE id = ?", (number,))

    def head(self) -> Parcel | None:
        """What is to be sent first. Calls that differ in nothing else are sent as one; which ones is written down
        before, so that a repetition is the same call."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, head, first, last, at_ms, length(body) FROM chunk WHERE why IS NULL ORDER BY id LIMIT ?",
                (MERGED,),
            ).fetchall()
            if not rows:
                return None
            [until] = self._one("SELECT until FROM meta") or (0,)
            mates = [row for row in rows if row[0] <= until] or _mates(rows)
            first, last = mates[0][0], mates[-1][0]
            if last != until:
                with self._transaction():
                    self._db.execute("UPDATE meta SET until = ?", (last,))
            bodies = self._db.execute(
                "SELECT body FROM chunk WHERE why IS NULL AND id BETWEEN ? AND ? ORDER BY id", (first, last)
            ).fetchall()
        chunks = [_decode(body) for (body,) in bodies]
        payloads = [payload for chunk in chunks for payload in chunk.payloads]
        return Parcel(first, last, mates[0][4], msgspec.structs.replace(chunks[0], payloads=payloads))

    def sent(self, parcel: Parcel) -> None:
        """The store has it."""
        with self._transaction():
            self._db.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", (parcel.first, parcel.last))
            self.depth -= len(parcel.chunk.payloads)

    def refuse(self, parcel: Parcel, why: str) -> list[Chunk]:
        """The store will never take it, nor what else waits of its named batch: all that was put aside."""
        name = parcel.chunk.batch
        which = parcel.first, parcel.last, name
        with self._transaction():
            found = self._db.execute(
                "SELECT body FROM chunk WHERE why IS NULL AND (id BETWEEN ? AND ? OR (batch = ? AND batch != ''))",
                which,
            ).fetchall()
            self._db.execute(
                "UPDATE chunk SET why = ? WHERE why IS NULL AND (id BETWEEN ? AND ? OR (batch = ? AND batch != ''))",
                (why, *which),
            )
            chunks = [_decode(body) for (body,) in found]
            moved = sum(len(chunk.payloads) for chunk in chunks)
            self.depth, self.refused = self.depth - moved, self.refused + moved
        return chunks

    def refusals(self) -> list[Refused]:
        with self._lock:
            rows = self._db.execute("SELECT why, body FROM chunk WHERE why IS NOT NULL ORDER BY id").fetchall()
        return [_refused(why, _decode(body)) for why, body in rows]

    def dismiss(self) -> int:
        """Forget what was refused; how many operations it was."""
        with self._transaction():
            self._db.execute("DELETE FROM chunk WHERE why IS NOT NULL")
            dropped, self.refused = self.refused, 0
        return dropped

    def oldest_ms(self) -> int:
        """How long the oldest has waited; 0 where none does."""
        found = self._one("SELECT at_ms FROM chunk WHERE why IS NULL ORDER BY id LIMIT 1")
        return max(0, _now_ms() - found[0]) if found else 0

    def _one(self, question: str, *values: Any) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(question, values).fetchone()
        return row


def open_spool(where: bool | str | os.PathLike[str], app_id: str, *, durable: bool = False) -> Spool:
    """The file named, or (True) this user's first for this app that no other process has: what a dead kernel left is
    taken up by the next one."""
    if not isinstance(where, bool):
        return Spool(Path(os.fspath(where)).expanduser().absolute(), app_id, durable=durable)
    for path in _paths(app_id):
        try:
            return Spool(path, app_id, durable=durable)
        except OutboxUnusable as error:
            if not error.fields.get("busy"):
                raise
    raise OutboxUnusable(f"{SLOTS} processes have outboxes of {app_id!r} here. Name a path of its own.", app=app_id)


def peek(app_id: str) -> tuple[OutboxState, ...]:
    """This user's outboxes of the app on this machine, whoever has them, read only; none where nothing waits."""
    return tuple(state for path in _paths(app_id) if path.exists() and (state := _look(path)).operations)


def _look(path: Path) -> OutboxState:
    question = "SELECT coalesce(sum(last - first + 1), 0), coalesce(min(at_ms), 0) FROM chunk WHERE why IS NULL"
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            depth, at_ms = db.execute(question).fetchone()
        finally:
            db.close()
    except sqlite3.Error:  # its process is just making or recovering it
        return OutboxState(str(path), 0, 0)
    return OutboxState(str(path), depth, max(0, _now_ms() - at_ms) if depth else 0)


def _paths(app_id: str) -> list[Path]:
    folder = home() / "outbox"
    folder.mkdir(mode=0o700, exist_ok=True)
    return [folder / f"{file_name(app_id)}.{number}{SUFFIX}" for number in range(SLOTS)]


def _guarded(path: Path) -> int:
    """A lock beside the file: SQLite's own would go with any closing of it in this process."""
    guard = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(guard)
        raise OutboxUnusable(
            f"Another process, or another app object of this one, has the outbox {path}. Give each a path of its own, "
            "or outbox=True.",
            path=str(path),
            busy=True,
        ) from None
    return guard


def _mates(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first row, and those behind it that can go in one call with it."""
    mates, size = rows[:1], rows[0][-1]
    first = _decode(rows[0][1])
    if first.batch or first.joins or first.delay_ms or first.expires_ms:
        return mates
    for row in rows[1:]:
        size += row[-1]
        fits = row[1] == mates[0][1] and row[2] == mates[-1][3] + 1
        if not fits or size > MERGED_BYTES or row[3] - mates[0][2] >= MERGED:
            break
        mates.append(row)
    return mates


def _refused(why: str, chunk: Chunk) -> Refused:
    range_ = chunk.range
    return Refused(range_.at(0).text, range_.at(len(range_) - 1).text, len(range_), why)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
