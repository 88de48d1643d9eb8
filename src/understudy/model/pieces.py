"""Cutting a batch into what fits into memory and into shares of several processes, and adding up what comes of the pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from understudy import parallel
from understudy.model.augment import Batch
from understudy.model.swaps import Drawing


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
