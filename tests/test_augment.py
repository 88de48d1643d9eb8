"""Training pairs come from one exact grid, and the 2017 program's are reproduced to the pixel."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from understudy.imaging.similarity import fit_similarity
from understudy.model.augment import (
    FAULT_INPUT_PX,
    FAULT_TARGET_PX,
    Batch,
    draw_disturbance,
    make_batch,
    pixel_grid,
    random_similarity,
    similarity_of_warp,
    training_pairs,
    transform_grid,
    warp_grid,
    warp_lattice,
)
from understudy.model.losses import reconstruction_loss
from understudy.recipes import quick
from understudy.settings import TrainRecipe

CPU = torch.device("cpu")
STILL = TrainRecipe(
    resolution_px=64,
    warp_fraction=0,
    rotation_degrees=0,
    scale_fraction=0,
    shift_fraction=0,
    flip_probability=0,
    brightness_fraction=0,
    colour_fraction=0,
    backdrop_probability=0,
)


def still(**changes: object) -> TrainRecipe:
    return replace(STILL, **changes)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp_crops(size_px: int) -> torch.Tensor:
    """A crop whose red rises evenly to the right and whose green rises evenly downwards, from 0 to 255 between outer edges."""
    centres = (torch.arange(size_px) + 0.5) / size_px * 255
    crops = torch.zeros(1, 5, size_px, size_px)
    crops[:, 0], crops[:, 1], crops[:, 3] = centres[None], centres[:, None], 255
    return crops.round().to(torch.uint8)


def test_without_disturbance_input_and_target_are_the_middle_of_the_crop() -> None:
    batch = make_batch(ramp_crops(240), still(), margin=1.5, warp_strength=1, random=random())
    assert torch.equal(batch.warped, batch.target)
    expected = (1 / 6 + (torch.arange(64) + 0.5) / 64 * 2 / 3) * 255
    assert (batch.target[0, 0, 32] * 255 - expected).abs().max() < 1.1, "within the rounding of the crops"
    assert (batch.target[0, 1, :, 32] * 255 - expected).abs().max() < 1.1


def test_the_2017_fault_samples_input_and_target_where_the_2017_program_did() -> None:
    """Input pixel j at 49.25 + 2.5 j and target pixel j at 48 + 2.5 j of the 256 px face, in coordinates of pixel centres."""
    exact = pixel_grid(64, CPU)[0, 0, :, 0]  # over the inner 160 px of 256, that is from 48 to 208 between outer edges

    def in_face_px(grid: torch.Tensor) -> torch.Tensor:
        return 48 + (grid + 1) / 2 * 160 - 0.5

    faulty_input = in_face_px(exact + FAULT_INPUT_PX * 2 / 64)
    faulty_target = in_face_px(exact + FAULT_TARGET_PX * 2 / 64)
    assert faulty_input[[0, -1]].tolist() == pytest.approx([49.25, 206.75], abs=1e-4)
    assert faulty_target[[0, 1]].tolist() == pytest.approx([48, 50.5], abs=1e-4)


def test_the_fault_is_off_unless_asked_for_and_then_half_a_pixel() -> None:
    crops = ramp_crops(256)
    exact = make_batch(crops, still(), 1.0, 1, random())
    faulty = make_batch(crops, still(half_pixel_fault=True), 1.0, 1, random())
    step = float(exact.target[0, 0, 32, 33] - exact.target[0, 0, 32, 32])
    shift_px = (faulty.warped - faulty.target)[0, 0, 32, 8:-8] / step
    assert torch.equal(exact.warped, exact.target)
    assert float(shift_px.mean()) == pytest.approx(0.5, abs=0.02)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_the_closed_form_of_the_warps_similarity_is_umeyamas(seed: int) -> None:
    lattice = warp_lattice(1, 0.05, random(seed))
    axis = np.linspace(-1, 1, 5)
    regular = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    displaced = regular + lattice[0].permute(1, 2, 0).reshape(-1, 2).double().numpy()
    regular_from_displaced = fit_similarity(displaced, regular)
    ours = similarity_of_warp(lattice)[0].double().numpy()
    there_and_back = regular_from_displaced[:, :2] @ (ours[:, :2] @ regular.T + ours[:, 2:]) + regular_from_displaced[:, 2:]
    assert there_and_back.T == pytest.approx(regular, abs=1e-5)


def test_a_warp_that_is_a_similarity_is_undone_completely() -> None:
    axis = torch.linspace(-1, 1, 5)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    lattice = torch.stack([0.1 * x - 0.05 * y + 0.03, 0.05 * x + 0.1 * y - 0.02])[None]
    grid = pixel_grid(64, CPU)
    assert torch.allclose(transform_grid(grid, similarity_of_warp(lattice)), warp_grid(grid, lattice), atol=1e-5)


def test_the_warp_interpolates_between_nodes_that_reach_the_edges() -> None:
    lattice = torch.zeros(1, 2, 5, 5)
    lattice[0, 0, :, 0] = 1.0  # the left column of nodes is pushed to the right by one grid unit
    displacement = (warp_grid(pixel_grid(64, CPU), lattice) - pixel_grid(64, CPU))[0, 0, :, 0]
    assert displacement[0] == pytest.approx(1 - 0.5 / 16, abs=1e-5)
    assert displacement[16:].abs().max() < 1e-6, "the second column of nodes stands at a quarter of the width"


def test_the_warp_has_the_strength_that_it_is_given() -> None:
    lattice = warp_lattice(2000, 5 / 160, random())
    assert float(lattice.std()) / 2 * 160 == pytest.approx(5, rel=0.02)


def test_flips_happen_as_often_as_asked() -> None:
    rows = random_similarity(4000, still(), random(), 0.4)
    determinants = torch.linalg.det(rows[:, :, :2])
    assert float((determinants < 0).float().mean()) == pytest.approx(0.4, abs=0.03)


def test_mirroring_fades_with_the_warp() -> None:
    crops = ramp_crops(240)
    upright, mirrored = (make_batch(crops, still(flip_probability=1.0), 1.5, strength, random()).target for strength in (0, 1))
    assert torch.allclose(mirrored, upright.flip(-1), atol=1e-5)
    assert not torch.allclose(mirrored, upright, atol=0.05)


def test_colour_is_disturbed_on_the_input_only_and_in_every_face_differently() -> None:
    crops = torch.full((4, 5, 96, 96), 128, dtype=torch.uint8)
    batch = make_batch(crops, still(brightness_fraction=0.3, colour_fraction=0.1), 1.35, 1, random())
    assert torch.allclose(batch.target, torch.tensor(128 / 255))
    assert len({round(float(value), 4) for value in batch.warped[:, 0, 0, 0]}) == 4


def test_the_same_generator_draws_the_same_batch() -> None:
    crops = torch.randint(0, 256, (3, 5, 96, 96), dtype=torch.uint8, generator=random(1))
    first, second = (make_batch(crops, TrainRecipe(), 1.35, 1, random(7)) for _ in range(2))
    assert torch.equal(first.warped, second.warped)
    assert torch.equal(first.target, second.target)


def test_the_backdrop_changes_round_the_face_and_never_in_it() -> None:
    crops = torch.full((8, 5, 96, 96), 100, dtype=torch.uint8)
    crops[:, 3] = 0
    crops[:, 3, 24:72, 24:72] = 255
    batch = make_batch(crops, still(backdrop_probability=1.0), 1.0, 1, random())
    assert torch.allclose(batch.warped[:, :, 20:44, 20:44], torch.tensor(100 / 255)), "the face stays"
    corners = {tuple(round(float(value), 4) for value in picture[:, 0, 0]) for picture in batch.warped}
    assert len(corners) == 8, "each face stands before a colour of its own"
    assert torch.allclose(batch.target, torch.tensor(100 / 255)), "the target keeps its background"


def test_the_backdrop_changes_as_often_as_asked() -> None:
    crops = torch.full((400, 5, 8, 8), 100, dtype=torch.uint8)
    crops[:, 3] = 0
    batch = make_batch(crops, still(resolution_px=16, backdrop_probability=0.75), 1.0, 1, random())
    is_changed = (batch.warped[:, 0, 0, 0] - 100 / 255).abs() > 1e-3
    assert float(is_changed.float().mean()) == pytest.approx(0.75, abs=0.06)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler still uses what torch calls deprecated
def test_pairs_and_loss_are_one_graph_for_the_compiler_and_give_the_same() -> None:
    recipe = replace(quick(), resolution_px=48)
    crops, told = ramp_crops(72).expand(3, -1, -1, -1), torch.rand(3, 9)
    disturbance = draw_disturbance(3, recipe, 1.0, random())
    drawn = torch.rand(3, 4, 48, 48, requires_grad=True)

    def loss_of(pairs: Callable[..., Batch], loss: Callable[..., Tensor]) -> tuple[Batch, Tensor, Tensor]:
        batch = pairs(crops, disturbance, recipe, 1.35, told)
        value = loss(drawn, batch, recipe)
        return batch, value, torch.autograd.grad(value, drawn)[0]

    torch.compiler.reset()
    graphs = (torch.compile(each, backend="aot_eager", fullgraph=True) for each in (training_pairs, reconstruction_loss))
    batch, loss, gradient = loss_of(*graphs)
    expected, expected_loss, expected_gradient = loss_of(training_pairs, reconstruction_loss)
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(batch, name), value)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradient, expected_gradient)
