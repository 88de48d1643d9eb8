"""From what every frame showed to the figures of the clip, each with its interval and its noise floors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.metrics_series import Series
from understudy.imaging.metrics_statistics import Interval
from understudy.stages import _evaluation_faces as faces
from understudy.stages._evaluation_faces import FaceMotion
from understudy.stages._evaluation_measure import Measurements
from understudy.types import FloatArray

HEADLINE = (
    "psnr_db",
    "ssim",
    "leak",
    "detail",
    "contrast",
    "landmark_error_percent",
    "expression_gain",
    "identity_score",
    "jitter_ratio",
    "flicker",
    "pulsing",
    "lag_frames",
)
"""Always among the figures, None where they could not be measured (`left_out` says why)."""

PSNR_LIMIT_DB = 100.0
"""What an infinite PSNR (equal pictures) counts as in a mean, and in JSON, which has no infinity."""

_NO_TRUTH = "there is no truth to compare with (--truth)"


@dataclass(frozen=True)
class Galleries:
    """The mean embeddings (128,) of the plate's person and of the performer; None where the performer is not known."""

    plate: FloatArray
    performer: FloatArray | None


@dataclass(frozen=True)
class Scores:
    """The figures of a clip: the swap's with their intervals, the floors' without, and what each frame had to do with it.

    columns: per-frame values (T,) of the swap; series: the rows behind each of its figures. left_out: why a figure is missing,
    by name.
    """

    swap: Mapping[str, Interval]
    floors: Mapping[str, Mapping[str, float]]
    columns: Mapping[str, FloatArray]
    series: Mapping[str, Series]
    left_out: Mapping[str, str]

    @property
    def values(self) -> dict[str, float]:
        """The swap's figures, and those of the plate as `plate_...`."""
        plate = {f"plate_{name}": value for name, value in self.floors.get("plate", {}).items() if name in HEADLINE}
        return {**{name: found.value for name, found in self.swap.items()}, **plate}


def summarise(measured: Measurements, performer_mean: FloatArray | None, has_truth: bool) -> Scores:
    """The scores of a finished measurement; `performer_mean` (128,): whose face it should be, None to take the truth's."""
    motions = {name: faces.joined(track) for name, track in measured.faces.items()}
    reference = motions["truth" if has_truth else "plate"]
    galleries = _galleries(motions, performer_mean)
    candidates = list(dict.fromkeys(name for row in measured.rows for name in row))
    covered = _covered(measured)
    series = {name: _series(measured, name, motions.get(name), reference, galleries, has_truth, covered) for name in candidates}
    swap = {name: each.interval() for name, each in series["swap"].items()}
    floors = {
        candidate: {name: each.value for name, each in series[candidate].items()}
        for candidate in candidates
        if candidate != "swap"
    }
    columns = {name: each.rows for name, each in series["swap"].items() if each.rows.ndim == 1}
    left_out = _left_out(swap, galleries, has_truth)
    if sum(name.startswith("detected_by_") for name in swap) == 1:
        left_out["agreement of detectors"] = (
            "only one detector could be asked: understudy doctor --fetch brings the other's weights"
        )
    return Scores(swap, floors, columns, series["swap"], left_out)


def _series(
    measured: Measurements,
    name: str,
    motion: FaceMotion | None,
    reference: FaceMotion,
    galleries: Galleries,
    has_truth: bool,
    covered: NDArray[np.bool_],
) -> dict[str, Series]:
    series = {figure: Series(column) for figure, column in _columns(measured, name).items()}
    if motion is None:
        return series
    series |= faces.geometry(motion, reference) if has_truth else faces.performance_kept(motion, reference)
    series |= faces.steadiness(motion, reference, covered)
    if galleries.performer is not None:
        series |= faces.identity(motion, galleries.plate, galleries.performer)
    return series


def _covered(measured: Measurements) -> NDArray[np.bool_]:
    """(T,) the frames in which something hides part of the plate's face, or so much that nothing could be compared.

    Only a mask of the plate tells of a part.
    """
    return np.array([not row or np.isfinite(row["swap"].get("occluder_error", np.nan)) for row in measured.rows], bool)


def _columns(measured: Measurements, candidate: str) -> dict[str, FloatArray]:
    """Each per-frame figure as an array (T,), NaN where a frame lacks it."""
    rows = [row.get(candidate, {}) for row in measured.rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: np.minimum(np.array([row.get(name, np.nan) for row in rows]), _limit(name)) for name in names}


def _limit(name: str) -> float:
    return PSNR_LIMIT_DB if name == "psnr_db" else np.inf


def _galleries(motions: Mapping[str, FaceMotion], performer_mean: FloatArray | None) -> Galleries:
    if performer_mean is None and "truth" in motions:
        performer_mean = faces.mean_embedding(motions["truth"])
    return Galleries(faces.mean_embedding(motions["plate"]), performer_mean)


def _left_out(swap: Mapping[str, Interval], galleries: Galleries, has_truth: bool) -> dict[str, str]:
    reasons = {}
    for name in HEADLINE:
        if name in swap and np.isfinite(swap[name].value):
            continue
        if name == "identity_score" and galleries.performer is None:
            reasons[name] = "it is not known whose face it should be (--performer or --truth)"
        elif name not in swap and not has_truth:
            reasons[name] = _NO_TRUTH
        else:
            reasons[name] = "too few frames show a face that can be measured, or nothing in them moves"
    return reasons


def num_compared(measured: Measurements) -> int:
    """How many frames could be compared in face space."""
    return sum(bool(row) for row in measured.rows)
