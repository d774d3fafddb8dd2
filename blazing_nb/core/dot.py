"""Identity of operations: (segment, incarnation, counter), as values and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from blazing_nb.errors import InvalidOperationId

CHUNK = 128


class OperationId(msgspec.Struct, frozen=True, order=True):
    """Everything needed to find an operation; as text `<step>:<prio>:<node>:<incarnation>-<counter>`.

    Examples:
        >>> batch = double.map(range(2))
        >>> one, two = batch.ids()
        >>> one.step, two.counter - one.counter, str(one) == batch[0].id
        ('double', 1, True)
    """

    step: str
    prio: str
    node: str
    incarnation: int
    counter: int

    def __str__(self) -> str:
        return self.text

    @property
    def segment(self) -> str:
        """`<step>:<prio>:<node>`.

        Examples:
            >>> double.map([1]).ids()[0].segment.startswith("double:n:")
            True
        """
        return f"{self.step}:{self.prio}:{self.node}"

    @property
    def entry(self) -> str:
        """The id of its entry in the segment's stream: `<incarnation>-<counter>`.

        Examples:
            >>> operation = double.map([1]).ids()[0]
            >>> operation.text.endswith(":" + operation.entry)
            True
        """
        return f"{self.incarnation}-{self.counter}"

    @property
    def text(self) -> str:
        """As `operation.id` and the command line have it.

        Examples:
            >>> batch = double.map([1])
            >>> batch.ids()[0].text == batch[0].id
            True
        """
        return f"{self.step}:{self.prio}:{self.node}:{self.incarnation}-{self.counter}"

    @property
    def range(self) -> Range:
        """It alone."""
        return Range(self.step, self.prio, self.node, self.incarnation, self.counter, self.counter)

    @classmethod
    def parse(cls, text: str) -> OperationId:
        """The inverse of `text`. Raises `InvalidOperationId`.

        Examples:
            >>> type(double.map([1]).ids()[0]).parse("double:n:n1:3749-7").counter
            7
        """
        parts = text.split(":")
        dot = parts[-1].split("-")
        if len(parts) != 4 or len(dot) != 2 or not all(p.isascii() and p.isdigit() for p in dot) or not all(parts):
            raise InvalidOperationId(f"{text!r} is not <step>:<prio>:<node>:<incarnation>-<counter>.")
        return cls(parts[0], parts[1], parts[2], int(dot[0]), int(dot[1]))


class Range(msgspec.Struct, frozen=True):
    """Consecutive operations of one segment and incarnation: `first` to `last`, both included."""

    step: str
    prio: str
    node: str
    incarnation: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def at(self, index: int) -> OperationId:
        """The one at that place."""
        return OperationId(self.step, self.prio, self.node, self.incarnation, self.first + index)

    def ids(self) -> Iterator[OperationId]:
        return map(self.at, range(len(self)))


def ranges_of(operations: Iterable[OperationId]) -> tuple[Range, ...]:
    """Consecutive ones as ranges, in order."""
    found: list[Range] = []
    for op in operations:
        last = found[-1] if found else None
        if last and op == OperationId(last.step, last.prio, last.node, last.incarnation, last.last + 1):
            found[-1] = msgspec.structs.replace(last, last=op.counter)
        else:
            found.append(op.range)
    return tuple(found)
