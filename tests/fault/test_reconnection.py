"""Reconnection as a property: whatever the network or the server does, client, waiting handle and worker work again by
themselves when it is over. One client and one worker live through all of it (failures.md R4, R9, R10, R18, R19)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blazing_nb.client.proxy import Proxy, script
from blazing_nb.store.connection import Connection
from tests.fault.site import FAULTS, TIMEOUT_S, Site, bound_s

LOADED_S = 4.0
"""For what else runs on the tests' machine. `python -m tests.fault.site` judges by the bound alone."""


@pytest.fixture(scope="module")
def site(blazing_home: Path) -> Iterator[Site]:
    made = Site()
    yield made
    made.end()


@pytest.mark.parametrize("fault", FAULTS)
def test_everybody_works_again_by_themselves(site: Site, fault: str) -> None:
    worker, answers = site.worker.consumer, site.answers
    found = site.recover(fault)
    assert max(found) < bound_s(fault) + LOADED_S
    assert site.wrong == [], "a reply that was another's"
    assert site.answers > answers
    assert (site.worker.consumer, site.worker.fenced) == (worker, 0), "nobody was started again"
    stats = {step.step: step for step in site.app.snapshot().steps}
    assert [(step.enqueued - step.succeeded, step.rescued) for step in stats.values()] == [(0, 0)] * len(stats)


def test_r19_a_silent_connection_is_found_within_two_time_outs(url: str) -> None:
    """The bound is the reader's own clock: what waits longest is a blocking read, and it is given up then."""
    with Proxy(url) as proxy:
        connection = Connection(f"{proxy.url}?socket_timeout={TIMEOUT_S / 4}")
        assert connection.call("PING") == b"PONG"
        for way in ("both", "requests", "replies"):
            proxy.half_open(way)
            made = proxy.accepted
            assert connection.call("BLPOP", "nothing", 0.1, block_s=0.1) is None
            assert proxy.accepted == made + 1
        assert connection.retries == 3
        connection.close()


def test_a_partition_in_one_direction_heals_like_one_in_both(url: str) -> None:
    with Proxy(url) as proxy:
        connection = Connection(proxy.url)
        for number, way in enumerate(("requests", "replies", "both")):
            connection.call("PING")
            proxy.partition(way)
            threading.Timer(0.1, proxy.heal).start()
            assert connection.call("ECHO", str(number)) == b"%d" % number
        assert connection.retries == 0, "what waited arrived"
        connection.close()


def test_a_script_of_faults_is_its_seed_and_crosses_no_reply(url: str) -> None:
    assert script(7, 50) == script(7, 50) != script(8, 50)
    with Proxy(url, seed=7) as proxy:
        connection, stopped = Connection(f"{proxy.url}?socket_timeout={TIMEOUT_S / 4}"), threading.Event()
        thread = threading.Thread(target=proxy.play, args=(script(7, 30, longest=0.1), stopped))
        thread.start()
        number = 0
        while thread.is_alive():
            number += 1
            assert connection.call("ECHO", str(number)) == b"%d" % number
        thread.join()
        assert connection.retries > 0
        connection.close()


def test_a_dropped_reply_costs_one_connection_and_is_asked_again(url: str, app_id: str) -> None:
    with Proxy(url) as proxy:
        connection = Connection(proxy.url)
        connection.call("PING")
        proxy.drop_reply()
        connection.call("INCR", app_id)
        assert (proxy.dropped, proxy.cuts, connection.retries) == (1, 1, 1)
        assert connection.call("GET", app_id) == b"2", "it was done unseen, and repeated: such calls must bear that"
        connection.call("DEL", app_id)
        connection.close()
