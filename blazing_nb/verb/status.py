"""`status`: a snapshot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.core.snapshot import Snapshot


def status(app: Blazing, args: argparse.Namespace) -> Snapshot:
    return app.snapshot()


def _text(snapshot: Snapshot) -> str:
    lines = [str(snapshot)]
    for step in snapshot.steps:
        counts = f"{step.enqueued} enqueued, {step.succeeded} succeeded, {step.failed} failed, {step.lost} lost"
        lines.append(f"  {step.step}: {counts}")
    lines += [f"  {w.worker_id}: {w.host} pid {w.pid}, {w.done} done" for w in snapshot.workers]
    return "\n".join(lines)


STATUS = Verb("status", "counts, depths and workers at this moment", status, text=_text)
