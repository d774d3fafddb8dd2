"""What a person sees in Jupyter: live views. Imports the client, never the other way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blazing_nb.notebook.depth import SegmentDepths

__all__ = ["SegmentDepths"]


def __getattr__(name: str) -> object:
    if name == "SegmentDepths":
        from blazing_nb.notebook.depth import SegmentDepths

        return SegmentDepths
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
