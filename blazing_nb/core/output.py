"""Pieces of what an operation printed and showed, in their order."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

STDOUT, STDERR, LOG = "stdout", "stderr", "log"
SHOWN, CLEARED = "display", "clear"
"""Something displayed (see `Display`), and that all before it is cleared."""
JOINED = frozenset({STDOUT, STDERR, LOG})


class Piece(NamedTuple):
    r"""One text of one attempt (by its claim number), numbered by the worker that told it.

    Attributes:
        stream: "stdout", "stderr", "log", or "display" (a mime bundle as JSON) and "clear".

    Examples:
        >>> loud = app.step(lambda word: print(word.upper()), name="loud")
        >>> operation = loud.enqueue("hello")
        >>> operation.wait(timeout=10), operation.output().read()
        (True, [Piece(claim=1, number=..., stream='stdout', text='HELLO\n')])
    """

    claim: int
    number: int
    stream: str
    text: str

    @property
    def plain(self) -> str:
        """As a terminal prints it.

        Examples:
            >>> print_ = app.step(lambda: print("a", 1), name="print")
            >>> operation = print_.enqueue()
            >>> operation.wait(timeout=10), [piece.plain.strip() for piece in operation.output().read()]
            (True, ['a 1'])
        """
        if self.stream == SHOWN:
            return Display.decode(self.text).plain
        return "" if self.stream == CLEARED else self.text


class Display(NamedTuple):
    """What `display` showed: a mime bundle. With an `id` it can be shown anew (`update`)."""

    data: dict[str, Any]
    metadata: dict[str, Any]
    id: str = ""
    update: bool = False

    @property
    def plain(self) -> str:
        return str(self.data.get("text/plain", "")) + "\n"

    def encode(self) -> str:
        return json.dumps(self._asdict(), default=repr)

    @classmethod
    def decode(cls, text: str) -> Display:
        return cls(**json.loads(text))
