"""Random numbers for jitter and for incarnations, from a generator of our own: a notebook's `random.seed()` does not
decide them, and what it draws afterwards does not depend on what our threads drew meanwhile."""

from __future__ import annotations

import os
import random

CHANCE = random.Random()  # noqa: S311 - nothing secret
os.register_at_fork(after_in_child=CHANCE.seed)
