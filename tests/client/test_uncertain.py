"""What was sent and not answered is said to be uncertain, and is stored once whatever became of it (C1, C9)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb import Batch, Blazing, Worker, errors
from blazing_nb.client import session
from blazing_nb.client.proxy import Proxy
from blazing_nb.store.shards import open_store
from tests.client.test_option import same


@pytest.fixture(scope="module")
def url(single_url: str) -> str:
    """A proxy stands before it."""
    return single_url


@pytest.fixture
def far(proxy: Proxy, app_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blazing]:
    """A client whose patience is short."""
    monkeypatch.setattr(session, "open_store", functools.partial(open_store, deadline_s=0.3))
    with Blazing(app_id, url=f"{proxy.url}?socket_timeout=0.1", node_id="n1") as app:
        yield app


@pytest.mark.parametrize("way", ["requests", "replies"])
def test_an_enqueue_without_an_answer_is_uncertain_and_is_stored_once(
    far: Blazing, proxy: Proxy, url: str, way: str
) -> None:
    """Whether the store has it or not."""
    step = far.step(same)
    step.enqueue("before")
    if way == "requests":
        proxy.half_open()
        proxy.partition()
    else:
        proxy.forget_replies()
    with pytest.raises(errors.OperationUncertain, match="Do not enqueue anew") as caught:
        step.enqueue("uncertain")
    assert isinstance(caught.value, errors.StoreUnavailable)
    with pytest.raises(errors.StoreUnavailable) as again:
        step.enqueue("never sent, since the other is not settled")
    assert not isinstance(again.value, errors.OperationUncertain)
    proxy.heal()
    proxy.cut()
    far.settle()
    far.settle()
    worker = Worker(far.app_id, url=url).start()
    assert far.attach(caught.value.fields["operation"]).result(20) == "uncertain"
    assert far.snapshot().steps[0].enqueued == 2
    worker.close()


def test_a_batch_says_which_of_its_operations_are_certain(far: Blazing, proxy: Proxy, url: str) -> None:
    """A chunk of 64, then one of 256 whose answer is lost."""
    step = far.step(same)
    far.settle()

    def items() -> Iterator[int]:
        for i in range(400):
            if i == 100:
                proxy.forget_replies()
            yield i

    with pytest.raises(errors.OperationUncertain) as caught:
        step.map(items())
    batch = caught.value.fields["batch"]
    assert isinstance(batch, Batch)
    assert (len(batch), len(batch.uncertain)) == (320, 256)
    assert batch.uncertain == batch.ids()[64:]
    assert list(batch.to_frame().status) == ["not finished"] * 64 + ["uncertain"] * 256
    proxy.heal()
    proxy.cut()
    far.settle()
    assert (batch.uncertain, set(batch.to_frame().status)) == ([], {"not finished"})
    worker = Worker(far.app_id, url=url).start()
    assert batch.results(20) == list(range(320))
    assert far.snapshot().steps[0].enqueued == 320
    worker.close()


def test_what_is_refused_when_it_is_settled_ends_with_the_refusal(
    far: Blazing, proxy: Proxy, url: str, app_id: str
) -> None:
    """Nobody waits for the answer any more; who waits for the result hears of it."""
    step = far.step(same)
    step.map(range(3), name="taken")
    proxy.half_open()
    proxy.partition()
    with pytest.raises(errors.OperationUncertain) as caught:
        sender = step._sender
        call = sender.call([sender.prepare((1,), {})], b"", "late")
        Batch.extend(made := Batch(far, [], name="late"), far.writer(), call)
    assert caught.value.fields["batch"] is made
    with Blazing(app_id, url=url, node_id="n2") as other:
        other.step(same).map(range(5), name="late")
    proxy.heal()
    proxy.cut()
    far.settle()
    assert made.uncertain == []
    with pytest.raises(errors.BatchExists):
        made.results(10)


def test_an_interrupted_map_leaves_its_batch_to_be_continued(far: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    step = far.step(same)
    batch = step.map(range(10), name="kept")
    raw = far.store.connection().open()

    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(raw, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batch.extend(far.writer(), step._sender.call([step._sender.prepare((10,), {})], b"", "kept", 10))
    assert [op.counter for op in batch.uncertain] == [11]
    assert len(step.map(range(15), name="kept", resume=True)) == 15
    assert batch.uncertain == []
    assert far.snapshot().steps[0].enqueued == 15
