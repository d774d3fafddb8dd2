"""Handles as arguments: each is a dependency, whose result takes its place when the store starts the operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

import msgspec

from blazing_nb.client.batch import Batch
from blazing_nb.client.gathering import Gathered
from blazing_nb.client.operation import Operation
from blazing_nb.core.codec import Prepared
from blazing_nb.core.dependency import ALL, FIRST, ONE, Dependency, Members, groups_of, replace
from blazing_nb.core.dot import Range, ranges_of
from blazing_nb.core.replay import replaying
from blazing_nb.errors import UsageError
from blazing_nb.store.join import INLINE, Join

MEMBERS = 1_000_000
WAITING_A_CALL = 100
MEMBERS_A_CALL = 2 * INLINE


class First:
    """What `first(batch, k)` gives: as an argument, the list of the first `k` results.

    Examples:
        >>> first(double.map([1, 2, 3]), 2)
        <First 2 of 3 operations of examples>
    """

    __slots__ = ("app_id", "k", "ranges")

    def __init__(self, app_id: str, ranges: tuple[Range, ...], k: int) -> None:
        self.app_id = app_id
        self.ranges = ranges
        self.k = k

    def __repr__(self) -> str:
        return f"<First {self.k} of {sum(map(len, self.ranges))} operations of {self.app_id}>"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"


def first(handles: Batch | Iterable[Any], k: int = 1) -> First:
    """The first `k` of many, as an argument of another operation, which starts as soon as they are there.

    With `on_failure="fail"` the first that succeed, and too many failures end it; with "skip" the first that succeed,
    or as many as did when all are final; with "collect" the first that are final, exceptions as values.

    In a workflow `await first([ask(x) for x in mirrors])` is the list of the first `k` values; the other calls are
    cancelled.

    Args:
        handles: a batch, or operations of one app; in a workflow, its calls or coroutines of its own.
        k: 1 to as many as they are.

    Raises:
        UsageError: nothing to choose from, or more wanted than there are.

    Examples:
        >>> double.enqueue(first(positive.map([3, 3, 3]), 2)).result(timeout=10)  # double gets [3, 3]
        [3, 3, 3, 3]
    """
    kept = [handles] if isinstance(handles, Batch) else list(handles)
    if not kept or isinstance(k, bool) or not isinstance(k, int):
        raise UsageError(f"first takes a batch or operations, and a whole number, not {handles!r}, {k!r}.")
    replay = replaying.get()
    if replay is not None and 1 <= k <= len(kept):
        return replay.first(kept, k)  # type: ignore[return-value]
    ranges = _ranges(kept)
    if not 1 <= k <= sum(map(len, ranges)):
        raise UsageError(f"first takes 1 to {sum(map(len, ranges))} of these operations, not {k}.")
    return First(kept[0]._app.app_id, ranges, k)


class Finder:
    """Finds the handles among the arguments of the calls of one chunk, and puts dependencies in their places."""

    __slots__ = ("_also", "_app", "_found", "_rule", "at")

    def __init__(self, app: str, rule: str, also: tuple[Members, ...] = ()) -> None:
        self._app = app
        self._also = also
        self._rule = rule
        self._found: dict[int, list[Dependency]] = {}
        self.at = 0
        """The place of the call that is looked at now."""

    def swap(self, arguments: Any) -> Any:
        """[args, kwargs] as they travel. Raises `UsageError` where a handle cannot be waited for."""
        found: list[Dependency] = []

        def swapped(item: Any, listed: bool) -> Any:
            made = _dependency(item, self._app, self._rule, listed)
            if made is None:
                return item
            found.append(made)
            return made

        args, kwargs = arguments
        value = [list(replace(tuple(args), swapped, _opened)), replace(kwargs, swapped, _opened)]
        if found:
            self._found[self.at] = found
        return value

    def joins(self) -> tuple[Join, ...]:
        """What those calls wait for that have dependencies."""
        return tuple(_join(found, at, self._also) for at, found in self._found.items())


def _opened(item: Any) -> Any:
    """What was gathered is the list of its handles."""
    return list(item.handles) if type(item) is Gathered else item


def _dependency(item: Any, app: str, rule: str, listed: bool) -> Dependency | None:
    if type(item) is list:
        # Many operations in a list are one dependency: thousands would each take their place.
        many = len(item) > 1 and all(isinstance(each, Operation) for each in item)
        return Dependency(ALL, _ranges(item, app), len(item), rule) if many else None
    if type(item) is First:
        _check_app(item.app_id, app)
        return Dependency(FIRST, item.ranges, item.k, rule)
    if not isinstance(item, Operation | Batch):
        return None
    ranges = _ranges([item], app)
    if isinstance(item, Operation):
        return Dependency(ONE, ranges, 1, rule, listed)
    return Dependency(ALL, ranges, len(item), rule)


def _ranges(handles: Sequence[Any], app: str | None = None) -> tuple[Range, ...]:
    for handle in handles:
        if not isinstance(handle, Operation | Batch):
            raise UsageError(f"Operations and batches can be waited for in the store, not {type(handle).__name__}.")
        _check_app(handle._app.app_id, app or handles[0]._app.app_id)
    if len(handles) == 1 and isinstance(handles[0], Batch):
        return tuple(handles[0]._ranges)
    return ranges_of(op for handle in handles for op in (handle.ids() if isinstance(handle, Batch) else [handle.op]))


def _check_app(theirs: str, ours: str) -> None:
    if theirs != ours:
        raise UsageError(f"An operation of app {theirs!r} cannot be a dependency in app {ours!r}: pass its result.")


def _join(found: Iterable[Dependency], at: int, also: tuple[Members, ...]) -> Join:
    """`also`: groups whose results it does not take. They come last: those of a `first` are known by their place."""
    join = Join((*groups_of(found), *also), at)
    if len(join) > MEMBERS:
        raise UsageError(f"An operation can wait for at most {MEMBERS} others, not {len(join)}: merge in two levels.")
    return join


def portions(
    prepared: Sequence[Prepared], joins: Sequence[Join]
) -> Iterator[tuple[Sequence[Prepared], tuple[Join, ...]]]:
    """Calls of a bounded size: few that wait, or with few members in all."""
    if not joins:
        yield prepared, ()
        return
    start, members, places = 0, 0, {join.at: join for join in joins}
    for at in range(len(prepared)):
        inline = min(len(places[at]), INLINE) if at in places else 0
        if at - start >= WAITING_A_CALL or (at > start and members + inline > MEMBERS_A_CALL):
            yield _portion(prepared, joins, start, at)
            start, members = at, 0
        members += inline
    yield _portion(prepared, joins, start, len(prepared))


def _portion(
    prepared: Sequence[Prepared], joins: Sequence[Join], start: int, end: int
) -> tuple[Sequence[Prepared], tuple[Join, ...]]:
    here = tuple(msgspec.structs.replace(join, at=join.at - start) for join in joins if start <= join.at < end)
    return prepared[start:end], here
