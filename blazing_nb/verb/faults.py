"""`faults`: the fault lab."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.notebook.lab import Lab

KINDS = ("kill", "pause", "flood", "restart", "partition", "slow", "drop", "storm")


def faults(app: Blazing, args: argparse.Namespace) -> Lab:
    from blazing_nb.client.fault import OPERATIONS, Experiment
    from blazing_nb.notebook.lab import Lab

    operations = OPERATIONS if args.operations is None else args.operations
    return Lab(Experiment(app, args.fault, operations, seed=args.seed)).watch()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fault", choices=KINDS, help="what happens, to workers, nodes, server or network")
    parser.add_argument("--operations", type=int, metavar="N", help="how many operations go on meanwhile")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of a storm: the same seed, the same faults")


FAULTS = Verb(
    "faults",
    "break something on purpose, and see that nothing is lost",
    faults,
    _arguments,
    failed=lambda lab: not lab.holds,
    examples=(
        "faults kill",
        "faults storm --seed 7",
    ),
)
