"""Claims whose replies were lost are asked for again for a while: a request that was given up may be executed late."""

from __future__ import annotations

from blazing_nb import Blazing, Worker
from blazing_nb.worker.recovery import Recovery
from tests.client.test_option import same
from tests.condition import until


def test_it_is_due_at_once_and_then_less_and_less_often() -> None:
    now = [0.0]
    recovery = Recovery(lambda: now[0])
    assert not recovery.due
    recovery.begin()
    asked = []
    while now[0] < 1000:
        if recovery.due:
            asked.append(now[0])
            recovery.asked()
        now[0] += 0.5
    assert asked == [0, 1, 3, 7, 15, 31, 63, 127, 255]
    recovery.begin()
    assert recovery.due


def test_a_claim_that_was_executed_late_is_taken_up(url: str, app_id: str) -> None:
    """As by a turn that was given up in a partition and arrived after all; the lease goes on, nobody rescues it."""
    with Blazing(app_id, url=url) as app:
        worker = Worker(app_id, url=url, lease=60).start()
        step = app.step(same)
        assert step.enqueue(1).result(10) == 1
        app.store.pause("same", True)
        operation = step.enqueue(2)
        [post] = worker._posts
        post.recovery.begin()
        post.recovery.asked()  # a call was repeated, and what it did not know of was asked for
        app.store.pause("same", False)
        until(lambda: _claim_late(app, post.consumer) or operation.done())
        assert operation.result(20) == 2
        worker.close()


def _claim_late(app: Blazing, consumer: str) -> bool:
    incarnation = int(consumer.rpartition(".")[2])
    return bool(app.store.turn(consumer, incarnation, [], [], [(5, ["same"])]).claims)
