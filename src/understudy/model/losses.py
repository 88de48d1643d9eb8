"""What training minimises; each term is a mean over pixels weighted by where the face is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from understudy.model.augment import Batch
from understudy.settings import TrainRecipe


def reconstruction_loss(drawn: Tensor, batch: Batch, recipe: TrainRecipe) -> Tensor:
    """How far a drawn face (B, 3 or 4, R, R) is from its target, as one number.

    Without a mask channel the picture is compared everywhere, as in 2017; with one, the face counts, the surroundings hardly.
    """
    picture, *masks = drawn.split(3, dim=1)
    if not masks:
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
    if recipe.mask_weight and masks:
        total = total + recipe.mask_weight * cross_entropy(masks[0], batch.face)
    return total


def cross_entropy(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Of masks (B, 1, R, R) in 0..1; no number where what is drawn has none, so that the step is left out.

    PyTorch's own ends the training there instead, and takes its logarithms one by one: three times the time on a CPU.
    """
    likely = drawn.clamp(_UNLIKELY, 1 - _UNLIKELY)
    return -torch.lerp(torch.log(1 - likely), torch.log(likely), wanted).mean()


_UNLIKELY = 1e-6
"""A mask that is surer than that counts as being so sure: beyond, its logarithm would be infinite."""


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
    rows, columns = (_window_means(side, window_px, a) for side in a.shape[-2:])
    blurred: Tensor = _Windows.apply(torch.cat([a, b, a * a + b * b, a * b]), rows, columns, window_px // 2)  # type: ignore[no-untyped-call]
    mean_a, mean_b, squares, product = blurred.chunk(4)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_product + c1) * (2 * (product - mean_product) + c2)) / (
        (mean_squares + c1) * (squares - mean_squares + c2)
    )
    return (1 - ssim) / 2


class _Windows(torch.autograd.Function):
    """Pictures (B, 1, R, R) between two matrices (R, R) that are empty `reach` pixels from their diagonals and beyond.

    Two products, on a CPU stripe by stripe: a tenth of the time of pooling, which visits every pixel 49 times, and a third of
    that of whole products at 256 px, which are mostly empty. The gradient is told; through stripes it would be pieced together.
    """

    @staticmethod
    def forward(pictures: Tensor, rows: Tensor, columns: Tensor, reach: int) -> Tensor:
        return _between(pictures, rows, columns, reach)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, *matrices, ctx.reach = inputs
        ctx.save_for_backward(*matrices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = ctx.saved_tensors
        return _between(gradient, rows.T, columns.T, ctx.reach), None, None, None


STRIPE_PX = 32


def _between(pictures: Tensor, rows: Tensor, columns: Tensor, reach: int) -> Tensor:
    """rows @ pictures @ columns.T, for matrices that are empty `reach` pixels from their diagonals and beyond."""
    if pictures.is_cuda or torch.compiler.is_compiling():  # few large products, for which a graph is kept whole
        return rows @ (pictures @ columns.T)
    sheets = pictures.flatten(0, -3)  # N R R
    across, down = torch.empty_like(sheets), torch.empty_like(sheets)
    for stripe, near in _stripes(sheets.shape[2], reach):
        torch.mm(sheets.flatten(0, 1)[:, near], columns[stripe, near].T, out=across.flatten(0, 1)[:, stripe])
    for stripe, near in _stripes(sheets.shape[1], reach):
        torch.bmm(rows[stripe, near].expand(len(sheets), -1, -1), across[:, near], out=down[:, stripe])
    return down.view_as(pictures)


def _stripes(side_px: int, reach: int) -> list[tuple[slice, slice]]:
    """Stripes of a picture, and what lies within reach of each."""
    starts = range(0, side_px, STRIPE_PX)
    return [(slice(start, start + STRIPE_PX), slice(max(0, start - reach), start + STRIPE_PX + reach)) for start in starts]


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
