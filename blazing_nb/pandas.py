"""Importing this gives pandas objects `.blazing`: `series.blazing.map(step)`, `frame.blazing.map(step)`.

Example:
    >>> import blazing_nb.pandas
    >>> pd.Series([1, 2], index=["a", "b"]).blazing.map(square)
    a    1
    b    4
    dtype: int64
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pandas as pd

from blazing_nb.client.batch import Batch
from blazing_nb.client.call import whole
from blazing_nb.client.caller import Caller
from blazing_nb.client.step import Step
from blazing_nb.errors import UsageError

ERRORS = ("raise", "collect")
ALONE = 1000
"""Up to so many values each is an operation of its own; of more, chunks make about so many operations."""
CHUNK_LIMIT = 10_000


class Mapping:
    """What `.blazing.map` was asked to do, checked."""

    def __init__(self, step: Step, chunk: int | None, errors: str) -> None:
        if not isinstance(step, Step):
            raise UsageError(f"map takes a step, not {type(step).__name__}: decorate the function with @app.step.")
        if errors not in ERRORS:
            raise UsageError(f"errors is 'raise' or 'collect', not {errors!r}.")
        if chunk is not None and not 1 <= chunk <= CHUNK_LIMIT:
            raise UsageError(f"chunk is 1 to {CHUNK_LIMIT} values, not {chunk}.")
        self.step = step
        self.chunk = chunk
        self.collect = errors == "collect"

    def send(self, calls: Iterator[tuple[Any, ...]], count: int, name: str | None, resume: bool) -> tuple[Batch, int]:
        """The batch, and how many values an operation of it has."""
        chunk = self.chunk or self._chunk(count)
        if chunk == 1:
            return self.step.starmap(calls, name=name, resume=resume), 1
        return Caller(self.step.app, self.step.name).chunks(self.step, calls, chunk, name=name, resume=resume), chunk

    def _chunk(self, count: int) -> int:
        # A time-out, a limit and an error that is collected are of one value: those stay alone.
        alone = self.collect or self.step.policy.timeout_ms or self.step.limits.text
        return 1 if alone else min(CHUNK_LIMIT, -(-count // ALONE)) or 1


class _Accessor:
    """What series and frames have in common."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def _map(
        self,
        mapping: Mapping,
        calls: Iterator[tuple[Any, ...]],
        labels: pd.Index,
        name: str | None,
        resume: bool,
        timeout: float | None,
    ) -> pd.Series:
        end = None if timeout is None else time.monotonic() + timeout
        batch, chunk = mapping.send(calls, len(labels), name, resume)
        left = None if end is None else max(0.0, end - time.monotonic())
        found = batch.results(left, return_exceptions=mapping.collect)
        values = found
        if chunk > 1:
            app = mapping.step.app
            values = list(_flat([whole(app, part) for part in found], chunk, len(labels)))
        if len(values) != len(labels):
            raise UsageError(
                f"Batch {name!r} has {len(values)} values and this has {len(labels)}: resume the same data under a "
                "name, or choose another name."
            )
        return pd.Series(values, index=labels, dtype=None if values else object)


def _flat(found: list[Any], chunk: int, count: int) -> Iterator[Any]:
    """The values of chunks; an exception stands for each value of its chunk."""
    for at, values in enumerate(found):
        if isinstance(values, Exception):
            yield from [values] * min(chunk, count - at * chunk)
        else:
            yield from values


@pd.api.extensions.register_series_accessor("blazing")
class SeriesAccessor(_Accessor):
    """`series.blazing`.

    Examples:
        >>> import pandas as pd, blazing_nb.pandas
        >>> pd.Series([1, 2]).blazing.map(double).tolist()
        [2, 4]
    """

    def map(
        self,
        step: Step,
        *,
        chunk: int | None = None,
        errors: str = "raise",
        na_action: str | None = None,
        name: str | None = None,
        resume: bool = False,
        timeout: float | None = None,
    ) -> pd.Series:
        """The step's value for each value, with the same index and name, in the same order. Waits for all.

        Args:
            step: a function under `@app.step`; it gets a Python scalar or object.
            chunk: values an operation, 1 to 10,000. Default: 1; of more than a thousand values, as many as make about a
                thousand operations, unless the step has a `timeout` or limits, or errors are collected. A chunk
                fails, and is tried again, as a whole.
            errors: "raise" the first exception in order; "collect": exceptions stand in their places.
            na_action: "ignore" keeps missing values as they are and does not send them; None sends them.
            name: of the batch, so that any kernel can attach to it; with `resume=True` a second call sends only what is
                not there yet.
            timeout: seconds for all; then `OperationTimeout`, and nothing is cancelled.

        Examples:
            >>> import pandas as pd, blazing_nb.pandas
            >>> pd.Series({"x": 1, "y": -1}).blazing.map(positive, errors="collect")["y"]
            ValueError('-1 is below zero')
        """
        if na_action not in (None, "ignore"):
            raise UsageError(f"na_action is None or 'ignore', not {na_action!r}.")
        mapping, series = Mapping(step, chunk, errors), self._obj
        kept = series.isna() if na_action else pd.Series(False, index=series.index)
        sent = series[~kept.to_numpy()]
        calls = ((value,) for value in sent)
        found = self._map(mapping, calls, sent.index, name, resume, timeout)
        if not kept.any():
            return found.rename(series.name)
        whole = pd.Series(series.to_numpy(dtype=object, copy=True), index=series.index, name=series.name)
        whole.iloc[(~kept).to_numpy().nonzero()[0]] = found.to_numpy(dtype=object)
        return whole.infer_objects()


@pd.api.extensions.register_dataframe_accessor("blazing")
class FrameAccessor(_Accessor):
    """`frame.blazing`.

    Examples:
        >>> import pandas as pd, blazing_nb.pandas
        >>> area = app.step(lambda row: row["w"] * row["h"], name="area")
        >>> pd.DataFrame({"w": [1, 2], "h": [3, 4]}).blazing.map(area).tolist()
        [3, 8]
    """

    def map(
        self,
        step: Step,
        *,
        chunk: int | None = None,
        errors: str = "raise",
        name: str | None = None,
        resume: bool = False,
        timeout: float | None = None,
    ) -> pd.Series:
        """The step's value for each row, with the same index, in the same order. The step gets the row as a dict of
        its columns (which have to be unique texts). Arguments as for `series.blazing.map`.

        Examples:
            >>> import pandas as pd, blazing_nb.pandas
            >>> total = app.step(lambda row: sum(row.values()), name="row-total")
            >>> pd.DataFrame({"a": [1, 2], "b": [3, 4]}).blazing.map(total).tolist()
            [4, 6]
        """
        columns = list(self._obj.columns)
        if not all(isinstance(column, str) for column in columns) or len(set(columns)) != len(columns):
            raise UsageError("Columns have to be unique texts for map; use starmap, which passes values by position.")
        calls = ((dict(zip(columns, row, strict=True)),) for row in self._rows())
        return self._map(Mapping(step, chunk, errors), calls, self._obj.index, name, resume, timeout)

    def starmap(
        self,
        step: Step,
        *,
        chunk: int | None = None,
        errors: str = "raise",
        name: str | None = None,
        resume: bool = False,
        timeout: float | None = None,
    ) -> pd.Series:
        """Like `map`; the step gets the row's values by position: `frame[["w", "h"]].blazing.starmap(area)`.

        Examples:
            >>> import pandas as pd, blazing_nb.pandas
            >>> power = app.step(pow, name="power")
            >>> pd.DataFrame({"a": [2, 3], "b": [3, 2]}).blazing.starmap(power).tolist()
            [8, 9]
        """
        return self._map(Mapping(step, chunk, errors), self._rows(), self._obj.index, name, resume, timeout)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """Rows as Python scalars, column by column, so that an integer beside a float stays one."""
        if not len(self._obj.columns):
            return iter([()] * len(self._obj))
        columns = [self._obj.iloc[:, at] for at in range(len(self._obj.columns))]
        return zip(*columns, strict=True)
