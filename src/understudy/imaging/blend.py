"""Blending: a new face laid over the plate by several methods, and the way back from a crop into its frame.

Convention: plate and foreground are pictures of equal size, (H, W, 3) float32 between 0 and 1; a matte is (H, W) float32,
1 = new face, 0 = plate. The foreground is straight (not premultiplied) and the matte is applied exactly once. Where the matte
is 0 every method hands the plate back unchanged. Lengths are fractions of the crop's side, so that a face that grows does not
change its look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.depth import Picture, codes_from_unit, unit_from_codes
from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of, scaling, translation
from understudy.imaging.warp import warp_image
from understudy.types import FloatArray

Mask = NDArray[np.float32]
Blend = Callable[[Picture, Picture, Mask, float], Picture]
"""(plate, foreground, matte, side of the crop in frame pixels) -> the blended picture."""

Curve = Callable[[FloatArray], FloatArray]
"""A transfer curve, element by element."""

BAND_SIGMAS = (1 / 96, 1 / 48, 1 / 24, 1 / 12)
"""The bands of `multiband` end at these standard deviations, as fractions of the crop's side."""

RELIEF_SIGMAS = BAND_SIGMAS[:3]
"""The bands of `relief`: what is broader is crossed over at the width of the last one (docs/blending.md has other ends)."""


def composite(plate: Picture, foreground: Picture, alpha: FloatArray) -> Picture:
    """alpha * foreground + (1 - alpha) * plate; exactly one or the other where alpha is 1 or 0 (Porter and Duff 1984)."""
    share = np.asarray(alpha, np.float32)[..., None]
    return np.asarray(foreground * share + plate * (1 - share), np.float32)


# ---- methods --------------------------------------------------------------------------------------------------------------


def hard(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
    """The foreground wherever the matte is at least a half, with a cut edge."""
    return composite(plate, foreground, (matte >= 0.5).astype(np.float32))


def feather(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
    """A plain soft composite through the matte."""
    return composite(plate, foreground, matte)


def poisson(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
    """The foreground's gradients with the plate's colours along the matte's outline, then composited through the matte.

    Works at 8 bits. Source: Perez, Gangnet and Blake 2003, "Poisson image editing", eq. 7 (importing gradients).
    """
    inside = np.pad((matte > 1 / 255).astype(np.uint8) * 255, 2)
    if not inside.any():
        return plate
    source, target = (np.pad(_to_bytes(picture), ((2, 2), (2, 2), (0, 0)), mode="edge") for picture in (foreground, plate))
    cloned = cv2.seamlessClone(source, target, inside, clone_centre(inside), cv2.NORMAL_CLONE)[2:-2, 2:-2]
    return composite(plate, cloned.astype(np.float32) / np.float32(255), matte)


def clone_centre(mask: NDArray[np.uint8]) -> tuple[int, int]:
    """The point that makes OpenCV's seamlessClone put the picture back exactly where it came from.

    It sets the mask's bounding box at centre - size // 2. Any other rounding of the centre (the box's (min + max) // 2, the
    mask's centroid) moves the face by a pixel whenever the box is odd or even: the shake that Poisson cloning is blamed for.
    """
    left, top, width, height = cv2.boundingRect(mask)
    return left + width // 2, top + height // 2


def multiband(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
    """Each band of detail is crossed over at its own width; the broadest band stays the plate's: its light, and its relief."""
    return _by_bands(plate, foreground, matte, side_px, BAND_SIGMAS, is_coarsest_kept=False)


def relief(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
    """The same with the new face's own broadest band, let in behind the rim: its shape and shading are not the plate's."""
    return _by_bands(plate, foreground, matte, side_px, RELIEF_SIGMAS, is_coarsest_kept=True)


def _by_bands(
    plate: Picture, foreground: Picture, matte: Mask, side_px: float, sigmas: Sequence[float], is_coarsest_kept: bool
) -> Picture:
    """plate + sum over bands k of matte_k * band_k(foreground - plate).

    After Burt and Adelson 1983, "A multiresolution spline with application to image mosaics", with three changes: Gaussians in
    proportion to the face instead of a pyramid tied to the pixel grid (whose bands would pop as the face moves and grows);
    every low-pass looks at pixels inside the matte only, so that nothing behind the face's edge bleeds in; and the mattes widen
    inward only, so that nothing outside is touched.
    """
    result, finer, band_matte = plate.astype(np.float32), foreground - plate, matte
    premultiplied = finer * matte[..., None]
    for fraction in sigmas:
        weight = blur(matte, fraction * side_px)
        coarser = blur(premultiplied, fraction * side_px) / np.maximum(weight, np.float32(1e-4))[..., None]
        result += band_matte[..., None] * (finer - coarser)
        finer, band_matte = coarser, np.minimum(matte, np.clip(2 * weight - 1, 0, 1))
    if is_coarsest_kept:
        result += band_matte[..., None] * finer
    return np.where(matte[..., None] > 0, np.clip(result, 0, 1), plate).astype(np.float32)


def blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian low-pass with replicated borders; broad ones work on a reduced picture."""
    if sigma_px < 0.2:
        return image
    height, width = image.shape[:2]
    factor = min(max(1, int(sigma_px / 2.5)), height, width)
    if factor == 1:
        return cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
    reduced = cv2.resize(image, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    reduced = cv2.GaussianBlur(reduced, (0, 0), sigma_px / factor, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR)


# ---- in light ---------------------------------------------------------------------------------------------------------------


def in_light(blend: Blend, light_from_code: Curve, code_from_light: Curve) -> Blend:
    """`blend` done on light instead of on code values, as lenses mix it: soft edges lose their dark fringe."""

    def blended(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
        below, above = (np.asarray(light_from_code(each), np.float32) for each in (plate, foreground))
        light = blend(below, above, matte, side_px)
        return np.asarray(code_from_light(light), np.float32)

    return blended


# ---- back into the frame --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A new face in its place in the frame: a window of it (rows, columns), the blended picture there and the matte.

    blended: (h, w, 3) float32 in the plate's code values from 0 to 1; matte: (h, w). Where the matte is 0 the plate stays.
    hold_out: (h, w), 1 where something stands before the face; None where nothing was looked for.
    """

    inside: tuple[slice, slice]
    blended: Picture
    matte: Mask
    hold_out: Mask | None = None

    def over(self, plate: NDArray[Any]) -> None:
        """Puts the face into `plate` (H, W, 3), in place; pixels with a matte of 0 are untouched bit for bit."""
        below = plate[self.inside]
        np.copyto(below, codes_from_unit(self.blended, like=plate), where=self.matte[..., None] > 0)

    def foreground(self, plate: NDArray[Any]) -> Picture:
        """The un-premultiplied picture (h, w, 3) that gives the same result when it is laid over `plate` through the matte."""
        below, share = unit_from_codes(plate[self.inside]), np.maximum(self.matte, np.float32(1 / 255))[..., None]
        return np.asarray(np.where(share < 1, below + (self.blended - below) / share, self.blended), np.float32)


def lay_over(
    plate: NDArray[Any],
    crop_rgb: Picture,
    crop_alpha: Mask,
    crop_from_frame: Matrix,
    blend: Blend = feather,
    opacity: float = 1.0,
) -> Layer:
    """A crop brought to where it was taken from and blended with what is there; its matte is empty where it sees nothing.

    plate: (H, W, 3) uint8, uint16 or float32 0..1; crop_rgb: (h, w, 3) float32 0..1, straight; crop_alpha: any size, covering
    the same square; crop_from_frame: takes frame pixels to pixels of crop_rgb; opacity: of the blended face as a whole (a
    fade). The crop is enlarged bicubically, reduced with area averaging.
    """
    inside, foreground, matte = bring_back(crop_rgb, crop_alpha, crop_from_frame, (plate.shape[1], plate.shape[0]))
    if not matte.size:
        return Layer(inside, foreground, matte)
    below = unit_from_codes(plate[inside])
    blended = blend(below, foreground, matte, len(crop_rgb) / scale_of(crop_from_frame))
    if opacity < 1:
        blended, matte = composite(below, blended, np.full_like(matte, opacity)), matte * np.float32(opacity)
    return Layer(inside, blended, matte)


def bring_back(
    crop_rgb: Picture, crop_alpha: Mask, crop_from_frame: Matrix, frame_size: tuple[int, int]
) -> tuple[tuple[slice, slice], Picture, Mask]:
    """The part of the frame that the crop covers (rows, columns), and crop and matte as seen there, both possibly empty."""
    frame_from_crop = invert(crop_from_frame)
    height, width = crop_rgb.shape[:2]
    left, top, right, bottom = covered_window(frame_from_crop, (width, height), frame_size)
    inside, size = (slice(top, bottom), slice(left, right)), (right - left, bottom - top)
    if min(size) <= 0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0, 3), np.float32), np.zeros((0, 0), np.float32)
    window_from_crop = compose(translation(-left, -top), frame_from_crop)
    window_from_alpha = compose(window_from_crop, scaling(width / crop_alpha.shape[1]))
    foreground = np.clip(warp_image(crop_rgb, window_from_crop, size), 0, 1)
    return inside, foreground, np.clip(warp_image(crop_alpha, window_from_alpha, size, border="black"), 0, 1)


def covered_window(
    frame_from_crop: Matrix, crop_size: tuple[int, int], frame_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of the frame (left, top, right, bottom; whole pixels, possibly empty) that the crop's corners span."""
    width, height = crop_size
    corners = apply(frame_from_crop, np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64))
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)), frame_size).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _to_bytes(picture: Picture) -> NDArray[np.uint8]:
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
