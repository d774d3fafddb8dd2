"""The dead letters: operations that ended without success and were not retried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blazing_nb.client.batch import Batch
from blazing_nb.client.operation import Operation
from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.markup import SHOWN, card, drawn, status_cell, table
from blazing_nb.core.outcome import Outcome, decode_outcome
from blazing_nb.errors import UsageError
from blazing_nb.store import query

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.observed import ObservedApp

LIMIT = 100_000


class Failed:
    """What `app.failed()` found at that moment, the newest first in each step.

    Examples:
        >>> positive.enqueue(-1).wait(timeout=10)
        True
        >>> len(app.failed("positive")) > 0
        True
    """

    def __init__(self, app: ObservedApp, step: str | None, limit: int, only: Batch | Operation | None = None) -> None:
        if not 1 <= limit <= LIMIT:
            raise UsageError(f"limit is 1 to {LIMIT} operations, not {limit}.")
        self._app = app
        store = app.store
        wanted = None if only is None else set(only.ids() if isinstance(only, Batch) else [only.op])
        steps = [step] if step is not None else sorted(store.steps() if wanted is None else {op.step for op in wanted})
        ids = [op for name in steps for op in query.failed(store, name, limit) if wanted is None or op in wanted]
        ids = ids[:limit]
        # Their register is by the end of their retention: what was forgotten meanwhile is left out.
        rows = zip(ids, store.status(ids), strict=True)
        self._found = [(op, decode_outcome(row.record)) for op, row in rows if row.record]

    def __repr__(self) -> str:
        return f"<Failed of {self._app.app_id}: {len(self)} operations>"

    @drawn
    def _repr_html_(self) -> str:
        rows = [(op.text, status_cell(outcome.status), _error(outcome)) for op, outcome in self._found[:SHOWN]]
        found = table(("operation", "status", "error"), rows, len(self))
        return card("Failed", self._app.app_id, [("operations", len(self))], found)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Operation]:
        for op, _ in self._found:
            found = self._app.attach(op.text)
            assert isinstance(found, Operation)  # noqa: S101 - an id was given
            yield found

    def to_frame(self) -> pd.DataFrame:
        """One row an operation: id, step, status, attempt, enqueued_at (UTC), error.

        Examples:
            >>> list(app.failed().to_frame().columns)
            ['id', 'step', 'status', 'attempt', 'enqueued_at', 'error']
        """
        import pandas as pd

        rows = [(op.text, op.step, str(o.status), o.attempt, o.enqueued_ms, _error(o)) for op, o in self._found]
        frame = pd.DataFrame(rows, columns=["id", "step", "status", "attempt", "enqueued_at", "error"])
        frame["enqueued_at"] = pd.to_datetime(frame["enqueued_at"], unit="ms", utc=True)
        return frame

    def retry(self, *, dry_run: bool = False) -> Batch:
        """Enqueue all of them anew, as other operations; the handle of those, in the same order.

        Args:
            dry_run: enqueue nothing; the handle is empty. `to_frame()` shows what would be.

        Examples:
            >>> batch = positive.map([-1, -2])
            >>> batch.wait(timeout=10)
            True
            >>> len(app.failed(only=batch).retry(dry_run=True)), len(app.failed(only=batch).retry())
            (0, 2)
        """
        if dry_run:
            return Batch(self._app, [], name=None)
        made = self._app.store.retry([op for op, _ in self._found])
        return Batch(self._app, [_range(op) for op in made if op is not None], name=None)


def _range(op: OperationId) -> Range:
    return Range(op.step, op.prio, op.node, op.incarnation, op.counter, op.counter)


def _error(outcome: Outcome) -> str:
    return describe_failure(outcome.payload)
