"""What is asked of a swap in training, where no truth is known: to look real, to fit in, and to lead back.

Shapes: B batch, R side of the network's pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from understudy.model.augment import Batch, random_similarity, seen_through
from understudy.model.losses import weighted_mean
from understudy.settings import TrainRecipe
from understudy.types import BadInput

SWAP_TERMS = "adversarial_swap_weight, harmony_weight, cycle_weight, equivariance_weight"


@dataclass(frozen=True)
class Swap:
    """Faces of one performer drawn as another.

    performer: as whom; drawn: (B, 3 or 4, R, R); plate: whose faces went in; real: faces of `performer` in the same step.
    """

    performer: str
    drawn: Tensor
    plate: Batch
    real: Batch


@dataclass(frozen=True)
class Drawing:
    """One performer's faces of a step, as they went in and as they were drawn; drawn: (B, 3 or 4, R, R), without gradient."""

    batch: Batch
    drawn: Tensor
    swap: Swap | None = None


def has_swaps(recipe: TrainRecipe, progress: float) -> bool:
    """Whether any term of the loss is about swaps at that share of the run; else none is drawn."""
    is_judged = recipe.adversarial_swap_weight > 0 and progress >= recipe.adversarial_from
    return is_judged or any(weight > 0 for weight in (recipe.harmony_weight, recipe.cycle_weight, recipe.equivariance_weight))


def partner(performer: str, performers: Sequence[str], step: int) -> str:
    """As whom a performer's faces are drawn in that step: each of the others in turn."""
    others = [name for name in performers if name != performer]
    return others[step % len(others)]


def check_terms(recipe: TrainRecipe, has_features: bool) -> None:
    """Raises BadInput where the recipe's terms lack what they need."""
    if recipe.perceptual_weight and not has_features:
        raise BadInput("perceptual_weight needs what a face network sees: give the trainer `features`")
    if has_swaps(recipe, 1.0) and recipe.alternate_performers:
        raise BadInput(f"swaps are trained ({SWAP_TERMS}): set alternate_performers=false")
    if has_swaps(recipe, 1.0) and recipe.compile == "cuda-graphs":
        raise BadInput(
            "swaps are trained, which runs each network twice a step: set compile to something else than cuda-graphs"
        )


def kept_of(batch: Batch, drawn: Tensor, swap: Swap | None) -> Drawing:
    """What an adversary learns from, without its gradient."""
    return Drawing(batch, drawn.detach(), None if swap is None else replace(swap, drawn=swap.drawn.detach()))


def swap_loss(
    swap: Swap, performer: str, recipe: TrainRecipe, draw: Callable[[Tensor, str, str], Tensor], random: torch.Generator
) -> Tensor:
    """What is minimised of a performer's faces drawn as `swap.performer`; an opponent's term comes on top.

    draw: pictures (B, 3, R, R) of one performer, drawn as another. random: for what is drawn by lot.
    """
    loss = swap.drawn.new_zeros(())
    if recipe.harmony_weight:
        loss = loss + recipe.harmony_weight * harmony_loss(swap)
    if recipe.cycle_weight:
        loss = loss + recipe.cycle_weight * cycle_loss(swap, lambda pictures: draw(pictures, swap.performer, performer))
    if recipe.equivariance_weight:
        similarity = random_similarity(1, recipe, random, flip_probability=0.0)
        again = equivariance_loss(swap, similarity, lambda pictures: draw(pictures, performer, swap.performer))
        loss = loss + recipe.equivariance_weight * again
    return loss


def harmony_loss(swap: Swap) -> Tensor:
    """The L1 difference of the composite and the plate: a tiny weight makes the swap fit in, at the price of the resemblance.

    The root article's "harmonious but different": drawn against the adversarial loss, which asks for the other performer.
    """
    difference = (swap.drawn[:, :3] - swap.plate.target).abs()
    mask = swap.drawn[:, 3:4] if swap.drawn.shape[1] == 4 else 1.0
    return (mask * difference).mean()


def cycle_loss(swap: Swap, draw_back: Callable[[Tensor], Tensor]) -> Tensor:
    """The L1 difference of the plate's faces and of what the swap is drawn back to, within the face.

    draw_back: from a swap's picture (B, 3, R, R) to the plate's performer. Source: Zhu et al. 2017, "Unpaired image-to-image
    translation using cycle-consistent adversarial networks", eq. 2.
    """
    back = draw_back(swap.drawn[:, :3])[:, :3]
    return weighted_mean((back - swap.plate.target).abs(), swap.plate.face)


def equivariance_loss(swap: Swap, similarity: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """The L1 difference of a swap that is moved and of the swap of a plate that is moved, within the face.

    A network that answers a small zoom or shift of its input with another face, or with none, makes the swap swell and slide
    where the alignment trembles (size pumping); on its own faces the reconstruction asks for this, on swaps nothing else does.
    similarity: (1, 2, 3), in grid coordinates. draw: from the plate's pictures (B, 3, R, R) to swaps like `swap.drawn`. Source:
    Eilertsen et al. 2019, "Single-frame regularization for temporally stable CNNs", eq. 6.
    """
    # The swap itself stays out of it: asked to meet the other half-way, it loses contrast, for a flat face moves with anything.
    expected, face = seen_through(swap.drawn.detach(), similarity), seen_through(swap.plate.face, similarity)
    again = draw(seen_through(swap.plate.warped, similarity))
    return weighted_mean((again - expected).abs(), face)
