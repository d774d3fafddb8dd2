"""A proxy before the store that breaks the network as it is told to: for tests, the fault lab and measurements.

It runs on a thread of its own; `python -m blazing_nb.client.proxy --server URL --delay 0.001` is one in a process.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from blazing_nb.client.wire import WAYS, Stream, Wires
from blazing_nb.errors import UsageError

DO_S = 10.0


class Fault(NamedTuple):
    """One line of a script: what is done, and for how many seconds before the next."""

    verb: str
    way: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.verb} {self.way} for {self.seconds:.3f} s"


def script(seed: int, faults: int, *, longest: float = 0.3) -> list[Fault]:
    """Faults drawn from a seed: the same seed, the same faults, each of at most `longest` seconds."""
    draw = random.Random(seed)  # noqa: S311 - a script is to be repeatable
    verbs = ("cut", "delay", "half_open", "partition", "drop_reply")
    return [
        Fault(draw.choice(verbs), draw.choice(("both", *WAYS)), longest * draw.random() ** 2) for _ in range(faults)
    ]


class Proxy:
    """Forwards to the store at `server`; listens on the socket `path`, or on a free port of the loopback.

    Faults begin when their method returns, and hold until `heal()`. A `way` is "requests", "replies" or "both".

    Args:
        server: a `unix://` or `redis://` url; user, password and database are the clients' business.
        path: of a unix socket to listen on; None: TCP.
        host, port: of the loopback; 0: a free port.
        seed: of what is random: which connection is cut.
        precise: delays of less than a millisecond; not for processes with more than 1,000 open files.

    Example:
        >>> with Proxy("redis://127.0.0.1:6379") as proxy, Blazing("demo", url=proxy.url) as app:
        ...     proxy.delay(0.025)  # 50 ms on every round trip
        ...     app.snapshot()
    """

    def __init__(
        self,
        server: str,
        path: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        precise: bool = False,
    ) -> None:
        self._parts = urlsplit(server)
        if self._parts.scheme not in ("unix", "redis"):
            raise UsageError(f"A proxy stands before a unix:// or redis:// url, not {self._parts.scheme}://.")
        if not host.startswith("127."):
            raise UsageError(f"A proxy listens on the loopback (127...) only, not on {host!r}.")
        self._path = path
        self.host, self.port = host, port
        self._selector: type[selectors.BaseSelector] = (
            selectors.SelectSelector if precise else selectors.DefaultSelector
        )
        self._wires = Wires(self._dial, seed)
        self._loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bz-proxy", daemon=True)
        self._thread.start()
        self._started.wait(DO_S)
        if self._error is not None:
            raise UsageError(f"The proxy cannot listen ({self._error}).") from self._error

    def __repr__(self) -> str:
        state = f"{len(self._wires.wires)} connections" if self._thread.is_alive() else "closed"
        return f"<Proxy {state}, {self.cuts} cut, {self.dropped} replies dropped>"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The store's url, through this proxy."""
        user = self._parts.netloc.rpartition("@")[0]
        at, query = f"{user}@" if user else "", f"?{self._parts.query}" if self._parts.query else ""
        if self._path is not None:
            return f"unix://{at}{self._path}{query}"
        path = self._parts.path if self._parts.scheme == "redis" else ""
        return f"redis://{at}{self.host}:{self.port}{path}{query}"

    # -- faults

    def delay(self, seconds: float, way: str = "both") -> None:
        """Everything that way arrives `seconds` later: "both" adds twice that to a round trip."""
        if seconds < 0:
            raise UsageError(f"A delay is at least 0 s, not {seconds}.")
        self._do(lambda: self._wires.delays.update(dict.fromkeys(_ways(way), seconds)))

    def cut(self) -> None:
        """Reset all connections; new ones are served."""
        self._do(self._wires.cut)

    def cut_one(self) -> None:
        """Reset one connection, drawn from the seed."""
        self._do(self._wires.cut_one)

    def refuse(self) -> None:
        """Reset all connections, and new ones at once, as where no server listens."""
        self._do(self._wires.refuse)

    def half_open(self, way: str = "both") -> None:
        """The connections that there are go silent for ever, and nobody is told; new ones are served."""
        self._do(lambda: self._wires.silence(_ways(way)))

    def partition(self, way: str = "both") -> None:
        """Nothing passes that way, on new connections neither; what waits arrives after `heal()`, as TCP does it."""
        self._do(lambda: self._wires.hold(_ways(way)))

    def drop_reply(self, count: int = 1) -> None:
        """Forget the next replies, one after the other, each with its connection: what was asked is done, unseen."""
        self._do(lambda: setattr(self._wires, "drops", self._wires.drops + count))

    def drop_replies(self, seconds: float) -> None:
        """Forget all replies for a while, then cut the connections: their callers repeat what they asked."""
        self._wait(self._wires.drop(seconds), seconds + DO_S)

    def forget_replies(self, marker: bytes = b"") -> None:
        """Forget all replies from now on, or from the request or reply on that holds `marker`."""
        self._do(lambda: self._wires.forget(marker))

    def heal(self) -> None:
        """End every fault; connections that went silent for ever stay so."""
        self._do(self._wires.heal)

    def play(self, faults: list[Fault], stopped: threading.Event) -> int:
        """Do what a script says, a fault after the other, healing between; how many were done until `stopped`."""
        for number, fault in enumerate(faults):
            if stopped.is_set():
                return number
            getattr(self, f"_play_{fault.verb}")(fault)
            stopped.wait(fault.seconds)
            self.heal()
        return len(faults)

    def _play_cut(self, fault: Fault) -> None:
        self.cut_one()

    def _play_delay(self, fault: Fault) -> None:
        self.delay(fault.seconds, fault.way)

    def _play_half_open(self, fault: Fault) -> None:
        self.half_open(fault.way)

    def _play_partition(self, fault: Fault) -> None:
        self.partition(fault.way)

    def _play_drop_reply(self, fault: Fault) -> None:
        self.drop_reply()

    @property
    def dropped(self) -> int:
        """Pieces of replies that were forgotten."""
        return self._wires.dropped

    @property
    def cuts(self) -> int:
        """Connections that were cut."""
        return self._wires.cuts

    @property
    def accepted(self) -> int:
        """Connections that were made."""
        return self._wires.accepted

    def close(self) -> None:
        """Cut all and stop listening. Repeatable."""
        if self._thread.is_alive():
            self._wait(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DO_S)

    # -- on the loop's thread

    def _do(self, what: Callable[[], object]) -> None:
        async def done() -> None:
            what()

        self._wait(done())

    def _wait(self, what: Coroutine[Any, Any, None], seconds: float = DO_S) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(seconds)

    async def _close(self) -> None:
        self._listening.close()
        await self._wires.close()

    def _run(self) -> None:
        self._loop = asyncio.SelectorEventLoop(self._selector())
        asyncio.set_event_loop(self._loop)
        try:
            self._listening = self._loop.run_until_complete(self._listen())
        except OSError as error:
            self._error = error
            self._started.set()
        else:
            self._started.set()
            self._loop.run_forever()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        if self._path is not None:
            return await asyncio.start_unix_server(self._wires.accept, self._path)
        made = await asyncio.start_server(self._wires.accept, self.host, self.port)
        self.port = made.sockets[0].getsockname()[1]
        return made

    async def _dial(self) -> Stream:
        if self._parts.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._parts.path))
        return await asyncio.open_connection(self._parts.hostname, self._parts.port or 6379)


def _ways(way: str) -> tuple[str, ...]:
    if way != "both" and way not in WAYS:
        raise UsageError(f"A way is requests, replies or both, not {way!r}.")
    return WAYS if way == "both" else (way,)


def main() -> int:
    """Serve until the standard input ends; the first line says the url."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, metavar="URL")
    parser.add_argument("--path", type=Path, help="of the socket to listen on; default: a port of the loopback")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="added to every round trip")
    args = parser.parse_args()
    with Proxy(args.server, args.path, precise=True) as proxy:
        proxy.delay(args.delay, "replies")
        print(proxy.url, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
