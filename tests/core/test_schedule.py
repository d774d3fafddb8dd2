"""When a schedule is due, and what becomes of missed ticks: pure, over time zones and changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from blazing_nb.core.schedule import LATE_MS, TICKS_A_CALL, Rule

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
moments = st.integers(1_700_000_000_000, 1_900_000_000_000)
intervals = st.builds(Rule, every_ms=st.integers(100, DAY), anchor_ms=moments)
crons = st.builds(
    Rule,
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 3 * * MON-FRI", "15 */6 1 * *", "0 0 29 2 *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
rules = intervals | crons


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def times(rule: Rule, start: str, n: int) -> list[str]:
    at, found = ms(start, rule.zone), []
    for _ in range(n):
        at = rule.after(at)
        found.append(datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(rule.zone)).strftime("%d %H:%M%z"))
    return found


@settings(deadline=None, max_examples=60)
@given(rules, moments)
def test_ticks_only_grow_and_the_newest_is_the_last_before_the_next(rule: Rule, at: int) -> None:
    following = rule.after(at)
    assert following > at
    assert rule.newest(following) == following
    assert rule.newest(following - 1) <= at
    assert rule.after(following) > following


@settings(deadline=None, max_examples=60)
@given(rules, moments, st.integers(0, 3 * DAY))
def test_what_is_due_by_each_policy(rule: Rule, at: int, late_ms: int) -> None:
    due = rule.after(at)
    now = due + late_ms
    for missed in ("skip", "one", "all"):
        ticks, following = Rule(rule.every_ms, rule.anchor_ms, rule.cron, rule.zone, missed).due(due, now)
        assert ticks == sorted(set(ticks))
        assert all(due <= tick <= now for tick in ticks)
        assert following > max(ticks, default=due)
        if missed == "all":
            assert ticks[0] == due
            assert following > now or len(ticks) == TICKS_A_CALL
        else:
            newest = rule.newest(now)
            assert following > now
            assert ticks == ([] if missed == "skip" and now - newest > LATE_MS else [max(due, newest)])
    assert rule.due(due, due - 1) == ([], due)


def test_every_tick_is_fired_however_long_nobody_looked() -> None:
    rule = Rule(every_ms=1000, anchor_ms=0, missed="all")
    due, fired = 1000, []
    while due <= 350_000:
        ticks, due = rule.due(due, 350_000)
        fired += ticks
    assert fired == list(range(1000, 351_000, 1000))


def test_a_fixed_hour_runs_once_in_the_night_when_clocks_go_forward() -> None:
    rule = Rule(cron="30 2 * * *", zone="Europe/Berlin")
    assert times(rule, "2026-03-28T00:00", 3) == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_a_fixed_hour_runs_once_in_the_night_when_clocks_go_back() -> None:
    rule = Rule(cron="30 2 * * *", zone="Europe/Berlin")
    assert times(rule, "2026-10-24T03:00", 2) == ["25 02:30+0200", "26 02:30+0100"]


def test_every_half_hour_is_every_half_hour_in_that_night_too() -> None:
    rule = Rule(cron="*/30 * * * *", zone="Europe/Berlin")
    at, gaps = ms("2026-10-24T23:00", "Europe/Berlin"), set()
    for _ in range(12):
        gaps.add(rule.after(at) - at)
        at = rule.after(at)
    assert gaps == {30 * MINUTE}


def test_zones_differ() -> None:
    berlin, tokyo = (Rule(cron="0 9 * * *", zone=zone) for zone in ("Europe/Berlin", "Asia/Tokyo"))
    at = ms("2026-01-01T12:00")
    assert berlin.after(at) - tokyo.after(at) == 8 * HOUR


def test_what_is_never_due_says_so() -> None:
    """The first or the 21st of a month, if that is the last Monday of it."""
    rule = Rule(cron="* * */20 * 1L")
    assert rule.after(ms("2026-01-01T00:00")) == 0
    assert rule.newest(ms("2026-01-01T00:00")) == 0
