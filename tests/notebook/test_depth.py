"""The view of segment depths without a browser: text, HTML, frames, figures, the pump."""

from __future__ import annotations

import threading
from html.parser import HTMLParser

import pytest

from blazing_nb.core.board import bars, grid
from blazing_nb.core.snapshot import Segment, Snapshot, Step, Worker
from blazing_nb.errors import StoreUnavailable, UsageError
from blazing_nb.notebook import SegmentDepths
from blazing_nb.notebook.pump import Pump

EVIL = "<script>alert(1)</script>"


class Source:
    """An app whose snapshots the test makes."""

    app_id = EVIL

    def __init__(self) -> None:
        self.asked = 0
        self.changed = threading.Condition()
        self.broken = False

    def snapshot(self) -> Snapshot:
        with self.changed:
            self.asked += 1
            self.changed.notify_all()
        if self.broken:
            raise StoreUnavailable("away")
        segments = [Segment(EVIL, "n", "node\x1b[31m", 100 - self.asked, 1, 2, 5), Segment("f", "h", "b", 0, 0, 0)]
        return Snapshot(
            EVIL,
            1000 * self.asked,
            segments,
            [Step("f", succeeded=self.asked)],
            [Worker("w", "w.1", "", 1, 9, 0, 8, 0)],
        )

    def wait_asked(self, n: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.asked >= n, 10)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or "javascript:" in (value or "") for name, value in attrs)


def test_the_frozen_form_is_script_free_and_escapes_what_users_wrote() -> None:
    view = SegmentDepths(Source())
    for _ in range(3):
        view.update(view.app.snapshot())
    parser = Tags()
    parser.feed(view._repr_html_())
    assert {"svg", "polygon", "table"} <= parser.tags
    assert "script" not in parser.tags
    assert "&lt;script&gt;" in view._repr_html_()


def test_the_text_form_shows_counts_and_no_control_characters() -> None:
    shown = str(SegmentDepths(Source()))
    assert "99 / 1 / 2" in shown
    assert "\x1b" not in shown


def test_a_view_offers_text_html_frame_and_figure() -> None:
    view = SegmentDepths(Source())
    assert "not shown" in repr(view)
    assert "waiting" in str(view)
    assert "<svg" not in view._repr_html_()
    view.update(view.app.snapshot())
    assert "<svg" in view._repr_html_()
    assert view.to_frame().waiting.tolist() == [98, 0]
    figure = view.figure()
    assert [bar.name for bar in figure.data] == ["waiting", "parked", "claimed"] * 2
    assert list(figure.data[0].x) == [98, 0]


def test_a_closed_view_cannot_be_shown_again() -> None:
    view = SegmentDepths(Source())
    view.close()
    view.close()
    with pytest.raises(UsageError, match="closed"):
        view.show()


def test_the_pump_asks_once_for_all_views_of_an_app_and_ends_with_the_last() -> None:
    source, pump = Source(), Pump(period_s=0.01)
    views = [SegmentDepths(source, feed=pump) for _ in range(3)]
    for view in views:
        pump.add(view)
    assert source.wait_asked(20)
    thread = pump._thread
    for view in views:
        pump.remove(view)
    assert thread is not None
    thread.join(10)
    assert not pump.running
    # Three views, one question a turn: each view saw about as many states as were asked.
    assert max(view._seq for view in views) >= source.asked - 5


def test_the_pump_survives_a_store_that_is_away() -> None:
    source, pump = Source(), Pump(period_s=0.01)
    source.broken = True
    view = SegmentDepths(source, feed=pump)
    pump.add(view)
    assert source.wait_asked(3)
    source.broken = False
    assert source.wait_asked(source.asked + 3)
    thread = pump._thread
    pump.remove(view)
    assert thread is not None
    thread.join(10)
    assert view._seq > 0


def test_watch_moves_in_the_foreground(capsys: pytest.CaptureFixture[str]) -> None:
    SegmentDepths(Source()).watch(timeout=0.3)
    assert "waiting" in capsys.readouterr().out


def test_a_long_name_is_cut_in_its_column_and_whole_in_its_title() -> None:
    long = "a-step-with-quite-a-long-name · a-node-with-a-rather-long-name.example"
    drawn = bars([(long, (7, 0, 1), "", "")], [("waiting", "pending"), ("parked", "retrying"), ("claimed", "claimed")])
    assert "table-layout:fixed" in drawn and "text-overflow:ellipsis" in drawn
    assert f'title="{long}"' in drawn
    assert f'title="{long}">{long}</th>' in grid([long], ["node"], {(long, "node"): (8, "")})


def test_a_view_of_nothing_says_how_to_begin() -> None:
    assert "no operations yet: step.enqueue(...)" in bars([], [("waiting", "pending")])
