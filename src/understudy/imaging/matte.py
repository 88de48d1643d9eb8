"""Where a crop's new face shows: the learned mask and the face's own silhouette, drawn in and feathered inward.

Convention: a matte covers its crop's square at its own resolution, so that its edge stays soft when a small network's crop is
enlarged into a large frame; lengths are fractions of the crop's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.masks import Mask, erode, feather, polygon_mask
from understudy.imaging.meanface import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, face_outline, mean_face
from understudy.imaging.similarity import scaling
from understudy.imaging.warp import warp_image
from understudy.types import FloatArray

LEAST_SIZE_PX = 256
"""Mattes are worked out at no less than this, however small the network: their edges would be staircases."""


def face_matte(
    learned: FloatArray,
    landmarks: FloatArray,
    which: Literal["learned", "outline", "both"],
    erode_fraction: float,
    feather_fraction: float,
    visibility: FloatArray | None = None,
) -> Mask:
    """The matte of one crop, square, at least LEAST_SIZE_PX wide.

    learned: (N, N) from the network; landmarks: (468, 2) in pixels of the same N x N crop. Of "both", only the silhouette is
    drawn in and feathered: where the learned mask gives way to a hand or a bar, the new face goes right up to it. So it does
    with visibility, (M, M) over the same square: 1 where nothing stands before the face.
    """
    enlarged = np.clip(enlarge(np.asarray(learned, np.float32)), 0, 1)
    size_px = len(enlarged)
    scale = size_px / len(learned)
    outer = enlarged if which == "learned" else silhouette(landmarks * scale, size_px)
    matte = feather(erode(outer, erode_fraction * size_px), feather_fraction * size_px)
    if which == "both":
        matte = np.minimum(matte, enlarged)
    return matte if visibility is None else np.minimum(matte, at_size(visibility, size_px))


def at_size(mask: FloatArray, size_px: int) -> Mask:
    """A square mask at another size, in 0..1."""
    resized = cv2.resize(np.asarray(mask, np.float32), (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    return np.clip(resized, 0, 1)


def enlarge(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square crop (N, N) or (N, N, C) at the size of its matte: itself, or bicubically enlarged to LEAST_SIZE_PX."""
    return scaled_to(crop, max(LEAST_SIZE_PX, len(crop)))


def scaled_to(crop: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """A square crop (N, N) or (N, N, C) at another size, bicubically; itself where that is its own."""
    return crop if size_px == len(crop) else warp_image(crop, scaling(size_px / len(crop)), (size_px, size_px))


def skin_mask(matte: Mask, landmarks: FloatArray) -> Mask:
    """The matte without eyes and mouth: where colours may be compared. landmarks (468, 2) in pixels of the matte."""
    mask = matte
    for contour in (LEFT_EYE, RIGHT_EYE, OUTER_LIPS):
        mask = mask * (1 - polygon_mask(landmarks[list(contour)], (len(matte), len(matte))))
    return np.asarray(mask, np.float32)


def silhouette(landmarks: FloatArray, size_px: int) -> Mask:
    """1 where the face's mesh (468, 2), drawn out to mid-forehead and jaw, covers the square.

    Exact in profile too, where an outline of fixed points folds over.
    """
    shift_bits, supersample = 4, 2
    canvas = np.zeros((size_px * supersample, size_px * supersample), np.uint8)
    corners = (face_outline(landmarks)[mesh_triangles()] * supersample - 0.5) * 2**shift_bits
    for triangle in np.round(corners).astype(np.int32):
        cv2.fillConvexPoly(canvas, triangle, 255, lineType=cv2.LINE_8, shift=shift_bits)
    return cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


@cache
def mesh_triangles() -> NDArray[np.int64]:
    """Corner indices (T, 3) of triangles that cover the mean face as seen from the front (Delaunay)."""
    points = mean_face()[:, :2]
    subdivision = cv2.Subdiv2D((-10, -10, 20, 20))
    for x, y in points:
        subdivision.insert((float(x), float(y)))
    corners = np.asarray(subdivision.getTriangleList()).reshape(-1, 3, 2)
    is_of_points = np.all(np.abs(corners) < 5, axis=(1, 2))  # the others hang on the subdivision's own outer triangle
    distance = np.linalg.norm(corners[is_of_points][:, :, None] - points, axis=3)
    return np.asarray(distance.argmin(axis=2))


def fade(frame: int, first: int, last: int, num_frames: int, is_faded_in: bool, is_faded_out: bool) -> float:
    """How much of a face shows in `frame` of a track from `first` to `last`: rises and falls over `num_frames` at its ends."""
    steps: Sequence[float] = (
        (frame - first + 1) / (num_frames + 1) if is_faded_in else 1.0,
        (last - frame + 1) / (num_frames + 1) if is_faded_out else 1.0,
        1.0,
    )
    return min(steps)
