"""What an app says of its operations, whoever enqueued them: by name, by id, by status; depths and rates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from blazing_nb.client.batch import Batch
from blazing_nb.client.connected import ConnectedApp
from blazing_nb.client.failed import Failed
from blazing_nb.client.listing import Listing
from blazing_nb.client.monitor import roll_ups_frame, segments_frame
from blazing_nb.client.operation import Operation, status_of
from blazing_nb.client.option import seconds
from blazing_nb.client.results import Results
from blazing_nb.core.dot import OperationId
from blazing_nb.core.name import check_name
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.status import Status
from blazing_nb.errors import BatchUnknown, OperationUnknown

if TYPE_CHECKING:
    import pandas as pd


class ObservedApp(ConnectedApp):
    """The part of `Blazing` that only looks."""

    def attach(self, name_or_id: str) -> Batch | Operation:
        """The handle of a named batch or of an operation's id, made by whatever kernel.

        Raises:
            BatchUnknown, OperationUnknown.

        Examples:
            >>> batch = double.map([1, 2], name="attached")
            >>> app.attach("attached").results(timeout=10)
            [2, 4]
            >>> app.attach(double.enqueue(21).id).result(timeout=10)
            42
        """
        if name_or_id.count(":") == 3:
            return self._attach_operation(OperationId.parse(name_or_id))
        self.settle()
        ranges = self.store.batch(check_name(name_or_id, "batch name"))
        if not ranges:
            text = (
                f"App {self.app_id!r} has no batch {name_or_id!r}: nothing was sent by that name, or it was forgotten."
            )
            raise BatchUnknown(text, name=name_or_id)
        return Batch(self, ranges, name=name_or_id)

    def _attach_operation(self, op: OperationId) -> Operation:
        if self.store.status([op])[0].status == "ABSENT":
            raise OperationUnknown(f"{op.text} is not in the store: never stored, or its retention has passed.")
        results = Results(1)
        self.listener.attach([op.range], results)
        return Operation(self, op, results, 0)

    def operations(
        self,
        status: Status | str | None = None,
        *,
        step: str | None = None,
        since: datetime | float | None = None,
        limit: int = 100,
    ) -> Listing:
        """Operations of the app, whoever enqueued them: first those that are not final, then the others, newest first.

        Args:
            status: one of `Status`, or None for all.
            step: of that step only.
            since: finished after that moment, or at most that many seconds ago. Leaves out what is not final.
            limit: of a page, 1 to 10,000; `listing.more()` is the next one.

        Examples:
            >>> double.enqueue(1).result(timeout=10)
            2
            >>> page = app.operations("SUCCEEDED", step="double", limit=1)
            >>> len(page), [row.status for row in page]
            (1, [<Status.SUCCEEDED: 'SUCCEEDED'>])
        """
        return Listing(self, status, step, since, limit)

    def statuses(self, operations: Iterable[Operation | str]) -> list[Status | None]:
        """The status of each now, of thousands in few calls; handles or ids. None: not in the store (any more).

        Raises:
            InvalidOperationId: nothing was asked.

        Examples:
            >>> done = double.enqueue(1)
            >>> done.wait(timeout=10)
            True
            >>> app.statuses([done, "double:n:nobody:1-1"])
            [<Status.SUCCEEDED: 'SUCCEEDED'>, None]
        """
        ids = [op.op if isinstance(op, Operation) else OperationId.parse(op) for op in operations]
        return [status_of(row) for row in self.store.status(ids)]

    def failed(self, step: str | None = None, *, only: Batch | Operation | None = None, limit: int = 1000) -> Failed:
        """The dead letters: operations that ended FAILED, LOST or EXPIRED and were not retried, newest first.

        Args:
            step: of that step only.
            only: of that batch, or only that operation.
            limit: of each step, and of all, the newest; 1 to 100,000.

        Examples:
            >>> positive.enqueue(-1).wait(timeout=10)
            True
            >>> app.failed("positive", limit=1).to_frame().error[0]
            'ValueError: -1 is below zero'
        """
        return Failed(self, step, limit, only)

    def roll_ups(self, last: float = 3600.0) -> pd.DataFrame:
        """What happened in each second of the last `last` seconds (3600 at most) in which something did, by step.

        Columns: at (UTC), step, then counts within that second: enqueued, claimed, succeeded, failed, ...

        Examples:
            >>> list(app.roll_ups(last=60).columns[:4])
            ['at', 'step', 'enqueued', 'claimed']
        """
        return roll_ups_frame(self.store, self.snapshot(), seconds(last, "last", low=1.0))

    def snapshot(self) -> Snapshot:
        """Counts and depths at this moment; costs the same at any load.

        Examples:
            >>> app.snapshot().app
            'examples'
        """
        found = self.outbox.snapshot() if self.outbox is not None else self.store.snapshot()
        notices = tuple(map(str, self.redo.rollbacks))
        return msgspec.structs.replace(found, notices=notices) if notices else found

    def segments(self) -> pd.DataFrame:
        """Depths of every segment as a frame.

        Examples:
            >>> list(app.segments().columns)
            ['step', 'prio', 'node', 'waiting', 'parked', 'claimed', 'head_age_s']
        """
        return segments_frame(self.snapshot())
