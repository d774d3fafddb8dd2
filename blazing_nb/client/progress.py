"""A text progress bar for a batch, shown where it takes longer than two seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blazing_nb.client.batch import Batch

PATIENCE_S = 2.0
TURN_S = 0.1


def show(batch: Batch, timeout: float | None) -> bool:
    """Wait for the batch as `Batch.wait` does, with a bar after two seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    if batch.wait(PATIENCE_S if timeout is None else min(PATIENCE_S, timeout)):
        return True
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(batch.name or "operations", total=len(batch), completed=batch.done_count)
        while not batch.wait(TURN_S):
            bar.update(task, completed=batch.done_count)
            if end is not None and time.monotonic() > end:
                return False
        bar.update(task, completed=len(batch))
    return True
