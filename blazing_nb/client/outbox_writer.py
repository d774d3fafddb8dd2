"""The writer of a node whose app has an outbox: what the store does not answer goes there, in the order of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blazing_nb.client.listener import Listener
from blazing_nb.client.node import Call, NodeWriter
from blazing_nb.client.results import Results
from blazing_nb.core.dot import Range
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import StoreUnavailable
from blazing_nb.store.redo import Redo
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    from blazing_nb.client.outbox import Outbox


class OutboxWriter(NodeWriter):
    """As `NodeWriter`, and never out of reach."""

    def __init__(
        self, name: str, app: str, store: Store, ring: KeyRing, listener: Listener, redo: Redo, outbox: Outbox
    ) -> None:
        super().__init__(name, app, store, ring, listener, redo)
        self._outbox = outbox

    def send(self, call: Call, results: Results, slot: int) -> Range:
        """Enqueue, or accept into the outbox.

        Raises:
            SegmentFull, BatchExists, OutboxFull: nothing was stored or accepted.
        """
        with self._lock:
            while True:
                if self._outbox.away:
                    self._hand_over()
                    accepted = self._outbox.accept(call, results, slot)
                    if accepted is not None:
                        return accepted
                try:
                    return super().send(call, results, slot)
                except StoreUnavailable as error:
                    self._outbox.leave(error)
                    mine = self._unsettled
                    self._hand_over()
                    if mine is not None and mine.call is call and mine.results is results:
                        return mine.range

    def settle(self) -> None:
        with self._lock:
            if self._outbox.away:
                self._hand_over()
                return
            try:
                super().settle()
            except StoreUnavailable as error:
                self._outbox.leave(error)
                self._hand_over()

    def _hand_over(self) -> None:
        """What may be stored or not goes first."""
        if self._unsettled is not None:
            self._outbox.take(self._unsettled.chunk)
            self._unsettled.settled = True
            self._unsettled = None
