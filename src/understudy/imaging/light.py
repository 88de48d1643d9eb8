"""The light on a face: how much brighter, and of which tint, its skin is in one picture than it ordinarily is.

Skin of one person under two lights differs by a gain for each channel (von Kries 1902), and so does the skin of another beside
it: of the virtual actors giving one performance the colour of one face over the other's spreads by 1 to 2 % over the frames,
the light by 8 %. So three numbers tell of a frame's light what a network could only guess.
"""

from __future__ import annotations

from typing import cast

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

WHATEVER_SHARE = 0.02
"""How much what is no skin counts: little beside skin; where all is of another hue, as under a coloured lamp, it decides."""

MOST_LIGHT = 8.0
"""Beyond this, up or down, nothing is measured but noise."""

BROAD_UNITS, SOFT_UNITS = 0.1, 0.025
"""Where a face is not lit as it was drawn. What is narrower than the first is no light but a wrinkle, or a feature that was
drawn a little off its place; the second is how softly a shadow ends."""

DARK_SHARE = 0.1
"""Of the face's own brightness, below which a difference is mostly noise and fades."""

SHADED_RIM_UNITS = 0.05
"""A narrower rim for it: shadows are looked for almost up to a face's edge."""

DRAWN_WRONG = 0.12
"""Differences (of logarithms) below it are taken for errors of what was drawn, those above for light; softly."""

ENOUGH_PX = 128
"""A mean of colours needs no larger picture."""

Picture = NDArray[np.uint8] | NDArray[np.float32]


def light_on(picture: Picture, face: Mask, skin: FloatArray, px_per_unit: float) -> FloatArray:
    """Gains (3,), R G B: the colour of a face's skin in a picture over `skin` (3,), the performer's in ordinary light.

    picture: (N, N, 3), uint8 or float32 0..1; face: (N, N), where the face lies in it; px_per_unit: pixels of a face unit.
    What stands before the face counts as far as it has the skin's hue. Ones where there is no face.
    """
    colours = _small(picture)
    return _over(_mean(colours, _skin_in(colours, _small(face), skin, px_per_unit / len(picture))), skin)


def in_the_light_of(
    drawn: NDArray[np.float32], plate: Picture, face: Mask, plate_skin: FloatArray, drawn_skin: FloatArray, px_per_unit: float
) -> NDArray[np.float32]:
    """A drawn face (N, N, 3) in the light that is on the plate's face (N, N, 3): each over its performer's own skin (3,).

    Both are compared where the plate shows skin: a face of which a bar leaves the dark half to be seen is not in less light.
    A plate that fades to black takes what is drawn along. face, px_per_unit: as for `light_on`.
    """
    colours, size = _small(plate), len(plate)
    shown = _skin_in(colours, _small(face), plate_skin, px_per_unit / size)
    wanted, there = _over(_mean(colours, shown), plate_skin, least=0), _over(_mean(_small(drawn), shown), drawn_skin)
    return np.asarray(np.clip(drawn * np.float32(wanted / there), 0, 1), np.float32)


def shading_on(plate: Picture, drawn: NDArray[np.float32], face: Mask, skin: FloatArray, px_per_unit: float) -> Mask:
    """(N, N), natural logarithms: how much brighter the plate's face is, place by place, than its performer was drawn there.

    That is light for which a network has no picture: the edge of a shadow that passes over a face. Another face beside it has
    it too (ratio images, Liu, Shan and Zhang 2001). plate: (N, N, 3); drawn: the same performer with the same play, in the
    light of the plate as a whole; face, skin, px_per_unit: as for `light_on`. Zero where the plate shows no skin.
    """
    colours, size = _small(plate), len(plate)
    unit_px = px_per_unit * len(colours) / size
    shown = _skin_in(colours, _small(face), skin, px_per_unit / size, SHADED_RIM_UNITS)
    there, own = colours.mean(axis=2), _small(drawn).mean(axis=2)
    dark = np.float32(DARK_SHARE * (shown * there).sum() / max(float(shown.sum()), 1) + 1e-3)
    ratio = np.nan_to_num(np.log((there + dark) / (own + dark)))  # a drawing that is no picture tells of no light
    amount = cv2.GaussianBlur(shown, (0, 0), BROAD_UNITS * unit_px)
    around = cv2.GaussianBlur(shown * ratio, (0, 0), BROAD_UNITS * unit_px) / (amount + np.float32(0.05))
    broad = _median(np.where(shown > 0.5, ratio, around), BROAD_UNITS * unit_px)
    soft = cv2.GaussianBlur(broad, (0, 0), SOFT_UNITS * unit_px) * np.clip(2 * amount, 0, 1)
    shading = soft * (1 - np.exp(-((soft / DRAWN_WRONG) ** 2)))
    return np.asarray(cv2.resize(shading, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def _median(logarithms: NDArray[np.float32], width_px: float) -> NDArray[np.float32]:
    """Unlike a mean it keeps edges; -1 to 1, in steps of 1/127, which is all that OpenCV takes of a wide one."""
    levels = np.rint(128 + 127 * np.clip(logarithms, -1, 1)).astype(np.uint8)
    return (cv2.medianBlur(levels, int(width_px) // 2 * 2 + 1).astype(np.float32) - 128) / np.float32(127)


def _small(picture: Picture) -> NDArray[np.float32]:
    """(N, N) or (N, N, 3) in 0..1, at `ENOUGH_PX` where it is larger."""
    if len(picture) > ENOUGH_PX:
        picture = cast(Picture, cv2.resize(picture, (ENOUGH_PX, ENOUGH_PX), interpolation=cv2.INTER_AREA))
    return picture.astype(np.float32) / np.float32(255 if picture.dtype == np.uint8 else 1)


def _skin_in(
    colours: NDArray[np.float32], face: Mask, skin: FloatArray, units_share: float, rim_units: float = RIM_UNITS
) -> Mask:
    """How much each pixel says of the skin; units_share: a face unit as a share of the side."""
    inside = erode(face, rim_units * units_share * len(colours))
    return inside * (WHATEVER_SHARE + (1 - WHATEVER_SHARE) * likeness_to_skin(colours, skin))


def _mean(colours: NDArray[np.float32], weights: Mask) -> FloatArray | None:
    """(3,); None where there is nothing to be measured."""
    total = float(weights.sum())
    return np.einsum("hw,hwc->c", weights, colours, dtype=np.float64) / total if total >= 1 else None


def _over(mean: FloatArray | None, skin: FloatArray, least: float = 1 / MOST_LIGHT) -> FloatArray:
    """(3,); least: no gain is less, as one must not be that something is divided by."""
    if mean is None:
        return np.ones(3)
    return np.asarray(np.clip(mean / np.maximum(skin, 0.01), least, MOST_LIGHT))


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
