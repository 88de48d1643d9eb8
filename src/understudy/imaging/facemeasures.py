"""Measures one face: how far mouth and eyes are open, how sharp, bright and clipped its picture is.

Convention: points are a mesh (468, 3) in pixels, z in the same unit; crops are 8-bit RGB (h, w, 3) with the face aligned.
"""

from __future__ import annotations

import cv2
import numpy as np

from understudy.imaging.masks import Mask
from understudy.imaging.meanface import align_mesh, head_pose
from understudy.imaging.similarity import scale_of
from understudy.types import FloatArray, Image

LIP_PAIRS = ((82, 87), (13, 14), (312, 317))
"""Mesh points of the upper and the lower inner lip that face each other."""

LEFT_LIDS, LEFT_CORNERS = ((160, 144), (159, 145), (158, 153)), (33, 133)
RIGHT_LIDS, RIGHT_CORNERS = ((387, 373), (386, 374), (385, 380)), (263, 362)
"""Upper and lower lid points that face each other, and the eye's corners, at image left and image right."""

TURNED_AWAY_DEGREES = 30.0
"""From this yaw on the eye beyond the nose is foreshortened or hidden, and only the nearer one is measured."""

BLACK, WHITE = 3, 252
"""Levels at or beyond which nothing is left to tell: video of limited range rarely reaches 0 and 255 themselves."""


def mouth_openness(points: FloatArray) -> float:
    """The mean gap between the inner lips in face units, measured in depth too, so that a nod does not change it."""
    return _gap(points, LIP_PAIRS) * scale_of(align_mesh(points))


def eye_openness(points: FloatArray) -> float:
    """The gap between the lids over the eye's width (Soukupova and Cech 2016), in depth; mean of the eyes that can be seen."""
    yaw = head_pose(points)[0]
    left = _gap(points, LEFT_LIDS) / _gap(points, (LEFT_CORNERS,))
    right = _gap(points, RIGHT_LIDS) / _gap(points, (RIGHT_CORNERS,))
    if abs(yaw) < TURNED_AWAY_DEGREES:
        return (left + right) / 2
    return left if yaw > 0 else right  # the nose points to image right: the left eye is the nearer one


def sharpness(crop: Image) -> float:
    """Variance of the Laplacian of the luminance (0..255): falls with blur, and with the size of the face behind the crop."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def brightness(crop: Image, face: Mask) -> float:
    """The mean luminance (0..1, as coded) where `face` (h, w) is; NaN where it is nowhere."""
    total = float(face.sum())
    return float((cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) * face).sum()) / total / 255 if total > 0 else float("nan")


def clipped_share(crop: Image, face: Mask) -> float:
    """The share (0..1) of `face` (h, w) that is black in all channels or white in any: what no grading brings back."""
    total = float(face.sum())
    highest = np.maximum(np.maximum(crop[..., 0], crop[..., 1]), crop[..., 2])  # a twentieth of the time of crop.max(axis=2)
    is_clipped = (highest <= BLACK) | (highest >= WHITE)
    return float((is_clipped * face).sum()) / total if total > 0 else float("nan")


def share_outside(points: FloatArray, width: int, height: int) -> float:
    """The share (0..1) of a face's mesh (N, 2 or 3), in pixels of a picture, that lies beyond the picture's edges."""
    outline = cv2.convexHull(np.ascontiguousarray(points[:, :2], np.float32))
    picture = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inside, _ = cv2.intersectConvexConvex(outline, picture)
    return float(np.clip(1 - inside / max(cv2.contourArea(outline), 1e-9), 0, 1))


def _gap(points: FloatArray, pairs: tuple[tuple[int, int], ...]) -> float:
    """The mean distance between the two points of each pair."""
    one, other = (np.asarray(points, np.float64)[[pair[side] for pair in pairs]] for side in (0, 1))
    return float(np.linalg.norm(one - other, axis=1).mean())
