"""Says in words what an evaluation's figures mean: what is good or bad, what was bought with blur, where to look first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.types import FloatArray

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Judgement:
    """How a figure is read: good inside `good` (low, high), bad outside `fair`, in between neither; and what is said of it.

    `{value}` in a sentence is the figure. Bounds follow the acceptance targets of the truth benchmark.
    """

    figure: str
    good: tuple[float, float]
    fair: tuple[float, float]
    praise: str
    blame: str


_ANY = math.inf

JUDGEMENTS = (
    Judgement("leak", (-0.1, 0.1), (-0.2, 0.2), "Almost nothing of the plate's face is left (λ {value:.2f}).",
              "The plate's own face shows through: λ is {value:.2f}, where 0 is none and 1 all of it."),
    Judgement("detail", (0.75, _ANY), (0.55, _ANY), "Features are where the truth has them (detail {value:.2f}).",
              "Features do not match the truth's (detail {value:.2f} of 1): the likeness or the performance is off."),
    Judgement("contrast", (0.85, 1.15), (0.7, 1.2), "It is as crisp as the truth (contrast {value:.2f}).",
              "It is not as crisp as it should be (contrast {value:.2f}; under 1 is blurred, over 1 is harsh)."),
    Judgement("skin_delta_e", (0, 3), (0, 6), "The skin has the right colour (ΔE {value:.1f}).",
              "The skin is off in colour or light by ΔE {value:.1f}; 2 is visible, 6 is plain."),
    Judgement("identity_score", (0.6, _ANY), (0.3, _ANY), "A face network takes it for the performer (identity {value:.2f}).",
              "A face network is not convinced that it is the new performer (identity {value:.2f}; +1 is, −1 is the plate's)."),
    Judgement("detected_share", (0.95, 1), (0.9, 1), "Detectors find a face in it ({value:.0%} of frames looked at).",
              "Detectors find a face in only {value:.0%} of the frames looked at."),
    Judgement("landmark_error_percent", (0, 3), (0, 5), "Eyes, nose and mouth sit where they belong ({value:.1f} % off).",
              "Eyes, nose and mouth sit {value:.1f} % of the eye distance away from where they belong."),
    Judgement("expression_gain", (0.85, 1.15), (0.7, 1.3), "Expressions have their full strength (gain {value:.2f}).",
              "Expressions have the wrong strength: gain {value:.2f}, where 1 is right and less is stiff."),
    Judgement("jitter_ratio", (0, 1.3), (0, 1.7), "It sits as steady as the original (jitter {value:.2f} times its).",
              "It trembles: {value:.1f} times as much as the original."),
    Judgement("flicker", (0, 1.5), (0, 3), "It does not flicker ({value:.1f} levels of 255).",
              "It flickers by {value:.1f} levels of 255 from frame to frame."),
    Judgement("lag_frames", (0, 0), (0, 0), "It is in time with the performance.", "It is {value:+.0f} frames out of time."),
    Judgement("seam_step", (-_ANY, 2), (-_ANY, 4), "No edge shows where the face meets the plate (ΔE {value:.1f}).",
              "An edge shows where the face meets the plate: a step of ΔE {value:.1f}."),
    Judgement("occluder_error", (0, 4), (0, 10), "What passes in front of the face stays in front ({value:.1f} levels off).",
              "What passes in front of the face is painted over ({value:.0f} levels off)."),
    Judgement("sharpness_ratio", (0.7, 1.4), (0.5, 2.0), "Its finest detail matches its surroundings' ({value:.2f} times).",
              "Its finest detail is {value:.2f} times that of the footage around it."),
)  # fmt: skip


def judge(figures: Figures) -> tuple[list[str], list[str]]:
    """(what is good, what is bad), a sentence each, the worst first; what is neither, or not known, goes unsaid."""
    good: list[str] = []
    bad: list[tuple[float, str]] = []
    for judgement in JUDGEMENTS:
        value = figures.get(judgement.figure, math.nan)
        if judgement.good[0] <= value <= judgement.good[1]:
            good.append(judgement.praise.format(value=value))
        elif (severity := _severity(value, judgement)) > 0:
            bad.append((severity, judgement.blame.format(value=value)))
    return good, [sentence for _, sentence in sorted(bad, key=lambda pair: -pair[0])]


def _severity(value: float, judgement: Judgement) -> float:
    """How far a figure is beyond fair, in steps from good to fair; 0 or less within, NaN where it is not known."""
    side = 0 if value < judgement.fair[0] else 1
    step = abs(judgement.fair[side] - judgement.good[side]) or 1.0
    return abs(value - judgement.fair[side]) / step if not judgement.fair[0] <= value <= judgement.fair[1] else 0.0


def blur_warning(figures: Figures) -> str | None:
    """What to say when fidelity was bought with blur: PSNR above the plate's without the contrast that should go with it."""
    gain_db = figures.get("psnr_db", math.nan) - figures.get("plate_psnr_db", math.nan)
    contrast, detail = (figures.get(f"inner_{each}", math.nan) for each in ("contrast", "detail"))
    if not (gain_db > 2 and contrast < 0.7):
        return None
    return (
        f"Bought with blur: PSNR is {gain_db:.1f} dB above the plate's and λ is {figures['leak']:.2f}, but the picture holds "
        f"only {100 * contrast:.0f} % of the truth's contrast inside the face (detail {detail:.2f}). Do not trust PSNR and λ."
    )


def verdict(figures: Figures, num_frames: int, num_compared: int) -> str:
    """A few sentences that sum an evaluation up."""
    good, bad = judge(figures)
    gain_db = figures.get("psnr_db", math.nan) - figures.get("plate_psnr_db", math.nan)
    parts = []
    if abs(gain_db) < 0.1:
        parts.append("The swap is no nearer to the truth than the plate is.")
    elif not math.isnan(gain_db):
        nearer = "nearer to" if gain_db > 0 else "further from"
        parts.append(f"The swap is {abs(gain_db):.1f} dB {nearer} the truth than the plate is.")
    if warning := blur_warning(figures):
        parts.append(warning)
    parts.append(f"Its worst fault: {bad[0]}" if bad else f"No fault found in {len(good)} respects.")
    if num_compared < num_frames:
        parts.append(f"{num_frames - num_compared} of {num_frames} frames could not be compared.")
    return " ".join(parts)


# ---- where to look --------------------------------------------------------------------------------------------------------

_WORSE_WHEN: Mapping[str, tuple[int, str]] = {
    "psnr_db": (-1, "far from the truth: {value:.1f} dB, usually {usual:.1f}"),
    "leak": (+1, "the plate's face shows through: λ {value:.2f}, usually {usual:.2f}"),
    "detail": (-1, "features do not match: detail {value:.2f}, usually {usual:.2f}"),
    "contrast": (-1, "blurred: contrast {value:.2f}, usually {usual:.2f}"),
    "landmark_error_percent": (+1, "features out of place: {value:.1f} %, usually {usual:.1f} %"),
    "flicker": (+1, "flickers: {value:.1f} levels, usually {usual:.1f}"),
    "seam_step": (+1, "an edge shows: ΔE {value:.1f}, usually {usual:.1f}"),
    "occluder_error": (+1, "something in front of the face is painted over: {value:.0f} levels"),
    "sharpness_ratio": (-1, "loses fine detail: {value:.2f}, usually {usual:.2f}"),
}
"""Which way a figure is bad, and what to say of a frame where it is."""

_APART_FRAMES = 6
_MOST_OF_A_KIND = 2
_LEAST_DEVIATIONS = 2.0


@dataclass(frozen=True)
class Suspect:
    """A frame to look at, and why."""

    frame: int
    reason: str


def suspects(columns: Mapping[str, FloatArray], limit: int = 6) -> list[Suspect]:
    """The frames that stand out most, worst first, at least six frames apart; `columns`: figures (T,) by name, NaN unknown.

    A frame stands out by its distance from the median in robust deviations (1.4826 times the median absolute deviation); one
    that is good by `JUDGEMENTS` never does.
    """
    good = {judgement.figure: judgement.good for judgement in JUDGEMENTS}
    found: list[tuple[float, Suspect]] = []
    for name, (sign, words) in _WORSE_WHEN.items():
        values = columns.get(name)
        if values is None or np.isfinite(values).sum() < 5:
            continue
        usual = float(np.nanmedian(values[np.isfinite(values)]))
        deviation = 1.4826 * float(np.median(np.abs(values[np.isfinite(values)] - usual))) or 1e-9
        scores = np.where(np.isfinite(values), sign * (values - usual) / deviation, -np.inf)
        for frame in _apart(scores)[:_MOST_OF_A_KIND]:
            low, high = good.get(name, (math.inf, -math.inf))
            if scores[frame] >= _LEAST_DEVIATIONS and not low <= values[frame] <= high:
                reason = words.format(value=float(values[frame]), usual=usual)
                found.append((float(scores[frame]), Suspect(int(frame), reason)))
    return _spread(found, limit)


def _apart(scores: FloatArray) -> list[int]:
    """Frames by falling score, none within `_APART_FRAMES` of a better one."""
    chosen: list[int] = []
    for frame in np.argsort(-scores).tolist():
        if all(abs(frame - other) >= _APART_FRAMES for other in chosen):
            chosen.append(frame)
    return chosen


def _spread(found: Sequence[tuple[float, Suspect]], limit: int) -> list[Suspect]:
    """The worst `limit`, at least `_APART_FRAMES` apart."""
    chosen: list[Suspect] = []
    for _, suspect in sorted(found, key=lambda pair: -pair[0]):
        if len(chosen) < limit and all(abs(suspect.frame - other.frame) >= _APART_FRAMES for other in chosen):
            chosen.append(suspect)
    return chosen
