"""A proxy before the server's socket that forgets replies when it is told to: what was asked is done, unseen."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path


class Proxy:
    """Listens on `path`, forwards to `server`; both are unix sockets. Runs on a thread of its own."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path = path
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._dropping = self._holding = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._connected = 0
        self._marker = b""
        self.dropped = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def drop_replies(self, seconds: float) -> None:
        """Forget all replies for a while, then cut the connections: their callers repeat what they asked."""
        asyncio.run_coroutine_threadsafe(self._drop(seconds), self._loop).result(seconds + 10)

    def forget_replies(self, marker: bytes = b"") -> None:
        """Forget all replies from now on, or from the one on that holds `marker`."""
        self._marker = marker
        self._dropping = not marker

    def hold_requests(self) -> None:
        """Forward nothing any more; it is never forwarded."""
        self._holding = True

    def remember(self) -> None:
        """Cut all connections, and be a good proxy to the next ones."""
        self._marker, self._dropping = b"", False
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _close(self) -> None:
        """Cut all, and let each connection's task end by itself."""
        self._server_side.close()
        self._cut()
        while self._connected:
            await asyncio.sleep(0.01)

    async def _drop(self, seconds: float) -> None:
        self._dropping = True
        await asyncio.sleep(seconds)
        self._cut()
        self._dropping = False

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server_side = self._loop.run_until_complete(asyncio.start_unix_server(self._accept, self.path))
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, to_server = await asyncio.open_unix_connection(self._server)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        self._connected += 1
        try:
            forward = asyncio.ensure_future(self._pump(reader, to_server, replies=False))
            back = asyncio.ensure_future(self._pump(upstream, writer, replies=True))
            await asyncio.wait({forward, back}, return_when=asyncio.FIRST_COMPLETED)
            forward.cancel()
            back.cancel()
        finally:
            self._writers -= {writer, to_server}
            writer.transport.abort()
            to_server.transport.abort()
            self._connected -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if replies and self._marker and self._marker in data:
                    self._marker, self._dropping = b"", True
                if replies and self._dropping:
                    self.dropped += 1
                    continue
                if not replies and self._holding:
                    continue
                writer.write(data)
                await writer.drain()
