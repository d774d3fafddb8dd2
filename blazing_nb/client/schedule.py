"""Schedules: calls of a step at intervals or by cron expressions, fired by whatever worker is there."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from blazing_nb.core.codec import seal_always, seal_call, unseal_always
from blazing_nb.core.name import check_name
from blazing_nb.core.schedule import MISSED, Plan, Rule
from blazing_nb.core.signature import context
from blazing_nb.errors import ScheduleUnknown, TrustError, UsageError
from blazing_nb.store import timetable

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.app import Blazing
    from blazing_nb.client.step import Step

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHORTEST_S, LONGEST_S = 0.1, 366 * 86_400.0
_INTERVAL = re.compile(r"^\s*([0-9.]+)\s*([smhd])\s*$")


class Schedule:
    """A recorded schedule. It lives in the store, and goes on without this process.

    Examples:
        >>> schedule = double.every("1h", name="s-one", args=[1])
        >>> schedule.step, schedule.fired
        ('double', 0)
        >>> schedule.remove()
    """

    def __init__(self, app: Blazing, row: timetable.Row, plan: Plan) -> None:
        self._app = app
        self._row = row
        self._plan = plan
        self.name = row.name

    def __repr__(self) -> str:
        due = f"next {self.next:%Y-%m-%d %H:%M:%S} UTC" if self.next else "paused"
        return f"<Schedule {self.name}: {self.step} {self.rule}, {due}, {self.fired} fired>"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"

    @property
    def step(self) -> str:
        """The step that it calls.

        Examples:
            >>> schedule = double.every("1h", name="s-two", args=[1])
            >>> schedule.step
            'double'
            >>> schedule.remove()
        """
        return self._plan.step

    @property
    def rule(self) -> str:
        """As text: every 300 s, or the cron expression with its zone.

        Examples:
            >>> schedule = double.cron("0 3 * * *", name="s-three", args=[1])
            >>> schedule.rule
            '0 3 * * * (UTC)'
            >>> schedule.remove()
        """
        return str(self._plan.rule)

    @property
    def missed(self) -> str:
        """skip, one or all.

        Examples:
            >>> schedule = double.every("1h", name="s-four", args=[1], missed="all")
            >>> schedule.missed
            'all'
            >>> schedule.remove()
        """
        return self._plan.rule.missed

    @property
    def next(self) -> datetime | None:
        """When it is due; None where it is paused, or never will be. As of when this handle was made.

        Examples:
            >>> schedule = double.every("1h", name="s-five", args=[1])
            >>> schedule.next > datetime.now(UTC)
            True
            >>> schedule.remove()
        """
        return None if self._row.due_ms is None else _moment(self._row.due_ms)

    @property
    def last(self) -> datetime | None:
        """The last tick that was fired.

        Examples:
            >>> schedule = double.every("1h", name="s-six", args=[1])
            >>> schedule.last  # not yet
            >>> schedule.remove()
        """
        return None if self._row.last_ms is None else _moment(self._row.last_ms)

    @property
    def fired(self) -> int:
        """Operations that it enqueued.

        Examples:
            >>> schedule = double.every("1h", name="s-seven", args=[1])
            >>> schedule.fired
            0
            >>> schedule.remove()
        """
        return self._row.fired

    def pause(self) -> Schedule:
        """Fire nothing until `resume()`; what passes meanwhile is not missed.

        Examples:
            >>> schedule = double.every("1h", name="s-eight", args=[1])
            >>> schedule.pause().next  # never, until it is resumed
            >>> schedule.remove()
        """
        return self._postpone(0)

    def resume(self) -> Schedule:
        """Go on with the first tick from now on.

        Examples:
            >>> schedule = double.every("1h", name="s-nine", args=[1]).pause()
            >>> schedule.resume().next is None
            False
            >>> schedule.remove()
        """
        return self._postpone(self._plan.rule.after(timetable.moment(self._app.store)))

    def remove(self) -> None:
        """Forget it. Operations that it enqueued go on.

        Examples:
            >>> double.every("1h", name="s-ten", args=[1]).remove()
            >>> app.schedules()["s-ten"]
            Traceback (most recent call last):
                ...
            blazing_nb.errors.ScheduleUnknown: ...
        """
        if not timetable.remove(self._app.store, self.name):
            raise _unknown(self._app, self.name)

    def _postpone(self, due_ms: int) -> Schedule:
        if not timetable.postpone(self._app.store, self.name, due_ms):
            raise _unknown(self._app, self.name)
        return find(self._app, self.name)


class Schedules(list[Schedule]):
    """All schedules of an app at one moment; the next first.

    Examples:
        >>> schedule = double.every("1h", name="s-eleven", args=[1])
        >>> [found.rule for found in app.schedules()]
        ['every 3600 s']
        >>> schedule.remove()
    """

    def __getitem__(self, which: Any) -> Any:
        """By number, or by name. Raises `ScheduleUnknown`."""
        if not isinstance(which, str):
            return super().__getitem__(which)
        for found in self:
            if found.name == which:
                return found
        raise ScheduleUnknown(
            f"There is no schedule {which!r}; there are: {', '.join(s.name for s in self) or 'none'}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a schedule: name, step, rule, missed, next, last, fired.

        Examples:
            >>> list(app.schedules().to_frame().columns)
            ['name', 'step', 'rule', 'missed', 'next', 'last', 'fired']
        """
        import pandas as pd

        columns = ["name", "step", "rule", "missed", "next", "last", "fired"]
        return pd.DataFrame([[getattr(row, column) for column in columns] for row in self], columns=columns)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(escape=True))

    def __str__(self) -> str:
        return "\n".join(map(repr, self)) or "no schedules"


def every(interval: str | float | timedelta, missed: str) -> Rule:
    """Raises `UsageError` where that is no interval."""
    value = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if isinstance(value, str) and (match := _INTERVAL.match(value)):
        try:
            value = float(match[1]) * UNITS_S[match[2]]
        except ValueError:
            value = -1.0
    if isinstance(value, bool | str) or not SHORTEST_S <= value <= LONGEST_S:
        raise UsageError(f'An interval is like "30s", "5m", "2h", "1d" or seconds, 0.1 s to 366 d, not {interval!r}.')
    return Rule(every_ms=round(value * 1000), missed=_missed(missed))


def cron(expression: str, zone: str, missed: str) -> Rule:
    """Raises `UsageError` where that is no cron expression, no zone, or never due."""
    from cronsim import CronSimError

    rule = Rule(cron=expression, zone=zone, missed=_missed(missed))
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder's name an OSError
        raise UsageError(f'tz is a time zone like "Europe/Berlin" or "UTC", not {zone!r}.') from None
    try:
        if not rule.after(0):
            raise UsageError(f"The cron expression {expression!r} is never due.")
    except (CronSimError, AttributeError) as error:
        raise UsageError(f'{expression!r} is no cron expression like "0 3 * * MON-FRI": {error}.') from None
    return rule


def record(step: Step, rule: Rule, name: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Schedule:
    """Record it in the store; as it was before, it keeps its next tick."""
    app, options, code = step.app, step._options, step.code()
    name = check_name(name or step.name, "schedule name")
    own = (options.key, options.delay_ms, options.at_ms, options.expires_at_ms, options.durability, options.block_s)
    if any(own):
        raise UsageError(
            "A schedule's operations have no key=, delay=, at=, durability=, block= or moment of expiry of their own."
        )
    prepared = step._sender.prepare(tuple(args), dict(kwargs))
    content = (step.name, code, rule, options.prio, options.expires_ms, options.call, prepared)
    version = hashlib.sha256(msgspec.msgpack.encode(content)).hexdigest()[:16]
    now_ms = timetable.moment(app.store)
    before = _before(app, name)
    rule = msgspec.structs.replace(rule, anchor_ms=now_ms if rule.every_ms else 0)
    if before is not None and before.version == version:
        rule = before.rule
    plan = msgspec.to_builtins(Plan(step.name, rule, version))
    ctx = context(app.app_id, step.name, code, f"{step.name}|@{name}")
    timetable.schedule(
        app.store,
        name,
        version,
        step.name,
        seal_always(plan, "a schedule", app.ring, context(app.app_id, "schedule", b"", name)),
        seal_call(prepared, code, app.ring, ctx, options.call),
        due_ms=rule.after(now_ms),
        prio=options.prio,
        expires_ms=options.expires_ms,
    )
    return find(app, name)


def listed(app: Blazing) -> Schedules:
    """All schedules; each signed by this app, or `SignatureRefused`."""
    return Schedules(Schedule(app, row, _plan(app, row)) for row in timetable.rows(app.store))


def _before(app: Blazing, name: str) -> Plan | None:
    """What is recorded under that name, where this app's key signed it."""
    for row in timetable.rows(app.store):
        if row.name == name:
            with contextlib.suppress(TrustError):
                return _plan(app, row)
    return None


def _plan(app: Blazing, row: timetable.Row) -> Plan:
    found = unseal_always(row.record, app.ring, context(app.app_id, "schedule", b"", row.name))
    return msgspec.convert(found, Plan)


def find(app: Blazing, name: str) -> Schedule:
    found: Schedule = listed(app)[name]
    return found


def _missed(value: str) -> str:
    if value not in MISSED:
        raise UsageError(f"missed is one of {', '.join(MISSED)}, not {value!r}.")
    return value


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _unknown(app: Blazing, name: str) -> ScheduleUnknown:
    return ScheduleUnknown(f"App {app.app_id!r} has no schedule {name!r} any more.", name=name)
