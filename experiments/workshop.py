"""Where the runs take place, and how their pictures are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.truth.footage import Footage
from experiments import results
from experiments.scoring import Pair
from experiments.training import Scale
from understudy.types import Image, Reporter, silent

SHOWN_FRAMES = (10, 28, 42, 74, 98, 112)
"""Talking; turning; turned past 45 degrees; a smile; the light has moved; head down, mouth open."""

TILE_PX = 112
CUT = slice(36, 220)
"""What of the face-space crop a strip shows."""


@dataclass(frozen=True)
class Workshop:
    """Where the runs take place. morphs: folder of plates between the two performers, where there is one."""

    footage: Footage
    scale: Scale
    work: Path
    folder: Path = results.FOLDER
    morphs: Path | None = None
    report: Reporter = field(default=silent)

    @cached_property
    def pair(self) -> Pair:
        return Pair(self.footage)


def shown_rows(pair: Pair) -> list[int]:
    """The scored frames nearest to SHOWN_FRAMES."""
    indices = np.array([drawn.frames.index for drawn in pair.frames])
    return [int(np.abs(indices - frame).argmin()) for frame in SHOWN_FRAMES]


def tile(picture: Any) -> Image:
    """One picture of a strip from a face-space crop in 0..1."""
    cut = np.rint(255 * np.clip(picture[CUT, CUT], 0, 1)).astype(np.uint8)
    return np.asarray(cv2.resize(cut, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA))
