"""Counts, rates and estimates, at times that the test says; and text that others wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blazing_nb.core.markup import bar, duration, progress_html, progress_text
from blazing_nb.core.tally import Tally
from blazing_nb.core.text import one_line


def tally(*counts: tuple[float, int, float, int], name: str = "words") -> Tally:
    made = Tally(name, 100, 0)
    for count in counts:
        made.count(*count)
    return made


def test_a_steady_rate_gives_its_estimate() -> None:
    made = tally(*((10 * second, 1, 100, 1000 * second) for second in range(1, 6)))
    assert (made.rate, made.left_s, made.share, made.finished) == (10, 5, 0.5, False)
    assert progress_text(made).startswith(
        "words ████████████░░░░░░░░░░░░ 50/100 · 50% · 10/s · about 5 s left ✗ 1 failed"
    )


def test_the_rate_is_of_late() -> None:
    made = tally((900, 0, 1000, 10_000), *((900 + second, 0, 1000, 10_000 + 1000 * second) for second in range(1, 60)))
    assert made.rate == pytest.approx(1, rel=0.05)
    paused = tally((50, 0, 100, 1000), (50, 0, 100, 20_000), (50, 0, 100, 40_000))
    assert (paused.rate, paused.left_s) == (0, None)
    assert "40 s so far" in progress_text(paused)


def test_the_end_says_how_long_it_took() -> None:
    made = tally((100, 0, 100, 90_000))
    assert (made.finished, made.left_s, made.rate) == (True, 0, pytest.approx(100 / 90))
    assert "100/100 · 100% · in 1:30 · 1.11/s" in progress_text(made)
    assert Tally("nothing", 0, 0).share == 1


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), max_size=80), st.integers(0, 10**9))
def test_any_counts_can_be_drawn(steps: list[tuple[int, int]], total: int) -> None:
    made, at = Tally("x", total, 0), 0
    for done, later in steps:
        at += later
        made.count(done, min(done, 7), total, at)
        assert 0 <= made.share <= 1
        assert made.rate >= 0
        assert progress_text(made)
        assert 'role="progressbar"' in progress_html(made)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (187, "3:07"), (7387, "2:03:07")])
def test_durations_read_as_clocks(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_bar_says_in_words_what_its_colours_say() -> None:
    drawn = bar(30, 10, 100)
    assert 'title="30 of 100 done, 10 failed"' in drawn
    assert "var(--succeeded)" in drawn
    assert "var(--failed)" in drawn
    assert "var(--failed)" not in bar(30, 0, 100)


HOSTILE = "<b onclick='x'>\u202eevil\x1b[31m\r\n\x00\u2028\ud800&amp;"


def test_names_of_others_cannot_be_markup_nor_turn_the_line() -> None:
    for drawn in (progress_html(tally(name=HOSTILE)), progress_text(tally(name=HOSTILE))):
        assert not set(drawn) & set("\u202e\x1b\r\n\x00\u2028\ud800")
    assert "<b onclick" not in progress_html(tally(name=HOSTILE))


@given(st.text(st.characters(), max_size=400))
def test_any_text_is_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode()
    if text.isascii() and text.isprintable() and len(text) < 300:
        assert line == text


def test_one_line_takes_whatever_fails_to_say_what_it_is() -> None:
    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    assert one_line(Silent()) == "<Silent>"
    assert one_line("x" * 400) == "x" * 299 + "…"
    assert one_line("שלום é 漢字 👍") == "שלום é 漢字 👍"
