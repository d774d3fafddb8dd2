"""What is tried first by whoever comes from elsewhere: the error says what to write."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, errors, gather


def area(width: int, height: int) -> int:
    return width * height


@pytest.mark.parametrize("name", ["delay", "submit", "apply_async", "remote"])
def test_a_step_says_that_it_is_enqueued(app: Blazing, name: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; use enqueue"):
        getattr(app.step(area), name)


def test_handles_say_what_waits_and_what_lists_failures(app: Blazing, worker: Worker) -> None:
    batch = app.step(area).starmap([(1, 2)])
    with pytest.raises(AttributeError, match=r"'result'; use results\(timeout=...\)"):
        batch.result  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"'failures'; use to_frame\(\)"):
        batch.failures  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"'get'; use result\(timeout=...\)"):
        batch[0].get  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        batch.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_several_arguments_a_call_are_for_starmap(app: Blazing) -> None:
    step = app.step(area)
    with pytest.raises(errors.InvalidArguments, match=r"area.starmap\(zip\(first, second\)\)"):
        step.map([1, 2], [3, 4])
    with pytest.raises(errors.InvalidArguments, match=r"'height'. For several arguments a call: starmap") as caught:
        step.map([(1, 2), (3, 4)])
    assert caught.value.fields["sent"] == 0
    for item in ([1], (1, 2, 3), 1):
        with pytest.raises(errors.InvalidArguments, match=r"'height'.$"):
            step.enqueue(item)
    assert app.snapshot().waiting == 0


def test_gather_takes_handles_one_by_one(app: Blazing) -> None:
    operation: Any = app.step(area).enqueue(1, 2)
    with pytest.raises(errors.UsageError, match=r"not list; of a list: gather\(\*handles\)"):
        gather([operation])


def test_a_closed_app_says_that_its_steps_are_defined_anew(url: str) -> None:
    with Blazing("closing", url=url) as app:
        step = app.step(area)
    with pytest.raises(errors.AppClosed, match=r"%blazing up.*definitions of its steps again"):
        step.enqueue(1, 2)


def test_the_argument_that_cannot_be_sent_is_named(app: Blazing) -> None:
    step = app.step(area)
    with pytest.raises(errors.ValueNotSerializable, match=r"^argument 2, of type lock, cannot be sent"):
        step.enqueue(1, threading.Lock())
    with pytest.raises(errors.ValueNotSerializable, match=r"^argument height, of type generator, cannot be sent"):
        step.enqueue(1, height=(n for n in ()))
