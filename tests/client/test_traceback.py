"""A worker's traceback shows the lines of functions that travelled by value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.client.code import describe
from blazing_nb.core import source
from blazing_nb.core.code import load_function
from blazing_nb.core.policy import Policy
from blazing_nb.core.source import show


def traceback_of(app: Blazing, function: Callable[..., Any], *args: Any, **rules: Any) -> str:
    error = app.step(function, **rules).enqueue(*args).exception(20)
    assert error is not None
    return str(error.__cause__)


def test_the_lines_of_a_step_and_of_what_it_uses_are_shown(app: Blazing, worker: Worker) -> None:
    def share(x: int) -> float:
        return 1 / x  # in a helper

    def shares(xs: list[int]) -> list[float]:
        return [share(x) for x in xs]

    text = traceback_of(app, shares, [1, 0])
    assert "return [share(x) for x in xs]" in text
    assert "return 1 / x  # in a helper" in text
    assert "dynamic-code" not in text


def test_each_version_of_a_step_shows_its_own_lines(app: Blazing, worker: Worker) -> None:
    for word in ("first", "second"):
        function = lambda_of(word)
        assert f'["{word}"]' in traceback_of(app, function, name="looked")


def lambda_of(word: str) -> Callable[[dict[str, int]], int]:
    if word == "first":
        return lambda: {}["first"]
    return lambda: {}["second"]


def test_what_was_made_without_a_text_runs_and_fails_as_it_did(app: Blazing, worker: Worker) -> None:
    names: dict[str, Any] = {}
    exec("def bare(x):\n    return 1 / x", names)  # noqa: S102
    assert app.step(names["bare"]).enqueue(2).result(20) == 0.5
    assert "line 2, in bare" in traceback_of(app, names["bare"], 0)


def test_the_text_is_shown_and_never_run() -> None:
    def seven() -> int:
        return 7

    record = describe(seven, "seven", Policy())
    [place] = record.texts
    loaded = cloudpickle.loads(record.blob)
    show(loaded, {place: "def seven():\n    raise SystemExit\n"})
    assert loaded() == load_function(record)() == 7


def test_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def small() -> int:
        return 1

    def large() -> int:
        return small() + 1  # above the limit with the other

    size = len(inspect.getsource(large))
    monkeypatch.setattr(source, "LIMIT", size)
    assert [place.partition(":")[0].rpartition(".")[2] for place in describe(large, "x", Policy()).texts] == ["large"]
