"""Ordering workers on this machine, and waiting until they are ready: registered, warmed up, the app's steps loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

import msgspec

from blazing_nb.client.supervising import ATTEMPTS, TURN_S, Change, Supervising, last_lines, python_path
from blazing_nb.core.scaling import Adapt
from blazing_nb.core.supervision import Order, Orders, Post, Setting
from blazing_nb.errors import StepNotEnqueueable, UsageError, WorkersNotReady
from blazing_nb.store import query

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing


class WorkerOptions(TypedDict, total=False):
    """How workers are started: what is not given stays as it is, or is as `Worker` has it."""

    lease: float
    threads: int
    processes: int
    grace: float
    patience: float
    max_operations: int
    max_memory_mb: float


def change(
    app_id: str,
    owner: str,
    url: str,
    number: Callable[[int], int],
    options: WorkerOptions,
    bounds: Adapt | None = None,
    dismissed_ms: int = -1,
) -> Change:
    """The owner's order as it shall be: `number` of how many there were, other options only where they are given. What
    was ordered before the last dismissal is over, whether or not a supervisor has seen that (-1: nobody knows)."""
    unknown = set(options) - set(WorkerOptions.__annotations__)
    if unknown:
        known = ", ".join(WorkerOptions.__annotations__)
        raise TypeError(f"no option {', '.join(map(repr, sorted(unknown)))}; there are: {known}.")
    Setting().changed(**options)  # refused before anything is written

    def changed(found: Orders) -> Orders:
        if found.url == url:
            found = found.after(dismissed_ms)
        if found.wanted and found.url != url:
            raise UsageError(f"Workers of app {app_id!r} here serve another store: app.workers.stop() first.")
        old = found.of(owner) or Order(0, owner)
        order = Order(number(old.n), owner, old.setting.changed(**options), bounds, found.version + 1, dismissed_ms)
        made = msgspec.structs.replace(found, url=url, path=python_path(), cwd=os.getcwd(), grace=30.0)
        return made.having(order)

    return changed


def order(app: Blazing, owner: str, made: Change, wait: float) -> None:
    """Have it obeyed, and wait for `wait` seconds until all are ready. Raises `WorkersNotReady`."""
    steps_version = _define(app)
    supervising = Supervising(app.app_id)
    ordered = supervising.order(made)
    names = {post.worker_id for post in supervising.posts()}
    if drained := [w.consumer for w in query.workers(app.store) if w.worker_id in names and w.state == "draining"]:
        app.store.instruct("accept", drained)
    if wait and ordered.of(owner) is not None:
        _wait_ready(app, supervising, ordered.version, owner, steps_version, wait)


def _define(app: Blazing) -> int:
    """Make this app's steps and its `on_start` known, so that workers can try to load them; their version."""
    app.define_hook()
    for step in list(app.steps.values()):
        with suppress(StepNotEnqueueable):  # it says so where it is enqueued
            step.code()
    return app.store.version()


def _wait_ready(
    app: Blazing, supervising: Supervising, version: int, owner: str, steps_version: int, wait: float
) -> None:
    end = time.monotonic() + wait
    while True:
        state, wanted = supervising.obeyed(version), supervising.station.orders().of(owner)
        posts = [p for p in state.posts if p.owner == owner and p.state != "leaving"] if state else []
        if wanted is None:
            raise WorkersNotReady("Somebody stopped or closed all workers meanwhile; start again.", reasons={})
        reasons = {post.place: why for post in posts if (why := _unready(app, post, wanted.setting, steps_version))}
        if state and not reasons and len({post.place for post in posts}) >= wanted.n:
            return
        hopeless = bool(reasons) and all(p.failures >= ATTEMPTS or _lacks(app, p) for p in posts if p.place in reasons)
        if hopeless or time.monotonic() > end:
            raise _not_ready(reasons, wanted.n, state.store if state else "the supervisor does not answer")
        time.sleep(TURN_S)


def _unready(app: Blazing, post: Post, setting: Setting, steps_version: int) -> str:
    """Why it is not ready; empty where it is."""
    if post.state in {"starting", "waiting"}:
        log = f"; its log ends with: {last_lines(post) or 'nothing'}" if post.lives else ""
        return f"pid {post.pid or '-'} is {post.state}{log}. {post.reason}".strip()
    if post.setting != setting:
        return f"pid {post.pid} goes on until one with the new options is ready"
    if post.steps_version < steps_version:
        return f"pid {post.pid} has not yet tried to load all steps"
    lacks = "; ".join(f"{step!r}: {why}" for step, why in _lacks(app, post).items())
    return f"pid {post.pid} cannot load {lacks}" if lacks else ""


def _lacks(app: Blazing, post: Post) -> dict[str, str]:
    """Steps of this app that it cannot load, and why."""
    return {step: why for step, why in post.refuses.items() if step in app.steps}


def _not_ready(reasons: dict[int, str], n: int, store: str) -> WorkersNotReady:
    text = "; ".join(f"place {place}: {why}" for place, why in reasons.items())
    return WorkersNotReady(
        f"{len(reasons)} of {n} workers were not ready: {text}{f' ({store})' if store else ''} "
        "The supervisor goes on trying; app.workers.stop() ends that.",
        reasons=reasons,
    )
