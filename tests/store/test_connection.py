"""A connection under interruption: no crossed replies, bounded retries (failures.md C9, R9, R18, W22)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb.errors import ScriptRefused, StoreUnavailable
from blazing_nb.store.connection import Connection
from blazing_nb.store.request import Chunk
from blazing_nb.store.route import HERE
from blazing_nb.store.store import Store


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    made = Connection(url)
    yield made
    made.close()


def test_an_interrupt_between_sending_and_reading_crosses_no_reply(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = connection.open()
    with monkeypatch.context() as patch:

        def interrupted(*args: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(raw, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.call("ECHO", "first")
    assert [connection.call("ECHO", text) for text in ("second", "third")] == [b"second", b"third"]


def test_a_killed_connection_is_made_anew(url: str, connection: Connection) -> None:
    me = connection.call("CLIENT", "ID")
    other = Connection(url)
    assert other.call("CLIENT", "KILL", "ID", me) == 1
    other.close()
    assert connection.call("ECHO", "again") == b"again"
    assert connection.retries == 1


def test_a_flushed_script_is_loaded_again(url: str, app_id: str) -> None:
    store = Store(app_id, url)
    node = store.open_node("n")
    store.connection().call("SCRIPT", "FLUSH")
    assert store.enqueue(Chunk("f", "n", "n", node, 1, [b"x"])) == "added"
    store.close()


def test_a_store_that_is_told_to_wait_less_does_so_from_its_next_connection_on() -> None:
    store = Store("any", "unix:///nonexistent/s.sock")
    store.connections.deadline_s = 0.0
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.connection().call("PING")
    assert time.monotonic() - began < 10  # of the 15 s that it would wait else
    store.close()


def test_an_unreachable_store_is_said_within_the_deadline() -> None:
    connection = Connection("unix:///nonexistent/s.sock", deadline_s=0.3)
    with pytest.raises(StoreUnavailable, match="is the server up") as caught:
        connection.call("PING")
    assert caught.value.attempts >= 2
    connection.close()


def test_a_refused_command_is_not_repeated(connection: Connection) -> None:
    with pytest.raises(ScriptRefused):
        connection.call("HGET", "only-one-argument")
    assert connection.retries == 0


def test_a_forked_child_does_not_touch_its_parents_socket(connection: Connection) -> None:
    parent = connection.call("CLIENT", "ID")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(connection.call("CLIENT", "ID")).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = int(pipe.read())
    os.waitpid(child, 0)
    assert theirs != parent
    assert connection.call("CLIENT", "ID") == parent


def test_an_evicting_server_is_refused(url: str, app_id: str) -> None:
    from blazing_nb.errors import StoreUnsuitable

    store = Store(app_id, url)
    call = store.connection().call
    call("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreUnsuitable, match="noeviction"):
            store.check()
        assert store.check(allow_eviction=True)["maxmemory_policy"] == "allkeys-lru"
    finally:
        call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    store.close()


def test_a_connection_that_is_closed_while_it_connects_waits_for_nothing(single_url: str) -> None:
    connection = Connection(single_url)
    raw = connection._route.make(HERE)
    connection._raws, connection._pid = {HERE: raw}, os.getpid()
    connect = raw.connect

    def closed_meanwhile() -> None:
        connection.close()  # there is no socket yet
        connect()

    raw.connect = closed_meanwhile
    with pytest.raises(StoreUnavailable):
        connection.call("BLPOP", "nothing", 100, block_s=100)


PACKING = """
import signal, sys, time
from blazing_nb.store.connection import Connection, packed

class Interrupted(Exception):
    pass

def interrupt(*_):
    raise Interrupted

connection = Connection(sys.argv[1])
raw = connection.open("PING")
signal.signal(signal.SIGALRM, interrupt)
end, times = time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 5e-5)
        for _ in range(5000):  # one that meets a finalizer is lost: Python ignores what is raised there
            packed(raw, ("EVALSHA", "a" * 40, 1, "k", 1.5, b"x"))
    except Interrupted:
        times += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(times)
"""


def test_an_interrupt_while_a_command_is_packed_kills_nobody(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", PACKING, url], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
