"""A figure as the rows it is made from, frame by frame, and the named statistic that makes it: to be drawn anew, or paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from understudy.imaging.metrics_geometry import gain_and_r2, mean_gain
from understudy.imaging.metrics_statistics import Interval, interval, mean_known, root_mean_square
from understudy.imaging.metrics_temporal import lag_frames
from understudy.types import FloatArray

Statistic = Callable[[FloatArray], float]


def ratio(speeds: FloatArray) -> float:
    """Root mean square of the first column over that of the second, in rows (T, 2) that have both."""
    known = speeds[np.isfinite(speeds).all(axis=1)]
    reference = root_mean_square(known[:, 1])
    return root_mean_square(known[:, 0]) / reference if reference > 0 else float("nan")


STATISTICS: Mapping[str, Statistic] = {
    "mean": mean_known,
    "root mean square": root_mean_square,
    "ratio": ratio,
    "gain": lambda pairs: gain_and_r2(pairs)[0],
    "r2": lambda pairs: gain_and_r2(pairs)[1],
    "mean gain": mean_gain,
    "lag": lambda rows: lag_frames(rows[:, :, 0], rows[:, :, 1:]),
}
"""By name, so that a figure's rows can be kept in a file and worked with later."""


@dataclass(frozen=True)
class Series:
    """Rows (T, ...) in time order, NaN where nothing was measured, and the name of what makes one figure of them."""

    rows: FloatArray
    statistic: str = "mean"

    @property
    def value(self) -> float:
        """The figure."""
        return STATISTICS[self.statistic](self.rows)

    def interval(self) -> Interval:
        """The figure with its 95 % interval over frames."""
        return interval(self.rows, STATISTICS[self.statistic])
