"""Motion blur: how long the plate's shutter was open, read off its moving faces, and the same blur for a new face.

Convention: a velocity is (x, y) in pixels a frame; a shutter is a share of the time between two frames (0.5 = 180 degrees).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from understudy.imaging.colour import luma
from understudy.imaging.depth import Picture
from understudy.imaging.masks import Mask
from understudy.types import FloatArray

SHUTTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST_SPEED_PX = 3.0
"""A face that moves less, in pixels of its crop a frame, is not blurred enough to tell."""

LEAST_SAMPLES = 3
LEAST_SHUTTER = 0.2
"""A shutter that is open for less leaves no visible trace."""


@dataclass(frozen=True)
class ShutterSample:
    """The shutter that one frame speaks for, and how much it is to be heard (its squared speed)."""

    shutter: float
    weight: float


def blur_along(picture: Picture, velocity_px: FloatArray, shutter: float) -> Picture:
    """The picture (H, W, 3) as a shutter of that share sees it move: averaged along a line."""
    length = float(np.hypot(*velocity_px)) * shutter
    if length < 0.5:
        return picture
    return np.asarray(cv2.filter2D(picture, -1, _line(velocity_px, length), borderType=cv2.BORDER_REPLICATE), np.float32)


def sample_shutter(plate: Picture, face: Picture, matte: Mask, velocity_px: FloatArray) -> ShutterSample | None:
    """Which shutter makes the new face as blurred along its way, compared with across it, as the plate's face is.

    plate, face: (N, N, 3) of the same place; velocity in pixels of it. None where it moves too little.
    """
    speed = float(np.hypot(*velocity_px))
    if speed < LEAST_SPEED_PX:
        return None
    wanted = _log_anisotropy(plate, matte, velocity_px)
    found = [_log_anisotropy(blur_along(face, velocity_px, shutter), matte, velocity_px) for shutter in SHUTTERS]
    best = int(np.argmin(np.abs(np.array(found) - wanted)))
    return ShutterSample(SHUTTERS[best], speed**2)


def pool_shutter(samples: Sequence[ShutterSample | None]) -> float:
    """The shutter of a plate: the weighted median of what its fast frames say; 0 where there are too few."""
    heard = sorted((each for each in samples if each is not None), key=lambda each: each.shutter)
    if len(heard) < LEAST_SAMPLES:
        return 0.0
    weights = np.cumsum([each.weight for each in heard])
    shutter = heard[int(np.searchsorted(weights, weights[-1] / 2))].shutter
    return shutter if shutter >= LEAST_SHUTTER else 0.0


def _log_anisotropy(picture: Picture, matte: Mask, velocity_px: FloatArray) -> float:
    """Logarithm of the energy of the gradient along the way over that across it, within the matte."""
    grey = cv2.GaussianBlur(np.asarray(luma(picture), np.float32), (0, 0), 1.0)
    right, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    x, y = np.asarray(velocity_px) / np.hypot(*velocity_px)
    inside = cv2.erode((matte > 0.9).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    along, across = (right * x + down * y)[inside], (right * -y + down * x)[inside]
    return float(np.log((along**2).mean() + 1e-8) - np.log((across**2).mean() + 1e-8)) if inside.any() else 0.0


def _line(velocity_px: FloatArray, length: float) -> FloatArray:
    """A kernel that averages along a centred line of that length, antialiased; its sum is 1."""
    reach = int(np.ceil(length / 2)) + 1
    steps = np.linspace(-length / 2, length / 2, num=max(3, int(np.ceil(length * 4)))) / np.hypot(*velocity_px)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for x, y in steps[:, None] * np.asarray(velocity_px, np.float64) + reach:
        column, row = int(np.floor(x)), int(np.floor(y))
        right, down = x - column, y - row
        kernel[row : row + 2, column : column + 2] += np.outer([1 - down, down], [1 - right, right])
    return np.asarray(kernel / kernel.sum(), np.float32)
