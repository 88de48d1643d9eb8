"""Cutting a batch into what fits into memory and into shares of several processes, and adding up what comes of the pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from understudy import parallel
from understudy.model.augment import Batch
from understudy.model.swaps import Drawing
from understudy.types import BadInput

Result = TypeVar("Result")


class Worker(Protocol):
    """Something that works in pieces. micro_batch: faces of each performer in one of them."""

    micro_batch: int


@dataclass(frozen=True)
class Part:
    """What one encoder batch contributes to a step: losses and drawings by performer, the gradient by parameter."""

    losses: Mapping[str, Tensor]
    gradients: Mapping[Tensor, Tensor]
    drawings: Mapping[str, Sequence[Drawing]]


def share_of_rank(batch: Batch) -> Batch:
    """This process's share of a batch that every process of a distributed run has drawn alike."""
    rank, world = parallel.rank(), parallel.world()
    return batch if world == 1 else _cut(batch, slice(rank, None, world))


def in_pieces(batches: Mapping[str, Batch], most: int) -> Iterator[dict[str, Batch]]:
    """Batches of one size cut into pieces of at most `most` faces of each performer."""
    num = len(next(iter(batches.values())).target) if batches else 0
    for first in range(0, num, most):
        yield {name: batch if num <= most else _cut(batch, slice(first, first + most)) for name, batch in batches.items()}


def _cut(batch: Batch, rows: slice) -> Batch:
    return replace(batch, **{name: value[rows] for name, value in vars(batch).items() if isinstance(value, Tensor)})


def within_memory(worker: Worker, work: Callable[[], Result]) -> Result:
    """What `work` returns, in pieces as large as the memory bears: they halve, and stay so, when it runs out.

    Raises BadInput where not even pieces of one face fit.
    """
    while True:
        try:
            return work()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if worker.micro_batch == 1:
                raise BadInput("not even one face at a time fits into memory; lower resolution_px or width") from error
        worker.micro_batch = max(1, worker.micro_batch // 2)
        torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a computation failed for want of memory: of a GPU, which has an error of its own, or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def added_up(parts: Iterator[Part]) -> Part:
    """The sum of losses and gradients, in the parts' order, and all their drawings."""
    losses: dict[str, Tensor] = {}
    gradients: dict[Tensor, Tensor] = {}
    drawings: dict[str, list[Drawing]] = {}
    for part in parts:
        for name, loss in part.losses.items():
            losses[name] = losses[name] + loss if name in losses else loss
        for parameter, gradient in part.gradients.items():
            gradients[parameter] = gradients[parameter] + gradient if parameter in gradients else gradient
        for name, drawing in part.drawings.items():
            drawings.setdefault(name, []).extend(drawing)
    return Part(losses, gradients, drawings)
