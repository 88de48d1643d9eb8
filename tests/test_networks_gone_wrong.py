"""A network whose weights have become no numbers ends no training: the step is left out, as the watchdog wants it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from test_trainer import NAMES, made_up
from understudy.model.colour import UNCHANGED
from understudy.model.losses import cross_entropy
from understudy.model.trainer import Trainer
from understudy.recipes import train_recipe


@pytest.mark.parametrize("name", ["original", "original-gan", "quick", "laptop"])
def test_a_step_of_weights_that_are_no_numbers_is_left_out(name: str) -> None:
    recipe = replace(
        train_recipe(name, {"batch_size": 2, "resolution_px": 32}), width=0.125, perceptual_weight=0.0, starter="none"
    )
    trainer = Trainer(
        made_up(), dict.fromkeys(NAMES, UNCHANGED), replace(recipe, is_expression_measured=False, decay_to_start=0.0), 1.35
    )
    with torch.no_grad():
        next(iter(trainer.network.parameters())).view(-1)[0] = torch.nan
    before = [each.clone() for each in list(trainer.network.parameters())[1:]]
    assert not trainer.step(0.0).is_applied
    assert all(torch.equal(*pair) for pair in zip(before, list(trainer.network.parameters())[1:], strict=True))


def test_masks_of_numbers_are_compared_as_ever_and_others_make_no_number() -> None:
    random = torch.Generator().manual_seed(0)
    drawn, wanted = (torch.rand(2, 1, 8, 8, generator=random) for _ in range(2))
    drawn.requires_grad_()
    ours, theirs = cross_entropy(drawn, wanted), torch.nn.functional.binary_cross_entropy(drawn, wanted)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(each, drawn)[0] for each in (ours, theirs)))
    sure = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(sure, torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)), sure)
    assert torch.isfinite(slope).all()
    broken = drawn.detach().clone()
    broken[0, 0, 3, 3] = torch.nan
    assert cross_entropy(broken, wanted).isnan()
