"""A slow or broken network: waits that time out and are taken up again, over the same operations."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, OperationTimeout, Status, Worker, current, gather
from blazing_nb.client.proxy import Proxy
from tests.condition import until


def held(go: str, x: int) -> int:
    """Takes until the file is there."""
    while not Path(go).exists():
        time.sleep(0.005)
    current().effect.incr("ran")
    return x * 10


def test_a_wait_that_times_out_cancels_nothing_and_the_late_result_is_read(
    app: Blazing, worker: Worker, url: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    operation = app.step(held).enqueue(str(go), 4)
    with pytest.raises(OperationTimeout) as caught:
        operation.result(timeout=0.05)
    assert caught.value.operation == operation.id
    assert until(lambda: operation.status in (Status.CLAIMED, Status.RUNNING))
    go.touch()
    with Blazing(app.app_id, url=url) as later:  # another kernel asks, by the id in the error
        late = later.attach(str(caught.value.operation))
        assert late.result(timeout=20) == 40
        assert late.status is Status.SUCCEEDED
    assert operation.result(timeout=20) == 40


def test_gather_retried_with_back_off_waits_for_the_same_operations(
    app: Blazing, worker: Worker, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    operations = [app.step(held).enqueue(str(go), n) for n in range(6)]
    attempts, pause = 0, 0.01
    while True:
        try:
            found = gather(*operations).results(timeout=pause)
            break
        except OperationTimeout:
            attempts += 1
            if attempts == 3:
                go.touch()
            time.sleep(pause)
            pause = min(1.0, 2 * pause)
    assert attempts >= 3
    assert found == [n * 10 for n in range(6)]
    assert gather(*operations).results(timeout=20) == found, "and once more, from memory"
    assert (app.snapshot().steps[0].enqueued, app.shared().counter("ran").value) == (6, 6)


def test_gather_retried_by_await_waits_for_the_same_operations(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    go = tmp_path / "go"
    operations = [app.step(held).enqueue(str(go), n) for n in range(6)]

    async def patient() -> list[Any]:
        for attempt in range(1, 100):
            try:
                async with asyncio.timeout(0.02 * attempt):
                    return list(await gather(*operations))
            except TimeoutError:
                if attempt == 3:
                    go.touch()
        raise AssertionError

    assert asyncio.run(patient()) == [n * 10 for n in range(6)]
    assert app.shared().counter("ran").value == 6


def test_results_arrive_although_replies_are_lost_on_the_way(
    app: Blazing, worker: Worker, proxy: Proxy, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with Blazing(app.app_id, url=proxy.url) as far:
        batch = far.step(held).starmap([(str(go), n) for n in range(40)])
        go.touch()
        proxy.drop_replies(0.3)
        more = far.step(held).starmap([(str(go), n) for n in range(40)])
        assert batch.results(timeout=30) == more.results(timeout=30) == [n * 10 for n in range(40)]
    assert proxy.dropped
    assert (app.snapshot().steps[0].enqueued, app.shared().counter("ran").value) == (80, 80)


def test_a_channel_goes_on_after_the_connection_was_cut(app: Blazing, proxy: Proxy) -> None:
    with Blazing(app.app_id, url=proxy.url) as far:
        subscription = far.channel("news").subscribe("first", idle=20)
        for n in range(10):
            far.channel("news").publish(n)
            if n == 4:
                proxy.drop_replies(0.2)
        got = [next(subscription).value for _ in range(10)]
        assert got == list(app.channel("news")) == list(range(10)), "each once, in order"
        subscription.close()
