"""Operations that a worker cannot load are given back with an alarm, and run where they can."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Status, Worker, errors
from blazing_nb.top import Top
from tests.client.test_doctor import drawn
from tests.client.test_option import same
from tests.condition import until

OTHER = (3, 99)


def elsewhere(app: Blazing, folder: Path) -> Any:
    """A step in a module that only those who have the folder can import."""
    (folder / "elsewhere_only.py").write_text("def there(x):\n    return x + 1\n")
    sys.path.insert(0, str(folder))
    try:
        import elsewhere_only  # type: ignore[import-not-found]

        step = app.step(elsewhere_only.there)
        step.code()
    finally:
        sys.path.remove(str(folder))
        del sys.modules["elsewhere_only"]
    return step


def test_w19_a_step_that_a_worker_cannot_import_is_given_back_with_an_alarm_until_another_can(
    app: Blazing, worker_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = elsewhere(app, tmp_path)
    lacking = worker_process(lease=1.0)
    batch = step.map(range(20))
    until(lambda: bool(app.snapshot().alarms))
    assert "cannot load there" in app.snapshot().alarms[0]
    assert repr(app.snapshot()).endswith("1 workers, 1 alarms>")
    assert "cannot load there" in drawn(Top(app))[2]
    given_back = until(lambda: next((op for op in batch.operations() if op.status is Status.RETRYING), None))
    with pytest.raises(errors.OperationTimeout, match=r"gave it back: .*No module named 'elsewhere_only'"):
        given_back.result(0)
    assert "No module named" in str(app.doctor())
    until(lambda: app.snapshot().steps[0].released >= 1)  # it did not claim at first, and tries again after a second
    assert app.step(same).enqueue(2).result(10) == 2  # the worker goes on with the rest
    monkeypatch.syspath_prepend(str(tmp_path))
    worker_process()
    assert batch.results(20) == list(range(1, 21))
    stats = {found.step: found for found in app.snapshot().steps}["there"]
    assert (stats.failed, stats.lost, stats.rescued) == (0, 0, 0)
    assert stats.released >= 1
    assert {batch[i].attempt for i in range(20)} == {1}
    assert lacking.process.poll() is None
    history = next(h for h in (batch[i].history() for i in range(20)) if "released" in set(h["event"]))
    assert "No module named" in "".join(history["error"])


def test_a_worker_asks_for_what_it_cannot_load_less_and_less_often(app: Blazing, url: str, tmp_path: Path) -> None:
    step = elsewhere(app, tmp_path)
    worker = Worker(app.app_id, url=url).start()
    op = step.enqueue(1)
    until(lambda: bool(worker._roster.refused))
    time.sleep(3.5)  # claims at 0, 1 and 3 s: a crash loop would make hundreds
    assert 1 <= app.snapshot().steps[0].released <= 4
    assert op.status is Status.RETRYING
    assert op.cancel() is Status.CANCELLED
    worker.close()


def test_code_that_is_not_the_newest_waits_by_itself_and_keeps_nobody_from_running(
    app: Blazing, url: str, tmp_path: Path
) -> None:
    old = elsewhere(app, tmp_path).map(range(5))
    newest = app.step(lambda x: -x, name="there")
    newest.code()
    worker = Worker(app.app_id, url=url).start()
    until(lambda: all(op.status is Status.RETRYING for op in old.operations()))
    assert not worker._roster.refused
    assert newest.map(range(50)).results(10) == [-x for x in range(50)]
    time.sleep(2)  # at 1 s each is tried again, then not for two more: a crash loop would make hundreds
    assert 5 <= app.snapshot().steps[0].released <= 15
    assert {op.attempt for op in old.operations()} == {0}
    worker.close()


def test_a_mended_step_is_claimed_at_once(app: Blazing, url: str, tmp_path: Path) -> None:
    elsewhere(app, tmp_path).enqueue(1)
    worker = Worker(app.app_id, url=url).start()
    until(lambda: bool(worker._roster.refused))
    assert app.step(lambda x: -x, name="there").enqueue(3).result(10) == -3
    worker.close()


def test_code_of_another_python_goes_to_its_workers_and_to_no_others(
    app: Blazing, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("blazing_nb.client.code.sys.version_info", (*OTHER, 0))
        step = app.step(lambda x: -x, name="cell")
        step.code()
    worker = Worker(app.app_id, url=url, lease=0.6).start()
    batch = step.map(range(30))
    until(lambda: sum(need.operations for need in app.snapshot().needs) == 30)
    [need] = app.snapshot().needs
    assert (need.python, need.step) == ("3.99", "cell")
    assert "30 operations of cell wait for a worker of Python 3.99" in app.snapshot().alarms
    assert "Python 3.99" in str(app.doctor())
    released = app.snapshot().steps[0].released
    assert app.step(lambda x: x, name="here").map(range(10)).results(10) == list(range(10))
    assert app.snapshot().steps[0].released == released == 30  # nobody else claims them again
    assert batch[0].cancel() is Status.CANCELLED
    monkeypatch.setattr("blazing_nb.core.code.PYTHON", "3.99")
    monkeypatch.setattr("blazing_nb.worker.post.PYTHON", "3.99")
    matching = Worker(app.app_id, url=url).start()
    assert [batch[i].result(10) for i in range(1, 30)] == [-i for i in range(1, 30)]
    assert {batch[i].attempt for i in range(1, 30)} == {1}
    assert app.snapshot().needs == []
    worker.close()
    matching.close()
