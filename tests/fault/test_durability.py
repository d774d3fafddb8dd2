"""What each level of durability survives: the table of docs/explanation/durability.md, executed on real servers."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from blazing_nb import Blazing, Worker, errors
from blazing_nb.store.candidate import find_binary
from tests.client.test_node import same
from tests.condition import until
from tests.deployment import HOST, Deployment, ask, free_ports, valkey

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "durability.md"
TABLE = PAGE.read_text().partition("## What each survives")[2].partition("\n## ")[0]
ROWS = {level: cells.split(" | ") for level, cells in re.findall(r"^\| `(\w+)` \| (.+) \|$", TABLE, re.M)}
FAULTS = ("no file", "file", "takeover", "cut")
CELLS = [(level, fault, said) for level, cells in ROWS.items() for fault, said in zip(FAULTS, cells, strict=True)]


@contextmanager
def pair(*, aof: bool, binary: str = "") -> Iterator[tuple[Deployment, int, int]]:
    """A primary and its replica."""
    made = Deployment(binary or valkey())
    try:
        primary, replica = free_ports(2)
        file = ("--appendonly", "yes" if aof else "no", "--appendfsync", "everysec")
        made.launch(primary, *file, "--repl-diskless-sync-delay", 0)
        made.launch(replica, "--replicaof", f"{HOST} {primary}", "--appendonly", "no")
        until(lambda: b"state=online" in ask(primary, "INFO", "replication"))
        yield made, primary, replica
    finally:
        made.close()


def cut(primary: int, replica: int) -> None:
    ask(replica, "REPLICAOF", HOST, 1)
    until(lambda: b"connected_slaves:0" in ask(primary, "INFO", "replication"))


def waiting(app_id: str, port: int) -> int:
    with Blazing(app_id, url=f"redis://{HOST}:{port}") as app:
        return app.snapshot().waiting


def test_the_table_is_whole() -> None:
    assert list(ROWS) == ["memory", "fsync", "replicated"]
    assert {said for *_, said in CELLS} == {"kept", "lost", "refused", "not promised", "not acknowledged"}


@pytest.mark.parametrize(("level", "fault", "said"), [cell for cell in CELLS if cell[2] != "not promised"])
def test_a_level_survives_what_the_table_says(level: str, fault: str, said: str, app_id: str) -> None:
    with pair(aof=fault != "no file") as (servers, primary, replica):
        app = Blazing(app_id, url=f"redis://{HOST}:{primary}", durability=level, node_id="n1")
        if said == "refused":
            with pytest.raises(errors.StoreUnsuitable, match="append-only"):
                app.connect()
            return
        with app:
            step = app.step(same)
            step.enqueue("before")
            until(lambda: waiting(app_id, replica) == 1)
            if fault == "cut":
                cut(primary, replica)
            if said == "not acknowledged":
                app.store.durability._timeout_s = 0.2
                with pytest.raises(errors.OperationUncertain) as caught:
                    step.enqueue("uncertain")
                assert (caught.value.asked, caught.value.confirmed, caught.value.operations) == (1, 0, 1)
                return
            step.map(range(20))
            servers.kill(primary)
        if fault in ("takeover", "cut"):
            ask(replica, "REPLICAOF", "NO", "ONE")
            found = waiting(app_id, replica)
        else:
            servers.start(primary)
            found = waiting(app_id, primary)
        assert found == (21 if said == "kept" else 1 if fault == "cut" else 0)


def test_r7_what_a_replica_did_not_confirm_is_asked_for_again_and_stored_once(app_id: str) -> None:
    with pair(aof=False) as (_, primary, replica), Blazing(app_id, url=f"redis://{HOST}:{primary}") as app:
        step = app.step(same)
        step.enqueue(0)
        (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        space: dict[str, Any] = {"charge": step, "order": 1}
        exec(block, space)  # noqa: S102 - our own documentation
        urgent = space["urgent"]
        cut(primary, replica)
        app.store.durability._timeout_s = 0.2
        with pytest.raises(errors.OperationUncertain, match="1 replicas, but 0") as caught:
            urgent.enqueue(2)
        with pytest.raises(errors.OperationUncertain):
            app.settle()
        with pytest.raises(errors.OperationUncertain):
            step.enqueue("behind it")
        assert app.attach(str(caught.value.operation)).op.counter == 3
        ask(replica, "REPLICAOF", HOST, primary)
        until(lambda: b"state=online" in ask(primary, "INFO", "replication"))
        app.store.durability._timeout_s = 10.0
        app.settle()
        assert urgent.map(range(3)).ids()[0].counter == 4
        assert app.snapshot().steps[0].enqueued == 6
        assert waiting(app_id, replica) == 6


def test_r7_with_an_outbox_what_is_not_confirmed_waits_there(app_id: str) -> None:
    with (
        pair(aof=False) as (_, primary, replica),
        Blazing(app_id, url=f"redis://{HOST}:{primary}", durability="replicated", outbox=True) as app,
    ):
        step = app.step(same)
        step.enqueue(0)
        cut(primary, replica)
        app.outbox._quick.durability._timeout_s = app.outbox._store.durability._timeout_s = 0.2
        handles: list[Any] = [step.enqueue(i) for i in range(1, 4)]
        assert app.outbox.depth == 3
        ask(replica, "REPLICAOF", HOST, primary)
        app.outbox._store.durability._timeout_s = 5.0
        assert app.outbox.wait(30)
        assert waiting(app_id, replica) == 4
        assert len({handle.id for handle in handles}) == 3


def test_r25_a_server_without_waitaof_gives_fsync_only_where_it_always_syncs(app_id: str) -> None:
    made = Deployment(str(find_binary()))
    try:
        (port,) = free_ports(1)
        made.launch(port, "--appendonly", "yes", "--appendfsync", "everysec")
        if ask(port, "COMMAND", "INFO", "waitaof")[0] is not None:
            pytest.fail("this server has WAITAOF: name one of Redis 7.0 by BLAZING_REDIS_SERVER")
        app = Blazing(app_id, url=f"redis://{HOST}:{port}")
        with app, pytest.raises(errors.StoreUnsuitable, match="CONFIG SET appendfsync always"):
            app.step(same).options(durability="fsync").enqueue(1)
        ask(port, "CONFIG", "SET", "appendfsync", "always")
        with Blazing(app_id, url=f"redis://{HOST}:{port}", durability="fsync") as app:
            app.step(same).map(range(10))
            made.kill(port)
        made.start(port)
        assert waiting(app_id, port) == 10
    finally:
        made.close()


class OldServer(socketserver.StreamRequestHandler):
    """Says that it is Redis 6.2, and remembers what it was asked."""

    asked: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
            self.asked.append(words[0].upper())
            info = b"redis_version:6.2.14\r\n"
            answers = {b"INFO": b"$%d\r\n%b\r\n" % (len(info), info), b"HGET": b"$-1\r\n", b"EXISTS": b":0\r\n"}
            self.wfile.write(answers.get(words[0].upper(), b"+OK\r\n"))


def test_r25_a_server_before_7_0_is_refused_before_anything_is_sent(app_id: str) -> None:
    with socketserver.ThreadingTCPServer((HOST, 0), OldServer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"redis://{HOST}:{server.server_address[1]}"
        try:
            for refused in (Blazing(app_id, url=url).connect, Worker(app_id, url=url).start):
                with pytest.raises(errors.StoreUnsuitable, match=r"Redis 6\.2\.14; 7\.0 or later is needed"):
                    refused()
        finally:
            server.shutdown()
            thread.join()
    assert b"INFO" in OldServer.asked
    assert not {b"EVALSHA", b"EVAL", b"SET", b"HSET", b"XADD"} & set(OldServer.asked)


def test_a_level_that_is_none_or_that_nobody_can_give_is_refused_before_anything_is_sent(url: str, app_id: str) -> None:
    with pytest.raises(errors.UsageError, match="durability is one of"):
        Blazing(app_id, url=url, durability="disk")
    with Blazing(app_id, url=url) as app:
        step = app.step(same)
        for bad in ("", "sync", 3):
            with pytest.raises(errors.UsageError):
                step.options(durability=bad)  # type: ignore[arg-type]
        with pytest.raises(errors.UsageError):
            step >> app.step(len).options(durability="fsync")
        with pytest.raises(errors.UsageError):
            step.options(durability="fsync").every("5m", args=(1,))
