"""An old backup of the server restored under a running app: nobody goes on until somebody decides (failures.md R24)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, cli, errors
from blazing_nb.store import window as window_module
from blazing_nb.store.candidate import find_binary
from tests.client.test_node import same
from tests.deployment import HOST, Deployment, ask, free_ports, until


class Backup:
    """A server with a file of that kind, whose state can be kept and brought back."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.servers = Deployment(str(find_binary()))
        (self.port,) = free_ports(1)
        self.servers.launch(self.port, "--appendonly", "yes" if kind == "aof" else "no")
        self.url = f"redis://{HOST}:{self.port}"
        self._folder = self.servers.folder / str(self.port)
        self._kept = self.servers.folder / "backup"

    def keep(self) -> None:
        if self.kind == "rdb":
            ask(self.port, "SAVE")
        shutil.copytree(self._folder, self._kept)

    def restore(self) -> None:
        self.servers.kill(self.port)
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)
        self.servers.start(self.port)


@contextmanager
def backup(kind: str) -> Iterator[Backup]:
    made = Backup(kind)
    try:
        yield made
    finally:
        made.servers.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is confirmed, or old, is so at once."""
    monkeypatch.setattr(window_module, "TICK_S", 0.05)
    monkeypatch.setattr(window_module, "SYNCED_S", 0.1)
    monkeypatch.setattr(window_module, "OLD_S", 0.3)


def refused(enqueue: Callable[[int], Any]) -> None:
    """An idle client notices at its next call."""
    with pytest.raises(errors.StoreRestored, match="restored adopt"):
        enqueue(0)


@pytest.mark.parametrize(("kind", "decision"), [("aof", "adopt"), ("aof", "discard"), ("rdb", "adopt")])
def test_r24_an_old_backup_stops_everybody_until_somebody_decides(
    kind: str, decision: str, app_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        backup(kind) as old,
        Blazing(app_id, url=old.url, node_id="n1") as app,
        Blazing(app_id, url=old.url, node_id="n2") as other,
    ):
        step = app.step(same)
        step.pause()
        before = [step.enqueue(i) for i in range(5)]
        until(lambda: app.redo.kept == 0 or kind == "rdb")
        old.keep()
        step.resume()
        worker = Worker(app_id, url=old.url, threads=1).start()
        assert [operation.result(20) for operation in before] == list(range(5))
        after = step.map(range(30))
        assert after.results(20) == list(range(30))
        if kind == "aof":
            until(lambda: app.redo.kept == 0)
        else:
            time.sleep(3 * window_module.OLD_S)
        assert app.restored is None
        old.restore()
        refused(step.enqueue)
        refused(other.step(same).enqueue)
        assert "misses what was confirmed" in str(app.restored)
        finding = next(finding for finding in app.doctor().findings if finding.subject == "restored")
        assert (finding.state, "adopt | discard" in finding.advice) == ("bad", True)
        assert cli.main(["restored", "--app", app_id, "--url", old.url]) == 0
        step.resume()  # the backup is of when it was paused
        assert "decide" in capsys.readouterr().out
        time.sleep(1.5)
        assert app.snapshot().waiting == 5  # the worker has claimed nothing

        assert cli.main(["restored", decision, "--app", app_id, "--url", old.url]) == 0
        assert decision in capsys.readouterr().out
        assert app.restored is None
        assert step.enqueue("on").result(20) == "on"
        assert other.step(same).enqueue(1).result(20) == 1
        found = {str(status) for status in app.statuses(before)}
        if decision == "adopt":
            until(lambda: {str(status) for status in app.statuses(before)} == {"SUCCEEDED"})
        else:
            assert found == {"None"}
        assert not app.adopt()
        assert app.discard() == 0
        worker.close()


def test_r24_a_failover_that_lost_only_what_was_not_confirmed_stops_nobody(app_id: str) -> None:
    """The server comes back with everything that was confirmed: the redo window sends the rest again."""
    with backup("aof") as server, Blazing(app_id, url=server.url, node_id="n1") as app:
        step = app.step(same)
        step.map(range(10))
        until(lambda: app.redo.kept == 0)
        step.map(range(10))
        server.servers.kill(server.port)
        server.servers.start(server.port)
        step.enqueue("on")
        assert app.restored is None
        assert app.snapshot().waiting == 21


def test_r24_an_app_with_an_outbox_is_refused_too(app_id: str) -> None:
    with backup("aof") as old, Blazing(app_id, url=old.url, node_id="n1", outbox=True) as app:
        step = app.step(same)
        step.map(range(3))
        until(lambda: app.redo.kept == 0)
        old.keep()
        step.map(range(3))
        until(lambda: app.redo.kept == 0)
        old.restore()
        refused(step.enqueue)
        assert app.adopt()
        step.enqueue("on")
        assert app.snapshot().waiting == 4
