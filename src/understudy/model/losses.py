"""What training minimises; each term is a mean over pixels weighted by where the face is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from understudy.model.augment import Batch
from understudy.settings import TrainRecipe


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
        brightness = brightness_of(picture), brightness_of(batch.target)
        total = total + recipe.dssim_weight * weighted_mean(structural_dissimilarity(*brightness), weights)
    if recipe.hue_weight:
        total = total + recipe.hue_weight * weighted_mean(_hue_difference(picture, batch.target), weights)
    if recipe.edge_weight:
        total = total + recipe.edge_weight * edge_loss(picture, batch.target, weights)
    if recipe.mask_weight and drawn.shape[1] == 4:
        total = total + recipe.mask_weight * cross_entropy(drawn[:, 3:4], batch.face)
    return total


def cross_entropy(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Of masks (B, 1, R, R) in 0..1; no number where what is drawn has none, so that the step is left out.

    PyTorch's own ends the training there instead. Nor does it take more than 1, to which resampling rounds a mask of ones in
    one batch of some hundreds.
    """
    known = drawn.nan_to_num(nan=0.5)
    return functional.binary_cross_entropy(known, wanted.clamp(0, 1)) + (drawn - known).detach().sum()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The mean of values (B, C, R, R) under weights (B, 1, R, R), over each face and then over faces.

    Every face counts the same, however large it is; and a batch cut in pieces has the loss and the gradient of the whole.
    """
    total, weight = (values * weights).sum((1, 2, 3)), weights.sum((1, 2, 3)) * values.shape[1]
    return (total / weight.clamp_min(1e-6)).mean()


def brightness_of(pictures: Tensor) -> Tensor:
    """The mean of R, G and B (B, 1, R, R) of pictures (B, 3, R, R).

    Structure is compared in it alone. Channel by channel, a picture may match the contrasts of each and miss the colour:
    between red lips soft teeth turn blue.
    """
    return pictures.mean(dim=1, keepdim=True)


def _hue_difference(a: Tensor, b: Tensor) -> Tensor:
    """How far apart the colours (B, 3, R, R) of two pictures are, their brightness left out."""
    difference = a - b
    return (difference - difference.mean(dim=1, keepdim=True)).abs()


def structural_dissimilarity(a: Tensor, b: Tensor, window_px: int = 7) -> Tensor:
    """(1 - SSIM) / 2 at each pixel, with a flat window; values in 0..1.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13.
    """
    # Means over windows as two matrix products: a third of the time of pooling, which visits every pixel 49 times.
    rows, columns = (_window_means(side, window_px, a) for side in a.shape[-2:])
    blurred = rows @ (torch.cat([a, b, a * a + b * b, a * b]) @ columns.T)
    mean_a, mean_b, squares, product = blurred.chunk(4)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_product + c1) * (2 * (product - mean_product) + c2)) / (
        (mean_squares + c1) * (squares - mean_squares + c2)
    )
    return (1 - ssim) / 2


def _window_means(side_px: int, window_px: int, like: Tensor) -> Tensor:
    """(R, R): row i averages the pixels within half a window of pixel i, fewer at the edges."""
    place = torch.arange(side_px, device=like.device)
    is_near = ((place[:, None] - place).abs() <= window_px // 2).to(like.dtype)
    return is_near / is_near.sum(1, keepdim=True)


def edge_loss(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """The L1 difference of horizontal and vertical gradients."""
    difference = a - b
    horizontal = weighted_mean((difference[..., 1:] - difference[..., :-1]).abs(), weights[..., 1:])
    vertical = weighted_mean((difference[..., 1:, :] - difference[..., :-1, :]).abs(), weights[..., 1:, :])
    return horizontal + vertical
