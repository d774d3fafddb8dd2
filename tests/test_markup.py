"""Names and errors that others chose reach HTML, a terminal and the log as text, and as nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from blazing_nb import Blazing, Worker
from blazing_nb.cli import main
from blazing_nb.core.name import printable
from blazing_nb.top import Top
from blazing_nb.worker.journal import TextFormatter

HOSTILE = "<img src=x onerror=alert(1)>\"'&[/red]"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nERROR a line of mine \u202e\x9b31m" + HOSTILE
TAGS = {"img", "script", "svg/onload"}


class Finder(HTMLParser):
    """The elements that a browser would make."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def fails(text: str) -> None:
    raise ValueError(text)


@pytest.fixture(scope="module")
def app(url: str) -> Iterator[Blazing]:
    """App, node, worker, step, batch, schedule and channel of hostile names; an operation that failed with worse."""
    with Blazing(HOSTILE, url=url, node_id=HOSTILE) as made:
        worker = Worker(HOSTILE, HOSTILE, url=url).start()
        step = made.step(fails, name=HOSTILE)
        batch = step.map([ESCAPES, ESCAPES], name=HOSTILE)
        batch.wait(timeout=20)
        made.step(lambda x=0: x, name="ok").every("1h", name=HOSTILE)
        made.channel(HOSTILE).publish(HOSTILE)
        made.shared(HOSTILE).counter(HOSTILE).incr()
        yield made
        made.schedules()[HOSTILE].remove()
        worker.close()


def shown(app: Blazing) -> dict[str, Any]:
    """Everything that a cell can show."""
    step, batch = app.steps[HOSTILE], app.attach(HOSTILE)
    return {
        "app": app,
        "step": step,
        "batch": batch,
        "operation": batch[0],
        "history": batch[0].history(),
        "frame": batch.to_frame(),
        "operations": app.operations(),
        "operations frame": app.operations().to_frame(),
        "failed": app.failed(),
        "failed frame": app.failed().to_frame(),
        "segments": app.segments(),
        "snapshot": app.snapshot(),
        "workers": app.workers,
        "doctor": app.doctor(),
        "flow": step >> step,
        "schedules": app.schedules(),
        "schedule": app.schedules()[HOSTILE],
        "channel": app.channel(HOSTILE),
        "shared": app.shared(HOSTILE),
        "counter": app.shared(HOSTILE).counter(HOSTILE),
        "reference": app.put([1]),
        "worker": Worker(HOSTILE, HOSTILE),
    }


def test_nothing_that_a_cell_shows_makes_an_element_of_a_name(app: Blazing) -> None:
    for what, value in shown(app).items():
        html = getattr(value, "_repr_html_", lambda value=value: None)()
        if html is not None:
            assert not Finder(html).tags & TAGS, what
            assert "onerror=alert(1)>" not in html, what


def test_every_repr_is_one_printable_line(app: Blazing) -> None:
    for what, value in shown(app).items():
        if "frame" not in what and what not in ("history", "segments"):
            assert repr(value).isprintable(), what


@pytest.mark.parametrize(
    "verb",
    ["status", "ops", "segments", "workers", "doctor", "schedules", "retry --dry-run", "op ID", "logs ID", "cancel ID"],
)
def test_no_verb_prints_what_moves_a_cursor(
    app: Blazing, url: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [app.attach(HOSTILE)[0].id if word == "ID" else word for word in verb.split()]
    main([*words, "--app", HOSTILE, "--url", url])
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert all(line.isprintable() or "\t" in line for line in text.split("\n")), verb
    assert main(["attach", ESCAPES, "--app", "demo", "--url", url]) == 2
    assert capsys.readouterr().err.rstrip("\n").replace("\n", "").isprintable()


def test_the_live_view_shows_names_and_no_markup(app: Blazing) -> None:
    """`[/red]` in a name would be an error of rich, if it were markup."""
    console = Console(file=StringIO(), width=200, force_terminal=False)
    console.print(Top(app).frame())
    text = console.file.getvalue()
    assert "[/red]" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_record_of_the_log_is_one_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "refused: %s", (ESCAPES,), None)
    assert TextFormatter("%(levelname)s %(message)s").format(record).isprintable()


def test_what_is_printable_stays_and_the_rest_is_escaped() -> None:
    assert printable("Größe 漢字 😀") == "Größe 漢字 😀"
    assert printable("a\nb\x1b[0m\u202e\ud800", "\n") == "a\nb\\x1b[0m\\u202e\\ud800"
