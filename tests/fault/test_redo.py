"""The redo window: what was acknowledged comes back where the store went back (failures.md R6, R8, R23)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from blazing_nb import Blazing, Worker, errors
from blazing_nb.core.shard import shard_of
from blazing_nb.store import redo as redo_module
from blazing_nb.store import window as window_module
from blazing_nb.store.candidate import find_binary
from tests.client.test_node import same
from tests.condition import until
from tests.deployment import HOST, Deployment, ask, free_ports
from tests.fault.failover import MODES, again, is_good, summary, trial


@pytest.fixture
def own() -> Iterator[tuple[str, int, Deployment]]:
    """A server of the test's own, which keeps nothing: its url, its port."""
    servers = Deployment(str(find_binary()))
    try:
        (port,) = free_ports(1)
        servers.launch(port, "--appendonly", "no")
        yield f"redis://{HOST}:{port}", port, servers
    finally:
        servers.close()


@pytest.mark.slow
@pytest.mark.parametrize("split_s", [0.0, 0.3])
def test_r6_r8_a_failover_after_a_cut_link_loses_nothing_that_was_promised(split_s: float) -> None:
    found = summary([trial(0.4, split_s=split_s)])
    assert is_good(found), found
    assert all(found[mode]["acknowledged"] for mode in MODES)
    assert found["memory"]["lost"] == found["memory"]["reported lost"] > 0


@pytest.mark.slow
def test_r6_what_workers_had_finished_before_a_failover_is_not_executed_again() -> None:
    """One worker, which cannot be overtaken: `python -m tests.fault.failover --again` has two."""
    found = again(redo=True, workers=1)
    assert (found.finished, found.executed_again) == (400, 0)
    assert again(redo=False, workers=1).executed_again == 400


def test_r23_a_database_that_was_emptied_is_said_and_filled_again(
    own: tuple[str, int, Deployment], app_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, port, _ = own
    with Blazing(app_id, url=url, node_id="n1") as app:
        step = app.step(same)
        first = step.enqueue({"signed", "set"})
        batch = step.map(range(500), name="named")
        late = step.options(delay=0.2).enqueue("late")
        waits = step.enqueue(first)
        until(lambda: app.redo._windows[0].identity is not None)
        assert app.redo.kept == 503
        ask(port, "FLUSHALL")
        until(lambda: app.redo.rollbacks)  # nobody enqueues
        [rollback] = app.redo.rollbacks
        assert (rollback.restored, rollback.beyond) == (503, 0)
        assert "emptied" in caplog.text
        assert any("went back" in alarm for alarm in app.snapshot().alarms)
        assert "went back" in app.redo._repr_html_()
        worker = Worker(app_id, url=url).start()
        assert batch.results(30) == list(range(500))
        assert (first.result(10), late.result(10), waits.result(10)) == ({"signed", "set"}, "late", {"signed", "set"})
        assert app.attach("named").results(10) == list(range(500))
        assert app.snapshot().steps[0].succeeded == 503
        assert step.enqueue("after").result(10) == "after"
        worker.close()


def test_r23_an_app_of_several_shards_is_filled_again_shard_by_shard(
    own: tuple[str, int, Deployment], app_id: str
) -> None:
    url, port, _ = own
    nodes = [next(f"n{i}" for i in range(99) if shard_of(f"n{i}", 3) == shard) for shard in range(3)]
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(Blazing(app_id, url=url, node_id=node, shards=3)) for node in nodes]
        worker = Worker(app_id, url=url, threads=2).start()
        stack.callback(worker.close)
        done = [app.step(same).map(range(40)) for app in apps]
        assert [batch.results(20) for batch in done] == [list(range(40))] * 3
        assert worker.wait_for_completion(20)
        app = apps[0]
        app.step(same).pause()
        waiting = [app.step(same).enqueue(i) for app in apps for i in range(10)]
        until(lambda: all(window.identity for each in apps for window in each.redo._windows if window.operations))
        ask(port, "FLUSHALL")  # the pause is gone, too
        until(lambda: all(each.redo.rollbacks for each in apps))
        assert [operation.result(30) for operation in waiting] == [i for _ in apps for i in range(10)]
        assert [each.redo.rollbacks[0].restored for each in apps] == [50, 50, 50]
        assert worker.restored == 120  # and were not executed again
        ids = [op.text for batch in done for op in batch.ids()]
        assert {str(status) for status in app.statuses(ids)} == {"SUCCEEDED"}
        assert worker.done == 150
        with Blazing(app_id, url=url) as later:
            assert later.store.count == 3


def test_r23_the_next_enqueue_notices_that_the_store_went_back_and_what_was_before_goes_first(
    own: tuple[str, int, Deployment], app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "TICK_S", 60.0)
    url, port, servers = own
    with Blazing(app_id, url=url, node_id="n1") as app:
        step = app.step(same)
        before = [step.enqueue(i) for i in range(10)]
        servers.kill(port)
        servers.start(port)  # it kept nothing
        after = step.enqueue(10)
        assert app.redo.rollbacks[0].restored == 10
        worker = Worker(app_id, url=url, threads=1).start()
        assert [op.result(30) for op in (*before, after)] == list(range(11))
        assert app.snapshot().steps[0].enqueued == 11
        worker.close()


def test_without_the_window_what_was_lost_is_counted(own: tuple[str, int, Deployment], app_id: str) -> None:
    url, port, _ = own
    with Blazing(app_id, url=url, node_id="n1", redo=False) as app:
        step = app.step(same)
        step.map(range(64))
        assert app.redo.kept == 0
        ask(port, "FLUSHALL")
        step.code()
        step.enqueue("after")
        assert app.redo.rollbacks[0].beyond == 64
        assert app.snapshot().waiting == 1
    with pytest.raises(errors.UsageError):
        Blazing(app_id, url=url, redo="yes")  # type: ignore[arg-type]


def test_the_window_is_bounded_and_says_what_was_beyond(
    own: tuple[str, int, Deployment], app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redo_module, "KEPT_OPERATIONS", 100)
    monkeypatch.setattr(window_module, "TICK_S", 60.0)
    url, port, _ = own
    with Blazing(app_id, url=url, node_id="n1") as app:
        step = app.step(same)
        for i in range(150):
            step.enqueue(i)
        assert app.redo.kept == 100
        ask(port, "FLUSHALL")
        step.enqueue("after")
        assert (app.redo.rollbacks[0].restored, app.redo.rollbacks[0].beyond) == (100, 50)


@pytest.mark.parametrize("how", ["replica", "file"])
def test_what_a_replica_or_a_file_has_is_kept_no_longer(how: str, app_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "SYNCED_S", 0.1)
    servers = Deployment(str(find_binary()))
    try:
        port, replica = free_ports(2)
        servers.launch(port, "--appendonly", "yes" if how == "file" else "no", "--repl-diskless-sync-delay", 0)
        if how == "replica":
            servers.launch(replica, "--replicaof", f"{HOST} {port}")
            until(lambda: b"state=online" in ask(port, "INFO", "replication"))
        with Blazing(app_id, url=f"redis://{HOST}:{port}") as app:
            app.step(same).map(range(100))
            until(lambda: app.redo.kept == 0)
            assert app.redo.window == 0.0
            if how == "replica":
                servers.pause(replica)
                app.step(same).map(range(100))
                time.sleep(3 * window_module.TICK_S)
                assert app.redo.kept == 100
                servers.proceed(replica)
                until(lambda: app.redo.kept == 0)
            assert app.redo.rollbacks == []
    finally:
        servers.close()
