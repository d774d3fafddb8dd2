"""Operations of an app in pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb.client.option import seconds
from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId
from blazing_nb.core.markup import SHOWN, card, drawn, status_cell, table
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.core.status import LETTER, Status
from blazing_nb.errors import UsageError
from blazing_nb.store import query

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.observed import ObservedApp

LIMIT = 10_000
_LETTERS = {status: letter for letter, status in LETTER.items()}
_COLUMNS = ["id", "step", "status", "attempt", "enqueued_at", "ended_at", "worker", "error"]


class Row(NamedTuple):
    """One operation. Moments in server milliseconds, None where there is none yet."""

    op: OperationId
    status: Status
    attempt: int
    enqueued_ms: int | None
    ended_ms: float | None
    worker: str
    error: str


class Listing:
    """A page of `app.operations(...)`.

    Examples:
        >>> double.enqueue(1).result(timeout=10)
        2
        >>> [row.status for row in app.operations("SUCCEEDED", limit=1)]
        [<Status.SUCCEEDED: 'SUCCEEDED'>]
    """

    def __init__(
        self,
        app: ObservedApp,
        status: Status | str | None,
        step: str | None,
        since: datetime | float | None,
        limit: int,
    ) -> None:
        if not 1 <= limit <= LIMIT:
            raise UsageError(f"limit is 1 to {LIMIT} operations, not {limit}.")
        self._app, self._limit = app, limit
        self._rows_left = _rows(app, _status(status), step or "", _moment(app, since))
        self.rows = list(islice(self._rows_left, limit))

    def __repr__(self) -> str:
        return f"<Listing of {self._app.app_id}: {len(self)} operations>"

    @drawn
    def _repr_html_(self) -> str:
        rows = [(row.op.text, status_cell(row.status), row.worker, row.error) for row in self.rows[:SHOWN]]
        found = table(("operation", "status", "worker", "error"), rows, len(self))
        return card("Listing", self._app.app_id, [("operations", len(self))], found)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def more(self) -> Listing:
        """The next page; empty after the last one.

        Examples:
            >>> double.map(range(3)).wait(timeout=10)
            True
            >>> len(app.operations("SUCCEEDED", limit=2).more()) > 0
            True
        """
        page = object.__new__(Listing)
        page._app, page._limit, page._rows_left = self._app, self._limit, self._rows_left
        page.rows = list(islice(self._rows_left, self._limit))
        return page

    def to_frame(self) -> pd.DataFrame:
        """One row an operation: id, step, status, attempt, enqueued_at, ended_at (UTC), worker, error.

        Examples:
            >>> list(app.operations(limit=1).to_frame().columns[:4])
            ['id', 'step', 'status', 'attempt']
        """
        import pandas as pd

        rows = [(r.op.text, r.op.step, str(r.status), *r[2:]) for r in self.rows]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        for moment in ("enqueued_at", "ended_at"):
            frame[moment] = pd.to_datetime(frame[moment].astype(float), unit="ms", utc=True)
        return frame


def _status(status: Status | str | None) -> Status | None:
    try:
        return None if status is None else Status(status)
    except ValueError:
        raise UsageError(f"status is one of {', '.join(Status)}, not {status!r}.") from None


def _moment(app: ObservedApp, since: datetime | float | None) -> int:
    if since is None:
        return 0
    if not isinstance(since, datetime):
        return app.snapshot().at_ms - seconds(since, "since")
    if since.tzinfo is None:
        raise UsageError(f"since is a datetime with a time zone, or seconds, not {since!r}.")
    return round(since.timestamp() * 1000)


def _rows(app: ObservedApp, status: Status | None, step: str, since_ms: int) -> Iterator[Row]:
    if not since_ms and (status is None or not status.is_final):
        if status in (None, Status.CLAIMED, Status.RUNNING, Status.SCHEDULED, Status.RETRYING):
            yield from _live(app, status, query.live(app.store, step=step, pending=True))
        if status in (None, Status.PENDING):
            yield from _live(app, status, query.live(app.store, step=step, pending=False))
    if status is None or status.is_final:
        letters = "" if status is None else _LETTERS[status]
        names = query.worker_names(app.store)
        for page in query.finished(app.store, letters=letters, step=step, since_ms=since_ms):
            rows = [_finished(row, names) for row in page]
            rows.sort(key=lambda row: -(row.ended_ms or 0))
            yield from (row for row in rows if (row.ended_ms or 0) >= since_ms)


def _live(app: ObservedApp, status: Status | None, pages: Iterator[list[OperationId]]) -> Iterator[Row]:
    for page in pages:
        for op, row in zip(page, app.store.status(page), strict=True):
            now = None if row.record or row.status == "ABSENT" else Status(row.status)
            if now is not None and status in (None, now):
                attempt = row.attempts
                yield Row(op, now, attempt, None, None, row.worker.rpartition(".")[0], "")


def _finished(row: query.FinishedRow, names: dict[str, str]) -> Row:
    outcome = decode_outcome(row.record)
    ended = outcome.claimed_ms + (outcome.queued_us + outcome.run_us) / 1000
    error = "" if outcome.status is Status.SUCCEEDED else describe_failure(outcome.payload)
    worker = names.get(str(outcome.worker), "")
    return Row(row.op, outcome.status, outcome.attempt, outcome.enqueued_ms, ended, worker, error)
