"""Rank, world and barrier that work uninitialised, and what the processes of a shared run tell each other."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from understudy.types import BadInput

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


def rank() -> int:
    """The number of this process within a distributed run; 0 where there is none."""
    return _distributed("get_rank", 0)


def world() -> int:
    """How many processes share the run; 1 where it is not distributed."""
    return _distributed("get_world_size", 1)


def barrier() -> None:
    """Wait until all processes of the run have come here; returns at once where there is one."""
    _distributed("barrier", None)


def join() -> None:
    """Join the processes that torchrun started beside this one, if it did; each takes a GPU of its own where there are some.

    May be called again. Which process this is, torchrun says in the environment (RANK, WORLD_SIZE, LOCAL_RANK).
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "0", "1"):
        return
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        value = os.environ.get(name, "")
        if not value or (name in ("RANK", "WORLD_SIZE", "MASTER_PORT") and not value.isdecimal()):
            raise BadInput(
                f"WORLD_SIZE is set but {name} is {value!r}: start several processes with torchrun, or unset WORLD_SIZE"
            )
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(distributed.destroy_process_group)


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes of the run; every process gets the same."""
    if world() == 1:
        return
    from torch import distributed

    pending = [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
    for each in pending:
        each.wait()


def from_rank_zero(values: Sequence[float]) -> list[float]:
    """The numbers that process 0 has, for every process; all must call with as many."""
    if world() == 1:
        return list(values)
    import torch

    shared = torch.tensor(values if rank() == 0 else [0.0] * len(values), dtype=torch.float64)
    shared = shared.cuda() if torch.cuda.is_available() else shared
    sum_over_ranks([shared])
    return [float(value) for value in shared.tolist()]


def ranks_that_differ(sha256: str) -> list[int]:
    """Which processes of the run hold another `sha256` (hexadecimal) than process 0; all must call, all get the same answer."""
    if world() == 1:
        return []
    import torch

    words = [float(int(sha256[start : start + 8], 16)) for start in range(0, len(sha256), 8)]  # 32 bits fit a float64 exactly
    differs = torch.zeros(world())
    differs[rank()] = from_rank_zero(words) != words
    differs = differs.cuda() if torch.cuda.is_available() else differs
    sum_over_ranks([differs])
    return [number for number, flag in enumerate(differs.tolist()) if flag]


def _distributed(name: str, otherwise: Result) -> Result:
    """Call a function of torch.distributed if a process group stands."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return otherwise
    return cast(Result, getattr(distributed, name)())
