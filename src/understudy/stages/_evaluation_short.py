"""Says what an evaluation found in a few lines for the terminal: an answer, then a line for each thing that a viewer sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from understudy.imaging.metrics_statistics import Interval
from understudy.stages._evaluation_words import JUDGEMENTS, blamed, blur_warning, unsettled

_MOST_REMARKS = 2
_GOOD = {each.figure: each.good for each in JUDGEMENTS}


@dataclass(frozen=True)
class Saying:
    """What is said of a figure in a few words: where it is good, too low, too high.

    `{value}` is the figure, `{share}` the same but never below 0.
    """

    good: str
    low: str = ""
    high: str = ""

    def of(self, value: float, bounds: tuple[float, float]) -> str:
        """bounds: between which the figure is good."""
        words = self.low if value < bounds[0] else self.high if value > bounds[1] else self.good
        return words.format(value=value, share=max(value, 0.0))


ASPECTS: Mapping[str, Mapping[str, Saying]] = {
    "likeness": {
        "identity_score": Saying(
            "a face network takes it for the performer", "a face network does not clearly take it for the performer"
        ),
        "edge_gain": Saying(
            "as crisp as the truth", "soft, {value:.0%} of the truth's edges", "too hard, {value:.0%} of the truth's edges"
        ),
        "detail": Saying("features match the truth's", "features do not quite match the truth's"),
        "contrast": Saying("light and dark as in the truth", "flatter than the truth", "harsher than the truth"),
        "skin_delta_e": Saying("the skin has the right colour", high="the skin is off in colour or light"),
        "sharpness_ratio": Saying(
            "its grain matches the footage", "smoother than the footage around it", "grainier than the footage around it"
        ),
    },
    "old identity": {
        "leak": Saying(
            "next to nothing of the plate's face is left",
            "driven past the new face, away from the plate's",
            "{value:.0%} of the plate's face shows through",
        ),
    },
    "steadiness": {
        "free_jitter_ratio": Saying("as steady as the original", high="trembles {value:.1f} times as much as the original"),
        "pulsing": Saying("no flicker", high="flickers by {value:.1f} levels from frame to frame"),
        "lag_frames": Saying("in time", "{value:+.0f} frames out of time", "{value:+.0f} frames out of time"),
    },
    "performance": {
        "expression_gain": Saying(
            "expressions have their full strength",
            "stiff, {share:.0%} of the expressions' strength",
            "exaggerated, {value:.0%} of the expressions' strength",
        ),
        "landmark_error_percent": Saying(
            "features sit where they belong", high="eyes, nose and mouth sit {value:.1f} % of the eye distance off"
        ),
    },
    "blending": {
        "seam_step": Saying("no edge shows", high="an edge shows where the face meets the plate"),
        "occluder_error": Saying("what passes in front stays in front", high="what passes in front is painted over"),
        "detected_share": Saying("detectors find a face in it", "detectors find a face in {value:.0%} of the frames only"),
    },
}
"""What a viewer sees, and the figures that speak of it, the most telling first."""


@dataclass(frozen=True)
class InShort:
    """answer: one sentence; lines: what is said of each aspect, by its name."""

    answer: str
    lines: Mapping[str, str]


def in_short(figures: Mapping[str, object]) -> InShort:
    """The few lines for an evaluation's figures, as its manifest has them."""
    values = {name: value for name, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)}
    found = cast(Mapping[str, Sequence[float | None]], figures.get("intervals") or {})
    intervals = {name: _interval(values[name], bounds) for name, bounds in found.items() if name in values}
    bad, fair = blamed(values, intervals), unsettled(values, intervals)
    grades: dict[str, list[str]] = {"poor": [], "fair": [], "good": []}
    lines: dict[str, str] = {}
    for aspect, sayings in ASPECTS.items():
        known = [name for name in sayings if name in values]
        if not known:
            continue
        amiss = [name for name in bad if name in sayings] + [name for name in known if name in fair]
        grade = "good" if not amiss else "poor" if amiss[0] in bad else "fair"
        said = [sayings[name].of(values[name], _GOOD[name]) for name in amiss[:_MOST_REMARKS] or known[:1]]
        if aspect == "old identity" and blur_warning(values):
            said.append("but the blur flatters this")
        grades[grade].append(aspect)
        lines[aspect] = f"{grade}: {'; '.join(said)}"
    if unknown := _unknown(figures):
        lines["not known"] = unknown
    return InShort(_answer(figures, grades["poor"], grades["fair"]), lines)


def _unknown(figures: Mapping[str, object]) -> str:
    """What nobody gave the means to measure, with the option that does; "" where nothing is missing."""
    if figures.get("reference") != "plate":
        return ""
    whose = "" if figures.get("identity_score") is not None else ", and whose face a network takes it for (--performer)"
    return f"nearness to the truth and what is left of the old identity (--truth){whose}"


def _interval(value: float, bounds: Sequence[float | None]) -> Interval:
    low, high = (math.nan if bound is None else bound for bound in bounds)
    return Interval(value, low, high)


def _answer(figures: Mapping[str, object], poor: Sequence[str], fair: Sequence[str]) -> str:
    if figures.get("expression_gain") is None and figures.get("plate_expression_gain") is not None:
        return "No face is recognised in the swap, so that most of it cannot be measured."
    if poor:
        return f"A swap with faults: {_listed(poor)} {'is' if len(poor) == 1 else 'are'} poor."
    if fair:
        return f"A fair swap: nothing is poor, but {_listed(fair)} could be better."
    return "A good swap: no fault was found."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
