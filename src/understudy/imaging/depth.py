"""Code values at 8 and 16 bits: what a picture's own depth means, and the way to 8 bits for whoever looks at pictures.

Convention: a picture is full range whatever its plate was: uint8 from 0 to 255, uint16 from 0 to 65535, and 65535 is the same
white as 255, so one step of 8 bits is 257 steps of 16.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.types import AnyImage, DeepImage, FloatArray, Image

STEPS_PER_LEVEL = 257

Picture = NDArray[np.float32]
Pixels = TypeVar("Pixels", bound=NDArray[Any])


def code_max(image: NDArray[Any]) -> int:
    """The code of white: 255 or 65535."""
    return int(np.iinfo(image.dtype).max)


def eight_bit(image: AnyImage) -> Image:
    """The picture at 8 bits, rounded; one that has 8 bits comes back as it is, not copied. For perception, gate and reports."""
    if image.dtype == np.uint8:
        return image  # type: ignore[return-value]
    return np.asarray(cv2.convertScaleAbs(image, alpha=1 / STEPS_PER_LEVEL), dtype=np.uint8)


def sixteen_bit(image: AnyImage) -> DeepImage:
    """The picture at 16 bits; `eight_bit` of it gives back the same codes."""
    if image.dtype == np.uint16:
        return image  # type: ignore[return-value]
    return np.asarray(image, np.uint16) * np.uint16(STEPS_PER_LEVEL)


def unit_from_codes(image: NDArray[Any]) -> Picture:
    """The picture in float32 between 0 and 1; one of floats counts as that already."""
    if image.dtype.kind == "f":
        return np.asarray(image, np.float32)
    return np.divide(image, np.float32(code_max(image)), dtype=np.float32)


def codes_from_unit(picture: FloatArray, like: Pixels) -> Pixels:
    """A float picture (0 to 1, clipped) in the depth of `like`, rounded to the nearest code; floats stay as they are."""
    if like.dtype.kind == "f":
        return cast(Pixels, picture.astype(like.dtype))
    return cast(Pixels, np.rint(np.clip(picture, 0.0, 1.0) * np.float32(code_max(like))).astype(like.dtype))
