"""`series.blazing.map(step)` beside `series.map(function)`: the same values under the same labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_series_equal

import blazing_nb.pandas  # noqa: F401 - registers the accessors
from blazing_nb import Blazing, OperationTimeout, Step, Worker, errors


@pytest.fixture
def double(app: Blazing, worker: Worker) -> Step:
    return app.step(lambda value: value * 2, name="double")


SERIES = [
    pd.Series([3, 1, 2], index=["c", "a", "b"], name="n"),
    pd.Series([1.5, math.nan, -0.0, math.inf], index=[7, 7, 5, 6]),
    pd.Series(["a", "b"], name=("two", "levels"), index=pd.MultiIndex.from_tuples([(1, "x"), (2, "y")])),
    pd.Series([pd.Timedelta("1s"), pd.NaT]),
    pd.Series([1, None], dtype="Int64"),
    pd.Series([True, False]),
    pd.Series(pd.Categorical(["x", "y", "x"])),
]


@pytest.mark.parametrize("series", SERIES, ids=lambda series: str(series.dtype))
@pytest.mark.parametrize("chunk", [None, 2])
def test_a_series_is_mapped_as_pandas_maps_it(double: Step, series: pd.Series, chunk: int | None) -> None:
    found = series.blazing.map(double, chunk=chunk, timeout=20)
    expected = pd.Series([value * 2 for value in series], index=series.index, name=series.name)
    assert_series_equal(found, expected)


def test_an_empty_series_stays_empty(double: Step) -> None:
    found = pd.Series([], index=pd.Index([], name="i"), dtype=float, name="n").blazing.map(double)
    assert (len(found), found.name, found.index.name) == (0, "n", "i")
    assert pd.DataFrame({"a": []}).blazing.map(double).empty
    assert pd.DataFrame(index=[]).blazing.starmap(double).empty


def test_missing_values_can_stay_unsent(app: Blazing, double: Step) -> None:
    series = pd.Series([1.0, math.nan, 3.0], index=[2, 2, 4], name="n")
    found = series.blazing.map(double, na_action="ignore", timeout=20)
    assert_series_equal(found, series.map(lambda value: value * 2, na_action="ignore"))
    assert app.snapshot().steps[0].enqueued == 2
    texts = pd.Series(["a", None, "b"]).blazing.map(double, na_action="ignore", timeout=20)
    assert texts.isna().tolist() == [False, True, False]
    assert texts[2] == "bb"


def test_many_values_travel_in_chunks_and_keep_their_order(app: Blazing, double: Step) -> None:
    numbers = np.random.default_rng(7).permutation(25_000)
    found = pd.Series(numbers).blazing.map(double, timeout=60)
    assert (found.to_numpy() == numbers * 2).all()
    [step] = app.snapshot().steps
    assert (step.step, step.enqueued) == ("double", 1000)


def test_a_chunk_of_long_values_comes_back_whole(double: Step) -> None:
    found = pd.Series(["x" * 300_000] * 4).blazing.map(double, chunk=4, timeout=30)
    assert found.str.len().tolist() == [600_000] * 4


def test_a_step_with_a_time_out_or_a_limit_gets_its_values_one_by_one(app: Blazing, worker: Worker) -> None:
    timed = app.step(lambda value: value, name="timed", timeout=30)
    assert pd.Series(range(1500)).blazing.map(timed, timeout=60).tolist() == list(range(1500))
    assert app.snapshot().steps[0].enqueued == 1500


def inverse(value: float) -> float:
    return 1 / value


@pytest.mark.parametrize(("chunk", "places"), [(None, [1]), (2, [0, 1])])
def test_errors_are_raised_or_stand_in_their_places(
    app: Blazing, worker: Worker, chunk: int | None, places: list[int]
) -> None:
    step, series = app.step(inverse), pd.Series([2, 0, 4], index=list("abc"))
    with pytest.raises(ZeroDivisionError):
        series.blazing.map(step, chunk=chunk, timeout=20)
    found = series.blazing.map(step, chunk=chunk, errors="collect", timeout=20)
    assert [at for at, value in enumerate(found) if isinstance(value, ZeroDivisionError)] == places
    assert (found.index.tolist(), found.iloc[2]) == (list("abc"), 0.25)


def test_a_frame_is_mapped_row_by_row(app: Blazing, worker: Worker) -> None:
    frame = pd.DataFrame({"w": [1, 2], "h": [1.5, math.nan], "name": ["a", "b"]}, index=[9, 3])
    kinds = frame.blazing.map(app.step(lambda row: [type(v).__name__ for v in row.values()], name="kinds"), timeout=20)
    assert kinds.tolist() == [["int", "float", "str"]] * 2
    assert kinds.index.tolist() == [9, 3]
    area = app.step(lambda w, h: w * h, name="area")
    found = frame[["w", "h"]].blazing.starmap(area, timeout=20)
    assert_series_equal(found, pd.Series([1.5, math.nan], index=[9, 3]))
    assert frame[["w", "h"]].blazing.starmap(area, chunk=2, timeout=20).tolist()[0] == 1.5
    doubled = pd.DataFrame([[1, 2]], columns=["x", "x"])
    with pytest.raises(errors.UsageError, match="starmap"):
        doubled.blazing.map(area)
    assert doubled.blazing.starmap(area, timeout=20).tolist() == [2]


def test_a_named_map_is_there_for_another_kernel_and_is_resumed(app: Blazing, url: str, double: Step) -> None:
    series = pd.Series([1, 2, 3])
    series.blazing.map(double, name="run", timeout=20)
    with pytest.raises(errors.BatchExists):
        series.blazing.map(double, name="run")
    again = pd.Series([1, 2, 3, 4]).blazing.map(double, name="run", resume=True, timeout=20)
    assert (again.tolist(), app.snapshot().steps[0].enqueued) == ([2, 4, 6, 8], 4)
    with pytest.raises(errors.UsageError, match="another name"):
        series.blazing.map(double, name="run", resume=True, timeout=20)
    with Blazing(app.app_id, url=url) as other:
        assert other.attach("run").results(10) == [2, 4, 6, 8]  # type: ignore[union-attr]


def test_a_wait_that_ends_cancels_nothing(app: Blazing) -> None:
    with pytest.raises(OperationTimeout):
        pd.Series([1, 2]).blazing.map(app.step(inverse), timeout=0.05)
    assert app.snapshot().waiting == 2


@pytest.mark.parametrize(
    "options", [{"chunk": 0}, {"chunk": 10**6}, {"errors": "coerce"}, {"na_action": "drop"}, {"name": "a:b"}]
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(app: Blazing, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        pd.Series([1]).blazing.map(app.step(inverse), **options)
    with pytest.raises(errors.UsageError, match=r"@app\.step"):
        pd.Series([1]).blazing.map(inverse)
    assert app.snapshot().segments == []
