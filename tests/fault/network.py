"""A real network that loses packets: server and clients in network namespaces of their own, joined by one link.

    unshare --user --map-root-user --net python -m tests.fault.network --faults both,requests,half_open --json

Runs inside a fresh namespace, as its root, and makes another for the server; needs `ip` (iproute2), no firewall. Other
than behind `client/proxy`, the kernel's own timers are at work: what is lost is sent again, ever more slowly, and
nobody acknowledges what nobody received. `missing()` says why it cannot be made somewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from blazing_nb import Blazing, Worker
from blazing_nb.store.candidate import find_binary

HERE, THERE, PORT = "10.99.0.1", "10.99.0.2", 6379
NOBODY = "02:00:00:00:00:99"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
TIMEOUT_S, PATIENCE_S = 1.0, 60.0
RATE, SLOW_MS = "256kbit", 100


class Unavailable(Exception):
    """The kernel or its tools cannot do this here."""


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def missing() -> str:
    """Why no such network can be made here; empty where it can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        run(*UNSHARE, "ip", "link", "add", "bz0", "type", "veth", "peer", "name", "bz1")
    except (Unavailable, OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


class Network:
    """Two hosts and their link: this process's namespace, and one that ends with it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [str(shutil.which("unshare")), "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # it is in its namespace now
        self.there = ["nsenter", "--target", str(self._holder.pid), "--net"]
        run("ip", "link", "add", "bz0", "type", "veth", "peer", "name", "bz1", "netns", str(self._holder.pid))
        for side, address, link in ((), HERE, "bz0"), (tuple(self.there), THERE, "bz1"):
            run(*side, "ip", "address", "add", f"{address}/24", "dev", link)
            for one in ("lo", link):
                run(*side, "ip", "link", "set", one, "up")
        self._names = {"requests": self._name("bz1", *self.there), "replies": self._name("bz0")}
        self._rules: list[tuple[str, ...]] = []

    @staticmethod
    def _name(link: str, *side: str) -> str:
        return str(json.loads(run(*side, "ip", "-json", "link", "show", link))[0]["address"])

    def lose(self, way: str) -> None:
        """All packets of one direction or both: they go to a host that is not there."""
        for one in ("requests", "replies") if way == "both" else (way,):
            self._send(one, NOBODY)

    def _send(self, way: str, name: str) -> None:
        side, address, link = ((), THERE, "bz0") if way == "requests" else (tuple(self.there), HERE, "bz1")
        run(*side, "ip", "neighbour", "replace", address, "lladdr", name, "nud", "permanent", "dev", link)

    def half_open(self, way: str = "both") -> None:
        """What is connected now loses its packets for good; new connections are well."""
        for port in self._ports():
            for side, which, one in ((), "sport", "requests"), (tuple(self.there), "dport", "replies"):
                if way in ("both", one):
                    rule = ("ipproto", "tcp", which, str(port), "blackhole")
                    run(*side, "ip", "rule", "add", *rule)
                    self._rules.append((*side, "ip", "rule", "del", *rule))

    @staticmethod
    def _ports() -> set[int]:
        """Of this end of the connections to the server."""
        rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        return {int(row[1].partition(":")[2], 16) for row in rows if int(row[2].partition(":")[2], 16) == PORT}

    def slow(self, *words: str) -> None:
        """A queueing discipline on both ends.

        Raises:
            Unavailable: the kernel has none of that name.
        """
        for side, link in ((), "bz0"), (tuple(self.there), "bz1"):
            run(*side, "tc", "qdisc", "replace", "dev", link, "root", *words)
            self._rules.append((*side, "tc", "qdisc", "del", "dev", link, "root"))

    def heal(self) -> None:
        for way, name in self._names.items():
            self._send(way, name)
        while self._rules:
            run(*self._rules.pop())

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


def same(x: int) -> int:
    return x


class Host:
    """A server there, a client and a worker here."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.network = Network()
        self.folder = Path(tempfile.mkdtemp(prefix="bzn-", dir="/tmp"))
        os.environ["BLAZING_HOME"] = str(self.folder / "home")
        command = [*self.network.there, str(find_binary()), "--port", str(PORT), "--bind", THERE, "--save", ""]
        command += ["--dir", str(self.folder), "--protected-mode", "no"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"redis://{THERE}:{PORT}/0?socket_timeout={timeout_s}&socket_connect_timeout={timeout_s}"
        self.app = Blazing("network", url=self.url, node_id="n1").connect()
        self.worker = Worker("network", url=self.url, lease=60.0).start()
        self.step = self.app.step(same)
        self.wrong: list[str] = []
        self.step.map(range(50)).results(PATIENCE_S)

    def close(self) -> None:
        self.worker.close()
        self.app.close()
        self.server.kill()
        self.server.wait()
        self.network.close()
        shutil.rmtree(self.folder)

    def recover(self, fault: str, seconds: float) -> dict[str, float]:
        """Break, wait, heal: seconds from the cure (half-open has none: from the fault) until all works again."""
        stopped, answers = threading.Event(), [0]
        waiting = self.step.options(delay=seconds / 2).enqueue(-1)

        def talk() -> None:
            while not stopped.is_set():
                answers[0] += 1
                if self.step.enqueue(answers[0]).result(PATIENCE_S) != answers[0]:
                    self.wrong.append(f"{answers[0]} is another's")

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            began = time.monotonic()
            if fault.startswith("half_open"):
                self.network.half_open(fault.removeprefix("half_open_") if "_open_" in fault else "both")
            else:
                self.network.lose(fault)
                time.sleep(seconds)
                self.network.heal()
                began = time.monotonic()
            self.app.snapshot()
            found = {"client_s": time.monotonic() - began}
            if waiting.result(PATIENCE_S) != -1:
                self.wrong.append("the handle has another's")
            found["handle_s"] = time.monotonic() - began
            if self.step.map(range(50)).results(PATIENCE_S) != list(range(50)):
                self.wrong.append("results of a batch are not those of its items")
            found["worker_s"] = time.monotonic() - began
        finally:
            stopped.set()
            thread.join()
            self.network.heal()
        return {name: round(value, 3) for name, value in found.items()}

    def round_trip(self, *words: str) -> float:
        """The median of five, on a link that is slow where words say how."""
        if words:
            self.network.slow(*words)
        times = []
        for number in range(5):
            began = time.monotonic()
            if self.step.enqueue(number).result(PATIENCE_S) != number:
                self.wrong.append(f"{number} is another's on a slow link")
            times.append(time.monotonic() - began)
        self.network.heal()
        return round(sorted(times)[2], 3)


def slow(host: Host) -> dict[str, Any]:
    """A narrow link, and a long one where the kernel can make it."""
    words = {
        "narrow": ("tbf", "rate", RATE, "burst", "2kb", "latency", "2s"),
        "delay": ("netem", "delay", f"{SLOW_MS // 2}ms"),
    }
    found: dict[str, Any] = {"idle": {"round_trip_s": host.round_trip()}}
    for name, each in words.items():
        try:
            found[name] = {"round_trip_s": host.round_trip(*each)}
        except Unavailable as error:
            host.network.heal()
            found[name] = {"unavailable": str(error)}
    return found


FAULTS = ("both", "requests", "replies", "half_open", "half_open_requests", "half_open_replies")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--seconds", type=float, default=2.5, help="how long packets are lost")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="of sockets, in seconds")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with contextlib.closing(Host(args.timeout)) as host:
        consumer = host.worker.consumer
        report: dict[str, Any] = {}
        for fault in args.faults.split(","):
            report[fault] = [host.recover(fault, args.seconds) for _ in range(args.rounds)]
        report |= slow(host)
        report |= {"socket_timeout_s": args.timeout, "wrong": host.wrong, "stayed": host.worker.consumer == consumer}
    print(json.dumps(report) if args.json else "\n".join(f"{name}: {value}" for name, value in report.items()))
    return 1 if report["wrong"] or not report["stayed"] else 0


if __name__ == "__main__":
    sys.exit(main())
