"""The wires of a proxy: connections forwarded byte by byte, and what breaks them. Runs within one event loop.

Knows bytes and directions, not commands. What is delayed or held keeps its order, as in TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

WAYS = ("requests", "replies")
READ = 1 << 16
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """One connection: both sides, and which ways are silent for ever."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.mute: set[str] = set()

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Wires:
    """All connections, and the faults that hold now."""

    def __init__(self, dial: Callable[[], Awaitable[Stream]], seed: int) -> None:
        self._dial = dial
        self._random = random.Random(seed)  # noqa: S311 - faults are to be repeatable
        self.wires: dict[Wire, None] = {}  # in the order in which they were made
        self.delays = dict.fromkeys(WAYS, 0.0)
        self.held: dict[str, asyncio.Event] = {}
        self.refusing = self.dropping = False
        self.drops = 0
        self.marker = b""
        self.dropped = self.cuts = self.accepted = 0

    # -- what breaks them

    def cut(self, wires: list[Wire] | None = None) -> None:
        wires = list(self.wires) if wires is None else wires
        self.cuts += len(wires)
        for wire in wires:
            wire.abort()

    def cut_one(self) -> None:
        self.cut(self._random.sample(list(self.wires), min(1, len(self.wires))))

    def silence(self, ways: tuple[str, ...]) -> None:
        for wire in self.wires:
            wire.mute.update(ways)

    def hold(self, ways: tuple[str, ...]) -> None:
        for way in ways:
            self.held.setdefault(way, asyncio.Event())

    def forget(self, marker: bytes) -> None:
        self.marker, self.dropping = marker, not marker

    def refuse(self) -> None:
        self.refusing = True
        self.cut()

    async def drop(self, seconds: float) -> None:
        self.dropping = True
        await asyncio.sleep(seconds)
        self.cut()
        self.dropping = False

    def heal(self) -> None:
        self.delays = dict.fromkeys(WAYS, 0.0)
        self.refusing = self.dropping = False
        self.drops, self.marker = 0, b""
        held, self.held = self.held, {}
        for event in held.values():
            event.set()

    async def close(self) -> None:
        """Cut all, and let each connection's task end by itself."""
        self.heal()
        self.cut()
        while self.wires:
            await asyncio.sleep(0.01)

    # -- forwarding

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            upstream, to_server = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        wire = Wire(writer, to_server)
        self.wires[wire] = None
        self.accepted += 1
        tasks = [
            asyncio.ensure_future(self._pump(wire, reader, to_server, "requests")),
            asyncio.ensure_future(self._pump(wire, upstream, writer, "replies")),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            wire.abort()
            del self.wires[wire]

    async def _pump(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        """Read as it comes and write when it is due: a delay is added to each piece and not to their sum."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.ensure_future(self._write(pieces, wire, writer, way))
        try:
            while data := await reader.read(READ):
                if self._passes(wire, data, way):
                    pieces.put_nowait((asyncio.get_running_loop().time() + self.delays[way], data))
            pieces.put_nowait((0.0, b""))
            await writing
        except OSError:
            wire.abort()
        finally:
            writing.cancel()

    async def _write(
        self, pieces: asyncio.Queue[tuple[float, bytes]], wire: Wire, writer: asyncio.StreamWriter, way: str
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await pieces.get()
                if (pause := due - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(pause)
                while way in self.held:
                    await self.held[way].wait()
                if not data:
                    return
                if way not in wire.mute:
                    writer.write(data)
                    await writer.drain()

    def _passes(self, wire: Wire, data: bytes, way: str) -> bool:
        """Whether a piece goes on its way, or is forgotten."""
        if way in wire.mute:
            return False
        if self.marker and self.marker in data:
            self.marker, self.dropping = b"", True
        if way == "requests":
            return True
        if self.drops and not self.dropping:
            self.drops -= 1
            self.cut([wire])
        elif not self.dropping:
            return True
        self.dropped += 1
        return False
