"""Turns an exemplar's eye to where a drawn one looks, since the mesh reaches from lid to lid and does not know.

Convention: a form is (470, 2 or 3): the mesh's 468 points and the two irises, that at image left first, in pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.meanface import LEFT_EYE, RIGHT_EYE
from understudy.types import FloatArray

LEFT_IRIS, RIGHT_IRIS = 468, 469

IRIS_REACH, IRIS_MOVE = 0.35, 0.25
"""An eye that looks elsewhere in an exemplar is turned: what lies so near to its iris is moved, by this at most, both in widths
of the eye."""

SHUT, OPEN = 0.12, 0.25
"""Height of an eye over its width: below the first no iris is to be seen that could be moved, above the second all of it."""


def looking_alike(
    places: NDArray[np.float32], middles: FloatArray, form: FloatArray, forms: FloatArray, points: Sequence[int]
) -> NDArray[np.float32]:
    """Places (K, M, 2) in pictures of other forms (K, 470, 2) of the pixels around `middles` (M, 2), changed so that an iris
    lies on an iris: the mesh reaches from lid to lid and does not know where the eye looks. Unchanged where no eye is open."""
    iris = next((point for point in points if point >= LEFT_IRIS), None)
    if iris is None or not len(middles):
        return places
    lids = LEFT_EYE if iris == LEFT_IRIS else RIGHT_EYE
    distances = np.linalg.norm(middles - form[iris, :2], axis=1)
    nearest = int(distances.argmin())
    width, openness = _eye(form[None], lids)
    widths, opennesses = _eye(forms, lids)
    moves = forms[:, iris] - (places[:, nearest] + form[iris, :2] - middles[nearest])
    lengths = np.maximum(np.linalg.norm(moves, axis=1), 1e-6)
    shares = np.minimum(openness, opennesses) * np.minimum(1, IRIS_MOVE * widths / lengths)
    nearness = np.exp(-((distances / (IRIS_REACH * width)) ** 4))
    return np.asarray(places + (shares[:, None] * moves)[:, None] * nearness[:, None], np.float32)


def _eye(forms: FloatArray, lids: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """(K,), (K,): the width of an eye in pixels, and how far it is open, 0 to 1."""
    outer, lower, inner, upper = (forms[:, lids[quarter], :2] for quarter in (0, 4, 8, 12))
    widths = np.maximum(np.linalg.norm(outer - inner, axis=1), 1e-6)
    return widths, np.clip((np.linalg.norm(upper - lower, axis=1) / widths - SHUT) / (OPEN - SHUT), 0, 1)
