"""How sure a figure is: intervals by block bootstrap over frames, which follow each other and so are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return paired_interval((), (rows,), statistic, seed)


def paired_interval(
    before: Sequence[FloatArray], after: Sequence[FloatArray], statistic: Callable[[FloatArray], float], seed: int = 0
) -> Interval:
    """How much `statistic` grew from `before` to `after` (each: one series of rows a training seed), with its 95 % interval.

    Both sides take part with the same frames and, where they have equally many, the same seeds in each resample, so that what
    they share (a hard frame, a lucky seed) drops out. Without `before`, the interval of `after` itself. All series are of one
    clip: (T, ...) in time order. With one seed, how much training's chance matters is not in the interval.
    """
    num_frames = len(after[0])
    value = _mean_of(statistic, after) - (_mean_of(statistic, before) if before else 0.0)
    if num_frames < 2 * BLOCK_FRAMES:
        return Interval(value, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    num_blocks = -(-num_frames // BLOCK_FRAMES)
    starts = random.integers(0, num_frames, (NUM_RESAMPLES, num_blocks, 1))
    frames = (starts + np.arange(BLOCK_FRAMES)).reshape(NUM_RESAMPLES, -1)[:, :num_frames] % num_frames
    drawn = [random.integers(0, len(side), (NUM_RESAMPLES, len(side))) if side else None for side in (before, after)]
    if len(before) == len(after):
        drawn[0] = drawn[1]
    estimates = np.zeros(NUM_RESAMPLES)
    for side, seeds, sign in zip((before, after), drawn, (-1, 1), strict=True):
        if seeds is not None:
            of_seed = np.array([[statistic(rows[chosen]) for rows in side] for chosen in frames])
            estimates += sign * np.take_along_axis(of_seed, seeds, axis=1).mean(axis=1)
    estimates = estimates[np.isfinite(estimates)]
    if len(estimates) < NUM_RESAMPLES / 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(estimates, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(value, float(low), float(high))


def _mean_of(statistic: Callable[[FloatArray], float], several: Sequence[FloatArray]) -> float:
    return float(np.mean([statistic(rows) for rows in several]))


def mean_known(values: FloatArray) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def root_mean_square(values: FloatArray) -> float:
    """The root of the mean square of what is not NaN; NaN if nothing is left."""
    return float(np.sqrt(mean_known(np.asarray(values, np.float64) ** 2)))
