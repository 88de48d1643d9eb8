"""Gives drawn faces the fine detail of the new performer's own pictures, which a model keeps beside its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.depth import Picture
from understudy.imaging.exemplars import NUM_FORM_POINTS, Choice, Exemplars
from understudy.imaging.matte import scaled_to
from understudy.imaging.steadiness import steady_form
from understudy.perception.landmarks import TWO_VIEWS, MeshLandmarker, mesh_landmarker, where_the_mean_face_lies
from understudy.perception.plausible import LEAST_PRESENCE
from understudy.types import FloatArray, Framing

LIKE_FORMS = 1 / 64
"""Points that differ by much more than this share of the crop's side moved, as a lid does; they did not tremble. With half of
it the truth pair's landmarks tremble by a tenth more, lids are as good."""


class FormReader:
    """Finds the mesh of drawn faces, where a crop's framing says that they lie; its networks are loaded when first asked."""

    def __init__(self, region: Framing) -> None:
        self._region = region
        self._landmarker: MeshLandmarker | None = None

    def read(self, drawn: Sequence[Picture]) -> list[NDArray[np.float64]]:
        """The form (470, 3) of each picture (N, N, 3) in 0..1, in its pixels; no numbers where no face is seen."""
        if not drawn:
            return []
        self._landmarker = self._landmarker or mesh_landmarker(TWO_VIEWS)
        pictures = [np.asarray(np.rint(np.clip(np.nan_to_num(each), 0, 1) * 255), np.uint8) for each in drawn]
        where = where_the_mean_face_lies(self._region, len(pictures[0]))
        forms = []
        for seen in self._landmarker.batch(pictures, [where] * len(pictures)):
            form = np.full((NUM_FORM_POINTS, 3), np.nan)
            if seen.presence >= LEAST_PRESENCE:
                irises = np.column_stack([seen.irises, np.zeros(len(seen.irises))])
                form = np.concatenate([np.column_stack([seen.refined[:, :2], seen.points[:, 2]]), irises])
            forms.append(form)
        return forms


def choose(colours: Picture, form: FloatArray, exemplars: Exemplars) -> Choice | None:
    """Which exemplars are like what was drawn (N, N, 3), whose form is (470, 3) in its pixels; None where it is no face."""
    return exemplars.choose(scaled_to(colours, exemplars.size_px), form * (exemplars.size_px / len(colours)))


def with_detail(
    colours: Picture,
    forms: Sequence[FloatArray],
    choices: Sequence[Choice | None],
    place: int,
    sigma_frames: float,
    exemplars: Exemplars,
    strength: float,
) -> Picture:
    """What was drawn (N, N, 3), at the exemplars' size, which is N or more (model/folder.py), and with their detail.

    forms: (470, 3) in pixels of what was drawn, and choices, of consecutive frames of one track; place: the frame's among them;
    sigma_frames: over how many they are steadied.
    """
    size_px = exemplars.size_px
    scale = size_px / len(colours)
    form = steady_form(forms, place, sigma_frames, LIKE_FORMS * len(colours)) * scale
    choice = exemplars.faded(choices, [each * scale for each in forms], place, sigma_frames)
    return exemplars.detailed(scaled_to(colours, size_px), form, strength, choice)
