"""What users say about a step or a call, checked and turned into what the store and the workers read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict

import msgspec

from blazing_nb.core.dependency import FAIL, RULES
from blazing_nb.core.name import check_name
from blazing_nb.core.policy import CallOptions, Policy
from blazing_nb.errors import UsageError
from blazing_nb.store.durability import check_level

PRIORITIES = {"high": "h", "normal": "n", "low": "l"}
UNITS_S = {"s": 1, "m": 60, "h": 3600}
BURST_S = 0.1
"""A rate lets a tenth of a second's worth start at once: in any w seconds at most rate * (w + 0.1), or one."""
LONGEST_S = 366 * 24 * 3600.0
Kinds = type[BaseException] | Iterable[type[BaseException]]


class StepOptions(TypedDict, total=False):
    """Of `app.step`; see there."""

    name: str | None
    retries: int
    backoff: float | tuple[float, float]
    retry_on: Kinds
    give_up_on: Kinds
    retention: float
    timeout: float | None
    max_in_flight: int | None
    rate: str | float | None
    lane: str | None


class Options(msgspec.Struct, frozen=True):
    """Of one call. Durations and moments in milliseconds; 0: none."""

    prio: str = "n"
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    expires_at_ms: int = 0
    key: str = ""
    call: bytes = b""
    block_s: float = 0.0
    on_failure: str = FAIL
    durability: str = ""

    @classmethod
    def make(
        cls,
        *,
        delay: float | None,
        at: datetime | None,
        expires: float | datetime | None,
        priority: str,
        key: str | None,
        call: bytes,
        block: float,
        on_failure: str = FAIL,
        durability: str | None = None,
    ) -> Options:
        """Raises `UsageError` where a value does not fit, or two do not go together."""
        if priority not in PRIORITIES:
            raise UsageError(f"priority is one of {', '.join(PRIORITIES)}, not {priority!r}.")
        if on_failure not in RULES:
            raise UsageError(f"on_failure is one of {', '.join(RULES)}, not {on_failure!r}.")
        if delay is not None and at is not None:
            raise UsageError("Give delay= or at=, not both.")
        later = delay is not None or at is not None
        if later:
            _check_later(priority, key)
        moment = isinstance(expires, datetime)
        return cls(
            prio="d" if later else PRIORITIES[priority],
            delay_ms=seconds(delay, "delay"),
            at_ms=_moment(at, "at"),
            expires_ms=0 if moment else seconds(expires, "expires", low=0.001),
            expires_at_ms=_moment(expires, "expires") if moment else 0,
            key="" if key is None else check_name(key, "key"),
            call=call,
            block_s=seconds(block, "block") / 1000,
            on_failure=on_failure,
            durability="" if durability is None else check_level(durability),
        )


def _check_later(priority: str, key: str | None) -> None:
    """What does not go with a delay."""
    if priority != "normal":
        raise UsageError("A delayed operation has no priority: it goes when it is due.")
    if key is not None:
        raise UsageError("key= does not go with delay= or at= yet.")


def call_options(retries: int | None, timeout: float | None, retention: float | None) -> bytes:
    """As they travel; empty where nothing differs from the step."""
    if retries is None and timeout is None and retention is None:
        return b""
    made = CallOptions(
        retries=None if retries is None else _count(retries),
        timeout_ms=None if timeout is None else seconds(timeout, "timeout", low=0.001),
        retention_ms=None if retention is None else seconds(retention, "retention", low=1.0),
    )
    return msgspec.msgpack.encode(made)


def policy(
    retries: int,
    backoff: float | tuple[float, float],
    retry_on: Kinds,
    give_up_on: Kinds,
    retention: float,
    timeout: float | None,
) -> Policy:
    """A step's policy. `backoff`: seconds before the second attempt at most, doubling; or (that, its upper bound)."""
    base, cap = backoff if isinstance(backoff, tuple) else (backoff, max(60.0, backoff))
    return Policy(
        retries=_count(retries),
        base_ms=seconds(base, "backoff"),
        cap_ms=seconds(cap, "backoff"),
        retry_on=_kinds(retry_on, "retry_on"),
        give_up_on=_kinds(give_up_on, "give_up_on"),
        retention_ms=seconds(retention, "retention", low=1.0),
        timeout_ms=0 if timeout is None else seconds(timeout, "timeout", low=0.001),
    )


class Limits(msgspec.Struct, frozen=True):
    """Of a step, over all workers: operations in flight (0: any number), and claims a second (0: as many as wanted)."""

    in_flight: int = 0
    per_second: float = 0.0

    @property
    def text(self) -> str:
        """As the scripts read it: `<in flight>;<ms between two>;<burst>`; empty where nothing is limited."""
        if not self.in_flight and not self.per_second:
            return ""
        interval = 1000 / self.per_second if self.per_second else 0
        return f"{self.in_flight};{interval:.6f};{max(1, round(self.per_second * BURST_S))}"


def limits(max_in_flight: int | None, rate: str | float | None) -> Limits:
    """Raises `UsageError` where a limit is not positive, or a rate does not read."""
    if max_in_flight is not None and (isinstance(max_in_flight, bool) or not isinstance(max_in_flight, int)):
        raise UsageError(f"max_in_flight is a whole number from 1, not {max_in_flight!r}.")
    if max_in_flight is not None and not 1 <= max_in_flight <= 1_000_000:
        raise UsageError(f"max_in_flight is a whole number from 1 to 1,000,000, not {max_in_flight!r}.")
    return Limits(max_in_flight or 0, 0.0 if rate is None else _per_second(rate))


def _per_second(rate: object) -> float:
    number, _, unit = str(rate).partition("/")
    try:
        value = float(number) / UNITS_S[unit.strip() or "s"]
    except (ValueError, KeyError):
        value = math.nan
    if isinstance(rate, bool) or not 1e-4 <= value <= 1e6:
        raise UsageError(f'rate is like "100/s", "30/m" or "5/h" (1/h to 1,000,000/s), not {rate!r}.')
    return value


def seconds(value: object, what: str, *, low: float = 0.0) -> int:
    """A duration in milliseconds."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{what} is a number of seconds, not {value!r}.")
    if not low <= value <= LONGEST_S:
        raise UsageError(f"{what} is between {low:g} and {LONGEST_S:g} seconds, not {value!r}.")
    return round(value * 1000)


def _moment(value: object, what: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise UsageError(f"{what} is a datetime with a time zone, not {value!r}.")
    return round(value.timestamp() * 1000)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
        raise UsageError(f"retries is a whole number from 0 to 1000, not {value!r}.")
    return value


def _kinds(value: Kinds, what: str) -> tuple[type[BaseException], ...]:
    kinds: tuple[Any, ...] = (value,) if isinstance(value, type) else tuple(value)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise UsageError(f"{what} takes exception classes, not {value!r}.")
    return kinds
