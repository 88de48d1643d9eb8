"""What the network draws, steadied between neighbouring frames: its mask, its trembling, and as a last resort its picture.

Everything looks to both sides of a frame and at nothing but what the network gave, never at a steadied neighbour: so there is
no lag, and a frame comes out the same wherever a render was cut. Crops of one track lie in register, because they are aligned.

Convention: pictures are (N, N, C) float32 between 0 and 1, masks (N, N); `place` is the row of the frame in question.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.blend import blur
from understudy.imaging.depth import Picture
from understudy.imaging.masks import Mask
from understudy.imaging.similarity import Matrix, compose, invert, similarity_from_parameters, translation
from understudy.imaging.warp import warp_image
from understudy.types import FloatArray

JITTERS = ((0.0, 0.0, 0.0, 0.0), (0.02, 2.0, 0.01, -0.01), (-0.02, -2.0, -0.01, 0.01), (0.0, 1.0, -0.015, -0.015))
"""(logarithm of the scale, degrees, x and y in sides) of the crops that are averaged; the first is the crop itself."""

LIKE_MASKS = 0.25
"""Masks that differ by much more than this at a pixel are of something that moves there (a hand), not of trembling."""

FLOW_ERROR_PX = 1.0
BROAD = 1 / 48
"""Only features broader than this, as a fraction of the crop's side, are blended along the flow: it would blur the others."""

FLOW_SIZE_PX = 128


def reach_frames(sigma_frames: float) -> int:
    """How many frames to either side matter to `steady_mask`."""
    return int(np.ceil(2 * sigma_frames)) if sigma_frames > 0.2 else 0


def steady_mask(masks: Sequence[Mask], place: int, sigma_frames: float) -> Mask:
    """A mask averaged with those of the frames around it, a Gaussian in time, where they nearly agree with it.

    masks: of consecutive frames of one track. Where a neighbour differs clearly, something moves, and it does not count: a hand
    is not smeared. Source: Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images", in time.
    """
    here = masks[place]
    if len(masks) == 1 or reach_frames(sigma_frames) == 0:
        return here
    total, weights = np.zeros_like(here), np.zeros_like(here)
    for row, mask in enumerate(masks):
        nearness = np.exp(-0.5 * ((row - place) / sigma_frames) ** 2)
        weight = np.float32(nearness) * np.exp(-0.5 * ((mask - here) / np.float32(LIKE_MASKS)) ** 2)
        total += weight * mask
        weights += weight
    return np.asarray(total / weights, np.float32)


def steady_code(codes: Sequence[NDArray[np.float32]], place: int, sigma_frames: float) -> NDArray[np.float32]:
    """What a network reads of a face (K,), averaged with the frames around it by a Gaussian in time.

    codes: of consecutive frames of one track. Those that are no numbers do not count. What a code says of place and light
    trembles with the noise of the picture; a code is no picture, so that averaging blurs nothing. Not for codes that hold the
    expression: a blink is as short as the average.
    """
    reach = reach_frames(sigma_frames)
    if reach == 0 or not np.isfinite(codes[place]).all():
        return codes[place]
    rows = range(max(0, place - reach), min(len(codes), place + reach + 1))
    near = [(row, codes[row]) for row in rows if np.isfinite(codes[row]).all()]
    weights = [np.exp(-0.5 * ((row - place) / sigma_frames) ** 2) for row, _ in near]
    return np.asarray(np.average([code for _, code in near], axis=0, weights=weights), np.float32)


def steady_form(forms: Sequence[FloatArray], place: int, sigma_frames: float, like_px: float) -> NDArray[np.float64]:
    """Where a face's points (P, 2 or more) lie, averaged with the frames around it where they hardly move.

    forms: of consecutive frames of one track; those that are no numbers do not count, and one in the middle is where the frames
    around it say. like_px: a point that lies much farther off in another frame moved, as a lid does, and is not averaged with
    it. No numbers where none around has any. Source as of `steady_mask`.
    """
    here = np.asarray(forms[place], np.float64)
    reach = reach_frames(sigma_frames)
    around = range(max(0, place - reach), min(len(forms), place + reach + 1))
    known = {row: np.asarray(forms[row], np.float64) for row in around if np.isfinite(forms[row]).all()}
    if reach == 0 or not known:
        return here
    total, weights = np.zeros_like(here), np.zeros((len(here), 1))
    for row, form in known.items():
        distance = np.linalg.norm(form[:, :2] - here[:, :2], axis=1, keepdims=True) if place in known else 0.0
        weight = np.exp(-0.5 * (((row - place) / sigma_frames) ** 2 + (distance / like_px) ** 2))
        total, weights = total + weight * form, weights + weight
    return np.asarray(total / weights)


# ---- several crops of one face --------------------------------------------------------------------------------------------


def jittered_from_crop(number: int, size_px: int) -> Matrix:
    """Takes pixels of a crop to those of the slightly shifted crop `number`; 0 is the crop itself."""
    log_scale, degrees, x, y = JITTERS[number]
    turn = similarity_from_parameters(log_scale, np.deg2rad(degrees), x * size_px, y * size_px)
    return compose(translation(size_px / 2, size_px / 2), compose(turn, translation(-size_px / 2, -size_px / 2)))


def average_crops(answers: Sequence[Picture]) -> Picture:
    """What the network drew of one face in several shifted crops, brought back into register and averaged.

    What follows the crop instead of the face (the network's own trembling) averages out.
    """
    if len(answers) == 1:
        return answers[0]
    size_px = len(answers[0])
    back = [answers[0]]
    for number, answer in enumerate(answers[1:], start=1):
        back.append(warp_image(answer, invert(jittered_from_crop(number, size_px)), (size_px, size_px)))
    return np.asarray(np.clip(np.mean(back, axis=0), 0, 1), np.float32)


# ---- along the optical flow -----------------------------------------------------------------------------------------------


def blend_along_flow(answers: Sequence[Picture], crops: Sequence[NDArray[np.uint8]], place: int, share: float) -> Picture:
    """The network's picture, its broad features mixed with those of the frames before and after, moved along the flow.

    answers: (N, N, 3) of consecutive frames; crops: the plate's, from which the flow is read, because there the performance is
    undisturbed. share: of the neighbours; where the flow there and back disagree by a pixel, nothing is mixed.
    """
    here, size_px = answers[place], len(answers[place])
    changes = []
    for neighbour in (place - 1, place + 1):
        if 0 <= neighbour < len(answers):
            flow, trust = _flow(crops[place], crops[neighbour], size_px)
            difference = blur(_moved(answers[neighbour], flow) - here, BROAD * size_px)
            changes.append(trust[..., None] * difference)
    if not changes:
        return here
    return np.asarray(np.clip(here + np.float32(share) * np.mean(changes, axis=0), 0, 1), np.float32)


def _flow(crop: NDArray[np.uint8], other: NDArray[np.uint8], size_px: int) -> tuple[NDArray[np.float32], Mask]:
    """Where each pixel of `crop` is in `other` (N, N, 2), and how far that is to be trusted (N, N)."""
    grey, other_grey = (
        cv2.resize(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), (FLOW_SIZE_PX, FLOW_SIZE_PX), interpolation=cv2.INTER_AREA)
        for each in (crop, other)
    )
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = finder.calc(grey, other_grey, None), finder.calc(other_grey, grey, None)
    error = np.linalg.norm(there + _moved(back, there), axis=2)
    trust = np.clip(1 - error / FLOW_ERROR_PX, 0, 1).astype(np.float32)
    scale = size_px / FLOW_SIZE_PX
    flow = np.asarray(cv2.resize(there, (size_px, size_px)) * np.float32(scale), np.float32)
    return flow, np.asarray(cv2.resize(trust, (size_px, size_px)), np.float32)


def _moved(picture: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
