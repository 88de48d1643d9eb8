"""How often each face is shown in training, so that what is rare in the footage is learned too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray

NUM_BINS = 8
"""Bins of equal width over the range of a measure."""

MOST_OFTEN = 8.0
"""No bin is shown more than this many times as often as it occurs: a handful of pictures would be learned by heart."""

RANGE_PERCENT = (1.0, 99.0)
"""Where the outermost bins end; what lies beyond, often a measuring error, is counted with them."""


def balanced_shares(measures: FloatArray) -> NDArray[np.float64]:
    """The share of training (N,), summing to 1, of each of N faces with K measures (N, K), say yaw, mouth and eye opening.

    Each measure by itself would be shown evenly over its range; a face gets the mean of what its measures ask for. A measure
    that is unknown (NaN) or does not vary asks for nothing.
    """
    num_faces = len(measures)
    asked = [_even_over_range(column) for column in np.asarray(measures, np.float64).T]
    shares = np.mean(asked, axis=0) if asked else np.full(num_faces, 1 / num_faces)
    return np.asarray(shares / shares.sum())


def _even_over_range(values: FloatArray) -> FloatArray:
    """Shares (N,) under which each occupied bin of one measure has the same weight, as far as `MOST_OFTEN` allows."""
    even = np.full(len(values), 1 / len(values))
    is_known = np.isfinite(values)
    if not is_known.any():
        return even
    low, high = np.percentile(values[is_known], RANGE_PERCENT)
    if high <= low:
        return even
    bins = np.clip(((values[is_known] - low) / (high - low) * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    times = np.minimum(len(bins) / (np.count_nonzero(counts) * counts[bins]), MOST_OFTEN)
    even[is_known] *= times
    return even
