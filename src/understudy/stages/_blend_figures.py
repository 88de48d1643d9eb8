"""What compositing did for the flicker and the seam of a swap, measured on samples: the figures of its summary.

"Before" is the network's answer laid through the same matte without any match or blend; "after" is the finished frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np

from understudy.imaging.blend import blur, composite
from understudy.imaging.depth import Picture, unit_from_codes
from understudy.imaging.framing import HEAD, crop_from_face
from understudy.imaging.masks import Mask
from understudy.imaging.metrics import mean_in
from understudy.imaging.metrics_colour import seam_step
from understudy.imaging.similarity import compose, invert
from understudy.imaging.warp import warp_image
from understudy.stages._compositing import Drawn
from understudy.stages._swap_plan import Plan, crop_from_frame
from understudy.stages._swapping import SwappedFrame
from understudy.types import Json

MOST_PAIRS = 24
"""Pairs of neighbouring frames that are measured, spread evenly over the film: enough for a mean, and soon done."""

SIDE_PX = 256
BROAD_SIGMA_PX = 6.0
"""Only errors broader than this pump and flicker; finer ones are detail of the new face that moves as it should."""

FIGURES = ("flicker_before", "flicker_after", "seam_before", "seam_after")


def frames_to_measure(frames: Sequence[int]) -> frozenset[int]:
    """Both frames of each pair; frames: those that are to be swapped, in order."""
    known = set(frames)
    pairs = [frame for frame in frames if frame + 1 in known]
    rows = np.linspace(0, len(pairs) - 1, num=min(MOST_PAIRS, len(pairs))).round().astype(int)
    return frozenset(frame for row in rows for frame in (pairs[row], pairs[row] + 1))


class BlendMeter:
    """Measures finished frames as they come, in order; remembers the last one, because flicker lies between two."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: Mapping[int, tuple[int, Picture, Picture, Mask]] = {}

    def measure(self, finished: SwappedFrame) -> list[Json]:
        """`FIGURES` of each new face in the frame; flicker only where the frame before was measured too.

        seam: the step of colour (CIE76) across the matte's edge, less the plate's own. flicker: how much the broad difference
        to the plate changes since the frame before, in levels of 255.
        """
        if finished.status != "swapped":
            return []
        measured, errors = [], {}
        for drawn in finished.drawn:
            plate, before, after, matte = _in_head_space(finished, drawn, self._plan)
            track = drawn.face.track
            figures = {"seam_before": seam_step(before, plate, matte), "seam_after": seam_step(after, plate, matte)}
            error = blur(before - plate, BROAD_SIGMA_PX), blur(after - plate, BROAD_SIGMA_PX)
            errors[track] = (finished.record.index, *error, matte)
            if track in self._last and self._last[track][0] == finished.record.index - 1:
                _, last_before, last_after, last_matte = self._last[track]
                inside = np.minimum(matte, last_matte)
                figures["flicker_before"] = 255 * mean_in(np.abs(error[0] - last_before), inside)
                figures["flicker_after"] = 255 * mean_in(np.abs(error[1] - last_after), inside)
            measured.append(cast(Json, {name: round(value, 3) for name, value in figures.items() if np.isfinite(value)}))
        self._last = errors
        return measured


def pooled(measured: Iterable[Json]) -> dict[str, object]:
    """The mean of each figure over all samples; None where there is none."""
    values: dict[str, list[float]] = {name: [] for name in FIGURES}
    for figures in measured:
        for name, value in figures.items():
            values[name].append(float(str(value)))
    return {name: round(float(np.mean(each)), 3) if each else None for name, each in values.items()}


def _in_head_space(finished: SwappedFrame, drawn: Drawn, plan: Plan) -> tuple[Picture, Picture, Picture, Mask]:
    """Plate, raw paste and finished frame around a face, and the matte: (256, 256, 3) and (256, 256)."""
    size = (SIDE_PX, SIDE_PX)
    head_from_frame = compose(crop_from_face(HEAD, SIDE_PX), np.asarray(drawn.face.face_from_frame, np.float64))
    head_from_crop = compose(head_from_frame, invert(crop_from_frame(drawn.face, plan.swapper)))
    plate, after = (
        unit_from_codes(warp_image(image, head_from_frame, size)) for image in (finished.record.image, finished.image)
    )
    matte = np.asarray(warp_image(finished.matte, head_from_frame, size, border="black"), np.float32)
    pasted = np.clip(warp_image(np.ascontiguousarray(drawn.answer[..., :3]), head_from_crop, size), 0, 1)
    return plate, composite(plate, np.asarray(pasted, np.float32), matte), after, matte
