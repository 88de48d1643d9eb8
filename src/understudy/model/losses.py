"""What training minimises; each term is a mean over pixels weighted by where the face is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from understudy.model.augment import Batch
from understudy.types import TrainRecipe


def reconstruction_loss(drawn: Tensor, batch: Batch, recipe: TrainRecipe) -> Tensor:
    """How far a drawn face (B, 3 or 4, R, R) is from its target, as one number.

    Without a mask channel the picture is compared everywhere, as in 2017; with one, the face counts, the surroundings hardly.
    """
    picture = drawn[:, :3]
    if drawn.shape[1] == 3:
        weights = torch.ones_like(batch.face)
    else:
        background = recipe.background_weight
        weights = background + batch.face * (1 - background) + batch.features * recipe.feature_emphasis
    total = recipe.l1_weight * weighted_mean((picture - batch.target).abs(), weights)
    if recipe.dssim_weight:
        total = total + recipe.dssim_weight * weighted_mean(structural_dissimilarity(picture, batch.target), weights)
    if recipe.edge_weight:
        total = total + recipe.edge_weight * edge_loss(picture, batch.target, weights)
    if recipe.mask_weight and drawn.shape[1] == 4:
        total = total + recipe.mask_weight * functional.binary_cross_entropy(drawn[:, 3:4], batch.face)
    return total


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The mean of values (B, C, R, R) under weights (B, 1, R, R)."""
    return (values * weights).sum() / (weights.sum() * values.shape[1]).clamp_min(1e-6)


def structural_dissimilarity(a: Tensor, b: Tensor, window_px: int = 7) -> Tensor:
    """(1 - SSIM) / 2 at each pixel, with a flat window; values in 0..1.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13.
    """
    stacked = torch.cat([a, b, a * a, b * b, a * b])
    blurred = functional.avg_pool2d(stacked, window_px, stride=1, padding=window_px // 2, count_include_pad=False)
    mean_a, mean_b, square_a, square_b, product = blurred.chunk(5)
    variance_a, variance_b, covariance = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return (1 - ssim) / 2


def edge_loss(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """The L1 difference of horizontal and vertical gradients."""
    difference = a - b
    horizontal = weighted_mean((difference[..., 1:] - difference[..., :-1]).abs(), weights[..., 1:])
    vertical = weighted_mean((difference[..., 1:, :] - difference[..., :-1, :]).abs(), weights[..., 1:, :])
    return horizontal + vertical
