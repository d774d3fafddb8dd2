"""What a person sees in Jupyter: live views, progress. Imports the client, never the other way."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blazing_nb.notebook.bar import Progress, progress
    from blazing_nb.notebook.depth import SegmentDepths

__all__ = ["Progress", "SegmentDepths", "progress"]
_MODULES = {"Progress": "bar", "SegmentDepths": "depth", "progress": "bar"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
