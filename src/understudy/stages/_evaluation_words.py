"""Says in words what an evaluation's figures mean: what is good or bad, what was bought with blur, where to look first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.imaging.metrics_statistics import Interval
from understudy.types import FloatArray

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Judgement:
    """How a figure is read: good inside `good` (low, high), bad outside `fair`, in between neither; and what is said of it.

    `{value}` in a sentence is the figure; blame_above: what is said instead where too much is another fault. Bounds follow the
    acceptance targets of the truth benchmark.
    """

    figure: str
    good: tuple[float, float]
    fair: tuple[float, float]
    praise: str
    blame: str
    blame_above: str = ""

    def blame_of(self, value: float) -> str:
        """What is said of a bad figure."""
        words = self.blame_above if self.blame_above and value > self.good[1] else self.blame
        return words.format(value=value)


_ANY = math.inf
SOFT_EDGES = 0.6
"""With less than this share of the truth's edges a face looks blurred, as the truth under a blur of sigma 2.5 in 256 px."""

JUDGEMENTS = (
    Judgement("leak", (-0.1, 0.1), (-0.2, 0.2), "Almost nothing of the plate's face is left (λ {value:z.2f}).",
              "The plate's own face shows through: λ is {value:.2f}, where 0 is none and 1 all of it."),
    Judgement("detail", (0.75, _ANY), (0.55, _ANY), "Features are where the truth has them (detail {value:.2f}).",
              "Features do not match the truth's (detail {value:.2f} of 1): the likeness or the performance is off."),
    Judgement("contrast", (0.85, 1.15), (0.7, 1.2), "Light and dark are as strong as in the truth (contrast {value:.2f}).",
              "Light and dark are too weak: contrast {value:.2f}, where the truth has 1.",
              "Light and dark are too strong: contrast {value:.2f} of 1, harsh or blotchy; fine detail may still lack."),
    Judgement("edge_gain", (0.8, 1.25), (SOFT_EDGES, 1.5), "It is as crisp as the truth (edges {value:.2f}).",
              "It is soft: {value:.0%} of the truth's edges are there, as if it were blurred.",
              "Edges are too hard: {value:.2f} times the truth's."),
    Judgement("skin_delta_e", (0, 3), (0, 6), "The skin has the right colour (ΔE {value:.1f}).",
              "The skin is off in colour or light by ΔE {value:.1f}; 2 is visible, 6 is plain."),
    Judgement("identity_score", (0.6, _ANY), (0.3, _ANY), "A face network takes it for the performer (identity {value:.2f}).",
              "A face network is not convinced that it is the new performer (identity {value:.2f}; +1 is, −1 is the plate's)."),
    Judgement("detected_share", (0.95, 1), (0.9, 1), "Detectors find a face in it ({value:.0%} of frames looked at).",
              "Detectors find a face in only {value:.0%} of the frames looked at."),
    Judgement("landmark_error_percent", (0, 3), (0, 5), "Eyes, nose and mouth sit where they belong ({value:.1f} % off).",
              "Eyes, nose and mouth sit {value:.1f} % of the eye distance away from where they belong."),
    Judgement("expression_gain", (0.85, 1.15), (0.7, 1.3), "Expressions have their full strength (gain {value:.2f}).",
              "Expressions are stiff: {value:.0%} of the strength they should have.",
              "Expressions are exaggerated: {value:.0%} of the strength they should have."),
    Judgement("free_jitter_ratio", (0, 1.3), (0, 1.7), "It sits as steady as the original (jitter {value:.2f} times its).",
              "It trembles: {value:.1f} times as much as the original."),
    Judgement("pulsing", (0, 1), (0, 2), "It does not flicker (it pulses by {value:.1f} levels of 255).",
              "It flickers: it pulses by {value:.1f} levels of 255, of which one can be seen."),
    Judgement("lag_frames", (0, 0), (0, 0), "It is in time with the performance.", "It is {value:+.0f} frames out of time."),
    Judgement("seam_step", (-_ANY, 2), (-_ANY, 4), "No edge shows where the face meets the plate (ΔE {value:.1f}).",
              "An edge shows where the face meets the plate: a step of ΔE {value:.1f}."),
    Judgement("occluder_error", (0, 4), (0, 10), "What passes in front of the face stays in front ({value:.1f} levels off).",
              "What passes in front of the face is painted over ({value:.0f} levels off)."),
    Judgement("sharpness_ratio", (0.7, 1.4), (0.5, 2.0), "Its grain matches its surroundings' ({value:.2f} times).",
              "Its grain is {value:.2f} times that of the footage around it."),
)  # fmt: skip


Intervals = Mapping[str, Interval]


def judge(figures: Figures, intervals: Intervals | None = None) -> tuple[list[str], list[str]]:
    """(what is good, what is bad), a sentence each, the worst first; what is neither, or not known, goes unsaid."""
    good = [each.praise.format(value=figures[each.figure]) for each in JUDGEMENTS if _is_good(figures, each)]
    if blur_warning(figures) and good and _is_good(figures, JUDGEMENTS[0]):
        good[0] += " But any blur scores so."
    by_figure = {each.figure: each for each in JUDGEMENTS}
    return good, [by_figure[name].blame_of(figures[name]) for name in blamed(figures, intervals)]


def blamed(figures: Figures, intervals: Intervals | None = None) -> list[str]:
    """The figures that are bad, the worst first; one whose 95 % interval reaches into what is good is not."""
    found = []
    for judgement in JUDGEMENTS:
        interval = (intervals or {}).get(judgement.figure)
        is_unsure = interval is not None and interval.low <= judgement.good[1] and interval.high >= judgement.good[0]
        severity = _severity(figures.get(judgement.figure, math.nan), judgement)
        if severity > 0 and not is_unsure:
            found.append((severity, judgement.figure))
    return [name for _, name in sorted(found, key=lambda pair: -pair[0])]


def unsettled(figures: Figures, intervals: Intervals | None = None) -> list[str]:
    """The figures that are known and neither good nor bad."""
    bad = blamed(figures, intervals)
    known = [each for each in JUDGEMENTS if not math.isnan(figures.get(each.figure, math.nan))]
    return [each.figure for each in known if each.figure not in bad and not _is_good(figures, each)]


def _is_good(figures: Figures, judgement: Judgement) -> bool:
    return judgement.good[0] <= figures.get(judgement.figure, math.nan) <= judgement.good[1]


def _severity(value: float, judgement: Judgement) -> float:
    """How far a figure is beyond fair, in steps from good to fair; 0 or less within, NaN where it is not known."""
    side = 0 if value < judgement.fair[0] else 1
    step = abs(judgement.fair[side] - judgement.good[side]) or 1.0
    return abs(value - judgement.fair[side]) / step if not judgement.fair[0] <= value <= judgement.fair[1] else 0.0


def blur_warning(figures: Figures) -> str | None:
    """What to say when fidelity was bought with blur: PSNR above the plate's without its edges and contrast."""
    gain_db = figures.get("psnr_db", math.nan) - figures.get("plate_psnr_db", math.nan)
    contrast, edges = figures.get("inner_contrast", math.nan), figures.get("edge_gain", math.nan)
    if not (gain_db > 2 and (contrast < 0.7 or edges < SOFT_EDGES)):
        return None
    share, what = (edges, "edges") if edges < SOFT_EDGES else (contrast, "contrast")
    return (
        f"Bought with blur: PSNR is {gain_db:.1f} dB above the plate's and λ is {figures['leak']:z.2f}, but the picture holds "
        f"only {100 * share:.0f} % of the truth's {what} inside the face. Do not trust PSNR and λ."
    )


def verdict(figures: Figures, good: Sequence[str], bad: Sequence[str], num_frames: int, num_compared: int) -> str:
    """A few sentences that sum an evaluation up; `good` and `bad` as by `judge`."""
    gain_db = figures.get("psnr_db", math.nan) - figures.get("plate_psnr_db", math.nan)
    parts = []
    if abs(gain_db) < 0.1:
        parts.append("The swap is no nearer to the truth than the plate is.")
    elif not math.isnan(gain_db):
        nearer = "nearer to" if gain_db > 0 else "further from"
        parts.append(f"The swap is {abs(gain_db):.1f} dB {nearer} the truth than the plate is.")
    if warning := blur_warning(figures):
        parts.append(warning)
    parts.append(f"Its worst fault: {bad[0][0].lower()}{bad[0][1:]}" if bad else f"No fault found in {len(good)} respects.")
    if num_compared < num_frames:
        parts.append(f"{num_frames - num_compared} of {num_frames} frames could not be compared.")
    return " ".join(parts)


# ---- where to look --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Which way a figure is bad (+1 or -1), how far from the usual it must be for an eye to notice, and what is said of it."""

    figure: str
    sign: int
    least: float
    words: str


FAULTS = (
    Fault("psnr_db", -1, 1.0, "far from the truth: {value:.1f} dB, usually {usual:.1f}"),
    Fault("leak", +1, 0.1, "the plate's face shows through: λ {value:z.2f}, usually {usual:z.2f}"),
    Fault("detail", -1, 0.1, "features do not match: detail {value:z.2f}, usually {usual:z.2f}"),
    Fault("edge_gain", -1, 0.1, "soft: {value:.0%} of the truth's edges, usually {usual:.0%}"),
    Fault("contrast", -1, 0.1, "flat: contrast {value:.2f}, usually {usual:.2f}"),
    Fault("contrast", +1, 0.1, "harsh or blotchy: contrast {value:.2f}, usually {usual:.2f}"),
    Fault("landmark_error_percent", +1, 1.0, "features out of place: {value:.1f} %, usually {usual:.1f} %"),
    Fault("pulsing", +1, 1.0, "flickers: it pulses by {value:.1f} levels, usually {usual:.1f}"),
    Fault("seam_step", +1, 1.0, "an edge shows: ΔE {value:.1f}, usually {usual:.1f}"),
    Fault("skin_delta_e", +1, 1.5, "the skin is off in colour or light: ΔE {value:.1f}, usually {usual:.1f}"),
    Fault("occluder_error", +1, 2.0, "something in front of the face is painted over: {value:.0f} levels"),
    Fault("sharpness_ratio", -1, 0.1, "loses fine detail: {value:.2f}, usually {usual:.2f}"),
)

_APART_FRAMES = 6
_MOST_OF_A_KIND = 2
_MOST_REASONS = 3
_LEAST_DEVIATIONS = 2.0
_FEWEST_FRAMES = 5


@dataclass(frozen=True)
class Suspect:
    """A frame to look at, and why."""

    frame: int
    reason: str


def suspects(columns: Mapping[str, FloatArray], bad: Sequence[str] = (), limit: int = 6, first_frame: int = 0) -> list[Suspect]:
    """The frames to look at first, worst first, at least six frames apart; `columns`: figures (T,) by name, NaN unknown.

    A frame stands out by its distance from the median in robust deviations (1.4826 times the median absolute deviation); one
    that is good by `JUDGEMENTS`, or hardly off the usual, never does. Of a figure that is `bad` throughout the clip, so that no
    frame stands out, the worst frame is shown. first_frame: the number of the first.
    """
    good = {judgement.figure: judgement.good for judgement in JUDGEMENTS}
    found: list[tuple[float, Suspect]] = []
    for fault in FAULTS:
        name, values = fault.figure, columns.get(fault.figure, np.zeros(0))
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        usual = float(np.median(known))
        deviation = 1.4826 * float(np.median(np.abs(known - usual))) or 1e-9
        excess = np.where(np.isfinite(values), fault.sign * (values - usual), -np.inf)
        low, high = good.get(name, (math.inf, -math.inf))
        is_bad = name in bad and (usual > high if fault.sign > 0 else usual < low)
        worst = [frame for frame in _apart(excess)[:_MOST_OF_A_KIND] if not low <= values[frame] <= high]
        striking = [each for each in worst if excess[each] >= max(_LEAST_DEVIATIONS * deviation, fault.least)]
        if len(known) < _FEWEST_FRAMES:
            striking = []
        for frame in striking or (worst[:1] if is_bad else []):
            reason = fault.words.format(value=float(values[frame]), usual=usual)
            score = excess[frame] / deviation if striking else _LEAST_DEVIATIONS
            found.append(
                (float(score), Suspect(first_frame + int(frame), reason if striking else f"{reason}, and bad throughout"))
            )
    return _spread(found, limit)


def _apart(scores: FloatArray) -> list[int]:
    """Frames by falling score, none within `_APART_FRAMES` of a better one."""
    chosen: list[int] = []
    for frame in np.argsort(-scores).tolist():
        if all(abs(frame - other) >= _APART_FRAMES for other in chosen):
            chosen.append(frame)
    return chosen


def _spread(found: Sequence[tuple[float, Suspect]], limit: int) -> list[Suspect]:
    """The worst `limit`, at least `_APART_FRAMES` apart; what is wrong with a frame or its neighbours is told together."""
    chosen: dict[int, list[str]] = {}
    for _, suspect in sorted(found, key=lambda pair: -pair[0]):
        near = next((frame for frame in chosen if abs(suspect.frame - frame) < _APART_FRAMES), None)
        if near is not None:
            if len(chosen[near]) == _MOST_REASONS or any(_kind(each) == _kind(suspect.reason) for each in chosen[near]):
                continue
            there = "" if near == suspect.frame else f" (frame {suspect.frame})"
            chosen[near].append(f"{suspect.reason}{there}")
        elif len(chosen) < limit:
            chosen[suspect.frame] = [suspect.reason]
    return [Suspect(frame, "; ".join(reasons)) for frame, reasons in chosen.items()]


def _kind(reason: str) -> str:
    return reason.partition(":")[0]
