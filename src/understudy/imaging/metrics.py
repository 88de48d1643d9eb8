"""Fidelity: how near a picture comes to the truth inside a mask, how much plate is left in it, how much detail it holds.

Convention: pictures are (H, W, 3), R G B, floating point, sRGB-encoded between 0 and 1 (luminance: (H, W)); masks are (H, W),
0 to 1, and weigh each pixel. Filters run over the whole crop and only their result is masked: a filter confined to the mask
would compare with pixels it made up at the edge, and so flatter the swap. What lies outside within a filter's reach therefore
counts, alike for every swap of one plate. A figure that the mask leaves no pixels for is NaN.
"""

from __future__ import annotations

import cv2
import numpy as np

from understudy.imaging.colour import apply_colour, luma, match_mkl, measure_colour
from understudy.types import FloatArray

FACE_SPACE_PX = 256
"""Side of the face-space crop in which pictures are compared; the sigmas below are pixels of it."""

FINE_SIGMA_PX, COARSE_SIGMA_PX = 2.0, 10.0
"""The band of `detail` and `contrast`: features of a face, without noise (below) and shading (above)."""

LEAST_MASK_PX = 200.0
"""A face with less visible area than this (pixels of the crop) is not compared."""


def mean_in(values: FloatArray, mask: FloatArray) -> float:
    """The mask-weighted mean of `values` (..., or with channels ..., C) over `mask` (...); NaN for an empty mask."""
    inside = mask > 0
    weights = mask[inside]
    total = float(np.sum(weights, dtype=np.float64))
    if total <= 0:
        return float("nan")
    chosen = values[inside]
    return float(np.sum((chosen if chosen.ndim == 1 else chosen.mean(axis=-1)) * weights, dtype=np.float64)) / total


# ---- distance to the truth ------------------------------------------------------------------------------------------------


def psnr_db(picture: FloatArray, truth: FloatArray, mask: FloatArray) -> float:
    """Peak signal to noise ratio over all channels, in decibels; infinite for equal pictures."""
    error = mean_in((picture - truth) ** 2, mask)
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(error))


def ssim(picture: FloatArray, truth: FloatArray, mask: FloatArray) -> float:
    """Structural similarity, mean over channels and mask; 1 for equal pictures.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment", eq. 13; Gaussian window, sigma 1.5, 11 taps.
    """
    x, y = picture, truth
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return mean_in(similarity, mask)


def gradient_similarity(picture: FloatArray, truth: FloatArray, mask: FloatArray) -> tuple[float, float]:
    """Gradient-magnitude similarity of the luminance at half size: (its mean, 1 = equal; its deviation, 0 = equal).

    Source: Xue, Zhang, Mou and Bovik 2014, "Gradient magnitude similarity deviation", eqs. 1-5; the mean is their GMSM.
    """
    half_mask = _halved(mask)
    gradient_x, gradient_y = _prewitt_magnitude(_halved(_luminance(picture))), _prewitt_magnitude(_halved(_luminance(truth)))
    constant = 170 / 255**2
    similarity = (2 * gradient_x * gradient_y + constant) / (gradient_x**2 + gradient_y**2 + constant)
    mean = mean_in(similarity, half_mask)
    return mean, float(np.sqrt(mean_in((similarity - mean) ** 2, half_mask)))


# ---- what a blur cannot fake ----------------------------------------------------------------------------------------------


def band_pass(picture: FloatArray) -> FloatArray:
    """Luminance blurred with sigma 2 minus luminance blurred with sigma 10, in pixels of the face-space crop."""
    luminance = _luminance(picture)
    return _blurred(luminance, FINE_SIGMA_PX) - _blurred(luminance, COARSE_SIGMA_PX)


def compare_bands(band: FloatArray, true_band: FloatArray, mask: FloatArray) -> tuple[float, float]:
    """(detail, contrast) from what `band_pass` gave for a picture and for the truth: their correlation, and ratio of spread.

    Both are 1 for the truth. A flat picture has contrast 0, and detail 0: it shows nothing.
    """
    band, true_band = band - mean_in(band, mask), true_band - mean_in(true_band, mask)
    variance, true_variance = mean_in(band**2, mask), mean_in(true_band**2, mask)
    if not true_variance > 0:
        return float("nan"), float("nan")
    if variance < 1e-12:
        return 0.0, 0.0
    detail = mean_in(band * true_band, mask) / np.sqrt(variance * true_variance)
    return float(detail), float(np.sqrt(variance / true_variance))


def edge_gain(picture: FloatArray, truth: FloatArray, mask: FloatArray) -> float:
    """How much of the truth's edges the picture has, where the truth has them: 1 for the truth, 0 for a flat picture.

    The slope of the luminance between sigma 1.5 and 4 px on the truth's. Neither blotches of colour nor grain, which lift the
    contrast and the sharpness of a blurred face, go along with the truth's edges, so they do not lift it.
    """
    band, true_band = _edge_band(picture), _edge_band(truth)
    band, true_band = band - mean_in(band, mask), true_band - mean_in(true_band, mask)
    variance = mean_in(true_band**2, mask)
    return float(mean_in(band * true_band, mask) / variance) if variance > 0 else float("nan")


def _edge_band(picture: FloatArray) -> FloatArray:
    luminance = _luminance(picture)
    return _blurred(luminance, 1.5) - _blurred(luminance, 4.0)


def sharpness(picture: FloatArray, mask: FloatArray) -> float:
    """Spread of the luminance finer than the band of `detail` (8-bit levels): pores, lashes, grain and coding noise."""
    plane = _luminance(picture)
    fine = plane - _blurred(plane, FINE_SIGMA_PX)
    return 255 * float(np.sqrt(mean_in(fine**2, mask)))


# ---- what is left of the plate --------------------------------------------------------------------------------------------


def leak(picture: FloatArray, plate: FloatArray, truth: FloatArray, mask: FloatArray) -> float:
    """λ = Σm(out−B)·(A−B) / Σm(A−B)²: the plate's share in the picture; 0 for the truth, 1 for the plate."""
    inside = mask > 0
    return _leak(picture[inside], plate[inside], truth[inside], mask[inside])


def leak_after_colour_match(picture: FloatArray, plate: FloatArray, truth: FloatArray, mask: FloatArray) -> float:
    """λ with both picture and plate first brought to the truth's colours, so that a cast does not count as identity.

    Colours are matched in the mask by linear optimal transport (`colour.match_mkl`).
    """
    inside = mask > 0
    weights, target = mask[inside], measure_colour(truth[inside], mask[inside])
    swap_matched, plate_matched = (
        apply_colour(colours, match_mkl(measure_colour(colours, weights), target))
        for colours in (picture[inside], plate[inside])
    )
    return _leak(swap_matched, plate_matched, truth[inside], weights)


def _leak(picture: FloatArray, plate: FloatArray, truth: FloatArray, weights: FloatArray) -> float:
    """`leak` of the pixels (N, 3) in a mask, weighted by (N,)."""
    plate_from_truth = plate - truth
    energy = mean_in(plate_from_truth**2, weights)
    return mean_in((picture - truth) * plate_from_truth, weights) / energy if energy > 0 else float("nan")


# ---- helpers --------------------------------------------------------------------------------------------------------------


def _luminance(picture: FloatArray) -> FloatArray:
    return picture if picture.ndim == 2 else luma(picture)


def _blurred(plane: FloatArray, sigma_px: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))


def _window(plane: FloatArray) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))


def _halved(plane: FloatArray) -> FloatArray:
    size = (max(plane.shape[1] // 2, 1), max(plane.shape[0] // 2, 1))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def _prewitt_magnitude(plane: FloatArray) -> FloatArray:
    kernel = np.repeat([[1.0, 0.0, -1.0]], 3, axis=0) / 3
    horizontal, vertical = (cv2.filter2D(plane, -1, k, borderType=cv2.BORDER_REPLICATE) for k in (kernel, kernel.T))
    return np.asarray(np.hypot(horizontal, vertical))
