"""What a selection of faces rests on: how sharp each is, where its light comes from, what it looks like, how it is aligned.

Convention: luminance is (S, S), 0..255, of a crop in the framing `full`; masks (S, S) bool say where the face is in it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.facemeasures import LEFT_CORNERS, LEFT_LIDS, RIGHT_CORNERS, RIGHT_LIDS
from understudy.imaging.meanface import RIGID_POINTS, mean_face
from understudy.imaging.similarity import Matrix, apply, compose, invert
from understudy.types import FloatArray

FINE_SIGMAS, COARSE_SIGMAS = (1 / 160, 1 / 80), (1 / 40, 1 / 20)
"""Two octaves of detail, as fractions of the crop's side: a blur takes the first long before the second."""

LEAST_DETAIL = 0.25
"""Levels of 255: flatter than this, a face has no detail to judge by."""

FINGERPRINT_SIDE = 24

_SLOPES = tuple(
    np.array(kernel, np.float32)
    for kernel in (
        [[0, 0, 0], [-1, 0, 1], [0, 0, 0]],
        [[0, -1, 0], [0, 0, 0], [0, 1, 0]],
        [[-1, 0, 0], [0, 0, 0], [0, 0, 1]],
        [[0, 0, -1], [0, 0, 0], [1, 0, 0]],
    )
)
"""Differences along the rows, the columns and both diagonals."""

_UNIT_SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def focus(luminance: FloatArray, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(4,): along each of four directions, how steep the fine detail is over how steep the coarse (ratio of spreads).

    A blur lowers them all, a shake those along it; dim or flat light hardly does, which lowers the variance of the Laplacian
    with its square. What is usual differs from direction to direction, so compare each with its own. NaN without any detail.
    """
    picture = np.asarray(luminance, np.float32)
    fine, coarse = (_band(picture, sigmas) for sigmas in (FINE_SIGMAS, COARSE_SIGMAS))
    if float(np.std(coarse[mask])) < LEAST_DETAIL:
        return np.full(len(_SLOPES), np.nan)
    return np.array([np.std(_slope(fine, each)[mask]) / np.std(_slope(coarse, each)[mask]) for each in _SLOPES])


def _slope(picture: FloatArray, kernel: FloatArray) -> FloatArray:
    return np.asarray(cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE))


def _band(picture: FloatArray, sigmas: tuple[float, float]) -> NDArray[np.float32]:
    side = picture.shape[0]
    narrow, wide = (cv2.GaussianBlur(picture, (0, 0), sigma * side, borderType=cv2.BORDER_REPLICATE) for sigma in sigmas)
    return np.asarray(narrow - wide, np.float32)


def light_side(luminance: FloatArray, mask: NDArray[np.bool_], middle: float) -> float:
    """Where the light comes from: -1 image left, 0 even, 1 image right; 1/3 is twice as light.

    middle: the column that parts the two halves of the face.
    """
    columns = np.nonzero(mask)[1]
    inside = luminance[mask]
    if not (columns < middle).any() or not (columns >= middle).any():
        return float("nan")
    left, right = float(inside[columns < middle].mean()), float(inside[columns >= middle].mean())
    return (right - left) / max(right + left, 1.0)


def fingerprint(luminance: FloatArray) -> NDArray[np.float32]:
    """The look of a face in 576 numbers; the root mean square difference of two is in levels of 255."""
    size = (FINGERPRINT_SIDE, FINGERPRINT_SIDE)
    return np.asarray(cv2.resize(np.asarray(luminance, np.float32), size, interpolation=cv2.INTER_AREA)).ravel()


# ---- from landmarks alone -------------------------------------------------------------------------------------------------


def flat_eye_openness(landmarks: FloatArray) -> float:
    """`facemeasures.eye_openness` for landmarks without depth (468, 2): of the eye that is wider in the picture."""
    points = np.asarray(landmarks, np.float64)[:, :2]

    def gap(one: int, other: int) -> float:
        return float(np.linalg.norm(points[one] - points[other]))

    lids, corners = max(((LEFT_LIDS, LEFT_CORNERS), (RIGHT_LIDS, RIGHT_CORNERS)), key=lambda eye: gap(*eye[1]))
    width = gap(*corners)
    return float(np.mean([gap(*pair) for pair in lids])) / width if width > 0 else float("nan")


def shape_misfit(landmarks: FloatArray, face_from_frame: Matrix) -> float:
    """How far (face units, root mean square) brows, nose and eyes stay from any view of the mean head.

    Every head, turned any way, near or far, is an affine image of the mean head but for its own features; a mesh that has
    slipped off a face is not.
    """
    rigid = list(RIGID_POINTS)
    mean = np.column_stack([mean_face()[rigid], np.ones(len(rigid))])
    points = apply(face_from_frame, np.asarray(landmarks, np.float64)[rigid, :2])
    affine, *_ = np.linalg.lstsq(mean, points, rcond=None)
    return float(np.sqrt(np.mean(np.sum((mean @ affine - points) ** 2, axis=1))))


def alignment_error(own_face_from_frame: Matrix, face_from_frame: Matrix) -> float:
    """How far (face units) a face's own alignment lies from the one in use: the farthest corner of its unit square."""
    corners = apply(compose(np.asarray(own_face_from_frame), invert(np.asarray(face_from_frame))), _UNIT_SQUARE)
    return float(np.linalg.norm(corners - _UNIT_SQUARE, axis=1).max())
