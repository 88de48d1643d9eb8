"""Which pixels of a picture a face's mesh covers, and where the same bits of the face lie in pictures of other faces.

Convention: pictures are square crops (S, S); a form is (470, 2 or 3): x, y (and z towards the camera) of the mesh's 468 points
and the two irises in pixels of the crop, where the first pixel's middle is 0.5.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.masks import Mask
from understudy.imaging.matte import mesh_triangles
from understudy.imaging.meanface import mean_face, raise_forehead
from understudy.types import FloatArray

NUM_MESH_POINTS = 468
_LEAST_AREA_PX = 0.3


class Where(NamedTuple):
    """The pixels (M,) that a mesh covers, counted along a crop's rows: in which triangle (M, 3), with which shares (M, 3)."""

    pixels: NDArray[np.int64]
    corners: NDArray[np.int64]
    shares: NDArray[np.float32]

    def only(self, chosen: NDArray[np.bool_]) -> Where:
        numbers = np.flatnonzero(chosen)
        return Where(self.pixels[numbers], self.corners[numbers], self.shares[numbers])

    def between(self, at_points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, C): what lies between the mesh's points, where what is at them is known (468, C)."""
        values = self.shares[:, :1] * at_points[self.corners[:, 0]]
        for corner in (1, 2):
            values += self.shares[:, corner, None] * at_points[self.corners[:, corner]]
        return values

    def places_on(self, forms: FloatArray) -> NDArray[np.float32]:
        """(K, M, 2): where the same bits of the face lie in K pictures with other forms (K, 470, 2)."""
        outlines = np.stack([outline(form)[:, :2] for form in forms], axis=1).astype(np.float32)
        return self.between(outlines.reshape(NUM_MESH_POINTS, -1)).reshape(-1, len(forms), 2).swapaxes(0, 1)


def where_it_lies(form: FloatArray, size_px: int) -> Where:
    """What a mesh covers: of triangles that lie over one another, as in profile, the one nearest to the camera counts."""
    points, triangles = outline(form), mesh_triangles()
    areas = _areas(points)
    order = np.argsort(points[triangles, 2].mean(axis=1), kind="stable") if points.shape[1] > 2 else np.arange(len(triangles))
    numbers = np.full((size_px, size_px), -1, np.int32)
    fixed = np.round((points[triangles, :2] - 0.5) * 16).astype(np.int32)
    for triangle in order[areas[order] > _LEAST_AREA_PX]:  # the others are seen from behind
        cv2.fillConvexPoly(numbers, fixed[triangle], int(triangle), lineType=cv2.LINE_8, shift=4)
    pixels = np.flatnonzero(numbers >= 0)
    inside = triangles[numbers.ravel()[pixels]]
    a, b, c = (points[inside[:, corner], :2] for corner in range(3))
    place = middles(pixels, size_px)
    whole = _cross(b - a, c - a)
    second, third = _cross(place - a, c - a) / whole, _cross(b - a, place - a) / whole
    return Where(pixels, inside, np.stack([1 - second - third, second, third], axis=1).astype(np.float32))


def middles(pixels: NDArray[np.int64], size_px: int) -> FloatArray:
    """(M, 2): the middles of pixels that are counted along the rows of a crop."""
    return np.stack([pixels % size_px + 0.5, pixels // size_px + 0.5], axis=1)


def cover_of(where: Where, size_px: int) -> Mask:
    """(S, S): 1 within the mesh, 0 beyond it."""
    cover = np.zeros(size_px * size_px, np.float32)
    cover[where.pixels] = 1
    return cover.reshape(size_px, size_px)


def outline(form: FloatArray) -> FloatArray:
    """The mesh's 468 points, drawn out to mid-forehead."""
    return raise_forehead(np.asarray(form, np.float64)[:NUM_MESH_POINTS])


def _areas(points: FloatArray) -> FloatArray:
    """(T,) of each triangle in pixels, negative where it is seen from behind."""
    a, b, c = (points[mesh_triangles()[:, corner], :2] for corner in range(3))
    return _cross(b - a, c - a) / 2 * _signs()


@cache
def _signs() -> FloatArray:
    a, b, c = (raise_forehead(mean_face())[mesh_triangles()[:, corner], :2] for corner in range(3))
    return np.sign(_cross(b - a, c - a))


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
