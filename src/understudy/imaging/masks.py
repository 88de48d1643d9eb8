"""Masks as float32 pictures between 0 and 1: drawn from points, eroded, feathered inward."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray

Mask = NDArray[np.float32]


def polygon_mask(points_px: FloatArray, size: tuple[int, int]) -> Mask:
    """1 inside the polygon (N, 2), 0 outside, antialiased at its edge; `size` is (width, height).

    Points that are not finite, as of a face that was not found, enclose nothing.
    """
    shift_bits, supersample = 4, 4
    width, height = size
    if not np.isfinite(points_px).all():
        return np.zeros((height, width), np.float32)
    canvas = np.zeros((height * supersample, width * supersample), np.uint8)
    # The polygon filler works on pixel centres of the enlarged canvas, in fixed point.
    fixed_point = np.round((np.asarray(points_px, np.float64) * supersample - 0.5) * 2**shift_bits).astype(np.int32)
    cv2.fillPoly(canvas, [fixed_point], 255, lineType=cv2.LINE_8, shift=shift_bits)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def hull_mask(points_px: FloatArray, size: tuple[int, int]) -> Mask:
    """`polygon_mask` of the points' convex hull."""
    points = np.asarray(points_px, np.float32)
    return polygon_mask(cv2.convexHull(points)[:, 0] if np.isfinite(points).all() else points, size)


def erode(mask: Mask, radius_px: float) -> Mask:
    """The mask drawn in by `radius_px` on all sides; what lies beyond the picture counts as outside."""
    if radius_px <= 0:
        return mask
    distance = cv2.distanceTransform(_padded_inside(mask), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.minimum(mask, np.clip(distance - radius_px + 0.5, 0, 1)).astype(np.float32)


def dilate(mask: Mask, radius_px: float) -> Mask:
    """The mask widened by `radius_px` on all sides."""
    if radius_px <= 0:
        return mask
    distance = cv2.distanceTransform((mask <= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return np.maximum(mask, np.clip(radius_px - distance + 1, 0, 1)).astype(np.float32)


def feather(mask: Mask, width_px: float) -> Mask:
    """The mask with an edge that rises smoothly from 0 to 1 over `width_px`, inward only: nothing outside is touched."""
    if width_px <= 0:
        return mask
    distance = cv2.distanceTransform(_padded_inside(mask), cv2.DIST_L2, 5)[1:-1, 1:-1]
    ramp = np.clip(distance / width_px, 0, 1)
    return np.minimum(mask, ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _padded_inside(mask: Mask) -> NDArray[np.uint8]:
    return np.pad((mask > 0.5).astype(np.uint8), 1)
