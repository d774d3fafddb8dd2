"""A primary, two replicas, three Sentinels: fail-over under load, a demoted primary, one that is stopped (R10, R12)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from blazing_nb import Blazing
from blazing_nb.store.store import Store
from tests.condition import until
from tests.deployment import HOST, Sentinels, at_work, deployed


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with deployed("sentinel") as made:
        assert isinstance(made, Sentinels)
        yield made


@pytest.fixture
def app(sentinels: Sentinels, app_id: str) -> Iterator[Blazing]:
    with at_work(sentinels.url, app_id) as made:
        yield made


def slow(x: int) -> int:
    time.sleep(0.002)
    return x


def replicated(store: Store) -> None:
    """All that was acknowledged is on a replica: what a fail-over can take is what comes after."""
    assert until(lambda: store.connection().call("WAIT", 1, 2000) >= 1, 60)


def test_r10_who_is_not_the_primary_is_left_and_the_call_is_repeated(
    sentinels: Sentinels, app: Blazing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks whom it has connected to leaves at once; who was connected before is told READONLY."""
    primary = sentinels.primary()
    replica = next(port for port in sentinels.servers if port != primary)
    route, connection = app.store._route, app.store.connection()
    for verify in (route.verify, lambda raw: None):
        monkeypatch.setattr(route, "verify", verify)
        connection.follow(())
        route._found, retries = (HOST, replica), connection.retries
        connection.call("HSET", app.store.keys.prefix + "mark", "x", 1)
        assert connection.retries > retries
        until(lambda: connection.open().port == primary)
    assert app.step(slow).enqueue(1).result(20) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_r12_a_lost_primary_is_followed_and_everything_is_delivered(
    sentinels: Sentinels, app: Blazing, how: str
) -> None:
    """One that is stopped answers nothing and resets nothing: the watchdog cuts its sockets."""
    step = app.step(slow)
    first = step.map(range(1000))
    replicated(app.store)
    port = sentinels.primary()
    getattr(sentinels, how)(port)
    second = step.map(range(1000, 2000))
    assert second.results(60) == list(range(1000, 2000))
    assert first.results(60) == list(range(1000))
    assert sentinels.primary() != port
    sentinels.revive(port)
