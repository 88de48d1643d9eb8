"""Pictures in face space: crops of one moment, each aligned by its own landmarks, and the figures they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging import metrics, metrics_colour, metrics_temporal
from understudy.imaging.framing import FULL, HEAD, crop_from_face
from understudy.imaging.masks import Mask, erode, hull_mask
from understudy.imaging.similarity import Matrix, compose
from understudy.imaging.warp import warp_image
from understudy.types import FloatArray, Image

SIZE = (metrics.FACE_SPACE_PX, metrics.FACE_SPACE_PX)
HEAD_PX = round(metrics.FACE_SPACE_PX * HEAD.side / FULL.side)
"""Side of the larger crop in which the seam is looked for: the same scale, and room around the face."""

FEATURES: Mapping[str, tuple[slice, ...]] = {
    "brows": (slice(17, 22), slice(22, 27)),
    "eyes": (slice(36, 42), slice(42, 48)),
    "nose": (slice(27, 36),),
    "mouth": (slice(48, 68),),
}
"""iBUG points whose hulls, grown by a few pixels, are regions of λ, in order of precedence."""

_JAW = slice(0, 17)
_MOUTH_CORNERS = (48, 54)
"""The jaw is the hull of the jaw line as far up as it lies below the line through the corners of the mouth."""

_GROW_PX = 7
_FLOW_MARGIN_PX = 16
_OCCLUDER_SHARE = 0.01


@dataclass(frozen=True)
class Moment:
    """One frame in face space. pictures: (256, 256, 3) sRGB 0 to 1 by candidate, "swap" and "plate" always among them.

    reference: what they are compared with (the truth; without one, the plate). mask: the area that all of them show.
    regions: the mask divided as by `feature_regions`.
    """

    pictures: Mapping[str, FloatArray]
    reference: FloatArray
    mask: Mask
    regions: Mapping[str, Mask]


def face_crop(image: Image, face_from_frame: Matrix) -> FloatArray:
    """The face-space crop of a frame: (256, 256, 3) float32, 0 to 1."""
    return _as_float(warp_image(image, crop_from_frame(face_from_frame), SIZE))


def mask_crop(mask: Mask, face_from_frame: Matrix) -> Mask:
    """The face-space crop of a mask in frame pixels; 0 beyond the frame."""
    return np.asarray(warp_image(mask, crop_from_frame(face_from_frame), SIZE, border="black"), np.float32)


def crop_from_frame(face_from_frame: Matrix) -> Matrix:
    """Takes frame pixels to pixels of the face-space crop."""
    return compose(crop_from_face(FULL, metrics.FACE_SPACE_PX), face_from_frame)


# ---- figures of one moment ------------------------------------------------------------------------------------------------


def fidelity(moment: Moment, name: str) -> dict[str, float]:
    """How near the candidate `name` comes to the truth in this frame.

    The inner detail and contrast leave out the mask's rim, where the filters see the surroundings (the plate's hair): there
    even a perfect swap differs from the truth, and a blurred one borrows contrast.
    """
    picture, truth, mask = moment.pictures[name], moment.reference, moment.mask
    bands = metrics.band_pass(picture), metrics.band_pass(truth)
    detail, contrast = metrics.compare_bands(*bands, mask)
    inner = erode(mask, metrics.COARSE_SIGMA_PX)
    inner_detail, inner_contrast = metrics.compare_bands(*bands, inner)
    similarity, deviation = metrics.gradient_similarity(picture, truth, mask)
    return {
        "psnr_db": metrics.psnr_db(picture, truth, mask),
        "ssim": metrics.ssim(picture, truth, mask),
        "detail": detail,
        "contrast": contrast,
        "inner_detail": inner_detail,
        "inner_contrast": inner_contrast,
        "edge_gain": metrics.edge_gain(picture, truth, inner),
        "gradient_similarity": similarity,
        "gradient_deviation": deviation,
        "skin_delta_e": metrics_colour.skin_delta_e(picture, truth, _bare_skin(moment.regions)),
        **_leaks(moment, name),
    }


def sharpness(moment: Moment, name: str) -> dict[str, float]:
    """How much finer than the reference the candidate `name` is: 1 = alike."""
    reference = metrics.sharpness(moment.reference, moment.mask)
    ratio = metrics.sharpness(moment.pictures[name], moment.mask) / reference if reference > 0 else float("nan")
    return {"sharpness_ratio": ratio}


def steadiness(now: Moment, before: Moment, earlier: Moment | None, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each of the candidates `names`: what changed in it since the frame before that did not change in the reference.

    earlier: the frame before that; with it, how far the one in the middle is off the course of the two beside it.
    """
    mask = np.minimum(now.mask, before.mask)
    window = _around(mask)
    now_true, before_true = now.reference[window], before.reference[window]
    true_flow = metrics_temporal.optical_flow(now_true, before_true)
    figures = {}
    for name in names:
        now_picture, before_picture = now.pictures[name][window], before.pictures[name][window]
        flow = metrics_temporal.optical_flow(now_picture, before_picture)
        residuals = now_picture - now_true, before_picture - before_true
        figures[name] = {
            "flow_error_px": metrics_temporal.flow_error_px(flow, true_flow, mask[window]),
            "flicker": metrics_temporal.flicker(*residuals, true_flow, mask[window]),
        }
    if earlier is not None:
        for name, pulsing in _pulsing((earlier, before, now), names).items():
            figures[name]["pulsing"] = pulsing
    return figures


def _pulsing(moments: tuple[Moment, Moment, Moment], names: Sequence[str]) -> dict[str, float]:
    mask = np.min([each.mask for each in moments], axis=0)
    window = _around(mask)
    true_earlier, true_before, true_now = (each.reference[window] for each in moments)
    flows = (
        metrics_temporal.optical_flow(true_before, true_earlier),
        metrics_temporal.optical_flow(true_before, true_now),
    )
    pulsing = {}
    for name in names:
        earlier, before, now = (each.pictures[name][window] - each.reference[window] for each in moments)
        pulsing[name] = metrics_temporal.pulsing(before, (earlier, now), flows, mask[window])
    return pulsing


def feature_regions(mask: Mask, points: FloatArray) -> dict[str, Mask]:
    """The mask divided into brows, eyes, nose, mouth, jaw and the rest; a pixel belongs to the first that claims it.

    points: the reference's 68 landmarks in crop pixels.
    """
    left, regions = mask, {}
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _GROW_PX + 1,) * 2)
    for region, parts in FEATURES.items():
        hulls = [cv2.dilate(hull_mask(points[part], SIZE), kernel) for part in parts]
        area = left * np.max(hulls, axis=0)
        regions[region], left = area, left - area
    jaw = left * _jaw_area(points)
    return {**regions, "jaw": jaw, "rest": left - jaw}


def _jaw_area(points: FloatArray) -> Mask:
    """Chin and jaw: what the jaw line spans below the line through the mouth's corners, whichever way the head rolls."""
    (start_x, start_y), (end_x, end_y) = (points[k] for k in _MOUTH_CORNERS)
    rows, columns = np.indices((SIZE[1], SIZE[0])) + 0.5  # pixel centres, as `points` counts
    is_below = (end_x - start_x) * (rows - start_y) > (end_y - start_y) * (columns - start_x)
    return np.asarray(hull_mask(points[_JAW], SIZE) * is_below, np.float32)


def _bare_skin(regions: Mapping[str, Mask]) -> Mask:
    """Where skin is neither hair, eye nor lip."""
    return regions["rest"] + regions["jaw"] + regions["nose"]


def _leaks(moment: Moment, name: str) -> dict[str, float]:
    picture, plate, truth = moment.pictures[name], moment.pictures["plate"], moment.reference
    areas = {"leak": moment.mask, **{f"leak_{region}": area for region, area in moment.regions.items()}}
    return {
        **{figure: metrics.leak(picture, plate, truth, area) for figure, area in areas.items()},
        "leak_after_colour_match": metrics.leak_after_colour_match(picture, plate, truth, moment.mask),
    }


def _around(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that hold the mask, with some room for a flow's window."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((each.min(initial=0), each.max(initial=0)) for each in (rows, columns))
    return (
        slice(max(0, top - _FLOW_MARGIN_PX), bottom + 1 + _FLOW_MARGIN_PX),
        slice(max(0, left - _FLOW_MARGIN_PX), right + 1 + _FLOW_MARGIN_PX),
    )


# ---- seam and occluders ---------------------------------------------------------------------------------------------------


def compositing(
    swap: Image, plate: Image, face_from_frame: Matrix, points: FloatArray, plate_mask: Mask | None
) -> dict[str, float]:
    """The step at the swap's edge, and how much it paints over what hides the plate's face (NaN where nothing does).

    points: the plate's 68 landmarks in frame pixels. An occluder is known from the plate's visible-face mask alone.
    """
    head_from_frame = compose(crop_from_face(HEAD, HEAD_PX), face_from_frame)
    crops = [_as_float(warp_image(each, head_from_frame, (HEAD_PX, HEAD_PX))) for each in (swap, plate)]
    region = metrics_colour.changed_region(crops[0], crops[1])
    figures = {"seam_step": metrics_colour.seam_step(crops[0], crops[1], region), "occluder_error": float("nan")}
    if plate_mask is not None:
        occluder = _occluder(plate_mask, face_from_frame, points)
        if occluder.mean() > _OCCLUDER_SHARE:
            swap_face, plate_face = face_crop(swap, face_from_frame), face_crop(plate, face_from_frame)
            figures["occluder_error"] = metrics_colour.occluder_error(swap_face, plate_face, occluder)
    return figures


def _occluder(plate_mask: Mask, face_from_frame: Matrix, points: FloatArray) -> Mask:
    """Where the hull of the landmarks is not visible face, drawn in so that a shifted outline does not count."""
    to_crop = crop_from_frame(face_from_frame)
    hull = hull_mask(points @ to_crop[:, :2].T + to_crop[:, 2], SIZE)
    return erode(hull * (mask_crop(plate_mask, face_from_frame) < 0.05).astype(np.float32), 3.0)


def _as_float(image: NDArray[np.uint8]) -> FloatArray:
    return image.astype(np.float32) / np.float32(255)
