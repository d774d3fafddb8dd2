"""The outbox: what is enqueued while the store is away is kept on this machine and sent in order, once."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status, Worker, errors
from blazing_nb.client.spool import MERGED, Spool, peek
from blazing_nb.core.shard import shard_of, shard_of_key
from blazing_nb.notebook.dashboard import Dashboard
from blazing_nb.store.candidate import find_binary
from blazing_nb.store.request import Chunk
from tests.client.test_node import same
from tests.conftest import Child


class Away:
    """A server of the test's own that comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = folder / "s"
        self.url = f"unix://{self._socket}"
        self._child: Child | None = None

    def come(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", ""]
        self._child = Child([str(find_binary()), *options])
        self._child.wait_for_line(lambda line: "ready to accept connections" in line.lower())

    def go(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


@pytest.fixture
def away(short_dir: Path, app_id: str) -> Iterator[Away]:
    folder = short_dir / f"o{app_id}"
    folder.mkdir()
    made = Away(folder)
    yield made
    made.go()


KERNEL = """
import sys, time
from blazing_nb import Blazing
from tests.client.test_outbox import record
url, app_id, outbox, log = sys.argv[1:]
with Blazing(app_id, url=url, outbox=outbox) as app:
    step = app.step(record)
    ids = [step.enqueue(log, i).id for i in range(20)]
    batch = step.starmap(((log, i) for i in range(20, 1000)))
    ids += [op.text for op in batch.ids()]
    print("\\n".join(ids), flush=True)
    print("accepted", app.outbox.depth, flush=True)
    time.sleep(60)
"""


def record(path: str, i: int) -> int:
    with open(path, "a") as file:
        file.write(f"{i}\n")
    return i


def test_what_a_killed_kernel_accepted_without_a_server_runs_once_and_in_order(
    away: Away, app_id: str, tmp_path: Path
) -> None:
    outbox, log = str(tmp_path / "box"), str(tmp_path / "log")
    kernel = Child([sys.executable, "-c", KERNEL, away.url, app_id, outbox, log])
    kernel.wait_for_line(lambda line: line.startswith("accepted 1000"), 60)
    ids = [line.strip() for line in kernel.lines if line.startswith("record:")]
    kernel.send(signal.SIGKILL)
    kernel.wait()
    kernel.kill()
    assert len(set(ids)) == 1000
    with Blazing(app_id, url=away.url, outbox=outbox) as app:
        assert app.outbox is not None
        assert app.outbox.depth == 1000
        assert app.outbox.age > 0
        later = app.step(record).enqueue(log, 1000)
        assert later.status is Status.PENDING
        away.come()
        assert app.outbox.wait(30)
        assert app.outbox.depth == 0
        assert app.snapshot().waiting == 1001
        worker = Worker(app_id, url=away.url, threads=1).start()
        found = [app.attach(name) for name in ids]
        assert [op.result(30) for op in found] == list(range(1000))
        assert later.result(10) == 1000
        worker.close()
        order = [int(line) for line in Path(log).read_text().split()]
        assert order[:1000] == list(range(1000))
        assert sorted(order) == list(range(1001))
        direct = app.step(same).enqueue("direct")
        assert direct.op.node != found[0].op.node


def test_a_server_that_goes_and_comes_back_gets_everything_once_in_order(away: Away, app_id: str) -> None:
    away.come()
    with Blazing(app_id, url=away.url, outbox=True, node_id="n1") as app:
        step = app.step(same)
        handles = [step.enqueue(i) for i in range(5)]
        assert not app.outbox.away
        away.go()
        handles += [step.enqueue(i) for i in range(5, 15)]
        assert app.outbox.away
        assert "out of reach" in repr(app.outbox)
        assert app.outbox.depth == 10
        batch = step.map(range(100), name="kept")
        with pytest.raises(errors.BatchExists):
            step.map(range(3), name="kept")
        with pytest.raises(errors.StoreUnavailable):
            step.map(range(3), name="kept", resume=True)
        snapshot = app.snapshot()
        assert snapshot.outboxes[0].operations == 110
        assert any("out of reach" in alarm for alarm in snapshot.alarms)
        dashboard = Dashboard(app)
        dashboard.update(snapshot)
        assert "110 in the outbox" in dashboard.summary(snapshot)
        assert "out of reach" in str(dashboard)
        assert "110 in the outbox" in snapshot._repr_html_()
        away.come()
        worker = Worker(app_id, url=away.url).start()
        assert [handle.result(30) for handle in handles] == list(range(15))
        assert batch.results(30) == list(range(100))
        assert app.outbox.wait(10)
        assert app.attach("kept").results(10) == list(range(100))
        assert app.snapshot().steps[0].enqueued == 115
        again = step.enqueue("direct")
        assert (again.op.node, again.result(10)) == ("n1", "direct")
        worker.close()


def test_an_enqueue_whose_reply_is_lost_goes_first_and_is_stored_once(
    away: Away, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away.come()
    with Blazing(app_id, url=away.url, outbox=True, node_id="n1") as app:
        step = app.step(same)
        step.enqueue(0)
        quick = app.outbox._quick
        original = quick.enqueue

        def lossy(chunk: Any) -> Any:
            original(chunk)
            raise errors.StoreUnavailable("the reply was lost")

        with monkeypatch.context() as patch:
            patch.setattr(quick, "enqueue", lossy)
            first = step.enqueue(1)
            second = step.enqueue(2)
        assert first.op.node == "n1"
        assert app.outbox.wait(20)
        worker = Worker(app_id, url=away.url).start()
        assert (first.result(10), second.result(10)) == (1, 2)
        assert app.snapshot().steps[0].enqueued == 3
        worker.close()


def test_dependencies_delays_and_signed_values_wait_in_the_outbox_too(away: Away, app_id: str) -> None:
    with Blazing(app_id, url=away.url, outbox=True) as app:
        step = app.step(lambda x: x, name="lambda")
        first = step.enqueue({1, 2, 3})  # a set is pickled, under a signature that names the operation
        second = step.enqueue(first)
        late = step.options(delay=0.1).enqueue("late")
        gone = step.options(expires=0.001).enqueue("gone")
        total = app.step(sum, name="total").enqueue(step.map(range(200)))
        with pytest.raises(errors.StoreUnavailable):
            step.options(key="k").enqueue(1)
        away.come()
        worker = Worker(app_id, url=away.url).start()
        assert (first.result(30), second.result(30), late.result(30)) == ({1, 2, 3}, {1, 2, 3}, "late")
        assert total.result(30) == 19900
        with pytest.raises(errors.OperationExpired):
            gone.result(30)
        worker.close()


def test_what_the_store_refuses_is_put_aside_and_said(away: Away, app_id: str) -> None:
    away.come()
    with Blazing(app_id, url=away.url, outbox=True) as app:
        step = app.step(same)
        step.map(range(64), name="taken")
        away.go()
        refused = step.map(range(200), name="taken")  # in three calls, the second of which would fit behind the first
        fine = step.enqueue("fine")
        away.come()
        with pytest.raises(errors.BatchExists):
            refused.results(30)
        assert app.outbox.wait(20)
        assert app.outbox.state().refused == 200
        assert sum(row.operations for row in app.outbox.refused()) == 200
        assert "taken" in app.outbox._repr_html_()
        assert any("refused 200" in alarm for alarm in app.snapshot().alarms)
        worker = Worker(app_id, url=away.url).start()
        assert fine.result(10) == "fine"
        worker.close()
        assert len(app.attach("taken")) == 64
        assert (app.outbox.dismiss(), app.outbox.dismiss()) == (200, 0)


def test_a_full_outbox_refuses_and_keeps_what_it_has(away: Away, app_id: str) -> None:
    with Blazing(app_id, url=away.url, outbox=True, outbox_cap=100) as app:
        step = app.step(same)
        with pytest.raises(errors.OutboxFull) as caught:
            step.map(range(500))
        assert (caught.value.operations, caught.value.cap) == (64, 100)
        for _ in range(36):
            step.enqueue(1)
        with pytest.raises(errors.OutboxFull):
            step.enqueue(1)
        assert app.outbox.depth == 100
        away.come()
        assert app.outbox.wait(20)
        assert app.snapshot().waiting == 100


def test_a_bad_path_is_refused_before_anything_is_sent(url: str, app_id: str, tmp_path: Path) -> None:
    for bad in ("", 3, None):
        with pytest.raises(errors.UsageError):
            Blazing(app_id, url=url, outbox=bad)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        Blazing(app_id, url=url, outbox_cap=-1)
    (tmp_path / "text").write_text("no database, but long enough to be looked at" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    Spool(tmp_path / "foreign", "another").close()
    for bad in ("missing/box", "text", "link", "foreign", "."):
        with pytest.raises(errors.OutboxUnusable):
            Blazing(app_id, url=url, outbox=tmp_path / bad).connect()
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "text").read_text().startswith("no database")


def test_an_outbox_is_private_and_of_one_process_at_a_time(url: str, app_id: str, tmp_path: Path) -> None:
    path = tmp_path / "box"
    with Blazing(app_id, url=url, outbox=path) as app:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(errors.OutboxUnusable, match="Another process") as caught:
            Blazing(app_id, url=url, outbox=path).connect()
        assert caught.value.path == str(path)
        text = f"from blazing_nb import Blazing; Blazing({app_id!r}, url={url!r}, outbox={str(path)!r}).connect()"
        other = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert "Another process" in other.stderr
        assert app.step(same).enqueue(1).id
    with Blazing(app_id, url=url, outbox=path) as app:
        assert app.outbox.path == path


def test_what_a_dead_kernel_left_is_taken_up_by_the_next_and_seen_by_the_command(
    away: Away, app_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Blazing(app_id, url=away.url, outbox=True)
    second = Blazing(app_id, url=away.url, outbox=True)
    for app in (first, second):
        app.step(same).enqueue(1)
    assert first.outbox.path != second.outbox.path
    second.close()
    first.close()
    assert [state.operations for state in peek(app_id)] == [1, 1]
    from blazing_nb.cli import main

    away.come()
    assert main(["status", "--app", app_id, "--url", away.url]) == 0
    assert capsys.readouterr().out.count("1 in the outbox") == 2
    with Blazing(app_id, url=away.url, outbox=True) as app, Blazing(app_id, url=away.url, outbox=True) as beside:
        assert app.outbox.wait(20)
        assert beside.outbox.wait(20)
        assert app.snapshot().waiting == 2
    assert peek(app_id) == ()


def test_the_same_calls_are_merged_and_a_repetition_is_the_same_call(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "box", "a")

    def add(first: int, n: int = 1, **options: Any) -> None:
        spool.add(Chunk("f", "n", spool.node, spool.incarnation, first, [b"p"] * n, **options))

    for first in (1, 2, 3):
        add(first)
    add(4, batch="b")
    add(5, delay_ms=10)
    add(9)
    add(10, n=MERGED)
    parcel = spool.head()
    assert parcel is not None
    assert (parcel.chunk.first, len(parcel.chunk.payloads)) == (1, 3)
    spool.close()
    spool = Spool(tmp_path / "box", "a")  # killed before it knew of the reply
    assert spool.head() == parcel
    sizes = []
    while (parcel := spool.head()) is not None:
        sizes.append((parcel.chunk.first, len(parcel.chunk.payloads)))
        spool.sent(parcel)
        add(1) if len(sizes) == 1 else None
    assert sizes == [(1, 3), (4, 1), (5, 1), (9, 1), (10, MERGED), (1, 1)]
    assert spool.depth == 0
    spool.close()


def test_an_app_of_several_shards_accepts_without_a_server_and_each_shard_gets_its_own(
    away: Away, app_id: str, tmp_path: Path
) -> None:
    nodes = [next(f"n{i}" for i in range(99) if shard_of(f"n{i}", 3) == shard) for shard in range(3)]
    with Blazing(app_id, url=away.url, outbox=str(tmp_path / "box"), shards=3, node_id=nodes[1]) as app:
        step = app.step(same)
        batch = step.map(range(20))
        named = step.map(range(5), name="b")
        assert app.outbox is not None
        assert app.outbox.depth == 25
        away.come()
        assert app.outbox.wait(30)
        keyed = [step.options(key=f"k{i}").enqueue(i) for i in range(6)]
        own = [step.map([node], node_id=node) for node in nodes]
        assert app.redo.kept == 34
        worker = Worker(app_id, url=away.url, threads=1).start()
        assert batch.results(30) == list(range(20))
        assert (named.results(20), app.attach("b").results(20)) == (list(range(5)), list(range(5)))
        assert [handle.result(20) for handle in keyed] == list(range(6))
        assert [handle.results(20) for handle in own] == [[node] for node in nodes]
        assert len({shard_of_key("same", f"k{i}", 3) for i in range(6)}) > 1
        assert {shard.snapshot().steps[0].enqueued > 0 for shard in app.store.shards} == {True}
        worker.close()
    with Blazing(app_id, url=away.url, outbox=str(tmp_path / "other")) as found:
        assert found.store.count == 3  # it was asked
    with pytest.raises(errors.ShardsFixed, match="has 3 shards"):
        Blazing(app_id, url=away.url, outbox=str(tmp_path / "third"), shards=2).connect()
