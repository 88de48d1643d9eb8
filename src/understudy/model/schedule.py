"""What changes in the course of a run: the learning rate, the warp, and the random draw of each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from understudy.settings import TrainRecipe


@dataclass(frozen=True)
class Moment:
    """What is in force in one step. progress: 0..1 through the run; warp_strength: 0..1, the share of the recipe's warp
    and mirroring.

    attempt: how often the run was taken back to an earlier state; each time the draws change and the learning rate halves.
    """

    step: int
    attempt: int
    progress: float
    learning_rate: float
    warp_strength: float


def moment(recipe: TrainRecipe, num_steps: int, progress: float, attempt: int = 0) -> Moment:
    """The schedules of step `num_steps` (from 0)."""
    learning_rate = scheduled_learning_rate(recipe, num_steps, progress) * 0.5**attempt
    return Moment(num_steps, attempt, progress, learning_rate, scheduled_warp(recipe, progress))


def scheduled_learning_rate(recipe: TrainRecipe, num_steps: int, progress: float) -> float:
    """Rises over the first `warmup_steps`, stays, and falls to a fiftieth over the last `decay_fraction` of the run."""
    warm = min(1.0, (num_steps + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    cool = min(1.0, (1 - progress) / recipe.decay_fraction + 0.02) if recipe.decay_fraction else 1.0
    return recipe.learning_rate * warm * cool


def scheduled_warp(recipe: TrainRecipe, progress: float) -> float:
    """The share of the warp in force: falls evenly to 0 at `warp_until` of the run; 0 there means that it stays whole.

    Warped to the end, a network learns to ignore small changes of size and place: that is what makes a swap pump and swim.
    Mirroring fades with it: it keeps the encoder from learning a short clip's frames by heart, and a face that is the same
    on both sides when the run ends has lost its moles and its parting.
    """
    return max(0.0, 1 - progress / recipe.warp_until) if recipe.warp_until else 1.0


FIRST_STEPS, STEPS_AT_ONCE = 64, 4


def slow_steps(step: int) -> int:
    """How many steps of what moves slowly (the averaged weights, the way back to the start) step `step` (from 0) makes.

    Each passes through all weights, which at small batches is a few per cent of a step; so after the first steps every fourth
    makes four.
    """
    if step < FIRST_STEPS:
        return 1
    return STEPS_AT_ONCE if step % STEPS_AT_ONCE == STEPS_AT_ONCE - 1 else 0


def step_generator(seed: int, step: int, stream: int, attempt: int = 0) -> torch.Generator:
    """The randomness of one performer in one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + stream + (attempt << 52))
