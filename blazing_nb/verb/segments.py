"""`segments`: their depths, live in a notebook, as text in a terminal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.app import Blazing
    from blazing_nb.notebook.depth import SegmentDepths


def segments(app: Blazing, args: argparse.Namespace) -> SegmentDepths | pd.DataFrame:
    if args.once:
        return app.segments()
    from blazing_nb.notebook.depth import SegmentDepths

    return SegmentDepths(app)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="a frame of this moment instead of a view")


SEGMENTS = Verb(
    "segments",
    "depths of every segment",
    segments,
    _arguments,
    examples=("segments --once",),
)
