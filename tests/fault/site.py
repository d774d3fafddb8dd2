"""A server that can be broken in every way that heals, behind a proxy, with a client and a worker that must not care.

python -m tests.fault.site --rounds 5 --json     # seconds from the cure until each works again
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from blazing_nb import Blazing, Operation, Worker
from blazing_nb.client.proxy import Proxy
from blazing_nb.store.candidate import find_binary

TIMEOUT_S = 1.0
"""Of sockets. The package's is 5 s; what is half-open is found within two of them."""
FAULT_S = 0.4
BOUND_S, HALF_OPEN_S = 1.0, 2 * TIMEOUT_S - FAULT_S
"""From the cure. What is half-open has none: there it counts from the fault."""
STALL_S = 1.5 * TIMEOUT_S
PATIENCE_S = 30.0
NAME = "localhost"
ROWS, LOAD_DELAY_US = 20_000, 50
"""A second of loading. While it loads the server answers at every 1,024th command."""


class Recovery(NamedTuple):
    """Seconds from the cure until each worked again."""

    client: float
    handle: float
    worker: float


class Site:
    """One server, one client, one worker; both reach the server by name, through a proxy."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bzs-", dir="/tmp"))
        self.port = _free_port()
        self.address = "127.0.0.1"
        self.server: subprocess.Popen[bytes] | None = None
        self._resolve = socket.getaddrinfo
        socket.getaddrinfo = self._getaddrinfo
        self.start_server()
        self.proxy = Proxy(f"redis://127.0.0.1:{self.port}")
        self.elsewhere = Proxy(f"redis://127.0.0.1:{self.port}", host="127.0.0.2", port=self.proxy.port)
        url = f"redis://{NAME}:{self.proxy.port}/0?socket_timeout={TIMEOUT_S}&socket_connect_timeout={TIMEOUT_S}"
        self.app = Blazing("site", url=url, node_id="n1").connect()
        self.worker = Worker("site", url=url, lease=20.0).start()
        self.square = self.app.step(_square)
        self.held = self.app.step(_hold)
        self.stopped = threading.Event()
        self.wrong: list[str] = []
        self.answers = 0
        self._number = 0

    def _getaddrinfo(self, host: Any, *args: Any, **options: Any) -> Any:
        return self._resolve(self.address if host == NAME else host, *args, **options)

    def start_server(self, load_delay_us: int = 0) -> None:
        command = [str(find_binary()), "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--key-load-delay", str(load_delay_us)]
        command += ["--loading-process-events-interval-bytes", "1024", "--enable-debug-command", "yes"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        self.worker.close()
        self.app.close()
        self.proxy.close()
        self.elsewhere.close()
        socket.getaddrinfo = self._resolve
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Calls go on through the fault; each must have its own result."""
        stopped = threading.Event()

        def talk() -> None:
            i = 0
            while not stopped.is_set():
                i += 1
                if (value := self.square.enqueue(i).result(PATIENCE_S)) != i * i:
                    self.wrong.append(f"{i} squared was {value!r}")
                self.answers += 1

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def recover(self, fault: str) -> Recovery:
        """Break, heal, and wait until everything works again by itself."""
        self._number += 1
        go = self.folder / f"go-{self._number}"
        waiting: Operation = self.held.enqueue(str(go), self._number)
        with self.traffic():
            cure = FAULTS[fault](self)
            go.touch()  # its outcome is committed over what is broken
            time.sleep(STALL_S if fault == "stall" else FAULT_S)
            cure()
            began = time.monotonic()
            self.app.snapshot()
            client = time.monotonic() - began
            value = waiting.result(PATIENCE_S)
            handle = time.monotonic() - began
            if value != self._number:
                self.wrong.append(f"the handle of {self._number} has {value!r}")
            if self.square.map(range(50)).results(PATIENCE_S) != [i * i for i in range(50)]:
                self.wrong.append("results of a batch are not those of its items")
            return Recovery(client, handle, time.monotonic() - began)

    def direct(self, *words: Any) -> Any:
        """A command past the proxy, in a connection of its own."""
        client = Redis(port=self.port, retry=Retry(NoBackoff(), 0))
        try:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            client.close()

    # -- faults: each begins, and returns its cure

    def restart(self) -> Callable[[], None]:
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        return self._started

    def _started(self) -> None:
        """The cure is a server that answers, not one that loads."""
        self.start_server()
        self._await(loading=False)

    def _await(self, *, loading: bool) -> None:
        """Until the server says that it loads, or answers."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                self.direct("PING")
                if not loading:
                    return
            except BusyLoadingError:
                if loading:
                    return
            except RedisError:
                pass
            time.sleep(0.002)
        raise TimeoutError("the server did not start")

    def loading(self) -> Callable[[], None]:
        """The server answers, for a while, that it loads."""
        self.direct("EVAL", f"for i = 1, {ROWS} do redis.call('SET', 'row:' .. i, i) end", 0)
        self.restart()
        self.start_server(LOAD_DELAY_US)
        self._await(loading=True)
        return self._loaded

    def _loaded(self) -> None:
        self._await(loading=False)
        self.direct("EVAL", f"for i = 1, {ROWS} do redis.call('DEL', 'row:' .. i) end", 0)

    def client_kill(self) -> Callable[[], None]:
        for kind in ("normal", "pubsub"):
            self.direct("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return _cured

    def reset(self) -> Callable[[], None]:
        self.proxy.refuse()
        self.elsewhere.refuse()
        return self._healed

    def _healed(self) -> None:
        self.proxy.heal()
        self.elsewhere.heal()

    def half_open(self) -> Callable[[], None]:
        """Packets vanish and nobody says so. It has no cure: the connections must be made anew."""
        self.proxy.half_open()
        self.elsewhere.half_open()
        return _cured

    def half_open_replies(self) -> Callable[[], None]:
        self.proxy.half_open("replies")
        self.elsewhere.half_open("replies")
        return _cured

    def dns(self) -> Callable[[], None]:
        """The server is gone from its address; the name soon says another."""
        here, there = self.proxy, self.elsewhere
        if self.address != "127.0.0.1":
            here, there = there, here
        here.refuse()
        there.heal()

        def moved() -> None:
            self.address = there.host

        return moved

    def read_only(self) -> Callable[[], None]:
        self.direct("REPLICAOF", "127.0.0.1", "1")
        return lambda: self.direct("REPLICAOF", "NO", "ONE")

    def script_flush(self) -> Callable[[], None]:
        self.direct("SCRIPT", "FLUSH")
        return _cured

    def stall(self) -> Callable[[], None]:
        assert self.server is not None
        server = self.server
        server.send_signal(signal.SIGSTOP)
        return lambda: server.send_signal(signal.SIGCONT)


FAULTS: dict[str, Callable[[Site], Callable[[], None]]] = {
    "restart": Site.restart,
    "loading": Site.loading,
    "client_kill": Site.client_kill,
    "reset": Site.reset,
    "half_open": Site.half_open,
    "half_open_replies": Site.half_open_replies,
    "dns": Site.dns,
    "read_only": Site.read_only,
    "script_flush": Site.script_flush,
    "stall": Site.stall,
}


def bound_s(fault: str) -> float:
    """How soon all must work again."""
    return HALF_OPEN_S if fault.startswith("half_open") else BOUND_S


def _cured() -> None:
    """Nothing is to be done: who was hit must help itself."""


def _square(x: int) -> int:
    return x * x


def _hold(go: str, value: int) -> int:
    import pathlib
    import time

    end = time.monotonic() + 60
    while not pathlib.Path(go).exists() and time.monotonic() < end:
        time.sleep(0.005)
    return value


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    site, found, late = Site(), dict[str, dict[str, Any]](), 0
    try:
        for fault in args.faults.split(","):
            rounds = [site.recover(fault) for _ in range(args.rounds)]
            found[fault] = {
                f"{who}_s": {"median": round(statistics.median(times), 3), "max": round(max(times), 3)}
                for who, times in zip(Recovery._fields, zip(*rounds, strict=True), strict=True)
            }
            found[fault]["within"] = f"{sum(max(one) <= bound_s(fault) for one in rounds)} of {args.rounds}"
            print(fault, found[fault], file=sys.stderr, flush=True)
            late += sum(max(one) > bound_s(fault) for one in rounds)
    finally:
        site.end()
    print(json.dumps({"socket_timeout_s": TIMEOUT_S, "wrong": site.wrong, "answers": site.answers, **found}))
    return 1 if site.wrong or late else 0


if __name__ == "__main__":
    sys.exit(main())
