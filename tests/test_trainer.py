"""The step of training: the 2017 recipe computes what it always did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from understudy.model.augment import Batch
from understudy.model.losses import reconstruction_loss, structural_dissimilarity
from understudy.types import TrainRecipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from record_original_training import GOLDEN, record


def test_the_first_steps_of_the_original_recipe_are_those_that_were_recorded() -> None:
    golden, now = json.loads(GOLDEN.read_text()), record()
    assert [list(losses) for losses in now["losses"]] == [["abel", "bea"]] * 3
    for losses, recorded in zip(now["losses"], golden["losses"], strict=True):
        assert losses == pytest.approx(recorded, rel=1e-6)
    assert now["sums"] == pytest.approx(golden["sums"], rel=1e-6)


def test_similarity_of_structure_is_that_of_the_paper_with_a_window_cut_at_the_edges() -> None:
    random = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 3, 20, 24, generator=random), torch.rand(2, 3, 20, 24, generator=random)

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 7, stride=1, padding=3, count_include_pad=False)

    covariance, variances = mean(a * b) - mean(a) * mean(b), mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    luminance = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
    expected = (1 - luminance * (2 * covariance + 9e-4) / (variances + 9e-4)) / 2
    torch.testing.assert_close(structural_dissimilarity(a, b), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_cut_in_pieces_has_the_loss_of_the_whole() -> None:
    random, recipe = torch.Generator().manual_seed(2), TrainRecipe()
    batch = Batch(*(torch.rand(6, channels, 16, 16, generator=random) for channels in (3, 3, 1, 1)))
    drawn = torch.rand(6, 4, 16, 16, generator=random)
    whole = reconstruction_loss(drawn, batch, recipe)
    pieces = [slice(0, 2), slice(2, 6)]
    losses = [
        reconstruction_loss(
            drawn[piece],
            Batch(batch.warped[piece], batch.target[piece], batch.face[piece], batch.features[piece]),
            recipe,
        )
        for piece in pieces
    ]
    torch.testing.assert_close((2 * losses[0] + 4 * losses[1]) / 6, whole)
