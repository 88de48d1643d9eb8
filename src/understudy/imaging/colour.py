"""Colour: transfer curves, Lab, statistics under a mask, and the affine maps that bring one skin to another's colours.

Convention: pictures are (..., 3) in the order R G B, floating point, sRGB-encoded between 0 and 1 unless a name says linear.
A colour map is a 3x4 float64 matrix `target_from_source` on column vectors (r, g, b, 1): it can be pooled, smoothed and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray

ColourMap = NDArray[np.float64]
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)
"""ITU-R BT.709, equation 3.2."""

_NOISE_FLOOR = (2 / 255) ** 2
"""Added to every variance: two levels of coding noise, below which a spread says nothing about a skin."""

_SHRINKAGE = 0.005
"""How far a covariance is drawn towards a ball: keeps a nearly flat cloud of colours from being stretched without limit."""

_DARKEST = 0.01
"""Means are taken for no darker than this before they are divided by."""

MAX_GAIN = 2.0
"""No direction of colour space is stretched more than this, nor compressed below its inverse: a poor face is not blown up."""


@dataclass(frozen=True)
class ColourStatistics:
    """The colours under a mask: how much mask there was (`weight`, px), their mean (3,) and covariance (3, 3)."""

    weight: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def luma(rgb: FloatArray) -> FloatArray:
    """The weighted sum (...,) of encoded R, G and B that stands for brightness."""
    return np.asarray(rgb @ np.asarray(LUMA_WEIGHTS, rgb.dtype))


def rgb_to_lab(rgb: FloatArray) -> NDArray[np.float32]:
    """CIE L*a*b* (D65), (H, W, 3) float32: L 0 to 100. Euclidean distance is the colour difference ΔE*76."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb, np.float32), cv2.COLOR_RGB2Lab))


# ---- statistics -----------------------------------------------------------------------------------------------------------


def measure_colour(rgb: FloatArray, mask: FloatArray) -> ColourStatistics:
    """Mean and covariance of `rgb` (H, W, 3) weighted by `mask` (H, W)."""
    weights = np.asarray(mask, np.float64).reshape(-1)
    total = float(weights.sum())
    if total <= 0:
        return ColourStatistics(0.0, np.zeros(3), np.zeros((3, 3)))
    colours = np.asarray(rgb, np.float64).reshape(-1, 3)
    mean = weights @ colours / total
    centred = colours - mean
    return ColourStatistics(total, mean, (centred * weights[:, None]).T @ centred / total)


def pool_colours(parts: Sequence[ColourStatistics], shares: FloatArray | None = None) -> ColourStatistics:
    """The average frame's statistics: means and within-frame covariances averaged, weighted by area and `shares` (N,).

    What changes from frame to frame (the light) is deliberately not counted as spread: it is common to both sides of a match.
    """
    weights = np.array([part.weight for part in parts]) * (1.0 if shares is None else np.asarray(shares, np.float64))
    total = float(weights.sum())
    if total <= 0:
        return ColourStatistics(0.0, np.zeros(3), np.zeros((3, 3)))
    mean = np.tensordot(weights, np.stack([part.mean for part in parts]), 1) / total
    covariance = np.tensordot(weights, np.stack([part.covariance for part in parts]), 1) / total
    return ColourStatistics(total, mean, covariance)


# ---- matching -------------------------------------------------------------------------------------------------------------


def match_mean(source: ColourStatistics, target: ColourStatistics) -> ColourMap:
    """The shift that gives `source` the mean of `target`."""
    return _around_means(np.eye(3), source, target)


def match_gain(source: ColourStatistics, target: ColourStatistics) -> ColourMap:
    """A gain for each channel, as another skin reflects the same light (von Kries): contrast grows with brightness alone."""
    if source.weight <= 0 or target.weight <= 0:
        return np.eye(3, 4)
    gains = np.maximum(target.mean, _DARKEST) / np.maximum(source.mean, _DARKEST)
    return np.column_stack([np.diag(np.clip(gains, 1 / MAX_GAIN, MAX_GAIN)), np.zeros(3)])


def match_mean_std(source: ColourStatistics, target: ColourStatistics) -> ColourMap:
    """Mean and spread along brightness, yellow-blue and red-green, each by itself.

    Source: Reinhard, Ashikhmin, Gooch and Shirley 2001, "Color transfer between images", eqs. 6 and 10-12; their opponent axes
    are used on encoded values, without the logarithm, so that the result is affine in R G B.
    """
    source_spread, target_spread = (_spread(np.diag(_OPPONENT @ _steady(s.covariance) @ _OPPONENT.T)) for s in (source, target))
    gains = np.clip(target_spread / source_spread, 1 / MAX_GAIN, MAX_GAIN)
    return _around_means(_OPPONENT.T @ np.diag(gains) @ _OPPONENT, source, target)


def match_mkl(source: ColourStatistics, target: ColourStatistics) -> ColourMap:
    """The linear optimal transport between two Gaussian clouds of colours: the least change that matches mean and covariance.

    Source: Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping", eq. 15.
    """
    root, inverse_root = _powers(_steady(source.covariance), 0.5, -0.5)
    (middle,) = _powers(root @ _steady(target.covariance) @ root, 0.5)
    values, vectors = np.linalg.eigh(inverse_root @ middle @ inverse_root)
    linear = vectors @ np.diag(np.clip(values, 1 / MAX_GAIN, MAX_GAIN)) @ vectors.T
    return _around_means(linear, source, target)


def colour_matcher(name: str) -> Callable[[ColourStatistics, ColourStatistics], ColourMap]:
    """The matching method called `name`: gain, mkl, reinhard or mean."""
    return {"gain": match_gain, "mkl": match_mkl, "reinhard": match_mean_std, "mean": match_mean}[name]


def apply_colour(rgb: FloatArray, target_from_source: ColourMap) -> NDArray[np.float32]:
    """`rgb` (..., 3) with its colours mapped; not clipped."""
    linear, offset = target_from_source[:, :3].astype(np.float32), target_from_source[:, 3].astype(np.float32)
    return np.asarray(np.asarray(rgb, np.float32) @ linear.T + offset)


_OPPONENT = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
"""Reinhard et al. 2001, equation 6: an orthonormal basis of brightness, yellow-blue and red-green."""


def _around_means(linear: NDArray[np.float64], source: ColourStatistics, target: ColourStatistics) -> ColourMap:
    if source.weight <= 0 or target.weight <= 0:
        return np.eye(3, 4)
    return np.column_stack([linear, target.mean - linear @ source.mean])


def _steady(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    ball = np.eye(3) * np.trace(covariance) / 3
    return (1 - _SHRINKAGE) * covariance + _SHRINKAGE * ball + _NOISE_FLOOR * np.eye(3)


def _spread(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(variance, 0.0))


def _powers(symmetric: NDArray[np.float64], *exponents: float) -> list[NDArray[np.float64]]:
    values, vectors = np.linalg.eigh(symmetric)
    return [vectors @ np.diag(np.maximum(values, 1e-12) ** exponent) @ vectors.T for exponent in exponents]
