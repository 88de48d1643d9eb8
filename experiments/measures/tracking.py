"""Following a face of known course: detections that tremble and drop out, and what is made of the gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from experiments.workshop import Workshop
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import apply, compose, invert, similarity_from_parameters
from understudy.imaging.smoothing import FACE_POINTS, smooth_similarities
from understudy.imaging.warp import warp_image
from understudy.stages._evaluation_clips import open_clip, true_whereabouts
from understudy.types import FloatArray, Image

NOISE = (0.004, 0.004, 0.006, 0.006)
"""How a measured alignment trembles: log scale, radians, x and y in face units; about the bundled clips' 0.5 px of 512."""

DROPPED_SHARE, LONGEST_BURST = 0.15, 6
Filler = Callable[[FloatArray, NDArray[np.bool_]], FloatArray]


def followed(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """How far the face's corners are from where they should be, in percent of its side: everywhere, and in the gaps.

    The seed decides the noise and the gaps. trembles: the second difference in time of the error.
    """
    random = np.random.default_rng(seed)
    points = open_clip(shop.footage.plate).true_points
    assert points is not None
    true = true_whereabouts(points).face_from_frame
    measured = np.stack([compose(similarity_from_parameters(*random.normal(0, NOISE)), each) for each in true])
    is_seen = _bursts(len(true), random) if settings["gaps"] else np.ones(len(true), bool)
    course = FILLERS[str(settings["filler"])](measured, is_seen)
    corners = np.stack([apply(each, apply(invert(place), FACE_POINTS)) for each, place in zip(true, course, strict=True)])
    error = corners - FACE_POINTS
    distance = 100 * np.linalg.norm(error, axis=-1).mean(axis=-1)
    tremble = np.full(len(true), np.nan)
    tremble[2:] = 100 * np.linalg.norm(np.diff(error, 2, axis=0), axis=-1).mean(axis=-1)
    series = {
        "misplaced": Series(distance),
        "misplaced_in_gaps": Series(np.where(is_seen, np.nan, distance)),
        "trembles": Series(tremble),
    }
    return series, _picture(shop, course, is_seen)


def _bursts(num: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """False in bursts of one to six frames, a face seen before and after each."""
    is_seen = np.ones(num, bool)
    while (~is_seen).sum() < DROPPED_SHARE * num:
        length = int(random.integers(1, LONGEST_BURST + 1))
        start = int(random.integers(1, num - length))
        if is_seen[start - 1 : start + length + 1].all():
            is_seen[start : start + length] = False
    return is_seen


def _held(measured: FloatArray, is_seen: NDArray[np.bool_]) -> FloatArray:
    last = np.maximum.accumulate(np.where(is_seen, np.arange(len(measured)), 0))
    return measured[last]


def _interpolated(measured: FloatArray, is_seen: NDArray[np.bool_]) -> FloatArray:
    rows = np.arange(len(measured))
    flat = measured.reshape(len(measured), -1)
    columns = [np.interp(rows, rows[is_seen], column[is_seen]) for column in flat.T]
    return np.stack(columns, axis=1).reshape(measured.shape)


FILLERS: Mapping[str, Filler] = {"held": _held, "interpolated": _interpolated, "smoothed": smooth_similarities}


def _picture(shop: Workshop, course: FloatArray, is_seen: NDArray[np.bool_]) -> Image:
    """The plate's face where the course puts it, from the first gap (or the first frame) on: it should stand still."""
    first = int(np.flatnonzero(~is_seen)[0]) - 1 if not is_seen.all() else 0
    chosen = [drawn.frames for drawn in shop.pair.frames if drawn.frames.index >= first][:6]
    places = [compose(crop_from_face(FULL, 112), course[each.index]) for each in chosen]
    return np.hstack([warp_image(each.plate, place, (112, 112)) for each, place in zip(chosen, places, strict=True)])
