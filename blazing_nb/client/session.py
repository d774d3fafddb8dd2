"""One process's session with an app's store: the connection, what follows it, and the writers of the process's nodes.

A forked child opens its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from blazing_nb.client.listener import Listener
from blazing_nb.client.listeners import listen
from blazing_nb.client.node import NodeWriter
from blazing_nb.client.outbox import PATIENCE_S, SILENCE_S, Outbox
from blazing_nb.client.setting import AppSetting
from blazing_nb.client.spool import open_spool
from blazing_nb.core.name import check_name
from blazing_nb.core.signature import KeyRing
from blazing_nb.errors import StoreUnavailable
from blazing_nb.store.durability import MEMORY
from blazing_nb.store.process import unique_name
from blazing_nb.store.redo import Redo
from blazing_nb.store.shards import assume_store, open_store
from blazing_nb.store.store import Store

_numbers = iter(range(1, 1 << 62))


class Session:
    """Opened by `open_session`, closed once."""

    def __init__(self, app_id: str, store: Store, listener: Listener, redo: Redo, outbox: Outbox | None) -> None:
        self._app_id = app_id
        self.store, self.listener, self.redo, self.outbox = store, listener, redo, outbox
        self.number = next(_numbers)
        """No other session of any app of this process has it."""
        self.pid = os.getpid()
        self._writers: dict[str, NodeWriter] = {}
        self._unique = ""
        self._lock = threading.Lock()

    def writer(self, node_id: str | None, ring: KeyRing) -> NodeWriter:
        """The writer of the node of that name; without one, of a name that is unique, and the same from then on."""
        with self._lock:
            name = node_id or self._unique
            if not name:
                name = self._unique = unique_name()
            writer = self._writers.get(name)
            if writer is None:
                writer = self._writers[name] = self._make_writer(check_name(name, "NODE_ID"), ring)
        return writer

    def _make_writer(self, name: str, ring: KeyRing) -> NodeWriter:
        if self.outbox is not None:
            return self.outbox.writer(name)
        return NodeWriter(name, self._app_id, self.store, ring, self.listener, self.redo)

    def settle(self) -> None:
        """Send what interrupted calls left."""
        for writer in list(self._writers.values()):
            writer.settle()

    def close(self) -> None:
        """Stop following and disconnect."""
        _close(self.outbox, self.listener, self.redo, self.store)


def open_session(app_id: str, setting: AppSetting, ring: Callable[[], KeyRing]) -> Session:
    """Raises `StoreUnavailable`, `StoreUnsuitable`, `ServerNotFound`, `ServerFailed`. With an outbox the store may be
    away."""
    return _reach(app_id, setting) if setting.outbox is False else _spooled(app_id, setting, ring())


def _reach(app_id: str, setting: AppSetting) -> Session:
    store = open_store(app_id, setting.address(), shards=setting.shards)
    try:
        store.check()
        store.prepare(setting.durability)
        listener = listen(store)
    except BaseException:
        store.close()
        raise
    redo = Redo(store, active=setting.redo, on_back=listener.restart)
    return Session(app_id, store, listener, redo, None)


def _spooled(app_id: str, setting: AppSetting, ring: KeyRing) -> Session:
    store = _assumed(app_id, setting)
    listener = outbox = redo = None
    try:
        spool = open_spool(setting.outbox, app_id, durable=setting.durability != MEMORY)
        listener = listen(store)
        redo = Redo(store, active=setting.redo, on_back=listener.restart)
        outbox = Outbox(spool, store, listener, ring, redo, setting.outbox_cap)
        outbox.check()
        return Session(app_id, store, listener, redo, outbox)
    except BaseException:
        _close(outbox, listener, redo, store)
        raise


def _assumed(app_id: str, setting: AppSetting) -> Store:
    """With as many shards as is said, or as the app has where its store answers within a second."""
    url = setting.address()
    count = setting.shards
    if count is None:
        asked = Store(app_id, url, timeout_s=SILENCE_S, deadline_s=PATIENCE_S)
        try:
            count = asked.created_with(None)
        except StoreUnavailable:
            count = 1
        finally:
            asked.close()
    return assume_store(app_id, url, count)


def _close(outbox: Outbox | None, listener: Listener | None, redo: Redo | None, store: Store) -> None:
    if outbox is not None:
        outbox.close()
    if redo is not None:
        redo.close()
    if listener is not None:
        listener.close()
    store.close()
    if redo is not None:
        redo.join()
