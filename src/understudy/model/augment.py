"""Training pairs: from stored crops to (warped input, clean target), in batch, on whatever device the crops are on.

Convention: grids are those of torch.nn.functional.grid_sample with align_corners=False: -1 and +1 are the outer edges of the
picture, so pixel centres lie at (2 i + 1) / n - 1. One exact grid serves input and target; nothing is rounded.
Shapes: B batch, S side of the stored crops, R side of the network's pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from understudy.imaging.expression import MIRRORED, SIDEWAYS
from understudy.model.schedule import step_generator
from understudy.settings import TrainRecipe

FAULT_INPUT_PX, FAULT_TARGET_PX = 0.2, -0.3
"""How far right and down of the exact place the 2017 program sampled its input and its target, in pixels of its 64 px pictures:
input pixel j at 49.25 + 2.5 j of the 256 px face and target pixel j at 48 + 2.5 j, where 48.75 + 2.5 j is exact."""


@dataclass(frozen=True)
class Batch:
    """What one performer contributes to a step.

    warped, target: (B, 3, R, R) RGB in 0..1; face, features: (B, 1, R, R) masks of the face and of its eyes and mouth.
    expressions: (B, 9) as measured on the faces, where the network is told.
    """

    warped: Tensor
    target: Tensor
    face: Tensor
    features: Tensor
    expressions: Tensor | None = None


class Disturbance(NamedTuple):
    """What is random about B training pairs.

    similarity: (B, 2, 3), where in the stored crop to look; lattice: (B, 2, 5, 5), the warp's; gain: (B, 3, 1, 1), the input's
    exposure and tint; backdrop: (B, 3, 1, 1), the colour round the faces (B, 1, 1, 1) that `has_backdrop`.
    """

    similarity: Tensor
    lattice: Tensor
    gain: Tensor
    backdrop: Tensor
    has_backdrop: Tensor

    def to(self, device: torch.device) -> Disturbance:
        return Disturbance(*(each.to(device) for each in self))


def draw_disturbance(num: int, recipe: TrainRecipe, warp_strength: float, random: torch.Generator) -> Disturbance:
    """All that is random about `num` training pairs, on the CPU, so that it is the same whatever they are made on.

    warp_strength: 0..1, the share of the recipe's warp and of its mirroring still in force.
    """
    similarity = random_similarity(num, recipe, random, recipe.flip_probability * warp_strength)
    lattice = warp_lattice(num, recipe.warp_fraction * warp_strength, random)
    brightness = torch.exp(_uniform((num, 1, 1, 1), recipe.brightness_fraction, random))
    tint = torch.exp(_uniform((num, 3, 1, 1), recipe.colour_fraction, random))
    backdrop, has_backdrop = torch.zeros(num, 3, 1, 1), torch.zeros(num, 1, 1, 1, dtype=torch.bool)
    if recipe.backdrop_probability:
        backdrop = torch.rand((num, 3, 1, 1), generator=random)
        has_backdrop = torch.rand((num, 1, 1, 1), generator=random) < recipe.backdrop_probability
    return Disturbance(similarity, lattice, brightness * tint, backdrop, has_backdrop)


def training_pairs(
    stored: Tensor, disturbance: Disturbance, recipe: TrainRecipe, margin: float, expressions: Tensor | None = None
) -> Batch:
    """Training pairs from stored crops (B, 5, S, S) uint8 and what is random about them, on one device.

    Nothing is drawn here, so that it can be compiled.
    """
    pictures = stored.float().div_(255)
    num, similarity, lattice = len(pictures), disturbance.similarity, disturbance.lattice
    grid = pixel_grid(recipe.resolution_px, pictures.device)
    input_grid = warp_grid(_shifted(grid, FAULT_INPUT_PX, recipe), lattice)
    target_grid = _shifted(grid, FAULT_TARGET_PX, recipe).expand(num, -1, -1, -1)
    if recipe.is_target_aligned_to_warp:
        target_grid = transform_grid(target_grid, similarity_of_warp(lattice))
    clean = _sample(pictures, transform_grid(target_grid, similarity) / margin)
    warped = _sample(pictures[:, :4], transform_grid(input_grid, similarity) / margin)
    warped, warped_face = warped[:, :3], warped[:, 3:4]
    warped = (warped * disturbance.gain).clamp(0, 1)
    if recipe.backdrop_probability:
        warped = change_backdrop(warped, warped_face, disturbance.backdrop, disturbance.has_backdrop)
    if expressions is not None:
        expressions = mirror_expressions(expressions, is_mirrored=torch.linalg.det(similarity[:, :, :2]) < 0)
    return Batch(warped, clean[:, :3], clean[:, 3:4], clean[:, 4:5], expressions)


MakePairs = Callable[[Tensor, Disturbance, TrainRecipe, float, Tensor | None], Batch]


def make_batch(
    stored: Tensor,
    recipe: TrainRecipe,
    margin: float,
    warp_strength: float,
    random: torch.Generator,
    expressions: Tensor | None = None,
    pairs: MakePairs = training_pairs,
) -> Batch:
    """Random training pairs from stored crops.

    stored: (B, 5, S, S) uint8: RGB, face mask, feature mask, covering `margin` times the side of the network's framing.
    warp_strength: 0..1, the share of the recipe's warp and of its mirroring still in force. All randomness comes from `random`.
    expressions: (B, 9). pairs: `training_pairs`, or the same compiled.
    """
    disturbance = draw_disturbance(len(stored), recipe, warp_strength, random).to(stored.device)
    return pairs(stored, disturbance, recipe, margin, expressions)


def make_still_batch(stored: Tensor, recipe: TrainRecipe, margin: float, expressions: Tensor | None = None) -> Batch:
    """The same without any disturbance, for looking at what has been learned; nothing in it is random."""
    still = replace(
        recipe,
        warp_fraction=0.0,
        rotation_degrees=0.0,
        scale_fraction=0.0,
        shift_fraction=0.0,
        flip_probability=0.0,
        brightness_fraction=0.0,
        colour_fraction=0.0,
        backdrop_probability=0.0,
    )
    return make_batch(stored, still, margin, 0.0, step_generator(0, 0, 0), expressions)


def mixed_chances(shares: Tensor, balance_fraction: float) -> Tensor:
    """(N,) the chance of each face: a mixture of balanced and even sampling."""
    return balance_fraction * shares / shares.sum() + (1 - balance_fraction) / len(shares)


def mirror_expressions(expressions: Tensor, is_mirrored: Tensor) -> Tensor:
    """Expressions (B, 9), or (B, 8) without the gaze, of faces of which some (B,) are shown mirrored."""
    num_told = expressions.shape[1]
    seen = expressions[:, MIRRORED[:num_told]].clone()
    for place in SIDEWAYS:
        seen[:, place : place + 1].neg_()
    return torch.where(is_mirrored[:, None], seen, expressions)


def random_similarity(num: int, recipe: TrainRecipe, random: torch.Generator, flip_probability: float) -> Tensor:
    """(num, 2, 3): where in the stored crop to look, as transforms of grid coordinates; some mirrored."""
    angle = torch.deg2rad(_uniform(num, recipe.rotation_degrees, random))
    scale = torch.exp(_uniform(num, recipe.scale_fraction, random))
    shift = _uniform((num, 2), 2 * recipe.shift_fraction, random)
    mirror = torch.where(torch.rand(num, generator=random) < flip_probability, -1.0, 1.0)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1)
    return rows.view(num, 2, 3)


def seen_through(pictures: Tensor, similarity: Tensor) -> Tensor:
    """Pictures (B, C, R, R) looked at through one similarity (1, 2, 3) of grid coordinates."""
    grid = transform_grid(pixel_grid(pictures.shape[-1], pictures.device), similarity.to(pictures.device))
    return _sample(pictures, grid.expand(len(pictures), -1, -1, -1))


def pixel_grid(size_px: int, device: torch.device) -> Tensor:
    """(1, R, R, 2): the (x, y) of each pixel's centre."""
    centres = (2 * torch.arange(size_px, device=device) + 1) / size_px - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1)[None]


def transform_grid(grid: Tensor, similarity: Tensor) -> Tensor:
    """grid (1 or B, R, R, 2) under similarity (B, 2, 3) -> (B, R, R, 2)."""
    grid = grid.expand(len(similarity), -1, -1, -1)
    return torch.einsum("bij,bhwj->bhwi", similarity[:, :, :2], grid) + similarity[:, None, None, :, 2]


def warp_lattice(num: int, sigma_fraction: float, random: torch.Generator) -> Tensor:
    """(num, 2, 5, 5): independent normal displacements in x and y, in grid units, at 5x5 nodes from edge to edge.

    sigma_fraction: their standard deviation as a fraction of the crop's side; in the 2017 program 5 pixels of 160.
    """
    return torch.randn(num, 2, 5, 5, generator=random) * (2 * sigma_fraction)


def warp_grid(grid: Tensor, lattice: Tensor) -> Tensor:
    """grid (1, R, R, 2) displaced by the lattice (B, 2, 5, 5), bilinearly between its nodes -> (B, R, R, 2)."""
    grid = grid.expand(len(lattice), -1, -1, -1)
    # The lattice's outer nodes sit on the picture's outer edges, which is what align_corners=True means for it.
    displacement = functional.grid_sample(lattice, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return grid + displacement.permute(0, 2, 3, 1)


def similarity_of_warp(lattice: Tensor) -> Tensor:
    """(B, 2, 3): the similarity that a warp lattice (B, 2, 5, 5) amounts to, from undisturbed to displaced coordinates.

    The 2017 program fitted (Umeyama 1991) the displaced nodes to the undisturbed ones and showed the target through that, so
    that the net's task is to undo the warp but not the shift, turn and zoom that the warp happens to contain. In the plane a
    similarity is one complex factor and one complex offset, so the fit has a closed form.
    """
    axis = torch.linspace(-1, 1, 5, device=lattice.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    regular = torch.complex(x, y).flatten()  # 25
    displaced = torch.complex(x + lattice[:, 0], y + lattice[:, 1]).flatten(1)  # B 25
    centre = displaced.mean(1, keepdim=True)
    factor = ((displaced - centre).conj() * regular).sum(1) / ((displaced - centre).abs() ** 2).sum(1)
    inverse = 1 / factor  # regular = factor * (displaced - centre)
    rows = [inverse.real, -inverse.imag, centre[:, 0].real, inverse.imag, inverse.real, centre[:, 0].imag]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def change_backdrop(pictures: Tensor, face: Tensor, colour: Tensor, is_changed: Tensor) -> Tensor:
    """Pictures (B, 3, R, R) with one colour (B, 3, 1, 1) round the face (mask (B, 1, R, R)), where that is told (B, 1, 1, 1).

    Otherwise the encoder reads the light off the background of the training footage, which the plate does not have.
    """
    return torch.where(is_changed, face * pictures + (1 - face) * colour, pictures)


def _shifted(grid: Tensor, fault_px: float, recipe: TrainRecipe) -> Tensor:
    return grid + fault_px * 2 / 64 if recipe.half_pixel_fault else grid


def _sample(pictures: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _uniform(shape: int | tuple[int, ...], half_width: float, random: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=random) * 2 - 1) * half_width
