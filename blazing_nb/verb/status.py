"""`status`: a snapshot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.core.snapshot import Snapshot


def status(app: Blazing, args: argparse.Namespace) -> Snapshot:
    """Of an app whose outbox another process has, what waits there too."""
    if app.outbox is not None:
        return app.snapshot()
    from msgspec.structs import replace

    from blazing_nb.client.spool import peek
    from blazing_nb.errors import StoreUnavailable

    waiting = peek(app.app_id)
    try:
        return replace(app.snapshot(), outboxes=waiting)
    except StoreUnavailable as error:
        for outbox in waiting:
            error.add_note(f"{outbox} ({outbox.path})")
        raise


def _text(snapshot: Snapshot) -> str:
    lines = [str(snapshot), *(f"  {outbox} ({outbox.path})" for outbox in snapshot.outboxes)]
    for step in snapshot.steps:
        counts = f"{step.enqueued} enqueued, {step.succeeded} succeeded, {step.failed} failed, {step.lost} lost"
        lines.append(f"  {step.step}: {counts}")
    lines += [f"  {w.worker_id}: {w.host} pid {w.pid}, {w.done} done" for w in snapshot.workers]
    return "\n".join(lines)


STATUS = Verb(
    "status",
    "counts, depths and workers at this moment",
    status,
    text=_text,
    examples=("status --app reports",),
)
