"""Framings: how much of the head a square crop covers, in face units.

A face unit is the width of the mean face from brow end to brow end; (0, 0) to (1, 1) is its brow-to-mouth box.
"""

from __future__ import annotations

import numpy as np

from understudy.imaging.similarity import Matrix
from understudy.types import BadInput, Framing

CORE = Framing("core", centre=(0.5, 0.5), side=1.0)  # what the 2017 model sees: the inner 160 px of a 256 px face crop
FACE = Framing("face", centre=(0.5, 0.5), side=1.6)
FULL = Framing("full", centre=(0.5, 0.5), side=2.0)
HEAD = Framing("head", centre=(0.5, 0.4), side=2.7)

STORED = HEAD
"""What the crops of a face set cover: enough for every framing, with room to turn and zoom the smaller ones."""


def framing(name: str) -> Framing:
    """The framing called `name`. Raises BadInput that lists the names."""
    by_name = {each.name: each for each in (CORE, FACE, FULL, HEAD)}
    if name not in by_name:
        raise BadInput(f"expected a framing out of {', '.join(by_name)}, got {name!r}")
    return by_name[name]


def crop_from_face(region: Framing, size_px: float) -> Matrix:
    """Takes face units to pixels of a square crop of `size_px` that covers `region`."""
    pixels_per_unit = size_px / region.side
    left, top = (centre - region.side / 2 for centre in region.centre)
    return np.array([[pixels_per_unit, 0.0, -left * pixels_per_unit], [0.0, pixels_per_unit, -top * pixels_per_unit]])
