"""The light on a face: how much brighter, and of which tint, its skin is in one picture than it ordinarily is.

Skin of one person under two lights differs by a gain for each channel (von Kries 1902), and so does the skin of another beside
it: on the virtual actors the colour of one face over the other's stays within 1 % through a change of light of 25 %. So three
numbers tell of a frame's light what a network could only guess.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.masks import Mask, erode
from understudy.types import FloatArray

SKIN_HUES = (0.2, 0.7)
"""From what share of a skin's hue a colour begins to count as skin, and from what share it does in full."""

LEAST_HUE = 0.02
"""Below it a skin, or the picture, has no colour."""

DARK = 0.05
"""Brightness near which a hue is mostly noise and fades."""

RIM_UNITS = 1 / 7
"""How much of a face's rim does not count, in face units: hair and background there would pass for dark skin."""

WHATEVER_SHARE = 0.05
"""How much what is no skin counts: little beside skin; where all is of another hue, as under a coloured lamp, it decides."""

MOST_LIGHT = 8.0
"""Beyond this, up or down, nothing is measured but noise."""

ENOUGH_PX = 128
"""A mean of colours needs no larger picture."""


def light_on(picture: NDArray[np.uint8] | NDArray[np.float32], face: Mask, skin: FloatArray, px_per_unit: float) -> FloatArray:
    """Gains (3,), R G B: the colour of a face's skin in a picture over `skin` (3,), the performer's in ordinary light.

    picture: (N, N, 3), uint8 or float32 0..1; face: (N, N), where the face lies in it; px_per_unit: pixels of a face unit.
    What stands before the face counts as far as it has the skin's hue. Ones where there is no face.
    """
    if len(picture) > ENOUGH_PX:
        px_per_unit *= ENOUGH_PX / len(picture)
        picture, face = (cv2.resize(each, (ENOUGH_PX, ENOUGH_PX), interpolation=cv2.INTER_AREA) for each in (picture, face))
    colours = picture.astype(np.float32) / np.float32(255 if picture.dtype == np.uint8 else 1)
    inside = erode(face, RIM_UNITS * px_per_unit)
    weights = inside * (WHATEVER_SHARE + (1 - WHATEVER_SHARE) * likeness_to_skin(colours, np.asarray(skin)))
    if (total := float(weights.sum())) < 1:
        return np.ones(3)
    mean = np.einsum("hw,hwc->c", weights, colours, dtype=np.float64) / total
    return np.asarray(np.clip(mean / np.maximum(skin, 0.01), 1 / MOST_LIGHT, MOST_LIGHT))


def likeness_to_skin(picture: NDArray[np.float32], skin: FloatArray) -> Mask:
    """(N, N): 0 where a pixel is grey, 1 where it has the skin's hue or a stronger one; a grey skin is told from nothing: 1."""
    hue, of_skin = _hue(picture), _hue(np.asarray(skin, np.float32))
    strength = float(of_skin @ of_skin)
    if strength < LEAST_HUE**2:
        return np.ones(picture.shape[:2], np.float32)
    none, full = SKIN_HUES
    return np.asarray(np.clip((hue @ of_skin / strength - none) / (full - none), 0, 1), np.float32)


def _hue(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left of colours (..., 3) without their grey, in proportion to their brightness."""
    mean = colours.mean(axis=-1, keepdims=True)
    return np.asarray((colours - mean) / (mean + np.float32(DARK)), np.float32)
