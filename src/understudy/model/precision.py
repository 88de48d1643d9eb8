"""Half precision and compilation: what a device can do to go faster. The weights, their average and the loss stay float32."""

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
    """The type that the network computes in. Raises BadInput where float16 is asked for without a GPU.

    "auto" is bfloat16 on a GPU that has it and on a CPU with matrix units, float16 on an older GPU, and float32 on any other
    CPU, where half precision is slower.
    """
    is_gpu = device.type == "cuda"
    if recipe.precision == "float16" and not is_gpu:
        raise BadInput("precision=float16 needs a GPU, and this machine has none; leave it at auto")
    if recipe.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[recipe.precision]
    if is_gpu:
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if has_matrix_units() else torch.float32


def name_of(working_type: torch.dtype) -> str:
    """As a recipe's `precision` has it: "float32", "bfloat16" or "float16"."""
    return str(working_type).removeprefix("torch.")


def has_matrix_units() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 in units of their own (Intel's AMX): several times as fast as float32."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def check_compile(recipe: TrainRecipe, device: torch.device) -> None:
    """Raises BadInput where compilation is asked for without a GPU."""
    if recipe.compile != "off" and device.type != "cuda":
        raise BadInput(f"compile={recipe.compile} needs a GPU, and this machine has none; leave it at off")


def first_loss_scale(working_type: torch.dtype) -> float:
    """What a loss starts multiplied by: in float16, so that small gradients do not vanish; halved when they overflow."""
    return 2.0**15 if working_type is torch.float16 else 1.0


def autocast(device: torch.device, working_type: torch.dtype) -> AbstractContextManager[object]:
    """Within it, convolutions and matrix products compute in `working_type`."""
    if working_type is torch.float32:
        return nullcontext()
    # Nothing is used twice within it, and threads would share what it keeps.
    return torch.autocast(device.type, working_type, cache_enabled=False)


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
