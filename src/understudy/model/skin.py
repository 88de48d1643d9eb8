"""What is added to a swap's colours so that its skin is on average the performer's own."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.model.colour import without_rim
from understudy.model.trainer import Trainer

NUM_CALIBRATION_FACES = 96


@torch.no_grad()
def skin_offsets(trainer: Trainer) -> dict[str, dict[str, tuple[float, ...]]]:
    """By whose face goes in and whom it is drawn as: what to add to R, G, B so that the skin is on average the performer's.

    Measured on training faces, as many at once as a step takes. A network hands on a part of the skin it is shown, however
    little it is meant to.
    """
    return {performer: _offsets_of(trainer, performer) for performer in trainer.performers}


def _offsets_of(trainer: Trainer, performer: str) -> dict[str, tuple[float, ...]]:
    num = len(trainer.crops[performer])
    chosen = torch.linspace(0, num - 1, min(num, NUM_CALIBRATION_FACES)).round().long()
    totals = {other: torch.zeros(4) for other in trainer.performers}
    for piece in chosen.split(trainer.micro_batch):
        batch = trainer.still_batch(performer, piece)
        codes = trainer.read(trainer.shown, performer, batch)
        for other in trainer.performers:
            drawn = trainer.shown.decode(codes, other)
            totals[other] += _skin(drawn[:, :3], without_rim(drawn[:, 3:4] if drawn.shape[1] == 4 else batch.face)).cpu()
    means = {other: total[:3] / total[3].clamp_min(1e-6) for other, total in totals.items()}
    return {other: tuple((torch.tensor(trainer.standards[other].mean) - mean).tolist()) for other, mean in means.items()}


def _skin(pictures: Tensor, mask: Tensor) -> Tensor:
    """(4,): the sums of R, G and B of pictures (B, 3, S, S) within a mask (B, 1, S, S), and of the mask."""
    return torch.cat([(pictures * mask).sum((0, 2, 3)), mask.sum()[None]])
