"""The views on a real app: they open with what was recorded, and offer text, HTML, frames and figures."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, current
from blazing_nb.core import plot
from blazing_nb.core.snapshot import Segment, Snapshot, Step
from blazing_nb.core.snapshot import Worker as WorkerRow
from blazing_nb.errors import UsageError
from blazing_nb.notebook import Dashboard, Latency, SegmentDepths, Throughput, Timeline, Transitions, WorkersView
from blazing_nb.notebook.view import View

KINDS: list[type[View]] = [Throughput, Latency, SegmentDepths, Transitions, WorkersView, Timeline, Dashboard]
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def app(url: str) -> Iterator[Blazing]:
    """An app in which some succeeded, some failed, some were retried, one was cancelled and one was for later."""
    with Blazing("views", url=url, node_id="<b>n") as made, closing(Worker("views", url=url).start()):

        def work(x: int) -> int:
            if x % 10 == 9:
                raise ValueError(EVIL)
            return x

        step = made.step(work, name="work", retries=1, backoff=0.01)
        step.map(range(100)).wait(60)
        step.options(delay=0.01).enqueue(1).result(60)
        step.pause()
        step.enqueue(2).cancel()
        step.resume()
        yield made


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_offers_text_html_frame_and_figure(app: Blazing, kind: Any) -> None:
    view = kind(app)
    for _ in range(3):
        view.update(app.snapshot())
    parser = Tags()
    parser.feed(view._repr_html_())
    assert "script" not in parser.tags
    assert {"svg", "table"} & parser.tags
    assert kind.title in str(view)
    assert EVIL not in view._repr_html_()
    assert len(view.to_frame()) >= 1
    assert view.figure().data


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_can_be_opened_where_nothing_has_happened(url: str, app_id: str, kind: Any) -> None:
    with Blazing(app_id, url=url) as app:
        view = kind(app)
        for _ in range(2):
            view.update(app.snapshot())
        assert kind.title in str(view)
        assert kind.title in view._repr_html_()
        assert len(view.to_frame().columns) > 3
        view.figure()
        assert all(panel.describe()["data"] is not None for panel in view.panels)


def test_throughput_opens_with_what_the_roll_ups_hold(app: Blazing) -> None:
    frame = Throughput(app).to_frame()
    assert len(frame) > 1
    assert frame.succeeded.max() > 0
    assert set(Throughput(app, step="nobody").to_frame().succeeded) == {0.0}


def test_transitions_know_what_came_from_where(app: Blazing) -> None:
    [step] = app.snapshot().steps
    assert (step.scheduled, step.due, step.withdrawn) == (1, 1, 1)
    assert step.retaken == step.retried == 10
    frame = Transitions(app).to_frame()
    assert frame.FAILED.max() > 0


def test_the_timeline_has_every_attempt_and_goes_back_in_time(app: Blazing) -> None:
    view = Timeline(app)
    frame = view.to_frame()
    assert (frame.status == "FAILED").sum() == 10
    assert (frame.status == "RETRYING").sum() == 10
    assert (frame.status == "SUCCEEDED").sum() == 91
    one = frame[frame.status == "FAILED"].iloc[0]
    middle = one.begin_at + (one.end_at - one.begin_at) / 2
    then = view.at(middle.floor("us").to_pydatetime())
    assert (then[then.operation == one.operation].status == "RUNNING").sum() == 1
    assert EVIL in one.error
    for wrong in ("soon", "25:00:00"):
        with pytest.raises(UsageError, match="14:03:07"):
            view.at(wrong)


def test_an_execution_that_its_workers_death_ended_is_in_the_timeline_beside_the_one_that_succeeded(url: str) -> None:
    """Both have the same number of attempt, since a death counts for none."""
    with Blazing("deaths", url=url) as app, closing(Worker("deaths", url=url).start()) as worker:
        operation = app.step(time.sleep, name="nap").enqueue(0.5)
        while operation.attempt == 0:
            time.sleep(0.01)
        app.store.retire(worker.consumer)
        operation.result(30)
        frame = Timeline(app).to_frame()
    assert sorted(frame.status) == ["LOST", "SUCCEEDED"]
    assert set(frame.attempt) == {1}


def test_spans_that_overlap_lie_below_each_other() -> None:
    rows = [("w", 0.0, 10.0, "SUCCEEDED", "a"), ("w", 5.0, 15.0, "LOST", "b"), ("w", 10.0, 20.0, "SUCCEEDED", "c")]
    drawn = plot.spans(rows, title="t", now_ms=20)
    tops = re.findall(r'<path d="M[\d.]+ (\d+)h', drawn)
    assert tops[0] == tops[2] < tops[1]
    many = plot.spans(rows * 100, title="t", now_ms=20)
    assert many.count("<path") == 2  # one for each status
    assert len(many) < 300 * 40


def test_a_worker_says_what_runs_how_far_and_what_failed(app: Blazing) -> None:
    def slow(said: str) -> None:
        current().progress(3, 4, said)
        while not current().cancelled:
            time.sleep(0.01)

    operation = app.step(slow, name="slow").enqueue(EVIL)
    try:
        while not (ongoing := app.snapshot().workers[0].bulletin.ongoing):
            time.sleep(0.05)
        assert ongoing[0].operation == operation.id
        assert ongoing[0].progress == (3, 4, EVIL)
        view = WorkersView(app)
        row = view.to_frame().iloc[0]
        assert row.running == [operation.id]
        assert row.rss_mb > 1
        assert "ValueError" in row.last_failure
        assert operation.id in str(view)
        assert EVIL not in view._repr_html_()
    finally:
        operation.cancel()
        assert operation.wait(30)


class Still:
    """A source whose snapshots the test makes."""

    app_id = "still"

    def __init__(self, *snapshots: Snapshot) -> None:
        self.left = list(snapshots)

    def snapshot(self) -> Snapshot:
        return self.left.pop(0)


def test_skew_and_orphans_are_marked() -> None:
    def at(ms: int) -> Snapshot:
        segments = [
            Segment("f", "n", "a", 500, 0, 0, ms),
            Segment("f", "n", "b", 3, 0, 0, 100),
            Segment("g", "n", "gone", 7, 0, 0, ms),
        ]
        return Snapshot(
            "still", ms, segments, [Step("f", claimed=ms), Step("g")], [WorkerRow("w", "w.1", "", 1, 9, 0, 8, 0)]
        )

    view = SegmentDepths(Still(at(1_000), at(100_000)))
    view.current()
    view.update(view.app.snapshot())
    marks = dict(zip(view.to_frame().node, view.to_frame()["mark"], strict=True))
    assert "skewed" in marks["a"]
    assert "orphaned" not in marks["a"]
    assert "orphaned" in marks["gone"]
    assert marks["b"] == ""
    assert "orphaned" in view._repr_html_()


def test_controls_ask_before_they_take_work_away(app: Blazing) -> None:
    board = Dashboard(app)
    assert "ask" in board.control("pause", "work")
    assert app.snapshot().at_ms
    assert board.control("pause", "work", sure=True)["said"] == "paused 1 of 1 steps"
    held = app["work"].map(range(5))
    assert "5 operations" in board.control("cancel", "work")["ask"]
    assert not held.done()
    assert "5 cancelled" in board.control("cancel", "work", sure=True)["said"]
    assert held.wait(30)
    assert board.control("resume", "work")["said"] == "resumed 1 of 1 steps"
    assert "anew" in board.control("retry", "work")["ask"]
    assert board.control("cancel", "work") == {"verb": "cancel", "value": "work", "said": "nothing to cancel"}
    board.update(app.snapshot())
    assert board._controls.everything()["faults"] == []  # this server is not the embedded one
    with pytest.raises(UsageError, match="embedded server only"):
        board.control("faults", "kill", sure=True)
    for verb, value in (("explode", None), ("pause", "nobody"), ("workers", "many"), ("faults", "fire")):
        with pytest.raises(UsageError):
            board.control(verb, value)


def test_a_view_that_was_closed_before_it_showed_anything_shows_what_is_there(app: Blazing) -> None:
    for kind in (Throughput, Latency, Transitions, WorkersView, Timeline, Dashboard):
        view = kind(app)
        view.close()
        assert "of views" in view._repr_html_()
