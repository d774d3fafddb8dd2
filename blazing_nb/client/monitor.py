"""Snapshots and roll-ups as frames and readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blazing_nb.core.reading import COUNTERS, Reading, readings
from blazing_nb.core.snapshot import Segment, Snapshot, Step
from blazing_nb.store import query
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    import pandas as pd


SLACK_MS = 60_000


def segments_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a segment: step, prio, node, waiting, parked, claimed (operations), head_age_s (seconds or NaN)."""
    import pandas as pd

    rows = [(s.step, s.prio, s.node, s.waiting, s.parked, s.claimed, _seconds(s)) for s in snapshot.segments]
    columns = ["step", "prio", "node", "waiting", "parked", "claimed", "head_age_s"]
    return pd.DataFrame(rows, columns=columns).astype({"head_age_s": float})


def roll_ups_frame(store: Store, snapshot: Snapshot, last_ms: int) -> pd.DataFrame:
    """Differences of the running totals, by step and second; the last second is up to the snapshot."""
    import pandas as pd

    rows: list[list[object]] = []
    before: dict[str, dict[str, int]] = {}
    recorded = query.roll_ups(store, snapshot.at_ms - last_ms - SLACK_MS)
    now = [query.RollUp(s.step, snapshot.at_ms // 1000, _totals(s)) for s in snapshot.steps]
    for step, second, totals in [*recorded, *now]:
        earlier = before.get(step)
        before[step] = totals
        if earlier is not None and second * 1000 >= snapshot.at_ms - last_ms:
            rows.append([second, step, *(totals.get(name, 0) - earlier.get(name, 0) for name in COUNTERS)])
    frame = pd.DataFrame(rows, columns=["at", "step", *COUNTERS])
    frame["at"] = pd.to_datetime(frame["at"], unit="s", utc=True)
    return frame


def recorded(store: Store, snapshot: Snapshot, last_ms: int, step: str | None = None) -> list[Reading]:
    """What the roll-ups hold of the last `last_ms`, and the snapshot itself."""
    found = readings(query.roll_ups(store, snapshot.at_ms - last_ms - SLACK_MS), snapshot, step)
    return [row for row in found if snapshot.at_ms - last_ms <= row.at_ms]


def _totals(step: Step) -> dict[str, int]:
    return {name: getattr(step, name) for name in COUNTERS}


def _seconds(segment: Segment) -> float | None:
    return None if segment.head_age_ms is None else segment.head_age_ms / 1000
