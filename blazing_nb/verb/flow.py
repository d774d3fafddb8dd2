"""`pause`, `resume`, `drain`, `restored`: what may start, and what may come in."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.client.drain import Drained


NOTHING = "no older state of the database has come back"


def pause(app: Blazing, args: argparse.Namespace) -> list[str]:
    """The steps that are paused then."""
    from blazing_nb.store import query

    for step in _known(app, args.steps) or sorted(app.store.steps()):
        app.store.pause(step, True)
    return query.paused(app.store)


def resume(app: Blazing, args: argparse.Namespace) -> list[str]:
    """The steps that are still paused."""
    from blazing_nb.store import query

    if not args.steps:
        app.resume()
    for step in args.steps or query.paused(app.store):
        app.store.pause(step, False)
    return query.paused(app.store)


def drain(app: Blazing, args: argparse.Namespace) -> Drained:
    return app.drain(args.timeout)


def restored(app: Blazing, args: argparse.Namespace) -> str:
    """What was found, or done."""
    if args.decision == "adopt":
        return "adopted: the app goes on from what is there" if app.adopt() else NOTHING
    if args.decision == "discard":
        deleted = app.discard()
        return f"discarded: {deleted:,} keys were deleted, and the app goes on" if deleted else NOTHING
    found = app.restored
    return NOTHING if found is None else f"{found}; decide: blazing-nb restored adopt | discard"


def _decision(parser: argparse.ArgumentParser) -> None:
    text = "adopt: go on from it; discard: delete it and go on from nothing; default: say what was found"
    parser.add_argument("decision", nargs="?", choices=("adopt", "discard"), help=text)


def _known(app: Blazing, steps: list[str]) -> list[str]:
    from blazing_nb.errors import UnknownStep

    known = app.store.steps() if steps else {}
    for step in steps:
        if step not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UnknownStep(f"App {app.app_id!r} has no step {step!r}; there are: {there}.", step=step)
    return steps


def _steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("steps", nargs="*", metavar="STEP", help="which; default: all")


def _drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait (default: 60)")


def _paused(steps: list[str]) -> str:
    return f"paused: {', '.join(steps)}" if steps else "nothing is paused"


PAUSE = Verb(
    "pause",
    "let nobody claim these steps; what runs goes on",
    pause,
    _steps,
    text=_paused,
    examples=("pause charge",),
)
RESUME = Verb(
    "resume",
    "undo pause, and drain where no step is named",
    resume,
    _steps,
    text=_paused,
    examples=(
        "resume charge",
        "resume",
    ),
)
DRAIN = Verb(
    "drain",
    "accept nothing new, wait until the queue is empty",
    drain,
    _drain,
    failed=lambda drained: not drained.empty,
    examples=("drain --timeout 600",),
)
RESTORED = Verb(
    "restored",
    "say whether an older state of the database came back, and decide what becomes of it",
    restored,
    _decision,
    text=str,
    examples=("restored", "restored adopt"),
)
