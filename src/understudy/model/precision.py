"""Half precision and compilation: what a GPU can do to go faster. The weights, their average and the loss stay float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import torch
from torch import Tensor

from understudy.model.networks import FaceSwapNetwork
from understudy.settings import TrainRecipe
from understudy.types import BadInput

Function = TypeVar("Function", bound=Callable[..., object])
Encode = Callable[[Tensor, Tensor | None], Tensor]
"""From faces and their expressions to features."""


def working_type(recipe: TrainRecipe, device: torch.device) -> torch.dtype:
    """The type that the network computes in. Raises BadInput where half precision is asked for without a GPU.

    "auto" is bfloat16 on a GPU that has it, float16 on an older one, and float32 on a CPU, where half precision is slower.
    """
    if device.type != "cuda":
        if recipe.precision in ("bfloat16", "float16"):
            raise BadInput(f"precision={recipe.precision} needs a GPU, and this machine has none; leave it at auto")
        return torch.float32
    if recipe.precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[recipe.precision]


def check_compile(recipe: TrainRecipe, device: torch.device) -> None:
    """Raises BadInput where compilation is asked for without a GPU."""
    if recipe.compile != "off" and device.type != "cuda":
        raise BadInput(f"compile={recipe.compile} needs a GPU, and this machine has none; leave it at off")


def first_loss_scale(working_type: torch.dtype) -> float:
    """What a loss starts multiplied by: in float16, so that small gradients do not vanish; halved when they overflow."""
    return 2.0**15 if working_type is torch.float16 else 1.0


def autocast(device: torch.device, working_type: torch.dtype) -> AbstractContextManager[object]:
    """Within it, convolutions and matrix products compute in `working_type`."""
    return nullcontext() if working_type is torch.float32 else torch.autocast(device.type, working_type)


def fused(function: Function, recipe: TrainRecipe) -> Function:
    """A function of the step that is not the network's, compiled where the recipe says so: one kernel for many small ones.

    Not as a graph: what it gives for the first performer is still needed while the second one's is made.
    """
    return function if recipe.compile == "off" else cast(Function, torch.compile(function))


def compiled(
    network: FaceSwapNetwork, recipe: TrainRecipe, device: torch.device
) -> tuple[Encode, Callable[[Tensor, str], Tensor]]:
    """The network's `encode` and `decode`, compiled where the recipe says so. Raises BadInput where that needs a GPU.

    Measured on a CPU, compiled is 1.2 times slower: the convolutions are library calls either way.
    """
    check_compile(recipe, device)
    if recipe.compile == "off":
        return network.encode, network.decode
    mode = "reduce-overhead" if recipe.compile == "cuda-graphs" else "default"
    encode, decode = torch.compile(network.encode, mode=mode), torch.compile(network.decode, mode=mode)
    return cast(Encode, encode), cast(Callable[[Tensor, str], Tensor], decode)
