"""The perceptual loss: two pictures are alike if a frozen network that knows faces sees the same in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from understudy.model.augment import Batch

Features = Callable[[Tensor], Sequence[Tensor]]
"""From pictures (B, 3, R, R), RGB in 0..1, to feature maps of a frozen network, each (B, C, H, W); differentiable."""


def perceptual_loss(drawn: Tensor, batch: Batch, features: Features) -> Tensor:
    """How differently a frozen network sees drawn faces (B, 3 or 4, R, R) and their targets; each map counts the same.

    The surroundings are the target's own, so that the face alone counts. Source: Zhang et al. 2018, "The unreasonable
    effectiveness of deep features as a perceptual metric", eq. 1 with all channels weighted alike.
    """
    picture = batch.face * drawn[:, :3] + (1 - batch.face) * batch.target
    with torch.no_grad():
        wanted = [_unit(each) for each in features(batch.target)]
    seen = [_unit(each) for each in features(picture)]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(seen, wanted, strict=True)]).mean()


def _unit(features: Tensor) -> Tensor:
    """Each place's features (B, C, H, W) as a vector of length 1."""
    return features / (features.square().sum(1, keepdim=True) + 1e-6).sqrt()
