"""Log-scaled histograms: bucket b counts [2^(b/4), 2^((b+1)/4)) microseconds. Mergeable; differences are intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping

Histogram = Mapping[int, int]


def bucket(us: float) -> int:
    return math.floor(4 * math.log2(max(us, 1.0)) + 1e-9)


def bounds(index: int) -> tuple[float, float]:
    """Lower and upper bound in seconds."""
    return 2 ** (index / 4) / 1e6, 2 ** ((index + 1) / 4) / 1e6


def quantile(histogram: Histogram, q: float) -> float:
    """Seconds below which a share `q` lies, interpolated in its bucket; NaN of an empty histogram."""
    total = sum(histogram.values())
    if not total:
        return math.nan
    rank, seen = q * total, 0
    for index in sorted(histogram):
        count = histogram[index]
        if count and seen + count >= rank:
            low, high = bounds(index)
            return low + (high - low) * (rank - seen) / count
        seen += count
    return bounds(max(histogram))[1]


def merge(a: Histogram, b: Histogram) -> dict[int, int]:
    return {index: a.get(index, 0) + b.get(index, 0) for index in a.keys() | b.keys()}


def difference(later: Histogram, earlier: Histogram) -> dict[int, int]:
    """What was counted between two readings."""
    return {index: n for index in later if (n := later[index] - earlier.get(index, 0)) > 0}


def cumulative(histogram: Histogram, low: int = 6, high: int = 32) -> list[tuple[float, int]]:
    """(upper bound in seconds, how many lie below it) for each power of two of microseconds from 2^low to 2^high, then
    for infinity. The default is 64 us to 72 minutes."""
    rows, total = [], 0
    indices = sorted(histogram)
    at = 0
    for octave in range(low, high + 1):
        while at < len(indices) and indices[at] < 4 * octave:
            total += histogram[indices[at]]
            at += 1
        rows.append((2**octave / 1e6, total))
    return [*rows, (math.inf, sum(histogram.values()))]


def total_s(histogram: Histogram) -> float:
    """The sum of all that was counted, in seconds, within 9 %: each as the geometric middle of its bucket."""
    return sum(n * math.sqrt(math.prod(bounds(index))) for index, n in histogram.items())


def mean(histogram: Histogram) -> float:
    """Seconds, with each counted as the middle of its bucket; NaN of an empty histogram."""
    total = sum(histogram.values())
    return sum(n * sum(bounds(index)) / 2 for index, n in histogram.items()) / total if total else math.nan
