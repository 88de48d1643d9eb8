"""Resampling of pictures; the one place that knows OpenCV's pixel-centre convention.

Convention: everywhere else (0, 0) is the outer corner of the first pixel. OpenCV puts (0, 0) at the first pixel's centre, so
each matrix is shifted by half a pixel on both sides before it is handed over.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.similarity import Matrix, compose, invert, scale_of, translation

Picture = TypeVar("Picture", bound=NDArray[Any])

_BORDERS = {"replicate": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}


def warp_image(
    image: Picture,
    target_from_source: Matrix,
    size: tuple[int, int],
    border: Literal["replicate", "black", "reflect"] = "replicate",
    is_smooth: bool = True,
) -> Picture:
    """`image` (H, W) or (H, W, C), uint8, uint16 or float32, seen through `target_from_source` at `size` (width, height).

    Enlarging is bicubic, shrinking is area-averaged: the source is first blurred to the target's resolution, so that fine
    detail does not turn into shimmer. `is_smooth=False` uses bilinear sampling alone (masks, exact round trips).
    """
    scale = scale_of(target_from_source)
    interpolation = cv2.INTER_CUBIC if is_smooth and scale > 1 else cv2.INTER_LINEAR
    if is_smooth and scale < 0.8:
        image, target_from_source = _reduce(image, target_from_source, scale)
    cv_target_from_cv_source = compose(translation(-0.5, -0.5), compose(target_from_source, translation(0.5, 0.5)))
    return cv2.warpAffine(image, cv_target_from_cv_source, size, flags=interpolation, borderMode=_BORDERS[border])


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The whole picture at `size` (width, height): area-averaged when shrinking, bicubic when enlarging."""
    is_shrinking = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if is_shrinking else cv2.INTER_CUBIC)


def _reduce(image: Picture, target_from_source: Matrix, scale: float) -> tuple[Picture, Matrix]:
    """Low-pass the source for a reduction by `scale` < 1; whole halvings also shrink it, which makes the blur cheap."""
    while scale < 0.5 and min(image.shape[:2]) >= 4:
        height, width = image.shape[:2]
        half_size = ((width + 1) // 2, (height + 1) // 2)
        half_from_source = np.array([[half_size[0] / width, 0.0, 0.0], [0.0, half_size[1] / height, 0.0]])
        image = cv2.resize(image, half_size, interpolation=cv2.INTER_AREA)
        target_from_source = compose(target_from_source, invert(half_from_source))
        scale *= 2
    sigma_px = 0.5 * np.sqrt(max(1 / scale**2 - 1, 0))
    if sigma_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
    return image, target_from_source
