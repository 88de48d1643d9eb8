"""How sure a figure is: intervals by block bootstrap over frames, which follow each other and so are not independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from understudy.types import FloatArray

BLOCK_FRAMES = 10
"""Frames drawn together: about how long an expression lasts at 25 a second."""

NUM_RESAMPLES = 400
SHARE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the range that holds it with a probability of 95 %."""

    value: float
    low: float
    high: float


def interval(rows: FloatArray, statistic: Callable[[FloatArray], float], seed: int = 0) -> Interval:
    """`statistic` of the per-frame `rows` (T, ...), in time order, with the percentile interval of its block bootstrap.

    Blocks of neighbouring frames are drawn with replacement, the clip taken as a circle. A clip shorter than two blocks says
    nothing of its own spread: its interval is NaN.
    Source: Politis and Romano 1992, "A circular block-resampling procedure for stationary data".
    """
    value = statistic(rows)
    if len(rows) < 2 * BLOCK_FRAMES:
        return Interval(value, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    num_blocks = -(-len(rows) // BLOCK_FRAMES)
    starts = random.integers(0, len(rows), (NUM_RESAMPLES, num_blocks, 1))
    indices = (starts + np.arange(BLOCK_FRAMES)).reshape(NUM_RESAMPLES, -1)[:, : len(rows)] % len(rows)
    estimates = np.array([statistic(rows[chosen]) for chosen in indices])
    estimates = estimates[np.isfinite(estimates)]
    if len(estimates) < NUM_RESAMPLES / 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(estimates, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(value, float(low), float(high))


def mean_known(values: FloatArray) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def root_mean_square(values: FloatArray) -> float:
    """The root of the mean square of what is not NaN; NaN if nothing is left."""
    return float(np.sqrt(mean_known(np.asarray(values, np.float64) ** 2)))
