"""Resampling of pictures; the one place that knows OpenCV's pixel-centre convention.

Convention: everywhere else (0, 0) is the outer corner of the first pixel. OpenCV puts (0, 0) at the first pixel's centre, so
each matrix is shifted by half a pixel on both sides before it is handed over.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of, translation

Picture = TypeVar("Picture", bound=NDArray[Any])

_REACH_PX = 8
"""How far, in target pixels, a reduced picture's pixels are made of: blur (three sigma, 2.6 at most) and interpolation."""

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
        if border != "reflect":  # which shows what lies elsewhere
            image, target_from_source = _part_seen(image, target_from_source, size, scale)
        image, target_from_source = _reduce(image, target_from_source, scale)
    cv_target_from_cv_source = compose(translation(-0.5, -0.5), compose(target_from_source, translation(0.5, 0.5)))
    return cv2.warpAffine(image, cv_target_from_cv_source, size, flags=interpolation, borderMode=_BORDERS[border])


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The whole picture at `size` (width, height): area-averaged when shrinking, bicubic when enlarging."""
    is_shrinking = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if is_shrinking else cv2.INTER_CUBIC)


def _part_seen(image: Picture, target_from_source: Matrix, size: tuple[int, int], scale: float) -> tuple[Picture, Matrix]:
    """What the target shows of the source and its margin, so that a small face in a large frame costs no blur of the frame."""
    height, width = image.shape[:2]
    corners = apply(invert(target_from_source), np.array([(0, 0), (size[0], 0), (0, size[1]), size], np.float64))
    margin_px, grid_px = _REACH_PX / scale, 2 ** max(int(np.ceil(np.log2(0.5 / scale))), 0)
    left, top = (np.clip(np.floor(corners.min(axis=0) - margin_px), 0, None) // grid_px * grid_px).astype(int)
    right, bottom = (np.ceil((corners.max(axis=0) + margin_px) / grid_px) * grid_px).astype(int)
    right, bottom = min(right, width), min(bottom, height)
    if right <= left or bottom <= top:  # it looks beside the frame
        return image, target_from_source
    part = cast(Picture, image[top:bottom, left:right])
    return part, compose(target_from_source, translation(float(left), float(top)))


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
