"""Reads what an operation printed and showed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blazing_nb.core.dot import OperationId
from blazing_nb.core.output import Piece
from blazing_nb.store import query
from blazing_nb.store.store import Store


class Output:
    r"""The output of one operation: `read()` gives what is new, each piece once, whoever told it twice.

    Where an attempt begins anew, its pieces have a higher claim number. `where` says which operation it is now: a
    flow's goes on from stage to stage.

    Examples:
        >>> loud = app.step(lambda word: print(word.upper()), name="loud")
        >>> operation = loud.enqueue("hello")
        >>> operation.wait(timeout=10), "".join(operation.output().texts("stdout"))
        (True, 'HELLO\n')
    """

    def __init__(self, store: Store, where: Callable[[], OperationId]) -> None:
        self._store = store
        self._where = where
        self._position = ""
        self._seen: set[tuple[OperationId, int, int]] = set()
        self._new: list[Piece] = []

    def __repr__(self) -> str:
        return f"<Output of {self._where().text}: {len(self._seen)} pieces read>"

    def read(self) -> list[Piece]:
        """What came since this was asked last. Where the store does not answer, the next call reads it.

        Examples:
            >>> output = double.enqueue(1).output()
            >>> output.read()  # it printed nothing
            []
        """
        while True:
            op = self._where()
            self._position, rows = query.output(self._store, op, self._position)
            for piece in rows:
                key = (op, piece.claim, piece.number)
                if key not in self._seen:
                    self._seen.add(key)
                    self._new.append(piece)
            if not rows:
                pieces, self._new = self._new, []
                return pieces

    def texts(self, stream: str | None = None) -> Iterator[str]:
        """The same as a terminal prints it; of one stream, or of all.

        Examples:
            >>> list(double.enqueue(1).output().texts())
            []
        """
        return (piece.plain for piece in self.read() if stream in (None, piece.stream))
