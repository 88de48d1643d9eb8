"""What a recipe's network costs, worked out from its layers without building it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.model.networks import build_network, num_parameters
from understudy.settings import TrainRecipe

FLOP_PER_MULTIPLY_ADD = 6
"""In training: a multiplication and an addition, forward, and twice as much again backward."""


@dataclass(frozen=True)
class Cost:
    """num_parameters: what is learned. multiply_adds: those of one face drawn as one performer.

    features, drawn: the shapes (C, H, W) of what the encoder hands to the decoder, and of what that draws. activations: the
    numbers that come out of all convolutions and linear layers for one face: what training must remember of it.
    """

    num_parameters: int
    multiply_adds: int
    features: tuple[int, ...]
    drawn: tuple[int, ...]
    activations: int

    @property
    def training_gigaflop(self) -> float:
        """Of one face in training, forward and backward."""
        return self.multiply_adds * FLOP_PER_MULTIPLY_ADD / 1e9


def network_cost(recipe: TrainRecipe, performers: Sequence[str] = ("a", "b")) -> Cost:
    """The cost of the recipe's network for these performers; no memory is taken. Raises BadInput like `build_network`."""
    counts = {"multiply_adds": 0, "activations": 0}

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        places = out.shape[2] * out.shape[3] if isinstance(layer, nn.Conv2d) else 1
        counts["multiply_adds"] += layer.weight.numel() * places
        counts["activations"] += out.numel()

    with torch.device("meta"), torch.no_grad():
        network = build_network(recipe, performers)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        features = network.encode(torch.empty(1, 3, recipe.resolution_px, recipe.resolution_px))
        drawn = network.decode(features, performers[0])
    shapes = tuple(features.shape[1:]), tuple(drawn.shape[1:])
    return Cost(num_parameters(network), counts["multiply_adds"], *shapes, counts["activations"])
