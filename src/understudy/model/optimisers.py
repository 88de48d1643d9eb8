"""The optimisers of a training run, and their state as tensors for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from understudy.settings import TrainRecipe


def make_optimizer(parameters: Sequence[Tensor], recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Fused AdamW over `parameters`: one kernel for all of them, where plain Adam runs several for each (docs/log.md)."""
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    # Without weight decay AdamW is Adam. The epsilon is Keras's, and so the original's.
    return torch.optim.AdamW(parameters, recipe.learning_rate, betas, eps=1e-7, weight_decay=recipe.weight_decay, fused=True)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What it moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Their state, by "optimiser/parameter/what"."""
    return {
        f"{which}/{index}/{key}": value
        for which, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_optimizers(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Go on from what `optimizer_tensors` returned; other names are left alone."""
    for which, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            owner, _, rest = name.partition("/")
            if owner == str(which) and rest:
                index, key = rest.split("/")
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
