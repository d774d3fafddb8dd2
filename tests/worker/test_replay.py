"""Random workflows take the same way at each run, whatever ends when, whichever runs are lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blazing_nb import Blazing, first, gather
from blazing_nb.core.dot import OperationId
from blazing_nb.errors import UsageError, WorkflowChanged
from blazing_nb.worker.replay import History, Wait, WorkflowRun, digest_of

T0 = 1_800_000_000_000
app = Blazing("replay")
step = app.step(lambda kind, x: x, name="step")


class Site:
    """What the store keeps of one workflow: an accepted wait writes, a lost run does not."""

    def __init__(self, chance: random.Random) -> None:
        self.fields: dict[str, bytes] = {}
        self.running: dict[int, Any] = {}
        self.outcomes: dict[int, Any] = {}
        self.given_up: set[int] = set()
        self.claims = 0
        self.now_ms = T0
        self.chance = chance

    def run(self, body: Callable[..., Any], *args: Any) -> Any:
        self.claims += 1
        self.now_ms += self.chance.randint(1, 50)
        return WorkflowRun("replay", History(self.fields), self.now_ms, self.value).run(body, args, {})

    def value(self, op: OperationId, record: bytes) -> Any:
        value = self.outcomes[op.counter]
        if isinstance(value, Exception):
            raise value
        return value

    def commit(self, wait: Wait) -> None:
        assert not set(wait.calls) & {int(field) for field in self.fields if field.isdigit()}, "called twice"
        for position, made in wait.calls.items():
            self.fields[str(position)] = f"step:n:@0:1-{position}|{digest_of(made)}".encode()
            self.running[position] = made
        if wait.told:
            self.fields[f"!{self.claims}"] = wait.told.encode()
        self.given_up.update(wait.gone)

    def progress(self, wait: Wait) -> None:
        """Some of what runs ends, or the next timer comes."""
        open_ = sorted(self.running)
        for position in self.chance.sample(open_, self.chance.randint(1, len(open_)) if open_ else 0):
            made = self.running.pop(position)
            kind, x = _arguments(made)
            self.outcomes[position] = LookupError(x) if kind == "fail" else x
            self.fields[f"={position}"] = b"S"
        if not open_ or self.chance.random() < 0.3:
            self.now_ms = max(self.now_ms, wait.timer_ms)


def _arguments(made: Any) -> list[Any]:
    import msgspec

    return list(msgspec.msgpack.decode(made.prepared[1])[0])


def plan(chance: random.Random, depth: int = 0) -> Any:
    """A workflow as data: what it awaits, and how."""
    kinds = ["call", "call", "fail", "sleep", "late"]
    kind = chance.choice(kinds if depth > 2 else [*kinds, "seq", "gather", "first", "group", "wait"])
    size = chance.randint(1, 4)
    return kind, chance.randint(0, 99), [plan(chance, depth + 1) for _ in range(size if kind in COMBINED else 0)]


COMBINED = {"seq", "gather", "first", "group", "wait"}


async def follow(node: Any, log: list[Any]) -> Any:
    """Run such a plan; the log is what can be seen from inside, in order."""
    kind, x, parts = node
    loop = asyncio.get_running_loop()
    log.append((kind, x, round(loop.time() * 1000)))
    if kind == "call":
        return await step("call", x)
    if kind == "fail":
        try:
            return await step("fail", x)
        except LookupError:
            return -1
    if kind == "sleep":
        await asyncio.sleep(x / 1000)
        return x
    if kind == "late":
        try:
            return await asyncio.wait_for(step("call", x), x / 1000)
        except TimeoutError:
            return -2
    if kind == "seq":
        return [await follow(part, log) for part in parts]
    if kind == "gather":
        return await gather(*(follow(part, log) for part in parts), step("call", x))
    if kind == "first":
        return await first([follow(part, log) for part in parts])
    if kind == "group":
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follow(part, log)) for part in parts]
        return [task.result() for task in tasks]
    tasks = [loop.create_task(follow(part, log)) for part in parts]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return sorted(str(task.result()) for task in tasks if task in done)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_every_run_repeats_the_ones_before_and_goes_on(seed: int) -> None:
    chance = random.Random(seed)
    tree, site = plan(chance), Site(chance)
    before: list[Any] = []
    for _ in range(400):
        log: list[Any] = []
        result = site.run(follow, tree, log)
        assert log[: len(before)] == before
        if chance.random() < 0.2:
            continue  # killed before its commit: as if it had not run
        if not isinstance(result, Wait):
            return
        before = log
        site.commit(result)
        site.progress(result)
    pytest.fail("it never ended")


def test_what_waits_for_nothing_is_refused() -> None:
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(UsageError, match="no step, timer or task"):
        Site(random.Random(1)).run(stuck)


def test_a_change_cannot_be_caught_by_the_workflow() -> None:
    site = Site(random.Random(1))

    async def before() -> None:
        await step("call", 1)

    async def after() -> str:
        try:
            await step("call", 2)
        except Exception:
            return "swallowed"
        return ""

    site.commit(site.run(before))
    with pytest.raises(WorkflowChanged):
        site.run(after)


def test_letting_go_runs_no_calls_and_keeps_quiet() -> None:
    site, seen = Site(random.Random(1)), []

    async def careful() -> None:
        try:
            await step("call", 1)
        finally:
            seen.append("finally")
            await step("call", 2)

    wait = site.run(careful)
    assert list(wait.calls) == [1]
    assert seen == ["finally"]


def test_a_sleep_is_never_shorter_by_its_own_clock() -> None:
    async def nap(seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.sleep(seconds)
        return loop.time() - begun >= seconds - 1e-6 and loop.time() >= begun + seconds

    for ms in range(1, 400):
        site = Site(random.Random(ms))
        wait = site.run(nap, ms / 1000)
        site.commit(wait)
        site.now_ms, site.chance = wait.timer_ms, random.Random()
        site.chance.randint = lambda low, high: 0  # type: ignore[method-assign]
        assert site.run(nap, ms / 1000) is True
