"""What each level of durability survives under Sentinel and in a cluster: the second table of
docs/explanation/durability.md, executed on real servers (failures.md R6, R7, R8)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot

from blazing_nb import Blazing, errors
from blazing_nb.core.shard import shard_of
from tests.client.test_node import same
from tests.deployment import Cluster, Sentinels, ask, until, valkey
from tests.fault.test_durability import PAGE

TABLE = PAGE.read_text().partition("## Under Sentinel and in a cluster")[2].partition("\n## ")[0]
ROWS = {level: cells.split(" | ") for level, cells in re.findall(r"^\| `(\w+)` \| (.+) \|$", TABLE, re.M)}
FAULTS = ("takeover", "cut")
NODES = [next(f"n{i}" for i in range(99) if shard_of(f"n{i}", 3) == shard) for shard in range(3)]
"""One of each of three shards."""


class Site:
    """Three servers of which one has what the apps here write, and what follows it."""

    def __init__(self, servers: Sentinels | Cluster) -> None:
        self.servers = servers
        self.url = servers.url
        for port in servers.servers:
            ask(port, "CONFIG", "SET", "appendonly", "yes")
        until(lambda: all(b"aof_enabled:1" in ask(port, "INFO", "persistence") for port in servers.servers))

    def primary(self, app: str) -> int:
        if isinstance(self.servers, Sentinels):
            return self.servers.primary()
        return self.servers.owner(key_slot(f"bz:{{{app}:0}}:meta".encode()))

    def named(self, app_id: str, count: int) -> list[str]:
        """So many apps at one primary."""
        names = [f"{app_id}-{i}" for i in range(40)]
        at = self.primary(names[0])
        return [name for name in names if self.primary(name) == at][:count]

    def replicas(self, primary: int) -> list[int]:
        text = ask(primary, "INFO", "replication").decode()
        return [int(port) for port in re.findall(r"^slave\d+:ip=[^,]*,port=(\d+),state=online", text, re.M)]

    def cut(self, primary: int) -> list[int]:
        """Its replicas get nothing any more: they are stopped, and their connections cut."""
        replicas = self.replicas(primary)
        for port in replicas:
            self.servers.pause(port)
        ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        until(lambda: b"connected_slaves:0" in ask(primary, "INFO", "replication"))
        return replicas

    def take_over(self, primary: int, app: str) -> None:
        self.servers.kill(primary)
        for port in self.servers.servers:
            self.servers.proceed(port) if port != primary else None
        until(lambda: self.primary(app) != primary and b"role:master" in ask(self.primary(app), "INFO", "replication"))


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    servers = Sentinels(valkey()) if request.param == "sentinel" else Cluster(valkey())
    try:
        yield Site(servers)
    finally:
        servers.close()


def said(site: Site, level: str, fault: str) -> str:
    return ROWS[level][(0 if isinstance(site.servers, Sentinels) else 2) + FAULTS.index(fault)]


def settled(app: Blazing) -> bool:
    try:
        app.settle()
    except errors.OperationUncertain:
        return False
    return True


def test_the_table_is_whole() -> None:
    assert list(ROWS) == ["memory", "fsync", "replicated"]
    assert {len(cells) for cells in ROWS.values()} == {4}
    assert {cell for cells in ROWS.values() for cell in cells} == {"kept", "lost", "not promised", "not acknowledged"}


def test_a_server_that_keeps_no_file_is_refused_for_fsync_there_too(site: Site, app_id: str) -> None:
    primary = site.primary(app_id)
    ask(primary, "CONFIG", "SET", "appendonly", "no")
    try:
        with pytest.raises(errors.StoreUnsuitable, match="append-only"):
            Blazing(app_id, url=site.url, durability="fsync").connect()
    finally:
        ask(primary, "CONFIG", "SET", "appendonly", "yes")


@pytest.mark.slow
def test_a_level_survives_there_what_the_table_says(site: Site, app_id: str) -> None:
    """Acknowledged as replicated before the replicas are cut off: kept; by another level after it: lost."""
    names = site.named(app_id, 5)
    primary = site.primary(names[0])
    replicas = len(site.replicas(primary))
    with contextlib.ExitStack() as stack:

        def opened(name: str, level: str, *, redo: bool = False, **options: Any) -> Blazing:
            return stack.enter_context(Blazing(name, url=site.url, durability=level, redo=redo, **options))

        apps = {level: opened(name, level, node_id="n1") for level, name in zip(ROWS, names, strict=False)}
        spread = [opened(names[3], "replicated", node_id=node, shards=3) for node in NODES]
        again = [opened(names[4], "memory", redo=True, node_id=node, shards=3) for node in NODES]
        kept = [(app, [app.step(same).enqueue(i) for i in range(20)]) for app in (apps["replicated"], *spread)]
        for app in (*apps.values(), *again):
            app.step(same).enqueue("before")
            until(lambda app=app: app.store.connection().call("WAIT", replicas, 1000) == replicas)  # type: ignore[misc]
        site.cut(primary)
        lost = {level: [apps[level].step(same).enqueue(i) for i in range(5)] for level in ("memory", "fsync")}
        redone = [(app, [app.step(same).enqueue(i) for i in range(5)]) for app in again]
        apps["replicated"].store.durability._timeout_s = 0.2
        with pytest.raises(errors.OperationUncertain) as caught:
            apps["replicated"].step(same).enqueue("uncertain")
        assert (caught.value.asked, caught.value.confirmed) == (replicas, 0)
        assert said(site, "replicated", "cut") == "not acknowledged"
        site.take_over(primary, names[0])
        assert said(site, "replicated", "takeover") == "kept"
        for app, handles in kept:
            assert {str(status) for status in app.statuses(handles)} == {"PENDING"}
        for level, handles in lost.items():
            assert said(site, level, "cut") == "lost"
            assert apps[level].statuses(handles) == [None] * 5
        for app, handles in redone:  # what memory loses comes back from the redo window, shard by shard
            until(lambda app=app, ops=handles: {str(status) for status in app.statuses(ops)} == {"PENDING"})  # type: ignore[misc]
        assert sum(rollback.restored for app in again for rollback in app.redo.rollbacks) >= 5
        apps["replicated"].store.durability._timeout_s = 10.0
        site.servers.revive(primary)
        until(lambda: settled(apps["replicated"]), 60)  # the level can be given again
        assert apps["replicated"].snapshot().waiting == 22
