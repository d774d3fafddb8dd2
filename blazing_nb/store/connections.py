"""A store's connections: one a thread, so that no call waits behind another thread's, and those of waiting readers."""

from __future__ import annotations

import threading

from blazing_nb.store.connection import Connection
from blazing_nb.store.route import Route


class Connections:
    """Made where they are needed, closed together."""

    def __init__(self, route: Route, timeout_s: float, deadline_s: float) -> None:
        self._route = route
        self.timeout_s, self.deadline_s = timeout_s, deadline_s
        """Of those that are made from now on."""
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._connections)

    def own(self) -> Connection:
        """This thread's."""
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self.make()
        return found

    def make(self) -> Connection:
        """One more; closed at once where they all are."""
        made = Connection(self._route, timeout_s=self.timeout_s, deadline_s=self.deadline_s)
        with self._lock:
            if self._closed:
                made.close()
            self._connections.append(made)
        return made

    def discard(self, connection: Connection) -> None:
        """Close one. Repeatable."""
        connection.close()
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)

    def close(self) -> None:
        """Close every one. Repeatable."""
        with self._lock:
            self._closed = True
            for connection in self._connections:
                connection.close()
            self._connections.clear()
