"""What an object shows of itself: one line, or markup that no name of others can break out of; it asks nobody."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, gather
from blazing_nb.client.doctor import BAD, DOUBT, GOOD, Diagnosis, Finding
from blazing_nb.client.listing import Row
from blazing_nb.core import palette
from blazing_nb.core.dot import OperationId
from blazing_nb.core.markup import SHOWN, table
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.snapshot import Segment, Snapshot, Step
from blazing_nb.core.snapshot import Worker as WorkerRow
from blazing_nb.core.status import Status
from blazing_nb.store.store import Store

HOSTILE = "</code></table><img src=x onerror=alert(1)><script>x</script>\u202egnp\x1b[31m\r\n\x00\u2028'\"&lt;"
FORBIDDEN = set("\u202e\x1b\r\n\x00\u2028")
TAGS = {"style", "div", "span", "strong", "code", "table", "tr", "th", "td", "br"}
VOID = {"br"}


class Checker(HTMLParser):
    """Only known tags, each closed where it was opened, none that acts; nothing from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(thing: Any) -> str:
    line = repr(thing)
    assert line.isprintable(), line
    assert line.startswith("<")
    html: str = thing._repr_html_()
    assert not set(html) & FORBIDDEN
    assert "url(" not in html
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return re.sub(r"<style>.*?</style>", "", html)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on, whatever asks the store in this thread fails."""
    connection = Store.connection
    me = threading.current_thread()

    def refuse(self: Store) -> Any:
        assert threading.current_thread() is not me, "a repr asked the store"
        return connection(self)

    return lambda: monkeypatch.setattr(Store, "connection", refuse)


def fail(text: str) -> None:
    raise ValueError(text)


def test_handles_show_what_is_known_here(app: Blazing, worker: Worker, silence: Callable[[], None]) -> None:
    step = app.step(fail, retries=0, timeout=30)
    operation, good = step.enqueue(HOSTILE), app.step(abs, name="abs").enqueue(-1)
    batch = step.map([HOSTILE] * 5)
    whole = gather(operation, good, batch)
    assert whole.wait(20)
    later = app.step(time.sleep, name="sleep").enqueue(30)
    future = app.executor().submit(abs, -2)
    assert future.result(10) == 2
    silence()
    assert "✗ FAILED" in check(operation)
    assert "ValueError: &lt;/code&gt;&lt;/table&gt;&lt;img" in check(operation)
    assert "✓ SUCCEEDED" in check(good)
    assert "not finished" in check(later)
    shown = check(batch)
    assert "5 of 5" in shown
    assert shown.count("✗ FAILED") == 3
    assert "3 of 3" in check(whole)
    assert "✓ SUCCEEDED" in check(future)
    assert "timeout</span> 30 s" in check(step)


def test_an_app_shows_its_steps_and_no_password(app_id: str, app: Blazing, silence: Callable[[], None]) -> None:
    far = Blazing(app_id, url="redis://user:secret@nowhere.example:6379/0")
    far.step(fail)
    assert "not connected" in check(far)
    app.step(fail)
    app.connect()
    app.store.url = "redis://user:secret@nowhere.example:6379/0"
    silence()
    assert "secret" not in check(app)
    assert "fail" in check(app)
    assert "workers here" in check(app)
    check(app.workers)
    check(app.executor())


def test_a_step_whose_defaults_are_hostile_stays_on_its_line(app: Blazing) -> None:
    class Odd:
        def __repr__(self) -> str:
            return HOSTILE

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    def odd(x: Any = Odd()) -> None:  # noqa: B008 - what it shows is the point
        """Takes it."""

    def broken(x: Any = Broken()) -> None:  # noqa: B008
        """Takes it."""

    assert "&lt;img" in check(app.step(odd))
    check(app.step(broken))


def test_a_snapshot_shows_depths_steps_workers_and_alarms() -> None:
    row = WorkerRow(HOSTILE, "c", HOSTILE, 1, 5, 2, 8, 9, HOSTILE, refuses={HOSTILE: HOSTILE})
    shown = check(
        Snapshot("a", 0, [Segment("s", "n", "n1", 12345, 1, 2)], [Step(HOSTILE, enqueued=7, lost=3)], [row] * 30)
    )
    for wanted in ("○ PENDING</span> 12,345", "◷ SCHEDULED</span> 1", "◐ CLAIMED</span> 2", "<td>7</td>", "10 more"):
        assert wanted in shown
    assert "cannot load" in shown


def test_listings_and_dead_letters_show_the_first_rows(app: Blazing, worker: Worker) -> None:
    batch = app.step(fail).map([HOSTILE] * 30)
    assert batch.wait(20)
    for found in (app.failed(), app.operations("FAILED")):
        shown = check(found)
        assert shown.count("✗ FAILED") == SHOWN
        assert "and 10 more" in shown
    listing = app.operations()
    listing.rows = [Row(OperationId("s", "n", "n1", 1, 2), Status.RUNNING, 1, None, None, HOSTILE, HOSTILE)]
    assert "▶ RUNNING" in check(listing)


def test_a_diagnosis_tells_its_states_by_mark_word_and_colour() -> None:
    shown = check(Diagnosis("a", [Finding(HOSTILE, state, HOSTILE, HOSTILE) for state in (GOOD, DOUBT, BAD)]))
    for mark, status in (("✓ good", "succeeded"), ("? doubt", "retrying"), ("✗ bad", "failed")):
        assert re.search(rf"var\(--{status}\)[^>]*>{re.escape(mark)}", shown)


def test_a_repr_that_fails_says_so_instead_of_raising(app: Blazing, worker: Worker) -> None:
    operation = app.step(fail).enqueue("x")
    with pytest.raises(ValueError, match="x"):
        operation.result(10)
    broken = b"F1-1;" + encode_body(0, 0, 0, 0, 1, b"\xc1 not a failure")
    operation._results.records[operation._slot] = broken
    assert "cannot be drawn" in check(operation)
    assert "PayloadInvalid" in check(operation)


def test_colours_follow_the_theme_and_never_stand_alone() -> None:
    assert "prefers-color-scheme:dark" in palette.CSS
    assert "data-jp-theme-light=false" in palette.CSS
    assert "var(--jp-ui-font-color1," in palette.CSS
    assert len(set(palette.MARK.values())) == len(Status)
    for status in Status:
        assert palette.MARK[status] in palette.badge(status)
        assert str(status) in palette.badge(status)


def test_cells_of_a_table_are_text() -> None:
    assert "&lt;b&gt;" in table(("<i>",), [("<b>",)])
    assert "&lt;i&gt;" in table(("<i>",), [("<b>",)])
    assert table(("a",), []) == ""
