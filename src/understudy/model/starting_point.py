"""Where a network's weights began, and the way back to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from understudy.model.networks import FaceSwapNetwork
from understudy.model.schedule import Moment, slow_steps
from understudy.settings import TrainRecipe

FILE = "start"
"""What a checkpoint calls it."""


class StartingPoint:
    """The weights that a network took over when it began, to which each step takes it back a little (`decay_to_start`).

    So what the footage does not show (an open mouth, a profile) stays as it was learned before; what began at random is left
    alone. Source: L2-SP of Li et al. 2018, "Explicit inductive bias for transfer learning with convolutional networks", eq. 2;
    here beside the gradient and in proportion to the learning rate, as AdamW decays to nought.
    """

    def __init__(self, network: FaceSwapNetwork, recipe: TrainRecipe) -> None:
        self.network, self.recipe = network, recipe
        self.weights: dict[str, Tensor] = {}

    def begin(self, taken: Collection[str]) -> None:
        """The network begins here; taken: the names of what it took over."""
        if self.recipe.decay_to_start:
            learning = {name: each for name, each in self.network.named_parameters() if each.requires_grad}
            self.weights = {name: learning[name].detach().clone() for name in taken if name in learning}

    @torch.no_grad()
    def step(self, now: Moment) -> None:
        """Take the network a part of the way back."""
        num_steps = slow_steps(now.step)
        if num_steps and self.weights and self.recipe.learning_rate:
            share = num_steps * self.recipe.decay_to_start * now.learning_rate / self.recipe.learning_rate
            learning = dict(self.network.named_parameters())
            torch._foreach_lerp_([learning[name] for name in self.weights], list(self.weights.values()), min(1.0, share))

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint needs of it, by file."""
        return {FILE: self.weights} if self.recipe.decay_to_start else {}

    def load(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `tensors` returned."""
        device = next(self.network.parameters()).device
        self.weights = {name: each.to(device) for name, each in files.get(FILE, {}).items()}
