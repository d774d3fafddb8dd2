"""One connection at a time to the store, with time-outs and retries. Owns sockets; knows nothing of scripts or keys.

A call that is interrupted (an exception between sending and reading, `KeyboardInterrupt` too) drops its socket, so
that no later call can read its reply. A child after fork drops what it inherited.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from blazing_nb.errors import ScriptRefused, StoreUnavailable, StoreUnsuitable
from blazing_nb.store.address import Address
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.right import is_refusal, lack
from blazing_nb.store.route import Route, User
from blazing_nb.store.topology import route

Reply: TypeAlias = Any
Argument: TypeAlias = bytes | str | int | float

TRANSIENT = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
    OSError,
)
MOVING = "BZMOVING "
PASSING = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNBLOCKED ")
"""Errors of a server that runs a long script, whose disk is full, that misses its replicas or has just become one:
nothing was done, and it passes."""
PASSING_PAUSE_S = 0.1
BACKOFF_BASE_S = 0.02
BACKOFF_CAP_S = 0.5


def packed(raw: Any, args: tuple[Argument, ...]) -> Any:
    """A command as it is sent. Numbers become text here: a Ctrl-C while hiredis (3.5) does it kills the process."""
    return raw.pack_command(*(str(word) if isinstance(word, int | float) else word for word in args))


class Connection:
    """A connection used by one thread at a time (a lock sees to it); opened at the first call.

    Args:
        url: what `route` takes, or a route that others use too.
        timeout_s: for one answer; `?socket_timeout=` in the url goes before it.
        deadline_s: for a call with all its retries; then `StoreUnavailable`.
    """

    def __init__(self, url: str | Route, *, timeout_s: float = 5.0, deadline_s: float = 15.0, name: str = "") -> None:
        self._route = route(url, timeout_s=timeout_s, name=name) if isinstance(url, str) else url
        self.timeout_s = self._route.timeout_s
        """For one answer."""
        self._deadline_s = deadline_s
        self._lock = threading.RLock()
        self._raws: dict[Address, Any] = {}
        self._last: tuple[Address, Any] | None = None
        self._pid = 0
        self._silences = self._route.silences
        self._closed = False
        self.retries = 0
        """How often a call had to be sent again: an earlier reply may be lost."""
        self.on_connect: Callable[[], None] = lambda: None
        """Called before a new socket is used; what it raises goes to the caller, and nothing was sent."""

    def __repr__(self) -> str:
        return f"<Connection {'open' if self._raws else 'idle'} retries={self.retries}>"

    def call(self, *args: Argument, block_s: float = 0.0) -> Reply:
        """Send one command and return its reply. Only for commands that are safe to repeat.

        Raises:
            StoreUnavailable: no answer within the deadline.
            StoreUnsuitable: its certificate or our password is refused.
            ScriptRefused: the server answered with an error.
        """
        end = time.monotonic() + self._deadline_s + block_s
        attempt = step = 0
        while True:
            news = self._route.news
            try:
                with self._lock:
                    return self._exchange(args, block_s)
            except NoScriptError:
                raise
            except TRANSIENT as error:
                _give_up(error)
                if not isinstance(error, MovedError):
                    self._route.doubt()
                attempt, step = attempt + 1, step + 1
                self.retries += 1
                pause = CHANCE.random() * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**step)
                if self._closed or time.monotonic() + pause > end:
                    raise StoreUnavailable(
                        f"The store did not answer {args[0]!r} within {self._deadline_s:g} s ({error}). "
                        "Repeating the call is safe; is the server up?",
                        attempts=attempt,
                    ) from error
                if self._route.wait(pause, news):
                    step = 0
            except ResponseError as error:
                if self._closed or not str(error).startswith(PASSING) or time.monotonic() > end:
                    raise refusal(error, args) from error
                time.sleep(2 * PASSING_PAUSE_S * CHANCE.random())

    def confirm(self, *args: Argument, block_s: float = 0.0) -> Reply | None:
        """Ask once, on the socket by which the last call was answered; None where it is gone or does not answer.

        Raises:
            ScriptRefused: the server answered with an error.
        """
        with self._lock:
            address, sock = self._last or (None, None)
            raw = self._raws.get(address) if address is not None else None
            if address is None or raw is None or sock is None or raw._sock is not sock or self._pid != os.getpid():
                return None
            try:
                return self._ask(address, args, block_s)
            except TRANSIENT:
                return None
            except ResponseError as error:
                raise refusal(error, args) from error

    def _exchange(self, args: tuple[Argument, ...], block_s: float) -> Reply:
        self._renew()
        address = self._route.address(args)
        try:
            return self._ask(address, args, block_s)
        except MovedError as error:
            self._route.moved(error, address)
            raise
        except AskError as error:
            there = self._route.moved(error, address)
            self._ask(there, ("ASKING",), 0.0)
            return self._ask(there, args, block_s)

    def _ask(self, address: Address, args: tuple[Argument, ...], block_s: float) -> Reply:
        raw = self._at(address)
        done = False
        try:
            raw.send_packed_command(packed(raw, args), check_health=False)
            reply = raw.read_response(timeout=block_s + self.timeout_s) if block_s else raw.read_response()
            done = True
            self._last = address, raw._sock
            return reply
        except RedisTimeoutError:
            self._route.silences += 1
            raise
        except (BusyLoadingError, ReadOnlyError, MasterDownError):
            raise
        except ResponseError as error:
            done = True
            if str(error).startswith(MOVING) and not is_refusal(
                str(error)
            ):  # as the server says it of a command with several keys
                raise TryAgainError(f"its slot is being handed over: {error}") from error
            raise
        finally:
            if not done:
                raw.disconnect()

    def open(self, *args: Argument) -> Any:
        """The raw connection, connected, of this process, to where a command goes."""
        self._renew()
        return self._at(self._route.address(args))

    def _renew(self) -> None:
        """New sockets where another connection got no answer: not each is to be found dead by a timeout of its own."""
        if self._silences != self._route.silences:
            self._silences = self._route.silences
            if self._pid == os.getpid():
                for raw in self._raws.values():
                    raw.disconnect()

    def _at(self, address: Address) -> Any:
        self._check_open()
        if self._pid != os.getpid():
            self._raws, self._pid = {}, os.getpid()
            self._route.attend(self)
        raw = self._raws.get(address)
        if raw is None:
            raw = self._raws[address] = self._route.make(address)
        if raw._sock is None:
            self._connect(raw)
        self._check_open()  # closed meanwhile, when there was no socket yet
        return raw

    def _connect(self, raw: Any) -> None:
        try:
            raw.connect()
            self._route.verify(raw)
            self.on_connect()
        except BaseException:
            raw.disconnect()
            raise

    def doubt(self, *, silent: bool = False) -> None:
        """Who used the raw connection failed, or got no answer: look where the data is before the next use."""
        self._route.silences += silent
        self._route.doubt()

    @property
    def news(self) -> threading.Event:
        """Will be set when other servers are in charge."""
        return self._route.news

    def attend(self, user: User) -> None:
        """Tell `user` whenever that may be so."""
        self._route.attend(user)

    @property
    def used(self) -> Collection[Address]:
        """Where it has sockets."""
        return [address for address, raw in list(self._raws.items()) if raw._sock is not None]

    def follow(self, valid: Collection[Address]) -> None:
        """Cut the sockets to other addresses, from any thread: who waits at one is woken, and asks again elsewhere."""
        for address, raw in list(self._raws.items()):
            if address not in valid:
                with contextlib.suppress(OSError, AttributeError):
                    raw._sock.shutdown(socket.SHUT_RDWR)

    def _check_open(self) -> None:
        if self._closed:
            for raw in self._raws.values():
                raw.disconnect()
            raise RedisConnectionError("closed")

    def close(self) -> None:
        """Close the sockets; later calls raise. Repeatable. Wakes a thread that waits in a call."""
        self._closed = True
        self._route.dismiss(self)
        if self._pid == os.getpid():
            for raw in list(self._raws.values()):
                raw.disconnect()


def _give_up(error: Exception) -> None:
    """What no repetition mends. redis-py counts these among the errors of connections."""
    if isinstance(error, AuthenticationError):
        raise StoreUnsuitable(f"The server refuses this user ({error}). Look at the url's user and password.")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise StoreUnsuitable(
            f"The server's certificate is not trusted ({error}). Name who signed it by rediss://...?ssl_ca_certs=PATH."
        )


def refusal(error: ResponseError, args: tuple[Argument, ...]) -> ScriptRefused:
    """`BZCODE field=value ...` as an error with fields."""
    text = f"NOPERM {error}" if isinstance(error, NoPermissionError) else str(error)
    if is_refusal(text):
        return lack(text, args)
    words = text.split()
    if not words or not words[0].startswith("BZ"):
        return ScriptRefused(f"The store refused the call: {text}", code="ERR")
    fields = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    return ScriptRefused(f"The store refused the call: {text}", code=words[0], **fields)
