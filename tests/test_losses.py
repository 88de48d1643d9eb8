"""What training minimises: each term is what its source says, and weighs what the recipe says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from understudy.model.augment import Batch
from understudy.model.losses import reconstruction_loss, structural_dissimilarity
from understudy.settings import TrainRecipe


def test_similarity_of_structure_is_that_of_the_paper_with_a_window_cut_at_the_edges() -> None:
    random = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 3, 20, 24, generator=random), torch.rand(2, 3, 20, 24, generator=random)

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 7, stride=1, padding=3, count_include_pad=False)

    covariance, variances = mean(a * b) - mean(a) * mean(b), mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    luminance = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
    expected = (1 - luminance * (2 * covariance + 9e-4) / (variances + 9e-4)) / 2
    torch.testing.assert_close(structural_dissimilarity(a, b), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_structure_is_that_of_whole_windows_across_stripes() -> None:
    random = torch.Generator().manual_seed(2)
    a, b, slope = (torch.rand(2, 1, 72, 40, generator=random, dtype=torch.float64) for _ in range(3))
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda each: structural_dissimilarity(each, b[:, :, :9, :9]), (a[:, :, :9, :9],))

    def whole(pictures: Tensor) -> Tensor:
        c1, c2 = 0.01**2, 0.03**2
        mean_a, mean_b, squares, product = (
            functional.avg_pool2d(each, 7, stride=1, padding=3, count_include_pad=False)
            for each in (pictures, b, pictures * pictures + b * b, pictures * b)
        )
        mean_product, mean_squares = mean_a * mean_b, mean_a**2 + mean_b**2
        above = (2 * mean_product + c1) * (2 * (product - mean_product) + c2)
        return (1 - above / ((mean_squares + c1) * (squares - mean_squares + c2))) / 2

    (ours,) = torch.autograd.grad((structural_dissimilarity(a, b) * slope).sum(), a)
    (theirs,) = torch.autograd.grad((whole(a) * slope).sum(), a)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_face_mask_that_resampling_has_rounded_above_one_is_a_face_mask() -> None:
    batch = Batch(*(torch.rand(2, channels, 16, 16) for channels in (3, 3, 1, 1)))
    batch.face[0, 0, 0, 0] = 1.0000001192092896  # what grid_sample made of a mask of ones in one batch of some hundreds
    assert torch.isfinite(reconstruction_loss(torch.rand(2, 4, 16, 16), batch, TrainRecipe()))


def test_structure_is_compared_in_brightness_and_hue_by_itself() -> None:
    """Between red lips a tooth is a contrast in blue alone, and what matches every channel's contrasts may be blue."""
    ones, grey = torch.ones(1, 1, 16, 16), torch.rand(1, 1, 16, 16).expand(-1, 3, -1, -1) * 0.6 + 0.2
    batch = Batch(grey, grey, ones, ones)
    bluish = torch.cat([grey + torch.tensor([-0.1, 0.0, 0.1])[:, None, None], ones], dim=1)
    alone = TrainRecipe(l1_weight=0, dssim_weight=1, hue_weight=0, mask_weight=0)
    assert reconstruction_loss(bluish, batch, alone) == pytest.approx(0, abs=1e-5)
    of_hue = replace(alone, dssim_weight=0, hue_weight=3)
    assert reconstruction_loss(bluish, batch, of_hue) == pytest.approx(3 * 0.2 / 3, rel=1e-4)
    assert reconstruction_loss(torch.cat([grey + 0.1, ones], dim=1), batch, of_hue) == pytest.approx(0, abs=1e-5)


def test_edges_are_compared_by_their_gradients_and_not_by_their_brightness() -> None:
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = 0.5
    ones = torch.ones(1, 1, 16, 16)
    of_edges = TrainRecipe(l1_weight=0, dssim_weight=0, hue_weight=0, mask_weight=0, edge_weight=1)
    batch = Batch(step, step, ones, ones)
    flat, brighter = (torch.cat([each, ones], dim=1) for each in (torch.full_like(step, 0.25), step + 0.1))
    assert reconstruction_loss(flat, batch, of_edges) > 0.01
    assert reconstruction_loss(brighter, batch, of_edges) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("setting", "where"), [("feature_emphasis", "features"), ("background_weight", "background")])
def test_what_is_weighted_more_costs_more_where_it_is_wrong_and_less_elsewhere(setting: str, where: str) -> None:
    picture, face, features = torch.full((1, 3, 16, 16), 0.5), torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    face[..., 4:12, 4:12], features[..., 6:8, 6:8] = 1, 1
    batch = Batch(picture, picture, face, features)
    places = {"features": features, "background": 1 - face}
    alone = TrainRecipe(dssim_weight=0, hue_weight=0, mask_weight=0, feature_emphasis=1.0, background_weight=0.1)
    for place, mask in {**places, "face": face - features}.items():
        wrong = torch.cat([picture + 0.2 * mask, face], dim=1)
        little, much = (reconstruction_loss(wrong, batch, replace(alone, **{setting: by})) for by in (0.05, 3.0))
        assert (much > little) == (place == where), place


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
