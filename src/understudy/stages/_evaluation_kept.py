"""What an evaluation has measured so far: kept in `progress/` so that a stopped one goes on, and gone when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from understudy.stages._evaluation_faces import FaceMotion
from understudy.store.atomic import atomic_write_text, writing_to
from understudy.store.frame_rows import FrameRow

PROGRESS_FOLDER = "progress"
NOT_YET_REPORTED = (PROGRESS_FOLDER, f"{PROGRESS_FOLDER}/*")
"""What a stopped evaluation leaves: of use to the same command, and no loss to another."""

ROWS_FILE, REENCODED_FILE = "frames.sqlite", "truth.mp4"
_KEY_FILE = "key"

FrameFigures = dict[str, dict[str, float]]
"""Figures of one frame, by candidate ("swap" and the floors) and name."""


def progress_folder(out: Path, key: str) -> Path:
    """Where the evaluation in `out` keeps what follows from `key`; what was kept under another key goes first.

    Raises BadInput where that cannot be removed: nothing of it must be taken for what follows from this key.
    """
    folder = out / PROGRESS_FOLDER
    file = folder / _KEY_FILE
    if not file.is_file() or file.read_bytes() != key.encode():
        with writing_to(folder):
            file.unlink(missing_ok=True)  # first: what is half removed belongs to nobody
            if folder.exists():
                shutil.rmtree(folder)
        atomic_write_text(file, key)
    return folder


def remove_progress(out: Path) -> None:
    """Take away what was kept, when nothing needs it any more."""
    shutil.rmtree(out / PROGRESS_FOLDER, ignore_errors=True)


def row_from(figures: FrameFigures, faces: Mapping[str, FaceMotion]) -> FrameRow:
    """One frame's figures and the motion of each clip's face in it (T = 1), to be kept."""
    names = {candidate: list(values) for candidate, values in figures.items()}
    arrays = {f"figures {candidate}": np.array(list(values.values()), np.float64) for candidate, values in figures.items()}
    for clip, motion in faces.items():
        arrays |= {f"face {clip} {field.name}": getattr(motion, field.name) for field in fields(FaceMotion)}
    return FrameRow(names, arrays)


def figures_in(row: FrameRow) -> FrameFigures:
    """The figures of a kept row."""
    return {
        candidate: dict(zip(names, row.arrays[f"figures {candidate}"].tolist(), strict=True))
        for candidate, names in row.names.items()
    }


def face_in(row: FrameRow, clip: str) -> FaceMotion:
    """The motion of a clip's face in a kept row."""
    return FaceMotion(*(row.arrays[f"face {clip} {field.name}"] for field in fields(FaceMotion)))
