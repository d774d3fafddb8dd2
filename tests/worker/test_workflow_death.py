"""Workflows whose workers die or whose code changes, as real processes: each step is committed once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status, current, errors, gather
from tests.condition import until

LEASE = 0.7
STEPS = 10


def effect(folder: str, number: int) -> int:
    """A side effect: a line that says which operation wrote it."""
    with open(f"{folder}/effects", "a") as file:
        file.write(f"{number} {current().operation}\n")
    die(folder, f"step-{number}")
    return number


def die(folder: str, where: str) -> None:
    """Kill this process, once for each place that is marked."""
    try:
        os.unlink(f"{folder}/{where}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def effects(folder: Path) -> list[tuple[int, str]]:
    lines = (line.split() for line in (folder / "effects").read_text().splitlines())
    return [(int(number), operation) for number, operation in lines]


def finish_with_replacements(operation: Any, start: Any) -> int:
    """Start a worker whenever the last one has died; how many died."""
    died, worker = 0, start(lease=LEASE)
    while not operation._results.wait_for(operation.done, 0.02):
        if worker.process.poll() is not None:
            assert worker.process.returncode == -signal.SIGKILL
            died, worker = died + 1, start(lease=LEASE)
    return died


@pytest.mark.slow
@pytest.mark.parametrize("where", ["await", "step"])
def test_killed_at_every_await_of_ten_steps_each_is_committed_once(
    app: Blazing, worker_process: Any, tmp_path: Path, where: str
) -> None:
    """`await`: between a value and the commit that calls the next. `step`: between its effect and its commit."""
    step, folder = app.step(effect), str(tmp_path)

    @app.workflow
    async def chain(folder: str) -> list[int]:
        done = []
        for number in range(STEPS):
            done.append(await step(folder, number))
            die(folder, f"await-{number}")
        return done

    for number in range(STEPS):
        (tmp_path / f"{where}-{number}").touch()
    operation = chain.enqueue(folder)
    assert finish_with_replacements(operation, worker_process) == STEPS
    assert operation.result(10) == list(range(STEPS))
    written = effects(tmp_path)
    assert len({op for _, op in written}) == STEPS
    ran = Counter(number for number, _ in written)
    assert ran == dict.fromkeys(range(STEPS), 2 if where == "step" else 1)
    totals = {found.step: found for found in app.snapshot().steps}
    assert (totals["effect"].enqueued, totals["effect"].succeeded) == (STEPS, STEPS)
    assert (totals["chain"].succeeded, totals["chain"].lost) == (1, 0)
    assert operation.attempt == 1


def test_a_workflow_that_kills_its_worker_at_one_place_three_times_is_lost_and_its_calls_are_cancelled(
    app: Blazing, worker_process: Any, tmp_path: Path
) -> None:
    step = app.step(effect)

    @app.workflow
    async def poison(folder: str) -> None:
        waiting = step.options(delay=60)(folder, 99)
        await step(folder, 1)
        for number in range(3):
            die(folder, f"await-{number}")
        await waiting

    for number in range(3):
        (tmp_path / f"await-{number}").touch()
    operation = poison.enqueue(str(tmp_path))
    assert finish_with_replacements(operation, worker_process) == 3
    assert operation.status is Status.LOST
    totals = {found.step: found for found in app.snapshot().steps}
    assert (totals["effect"].succeeded, totals["effect"].cancelled) == (1, 1)


def test_a_sleep_survives_the_death_of_every_worker(app: Blazing, worker_process: Any, tmp_path: Path) -> None:
    step = app.step(effect)

    @app.workflow
    async def nap(folder: str) -> int:
        import asyncio

        await asyncio.sleep(1.5)
        return int(await step(folder, 7))

    operation = nap.enqueue(str(tmp_path))
    victim = worker_process(lease=LEASE)
    until(lambda: operation.status is Status.SCHEDULED)
    victim.kill()
    begun = app.snapshot().at_ms
    worker_process(lease=LEASE)
    assert operation.result(20) == 7
    assert app.snapshot().at_ms >= begun
    assert len(effects(tmp_path)) == 1


CHANGES = {
    "another step": ("await other(1)", 1, "step 'first'", "step 'other'"),
    "other arguments": (
        "await first(2)",
        1,
        "step 'first' with the arguments of then",
        "step 'first' with other arguments",
    ),
    "a timer": ("await asyncio.sleep(1)", 1, "step 'first'", "a timer"),
    "one call less": ("pass", 1, "step 'first'", "step 'gate'"),
    "one call more": ("await first(1); await other(1)", 2, "step 'gate'", "step 'other'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_workflow_that_meets_an_old_history_is_named(
    app: Blazing, worker_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The module is edited, and the worker replaced, while the workflow waits."""
    text, position, expected, met = CHANGES[change]
    module = f"edited_{app.app_id.replace('-', '_')}"
    source = """
import asyncio
from blazing_nb import Blazing
app = Blazing({app!r}, url={url!r}, node_id="n1")
@app.step
def first(x): return x
@app.step
def other(x): return x
@app.step
def gate(x): return x
@app.workflow
async def order():
    {text}
    await gate(1)
"""
    (tmp_path / f"{module}.py").write_text(source.format(app=app.app_id, url=app.url, text="await first(1)"))
    monkeypatch.syspath_prepend(str(tmp_path))
    edited = __import__(module)
    edited.gate.pause()
    operation = edited.order.enqueue()
    worker = worker_process()
    until(lambda: edited.app.snapshot().waiting == 1 and operation.status is Status.SCHEDULED)
    worker.send(signal.SIGTERM)
    worker.wait()
    (tmp_path / f"{module}.py").write_text(source.format(app=app.app_id, url=app.url, text=text))
    os.utime(tmp_path / f"{module}.py", (1, 1))  # bytecode of the same second and size would count as current
    edited.gate.resume()
    worker_process()
    with pytest.raises(errors.WorkflowChanged) as caught:
        operation.result(20)
    assert (caught.value.position, caught.value.expected, caught.value.met) == (position, expected, met)
    edited.app.close()


def test_two_workers_take_turns_and_nothing_runs_twice(app: Blazing, worker_process: Any, tmp_path: Path) -> None:
    step = app.step(effect)

    @app.workflow
    async def order(folder: str, first: int) -> list[int]:
        one = await step(folder, first)
        return [one, *await gather(step(folder, first + 1), step(folder, first + 2))]

    for _ in range(2):
        worker_process()
    batch = order.starmap([(str(tmp_path), 3 * i) for i in range(40)])
    assert batch.results(60) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(40)]
    assert sorted(number for number, _ in effects(tmp_path)) == list(range(120))


def slowly(x: int) -> int:
    import time

    time.sleep(0.01)
    return x + 1


def test_a_flow_whose_workers_are_killed_commits_each_stage_of_each_item_once(
    app: Blazing, worker_process: Any
) -> None:
    steps = [app.step(slowly, name=name) for name in "abc"]
    flow = steps[0] >> steps[1] >> steps[2]
    batch = flow.map(range(400))
    victims = [worker_process(lease=LEASE) for _ in range(2)]
    for victim in victims:
        wanted = batch.done_count + 20
        until(lambda wanted=wanted: batch.done_count >= wanted)  # type: ignore[misc]
        victim.kill()
    assert not batch.done()
    worker_process(lease=LEASE)
    assert batch.results(60) == [x + 3 for x in range(400)]
    totals = [(found.enqueued, found.succeeded, found.lost) for found in app.snapshot().steps]
    assert totals == [(400, 400, 0)] * 3
