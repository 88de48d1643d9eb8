"""The trainer's step with every variant of the network and every further term of the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from understudy.model.colour import UNCHANGED
from understudy.model.trainer import Trainer
from understudy.types import TrainRecipe

TINY = TrainRecipe(resolution_px=32, width=0.125, code_size=8, batch_size=2, warmup_steps=2)
PERFORMERS = ("abel", "bea", "cleo")


def crops() -> dict[str, torch.Tensor]:
    """A dozen noisy discs of a colour of its own for each of three performers: (12, 5, 48, 48) uint8."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    disc = (x**2 + y**2 < 0.5)[None].float()
    drawn = {}
    for name, colour in zip(PERFORMERS, torch.tensor([[200.0, 90, 60], [60, 160, 90], [70, 80, 210]]), strict=True):
        noise = torch.randn(12, 3, 48, 48, generator=random) * 20
        pictures = (disc * colour[:, None, None] + noise).clamp(0, 255)
        masks = (disc * 255).expand(12, 1, -1, -1)
        drawn[name] = torch.cat([pictures, masks, masks * (y < 0)], dim=1).round().to(torch.uint8)
    return drawn


def trainer(recipe: TrainRecipe, performers: tuple[str, ...] = PERFORMERS) -> Trainer:
    faces = {name: each for name, each in crops().items() if name in performers}
    return Trainer(faces, dict.fromkeys(faces, UNCHANGED), recipe, margin=1.25)


@pytest.mark.parametrize("sharing", ["separate", "identity-code", "two-inters"])
@pytest.mark.parametrize("alternate", [False, True])
def test_every_variant_learns_three_performers(sharing: str, alternate: bool) -> None:
    training = trainer(replace(TINY, sharing=sharing, alternate_performers=alternate, learning_rate=3e-3))
    losses = [sum(training.step(0.1).losses.values()) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]
