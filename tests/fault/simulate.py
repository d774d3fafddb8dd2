"""Nodes, workers and others under a seeded scheduler with a virtual clock, against a real server.


    python -m tests.fault.simulate --seeds 2000     # or: --seed 17 for one, with what happened; --mutants

One seed is one schedule. Requests and replies are dropped, delayed and doubled, actors crash at named points and pause,
the server's clock jumps, and the store falls back to what it was some time ago (as after a failover to a replica that
was behind). The package's own `NodeWriter`, `Holding` and `Store` run; every transition is witnessed (`trace.py`) and
the history is checked (`checker.py`).
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.server import server
from blazing_nb.store import join, script
from tests.fault import trace
from tests.fault.mutant import MUTANTS, mutate
from tests.fault.world import World


@contextmanager
def witnesses(mutant: str = "") -> Iterator[None]:
    """Scripts that write down what they do, with a deliberate bug where one is named."""
    source, bounds = script._source, (join.INLINE, join.A_CALL)
    join.INLINE, join.A_CALL = 3, 4  # so that members are registered before, in several calls
    logging.disable(logging.WARNING)
    try:
        script._source = lambda file: trace.witnessed(file, source(file))
        script.load.cache_clear()
        if mutant:
            mutate(mutant)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # two writers of one name: that is part of it
            yield
    finally:
        script._source = source
        join.INLINE, join.A_CALL = bounds
        script.load.cache_clear()
        logging.disable(logging.NOTSET)


def search(
    seeds: Iterable[int], mutant: str = "", *, wide: bool = True, verbose: bool = False, first_only: bool = False
) -> dict[str, Any]:
    """Run seeds on a server of their own: what was violated, by seed, and what was done to them."""
    began, executed = time.monotonic(), 0
    faults: collections.Counter[str] = collections.Counter()
    bad: dict[int, list[str]] = {}
    with server(aof=False) as (url, _), witnesses(mutant):
        for seed in seeds:
            world = World(url, seed, wide=wide, verbose=verbose)
            violations = world.run()
            faults += world.faults
            executed += sum(world.executions.values())
            if violations:
                bad[seed] = violations[:3]
                print(f"seed {seed}: {violations[:3]}", file=sys.stderr)
                narrow = "" if wide else " --narrow"
                print(
                    f"again: python -m tests.fault.simulate --seed {seed} --mutant '{mutant}'{narrow}", file=sys.stderr
                )
                if first_only:
                    break
    seconds = round(time.monotonic() - began, 1)
    return {"violations": bad, "executions": executed, "faults": dict(faults), "seconds": seconds}


def hunt(seeds: int) -> dict[str, Any]:
    """Which deliberate bugs die within so many seeds, and at which one."""
    dead: dict[str, int] = {}
    for mutant in MUTANTS:
        found = search(range(seeds), mutant, first_only=True)["violations"]
        if found:
            dead[mutant] = next(iter(found))
    return {"mutants": len(MUTANTS), "die": len(dead), "at_seed": dead, "survive": sorted(set(MUTANTS) - set(dead))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one, with what happened")
    parser.add_argument("--mutant", default="", help="with this deliberate bug; until the first violation")
    parser.add_argument("--narrow", action="store_true", help="only enqueue, claim, retry and commit")
    parser.add_argument("--mutants", action="store_true", help="with each deliberate bug in turn: which of them die")
    args = parser.parse_args()
    if args.mutants:
        print(json.dumps(hunt(args.seeds)))
        return 0
    one = args.seed is not None
    seeds = [args.seed] if one else range(args.first, args.first + args.seeds)
    found = search(seeds, args.mutant, wide=not args.narrow, verbose=one, first_only=bool(args.mutant))
    print(json.dumps({"seeds": len(seeds), **found}))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
