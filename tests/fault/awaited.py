"""What an operation waits for, as the checker sees it: I11 in plain words, over what the events said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Key = tuple[str, str]
GO, OPEN = "go", ""


class Awaited(NamedTuple):
    """Heads {needed, total, counts, ending} of its groups, and rows {group, segment, incarnation, first, last}."""

    heads: Sequence[Sequence[Any]]
    rows: Sequence[Sequence[Any]]

    def members(self, group: int) -> Iterator[Key]:
        for number, segment, incarnation, first, last in self.rows:
            if int(number) == group:
                yield from ((segment, f"{incarnation}-{counter}") for counter in range(int(first), int(last) + 1))

    def verdict(self, letter_of: Callable[[Key], str]) -> str:
        """`GO` where all groups are decided well, `OPEN` where one is not decided, or how the operation ends.
        `letter_of` says how a member ended: "" not yet, "?" nothing is known of it."""
        found = self._decisions(letter_of)
        endings = [one for one in found if one not in (GO, OPEN)]
        return endings[0] if endings else OPEN if OPEN in found else GO

    def may_end_as(self, letter: str, letter_of: Callable[[Key], str]) -> bool:
        """Whether a group says so; where several cannot be decided well, the first one that was known of counts."""
        return letter in self._decisions(letter_of)

    def _decisions(self, letter_of: Callable[[Key], str]) -> list[str]:
        return [self._decide(i, head, letter_of) for i, head in enumerate(self.heads, 1)]

    def _decide(self, group: int, head: Sequence[Any], letter_of: Callable[[Key], str]) -> str:
        needed, total, counts, ending = int(head[0]), int(head[1]), head[2], head[3]
        letters = [letter_of(member) for member in self.members(group)]
        good = sum(letter == "S" or (counts == "*" and letter != "") for letter in letters)
        bad = sum(letter != "" for letter in letters) - good
        if ending and total - bad < needed:
            return str(ending)
        return GO if good >= needed or good + bad == total else OPEN
