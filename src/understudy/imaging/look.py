"""How a new face is brought to the plate's look along a track: samples of both, pooled smoothly in time, and the map between.

A colour match solved frame by frame turns the noise of each frame into flicker; one match for a whole shot misses a change of
light. Samples are therefore weighted by a Gaussian in time around the frame that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from understudy.imaging.colour import ColourMap, ColourStatistics, colour_matcher, measure_colour, pool_colours
from understudy.imaging.masks import Mask
from understudy.types import FloatArray


@dataclass(frozen=True)
class LookSample:
    """The same place of one frame before and after: the colours of the plate's skin and of the new face's."""

    frame: int
    plate: ColourStatistics
    face: ColourStatistics


def sample_look(frame: int, plate_crop: FloatArray, face_crop: FloatArray, skin: Mask) -> LookSample:
    """One sample from two crops of the same place, (N, N, 3) between 0 and 1, under the mask of the skin (N, N)."""
    return LookSample(frame, measure_colour(plate_crop, skin), measure_colour(face_crop, skin))


def colour_map(samples: Sequence[LookSample], frame: int, sigma_frames: float, method: str) -> ColourMap:
    """The map (3, 4) that gives the new face the plate's colours around `frame`; the identity where there is no sample."""
    if not samples:
        return np.eye(3, 4)
    distance = (np.array([sample.frame for sample in samples]) - frame) / max(sigma_frames, 1e-6)
    closeness = np.exp(-0.5 * (distance**2 - np.min(distance**2)))
    plate = pool_colours([sample.plate for sample in samples], closeness)
    face = pool_colours([sample.face for sample in samples], closeness)
    return colour_matcher(method)(face, plate)
