"""Pictures of a run: sheets of what the network draws, and a short film of how it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from understudy.media import VideoWriter, encode_jpeg, read_frames
from understudy.model.augment import Batch
from understudy.model.trainer import Trainer
from understudy.stages._training_judge import as_pictures
from understudy.store.atomic import atomic_write_bytes
from understudy.trust import label
from understudy.trust.notice import with_notice_below
from understudy.trust.xmp import add_xmp
from understudy.types import BadInput, Image

PREVIEWS_FOLDER, FILM_FILE = "previews", "training.mp4"
TITLE = "How the model learned"
PREVIEW_FACES = 4
FILM_FRAMES_A_SHEET = 8
"""At 25 frames a second each sheet stands for a third of a second."""

_LABEL_PX, _LEAST_LABELLED_PX = 18, 64


def write_preview(trainer: Trainer, out: Path) -> Path:
    """A sheet in `out/previews`, for some faces of each performer a row.

    Columns: the face, its restoration, the next performer with its expression, the mask; where the recipe averages its weights,
    then the restoration and the swap of the raw ones. A strip below them and the file's tags say that it is AI-made.
    """
    rows = [row for performer in trainer.performers for row in _rows(trainer, performer)]
    path = out / PREVIEWS_FOLDER / f"{trainer.num_steps:06d}.jpg"
    path.parent.mkdir(exist_ok=True)
    header = [_header(trainer, rows[0].shape[1])] if trainer.recipe.resolution_px >= _LEAST_LABELLED_PX else []
    sheet = with_notice_below(np.concatenate([*header, *rows], axis=0))
    atomic_write_bytes(path, label.labelled_picture(encode_jpeg(sheet)))
    return path


def write_film(out: Path) -> Path | None:
    """The sheets of `out/previews` as a film beside them, labelled like them; None where there are not two of one size."""
    sheets = sorted((out / PREVIEWS_FOLDER).glob("[0-9]*.jpg"))
    if len(sheets) < 2:
        return None
    path = out / PREVIEWS_FOLDER / FILM_FILE
    try:
        with VideoWriter(path, plate=out / PREVIEWS_FOLDER, crf=18, metadata=label.metadata(TITLE)) as writer:
            for number, frame in enumerate(read_frames(out / PREVIEWS_FOLDER)):
                for copy in range(FILM_FRAMES_A_SHEET):
                    index = number * FILM_FRAMES_A_SHEET + copy
                    time_seconds = float(index * frame.time_base)
                    writer.write(frame.image, replace(frame, index=index, time_seconds=time_seconds, pts=index))
        add_xmp(path, label.xmp_packet(TITLE))
    except BadInput:  # sheets of two sizes, after a change of version: nothing that a run should end for
        return None
    return path


def _rows(trainer: Trainer, performer: str) -> list[Image]:
    chosen = torch.linspace(0, len(trainer.crops[performer]) - 1, PREVIEW_FACES + 2).round().long()[1:-1]
    batch = trainer.still_batch(performer, chosen)
    columns = [batch.target, *_drawn(trainer, performer, batch, is_raw=False)]
    if trainer.recipe.ema_decay:
        columns += _drawn(trainer, performer, batch, is_raw=True)[:2]
    return as_pictures(torch.cat(columns, dim=3))  # N pictures (R, 4R or 6R, 3)


@torch.inference_mode()
def _drawn(trainer: Trainer, performer: str, batch: Batch, is_raw: bool) -> list[Tensor]:
    """Restoration, swap and the swap's mask, each (N, 3, R, R)."""
    network = trainer.network if is_raw else trainer.shown
    codes = trainer.read(network, performer, batch)
    restored, swapped = network.decode(codes, performer), network.decode(codes, _next(trainer.performers, performer))
    mask = swapped[:, 3:4] if swapped.shape[1] == 4 else batch.face
    return [restored[:, :3], swapped[:, :3], mask.expand(-1, 3, -1, -1)]


def _next(performers: Sequence[str], performer: str) -> str:
    return performers[(performers.index(performer) + 1) % len(performers)]


def _header(trainer: Trainer, width_px: int) -> Image:
    """The columns' names."""
    names = ["face", "restored", "swapped", "mask"]
    names += ["raw rest.", "raw swap"] if trainer.recipe.ema_decay else []
    label_px = max(_LABEL_PX, width_px // len(names) // 16 * 2)  # even, for films; reports show large sheets reduced
    scale, foot_px = 0.38 * label_px / _LABEL_PX, label_px - label_px * 5 // _LABEL_PX
    strip = np.full((label_px, width_px, 3), 24, np.uint8)
    for number, name in enumerate(names):
        left = number * width_px // len(names) + 3
        cv2.putText(strip, name, (left, foot_px), cv2.FONT_HERSHEY_SIMPLEX, scale, (230, 230, 230), 1, cv2.LINE_AA)
    return strip
