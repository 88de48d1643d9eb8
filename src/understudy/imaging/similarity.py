"""Similarity transforms of the plane: fit, compose, invert, apply.

Convention: a transform is a 2x3 float64 matrix named `target_from_source`; it takes column vectors (x, y, 1) in source units
to (x, y) in target units. Angles are radians, positive from +x towards +y (clockwise as displayed, since y points down).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray

Matrix = NDArray[np.float64]


def fit_similarity(source: FloatArray, target: FloatArray, weights: FloatArray | None = None) -> Matrix:
    """The similarity that brings source points closest to target points in weighted least squares; it never mirrors.

    source, target: (N, 2), N >= 2; weights: (N,) non-negative. Returns target_from_source.
    Raises ValueError for mismatched shapes or when all source points coincide.
    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", eqs. 34-42. The
    reflection case (its matrix S) matters for faces in profile, whose points can arrive mirrored; the 2017 code got it wrong.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"expected two (N, 2) arrays with N >= 2, got {source.shape} and {target.shape}")
    share = np.full(len(source), 1 / len(source)) if weights is None else np.asarray(weights, np.float64) / np.sum(weights)
    source_mean, target_mean = share @ source, share @ target
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = float(share @ np.sum(source_centred**2, axis=1))
    if variance <= 0:
        raise ValueError("expected source points that differ, got one point repeated")
    covariance = (target_centred * share[:, None]).T @ source_centred
    u, singular_values, v_transposed = np.linalg.svd(covariance)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v_transposed)) or 1.0])
    rotation = u @ np.diag(sign) @ v_transposed
    scale = float(singular_values @ sign) / variance
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def compose(c_from_b: Matrix, b_from_a: Matrix) -> Matrix:
    """c_from_a: first b_from_a, then c_from_b (read right to left, as in `crop_from_face @ face_from_frame`)."""
    return np.column_stack([c_from_b[:, :2] @ b_from_a[:, :2], c_from_b[:, :2] @ b_from_a[:, 2] + c_from_b[:, 2]])


def invert(b_from_a: Matrix) -> Matrix:
    """a_from_b. Raises numpy.linalg.LinAlgError when the transform flattens the plane."""
    linear = np.linalg.inv(b_from_a[:, :2])
    return np.column_stack([linear, -linear @ b_from_a[:, 2]])


def apply(b_from_a: Matrix, points: FloatArray) -> NDArray[np.float64]:
    """Points (..., 2) in a, taken to b."""
    return np.asarray(points, np.float64) @ b_from_a[:, :2].T + b_from_a[:, 2]


def translation(x: float, y: float) -> Matrix:
    """The transform that adds (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def scaling(factor: float) -> Matrix:
    """The transform that multiplies coordinates by `factor` about the origin."""
    return np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]])


def scale_of(b_from_a: Matrix) -> float:
    """How many units of b one unit of a becomes."""
    return float(np.sqrt(abs(np.linalg.det(b_from_a[:, :2]))))


def similarity_parameters(b_from_a: Matrix) -> tuple[float, float, float, float]:
    """(log_scale, angle_radians, x, y) of a similarity; the inverse of `similarity_from_parameters`."""
    linear = b_from_a[:, :2]
    return (
        float(np.log(scale_of(b_from_a))),
        float(np.arctan2(linear[1, 0], linear[0, 0])),
        float(b_from_a[0, 2]),
        float(b_from_a[1, 2]),
    )


def similarity_from_parameters(log_scale: float, angle_radians: float, x: float, y: float) -> Matrix:
    """The similarity with the given scale, rotation and translation."""
    cosine, sine = np.exp(log_scale) * np.cos(angle_radians), np.exp(log_scale) * np.sin(angle_radians)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])
