"""Running totals of an app read at moments, and what happened between two of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from blazing_nb.core.metrics import Histogram, difference, merge, quantile
from blazing_nb.core.snapshot import Snapshot, Step

LATENCIES = ("wait", "run", "total")
COUNTERS = tuple(name for name in Step.__struct_fields__ if name not in {"step", *LATENCIES})
QUANTILES = (0.5, 0.95, 0.99)
_LETTERS = {"wait": "w", "run": "r", "total": "t"}
RollUp = tuple[str, int, Mapping[str, int]]
"""(step, second, fields)."""
FINE_S = 300
COARSE_S = 10
NOISE_MS = 200
"""Of less than that no rate is made."""


class Reading(msgspec.Struct, frozen=True):
    """Totals of all steps (or one) by counter; histograms by kind, where they were recorded."""

    at_ms: int
    totals: Mapping[str, int]
    latencies: Mapping[str, Histogram] | None = None


def reading_of(snapshot: Snapshot, step: str | None = None) -> Reading:
    """The totals in a snapshot, over all steps or of one."""
    steps = [found for found in snapshot.steps if step in (None, found.step)]
    latencies = _merged({kind: getattr(found, kind) for kind in LATENCIES} for found in steps)
    totals = {name: sum(getattr(found, name) for found in steps) for name in COUNTERS}
    return Reading(snapshot.at_ms, totals, latencies)


def readings(recorded: Iterable[RollUp], snapshot: Snapshot, step: str | None = None) -> list[Reading]:
    """From roll-ups and a later snapshot, which comes last: a reading for each second in which something happened.

    A step's roll-up is written when its next second begins, perhaps much later: they are put in order here. Before the
    first that is known of a step, it is taken to have been still.
    """
    rows = [row for row in recorded if row[1] * 1000 < snapshot.at_ms - 1000]
    rows += [(found.step, snapshot.at_ms // 1000, _fields(found)) for found in snapshot.steps]
    rows = sorted((row for row in rows if step in (None, row[0])), key=lambda row: row[1])
    known: dict[str, Mapping[str, int]] = {}
    histograms: dict[str, dict[str, Histogram]] = {}
    for name, _, fields in reversed(rows):
        known[name] = fields
        if _has_buckets(fields):
            histograms[name] = _histograms(fields)
    made: dict[int, Reading] = {}
    for name, second, fields in rows:
        known[name] = fields
        if _has_buckets(fields):
            histograms[name] = _histograms(fields)
        at_ms = min((second + 1) * 1000, snapshot.at_ms)
        totals = {counter: sum(row.get(counter, 0) for row in known.values()) for counter in COUNTERS}
        made[at_ms] = Reading(at_ms, totals, _merged(histograms.values()) if _has_buckets(fields) else None)
    return list(made.values())


def _fields(step: Step) -> dict[str, int]:
    """As a roll-up holds them."""
    found = {name: getattr(step, name) for name in COUNTERS}
    for kind, letter in _LETTERS.items():
        found |= {f"{letter}{bucket}": n for bucket, n in getattr(step, kind).items()}
    return found


def _has_buckets(fields: Mapping[str, int]) -> bool:
    return any(field[0] in "wrt" and field[1:].isdigit() for field in fields)


def _histograms(fields: Mapping[str, int]) -> dict[str, Histogram]:
    return {kind: _histogram(fields, letter) for kind, letter in _LETTERS.items()}


def _merged(found: Iterable[dict[str, Histogram]]) -> dict[str, Histogram]:
    total: dict[str, Histogram] = {kind: {} for kind in LATENCIES}
    for histograms in found:
        total = {kind: merge(so_far, histograms[kind]) for kind, so_far in total.items()}
    return total


def _histogram(fields: Mapping[str, int], letter: str) -> Histogram:
    return {int(field[1:]): n for field, n in fields.items() if field[0] == letter and field[1:].isdigit()}


def rates(found: Sequence[Reading], names: Sequence[str], now_ms: int) -> list[list[float]]:
    """[moment, count a second of each name, ...] from one-second readings; of the older ones one each ten seconds.

    Between two readings that are further apart, what happened did so within the last second: before, it was still.
    """
    rows: list[list[float]] = []
    for before, after in pairwise(found):
        counts = [max(0, after.totals.get(name, 0) - before.totals.get(name, 0)) for name in names]
        if after.at_ms - before.at_ms > 2000:
            still = [0.0] * len(names)
            rows += [[before.at_ms + 1000, *still], [after.at_ms - 1000, *still]]
        # The newest, of a second that is not over.
        share = min(1000, max(NOISE_MS, after.at_ms - before.at_ms)) / 1000
        rows.append([after.at_ms, *(count / share for count in counts)])
    return _thinned(rows, now_ms)


def _thinned(rows: list[list[float]], now_ms: int) -> list[list[float]]:
    """What is older than five minutes as means of ten seconds, over the seconds that are there."""
    edge = now_ms - FINE_S * 1000
    groups: dict[int, list[list[float]]] = {}
    for row in rows:
        if row[0] < edge:
            groups.setdefault(int(row[0] // (COARSE_S * 1000)), []).append(row)
    coarse = [
        [part[-1][0], *(sum(c) / COARSE_S for c in list(zip(*part, strict=True))[1:])] for part in groups.values()
    ]
    return coarse + [row for row in rows if row[0] >= edge]


def rate(before: Reading, after: Reading, names: Sequence[str]) -> list[float]:
    """Counts a second between two readings; zeros where they are the same moment."""
    seconds = (after.at_ms - before.at_ms) / 1000
    if seconds <= 0:
        return [0.0] * len(names)
    return [max(0, after.totals.get(name, 0) - before.totals.get(name, 0)) / seconds for name in names]


def spread(before: Reading, after: Reading) -> dict[str, dict[int, int]]:
    """The histograms of what happened between two readings."""
    old, new = before.latencies or {}, after.latencies or {}
    return {kind: difference(new.get(kind, {}), old.get(kind, {})) for kind in LATENCIES}


def quantiles(histogram: Histogram) -> list[float | None]:
    """p50, p95, p99 in milliseconds; None of nothing."""
    if not any(histogram.values()):
        return [None] * len(QUANTILES)
    return [quantile(histogram, q) * 1000 for q in QUANTILES]
