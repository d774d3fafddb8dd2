"""Snapshots as frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blazing_nb.core.snapshot import Segment, Snapshot

if TYPE_CHECKING:
    import pandas as pd


def segments_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a segment: step, prio, node, waiting, parked, claimed (operations), head_age_s (seconds or NaN)."""
    import pandas as pd

    rows = [(s.step, s.prio, s.node, s.waiting, s.parked, s.claimed, _seconds(s)) for s in snapshot.segments]
    columns = ["step", "prio", "node", "waiting", "parked", "claimed", "head_age_s"]
    return pd.DataFrame(rows, columns=columns).astype({"head_age_s": float})


def _seconds(segment: Segment) -> float | None:
    return None if segment.head_age_ms is None else segment.head_age_ms / 1000
