"""What a person sees in Jupyter: durable cells, live views, progress. Imports the client, never the other way."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blazing_nb.notebook.bar import Progress, progress
    from blazing_nb.notebook.crew import WorkersView
    from blazing_nb.notebook.dashboard import Dashboard
    from blazing_nb.notebook.depth import SegmentDepths
    from blazing_nb.notebook.throughput import Latency, Throughput
    from blazing_nb.notebook.timeline import Timeline
    from blazing_nb.notebook.transition import Transitions

__all__ = [
    "Dashboard",
    "Latency",
    "Progress",
    "SegmentDepths",
    "Throughput",
    "Timeline",
    "Transitions",
    "WorkersView",
    "progress",
]
_MODULES = {
    "Dashboard": "dashboard",
    "Latency": "throughput",
    "Progress": "bar",
    "SegmentDepths": "depth",
    "Throughput": "throughput",
    "Timeline": "timeline",
    "Transitions": "transition",
    "WorkersView": "crew",
    "progress": "bar",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
