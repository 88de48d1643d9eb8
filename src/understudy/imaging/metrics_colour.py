"""Colour and seams: how far the skin is from the right colour, and what step shows where the swap meets the plate."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.colour import rgb_to_lab
from understudy.imaging.metrics import mean_in
from understudy.types import FloatArray

NUM_SECTORS = 24
RING_PX = (2.0, 7.0)
"""The seam step compares rings between these distances inside and outside the seam."""

_CHANGE = 3 / 255
"""A pixel blurred over a few neighbours that differs more than this from the plate was changed by the swap."""


def skin_delta_e(picture: FloatArray, truth: FloatArray, skin: FloatArray) -> float:
    """CIEDE2000 between the mean skin colours of two pictures, (H, W, 3) sRGB 0 to 1, under `skin` (H, W); NaN if empty."""
    if not np.sum(skin) > 0:
        return float("nan")
    lab, true_lab = (_mean_lab(each, skin) for each in (picture, truth))
    return float(delta_e_2000(lab, true_lab))


def delta_e_2000(lab: FloatArray, other: FloatArray) -> FloatArray:
    """The CIEDE2000 colour difference of Lab colours (..., 3); about 1 is just visible side by side.

    Source: Sharma, Wu and Dalal 2005, "The CIEDE2000 color-difference formula", eqs. 2-22.
    """
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(each, np.float64), -1, 0) for each in (lab, other))
    mean_chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(mean_chroma7 / (mean_chroma7 + 25.0**7))
    chroma1, chroma2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    hue1, hue2 = np.arctan2(b1, stretch * a1), np.arctan2(b2, stretch * a2)
    hue_step = np.where(chroma1 * chroma2 == 0, 0.0, np.angle(np.exp(1j * (hue2 - hue1))))
    hue_difference = 2 * np.sqrt(chroma1 * chroma2) * np.sin(hue_step / 2)
    # The mean hue lies halfway along the shorter arc; a grey has none, and takes the other's.
    hue = np.where(chroma1 * chroma2 == 0, hue1 + hue2, hue1 + hue_step / 2)
    lightness, chroma = (l1 + l2) / 2, (chroma1 + chroma2) / 2
    weighting = (
        1
        - 0.17 * np.cos(hue - np.pi / 6)
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.deg2rad(6))
        - 0.20 * np.cos(4 * hue - np.deg2rad(63))
    )
    scale_l = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    scale_c, scale_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weighting
    hue_degrees = np.rad2deg(hue) % 360
    turn = np.deg2rad(60) * np.exp(-(((hue_degrees - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(turn)
    part_l, part_c, part_h = (l2 - l1) / scale_l, (chroma2 - chroma1) / scale_c, hue_difference / scale_h
    return np.sqrt(np.maximum(part_l**2 + part_c**2 + part_h**2 + rotation * part_c * part_h, 0))


def changed_region(swap: FloatArray, plate: FloatArray) -> NDArray[np.float32]:
    """1 where the swap differs from the plate, holes filled, the largest patch only: (H, W); all 0 if nothing differs."""
    difference = cv2.GaussianBlur(np.abs(swap - plate), (0, 0), 1.0).max(axis=-1)
    closed = cv2.morphologyEx((difference > _CHANGE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    region = np.zeros(closed.shape, np.uint8)
    if outlines:
        cv2.drawContours(region, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return region.astype(np.float32)


def seam_step(swap: FloatArray, plate: FloatArray, region: FloatArray) -> float:
    """The colour step (ΔE*76) across the edge of `region`, mean over 24 sectors, minus the plate's own step there.

    swap, plate: (H, W, 3) sRGB 0 to 1; region: (H, W), e.g. `changed_region`. NaN when the region has no edge in the picture.
    """
    sectors = _ring_sectors(region)
    if not sectors:
        return float("nan")
    steps = [
        [np.linalg.norm(lab[inner].mean(0) - lab[outer].mean(0)) for inner, outer in sectors]
        for lab in (rgb_to_lab(picture).reshape(-1, 3) for picture in (swap, plate))
    ]
    return float(np.mean(steps[0]) - np.mean(steps[1]))


def occluder_error(swap: FloatArray, plate: FloatArray, occluder: FloatArray) -> float:
    """Mean absolute difference, in 8-bit levels, where something covers the face and the plate must show through."""
    return 255 * mean_in(np.abs(swap - plate), occluder)


def _mean_lab(picture: FloatArray, mask: FloatArray) -> NDArray[np.float64]:
    return np.array([mean_in(plane, mask) for plane in np.moveaxis(rgb_to_lab(picture), -1, 0)])


def _ring_sectors(region: FloatArray) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(inner ring, outer ring) as pixels counted along the rows, for each sector around the region's centre that has both."""
    inside = (np.asarray(region) > 0.5).astype(np.uint8)
    if not 0 < inside.sum() < inside.size:
        return []
    near, far = RING_PX
    to_outside, to_inside = (cv2.distanceTransform(each, cv2.DIST_L2, 5) for each in (inside, 1 - inside))
    inner, outer = (near <= to_outside) & (to_outside <= far), (near <= to_inside) & (to_inside <= far)
    height, width = inside.shape
    rows, columns = np.mgrid[:height, :width]
    angle = np.arctan2(rows - np.mean(rows[inside > 0]), columns - np.mean(columns[inside > 0]))
    sector = np.floor((angle + np.pi) / (2 * np.pi) * NUM_SECTORS).astype(int) % NUM_SECTORS
    pairs = [(np.flatnonzero(inner & (sector == k)), np.flatnonzero(outer & (sector == k))) for k in range(NUM_SECTORS)]
    return [(a, b) for a, b in pairs if len(a) and len(b)]
