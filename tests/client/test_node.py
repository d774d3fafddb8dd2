"""Nodes: who writes where, and calls that were interrupted or fenced (failures.md C1, C5, C6, C8, C9)."""

from __future__ import annotations

from typing import Any

import pytest

from blazing_nb import Blazing, Worker, errors
from blazing_nb.core.dot import OperationId


def same(x: Any) -> Any:
    return x


def test_node_id_is_read_at_each_enqueue(url: str, app_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Blazing(app_id, url=url) as app:
        step = app.step(same)
        for node in ("one", "two", "three", "one"):
            monkeypatch.setenv("NODE_ID", node)
            step.enqueue(1)
        depths = {segment.node: segment.waiting for segment in app.snapshot().segments}
        assert depths == {"one": 2, "two": 1, "three": 1}
        monkeypatch.setenv("NODE_ID", "bad:name")
        with pytest.raises(errors.InvalidName, match="NODE_ID"):
            step.enqueue(1)
        monkeypatch.delenv("NODE_ID")
        step.enqueue(1)
        assert len(app.snapshot().segments) == 4


def test_nodes_without_a_name_get_unique_ones(url: str, app_id: str) -> None:
    apps = [Blazing(app_id, url=url).connect() for _ in range(3)]
    for app in apps:
        app.step(same).enqueue(1)
    assert len(apps[0].snapshot().segments) == 3
    for app in apps:
        app.close()


def test_an_interrupted_enqueue_is_settled_before_the_next_and_stored_once(
    app: Blazing, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = app.step(same)
    step.enqueue("first")
    raw = app.store.connection().open()
    with monkeypatch.context() as patch:

        def interrupted(*args: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(raw, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step.enqueue("interrupted")
    last = step.enqueue("last")
    assert last.op.counter == 3
    worker = Worker(app.app_id, url=url).start()
    op = last.op
    values = [app.attach(OperationId(op.step, op.prio, op.node, op.incarnation, c).text).result(10) for c in (1, 2, 3)]
    assert values == ["first", "interrupted", "last"]
    assert app.snapshot().steps[0].enqueued == 3
    worker.close()


def test_a_lost_enqueue_reply_is_repeated_and_stored_once(app: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    step = app.step(same)
    step.enqueue(0)
    raw = app.store.connection().open()
    original, cut = raw.read_response, iter([True])

    def lossy(*args: Any, **options: Any) -> Any:
        answer = original(*args, **options)
        if next(cut, False):
            raise ConnectionResetError("the reply was lost")
        return answer

    monkeypatch.setattr(raw, "read_response", lossy)
    step.map(range(40))
    assert app.snapshot().waiting == 41
    assert app.store.connection().retries == 1


def test_a_shared_node_id_warns_and_loses_nothing(app: Blazing, url: str) -> None:
    with Blazing(app.app_id, url=url, node_id="n1") as twin:
        mine, theirs = app.step(same), twin.step(same)
        mine.enqueue(1)
        theirs.enqueue(2)
        with pytest.warns(RuntimeWarning, match="used by another process"):
            third = mine.enqueue(3)
        with pytest.warns(RuntimeWarning, match="used by another process"):
            fourth = theirs.enqueue(("signed", 4))
        worker = Worker(app.app_id, url=url).start()
        assert (third.result(10), fourth.result(10)) == (3, ("signed", 4))
        stats = app.snapshot().steps[0]
        assert (stats.enqueued, stats.failed) == (4, 0)
        worker.close()


def test_a_restarted_node_is_drained_beside_the_new_one(url: str, app_id: str) -> None:
    for value in (1, 2):
        with Blazing(app_id, url=url, node_id="n1") as app:
            app.step(same).enqueue(value)
    with Blazing(app_id, url=url) as app:
        [segment] = app.snapshot().segments
        assert (segment.node, segment.waiting) == ("n1", 2)


def test_a_full_segment_refuses_or_waits_as_asked(url: str, app_id: str) -> None:
    with Blazing(app_id, url=url, node_id="n1", segment_cap=100) as app:
        step = app.step(same)
        with pytest.raises(errors.SegmentFull) as caught:
            step.map(range(500))
        assert (caught.value.depth, caught.value.cap) == (64, 100)
        step.enqueue(1)
        assert app.snapshot().waiting == 65
        with pytest.raises(errors.SegmentFull):
            step.options(block=0.05).map(range(64))
        worker = Worker(app_id, url=url).start()
        assert step.options(block=20).map(range(64)).results(10) == list(range(64))
        assert step.options(block=20).enqueue(7).result(10) == 7
        worker.close()
    with pytest.raises(errors.UsageError):
        Blazing(app_id, segment_cap=-1)
