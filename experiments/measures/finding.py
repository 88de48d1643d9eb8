"""Finding and aligning a face of known place: by detector and yaw, and by how many landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from experiments.workshop import Workshop, shown_rows
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.meanface import IBUG_FROM_MESH, RIGID_POINTS, align_ibug, mean_face
from understudy.imaging.metrics_series import Series
from understudy.imaging.metrics_temporal import second_difference
from understudy.imaging.similarity import Matrix, apply, compose, fit_similarity, invert
from understudy.imaging.smoothing import FACE_POINTS
from understudy.imaging.warp import warp_image
from understudy.perception.survey import DETECTORS
from understudy.types import Detection, FloatArray, Image

FRONTAL_DEGREES, PROFILE_DEGREES = 30.0, 45.0
FIVE = (33, 133, 362, 263, 1, 61, 291)
"""Mesh points from which the five of MTCNN are made: the eyes' middles, the nose's tip, the corners of the mouth."""


def seen_by_seed(shop: Workshop, seed: int) -> tuple[list[Image], list[FloatArray], FloatArray]:
    """The frames of one clip with their true landmarks and yaw: the plate, the truth, and the plate as a poor recording.

    What differs from seed to seed is who is filmed and how well.
    """
    is_truth = seed % 3 == 1
    images, points = [], []
    for drawn in shop.pair.frames:
        image = drawn.frames.truth if is_truth else drawn.frames.plate
        place = drawn.truth_from_frame if is_truth else drawn.plate_from_frame
        assert image is not None
        # The plate's own true landmarks are not at hand: the truth's, brought to the plate's alignment, serve as well.
        points.append(drawn.true_points if is_truth else apply(invert(place), apply(drawn.truth_from_frame, drawn.true_points)))
        images.append(_poor(image, seed) if seed % 3 == 2 else image)
    return images, points, shop.pair.yaw


def _poor(image: Image, seed: int) -> Image:
    """The frame from a quarter of its pixels, with grain."""
    random = np.random.default_rng(seed)
    small = cv2.resize(image, (image.shape[1] // 4, image.shape[0] // 4), interpolation=cv2.INTER_AREA)
    noisy = np.clip(small + random.normal(0, 6, small.shape), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(noisy, image.shape[1::-1], interpolation=cv2.INTER_CUBIC))


# ---- finding --------------------------------------------------------------------------------------------------------------


def detected(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image | None]:
    """Whether the detector finds the face of each scored frame; how steady its box is while the head faces the camera."""
    detect = DETECTORS[str(settings["detector"])]()
    images, points, yaw = seen_by_seed(shop, seed)
    found, centres = [], []
    for image, true in zip(images, points, strict=True):
        best = next((each for each in detect(image) if _is_it(each, true)), None)
        found.append(float(best is not None))
        centres.append(_middle(best) if best is not None else np.full(2, np.nan))
    rows = np.array(found)
    side = np.mean([np.ptp(true[:, 0]) for true in points])
    tremble = np.linalg.norm(second_difference(np.array(centres) - [true.mean(axis=0) for true in points]), axis=1)
    series = {
        "found": Series(100 * rows),
        "found_frontal": Series(100 * np.where(yaw <= FRONTAL_DEGREES, rows, np.nan)),
        "found_profile": Series(100 * np.where(yaw >= PROFILE_DEGREES, rows, np.nan)),
        "box_trembles": Series(np.where(yaw <= FRONTAL_DEGREES, 100 * tremble / side, np.nan)),
    }
    return series, _marked(images, [detect(images[n]) for n in _shown(shop)], shop) if seed == 0 else None


def _is_it(detection: Detection, points: FloatArray) -> bool:
    """Whether the box holds the true face's middle and is about its size."""
    box, (width, height), centre = detection.box, np.ptp(points, axis=0), points.mean(axis=0)
    is_inside = box.left < centre[0] < box.right and box.top < centre[1] < box.bottom
    return bool(is_inside and 0.4 < max(box.width, box.height) / max(width, height) < 2.5)


def _middle(detection: Detection) -> FloatArray:
    box = detection.box
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])


def _marked(images: Sequence[Image], found: Sequence[Sequence[Detection]], shop: Workshop) -> Image:
    """The shown frames with what was found in green; red round the picture where nothing was."""
    tiles = []
    for n, detections in zip(_shown(shop), found, strict=True):
        picture = images[n].copy()
        for each in detections[:1]:
            corners = [int(value) for value in (each.box.left, each.box.top, each.box.right, each.box.bottom)]
            cv2.rectangle(picture, corners[:2], corners[2:], (60, 220, 60), 6)
        if not detections:
            cv2.rectangle(picture, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), (230, 40, 40), 16)
        tiles.append(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


# ---- aligning -------------------------------------------------------------------------------------------------------------


def aligned(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """How far the corners of the face's square lie from where the true landmarks put them, and how much they tremble.

    In percent of the square's side, seen from the truth; the mean difference (another definition of the points) does not count.
    """
    fit = ALIGNMENTS[str(settings["landmarks"])]
    detect = DETECTORS["mediapipe"]()
    images, points, yaw = seen_by_seed(shop, seed)
    corners = np.full((len(images), len(FACE_POINTS), 2), np.nan)
    crops = []
    for n, (image, true) in enumerate(zip(images, points, strict=True)):
        found = next((each for each in detect(image) if _is_it(each, true)), None)
        if found is None or yaw[n] > PROFILE_DEGREES:
            continue
        mesh = shop.pair.landmarker.mesh(image, found).points[:, :2]
        place = fit(found, mesh)
        corners[n] = apply(align_ibug(true), apply(invert(place), FACE_POINTS))
        if n in _shown(shop)[:2] + _shown(shop)[3:]:
            crops.append(_crop(image, place))
    offset = corners - np.nanmean(corners, axis=0)
    error = 100 * np.linalg.norm(offset, axis=-1).mean(axis=-1)
    tremble = 100 * np.linalg.norm(second_difference(corners), axis=-1).mean(axis=-1)
    return {"misplaced": Series(error), "trembles": Series(tremble)}, np.hstack(crops)


def _by_box(found: Detection, mesh: FloatArray) -> Matrix:
    """Upright, as large as the box and in its middle: no landmark at all."""
    box = found.box
    side = max(box.width, box.height)
    scale = 1 / (0.85 * side)
    middle = _middle(found)
    return np.array([[scale, 0, 0.5 - scale * middle[0]], [0, scale, 0.5 - scale * middle[1]]])


def _five(mesh: FloatArray) -> FloatArray:
    left, left_inner, right_inner, right, nose, *mouth = (mesh[k] for k in FIVE)
    return np.array([(left + left_inner) / 2, (right_inner + right) / 2, nose, *mouth])


def _by_five(found: Detection, mesh: FloatArray) -> Matrix:
    return fit_similarity(_five(mesh), _five(mean_face()[:, :2]))


def _by_68(found: Detection, mesh: FloatArray) -> Matrix:
    return align_ibug(mesh[list(IBUG_FROM_MESH)])


def _by_mesh(found: Detection, mesh: FloatArray) -> Matrix:
    rigid = list(RIGID_POINTS)
    return fit_similarity(mesh[rigid], mean_face()[rigid, :2])


ALIGNMENTS = {"box": _by_box, "five": _by_five, "68": _by_68, "mesh": _by_mesh}


def _crop(image: Image, place: Matrix) -> Image:
    return warp_image(image, compose(crop_from_face(FULL, 112), place), (112, 112))


def _shown(shop: Workshop) -> list[int]:
    return shown_rows(shop.pair)
