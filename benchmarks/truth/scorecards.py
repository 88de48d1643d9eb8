"""Scorecards: results of several seeds summed up with intervals, compared with another's in pairs, and as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from understudy.imaging.metrics_series import STATISTICS
from understudy.imaging.metrics_statistics import Interval, paired_interval
from understudy.store.json_files import json_text, read_json
from understudy.types import BadInput, FloatArray, Json

SCHEMA = 1
BEGIN, END = "<!-- scorecards: begin -->", "<!-- scorecards: end -->"

GOALS: Mapping[str, float] = {
    "psnr_db": math.inf, "ssim": 1, "leak": 0, "leak_after_colour_match": 0, "detail": 1, "contrast": 1, "inner_detail": 1,
    "inner_contrast": 1, "gradient_similarity": 1, "landmark_error_percent": 0, "pose_error_degrees": 0, "expression_gain": 1,
    "expression_gain_mouth": 1, "expression_gain_smile": 1, "expression_gain_brow": 1, "expression_gain_eyes": 1,
    "expression_gain_gaze": 1, "identity_score": 1, "jitter_ratio": 1, "flicker": 0, "flow_error_px": 0, "skin_delta_e": 0,
    "seam_step": 0, "occluder_error": 0, "sharpness_ratio": 1, "edge_gain": 1,
}  # fmt: skip
"""The figures whose rows a scorecard keeps, so that it can be compared, and where each should be."""

_NETWORK = (
    "psnr_db",
    "plate_psnr_db",
    "ssim",
    "leak",
    "leak_after_colour_match",
    "detail",
    "contrast",
    "skin_delta_e",
    "flicker",
)
_ROWS_ARE_ROUNDED_TO = 4


@dataclass(frozen=True)
class Difference:
    """How a figure of the second scorecard differs from the first's, by frames and seeds that both have."""

    figure: str
    first: float
    second: float
    difference: Interval

    @property
    def words(self) -> str:
        """Whether the second is better, as far as the interval shows it."""
        low, high = self.difference.low, self.difference.high
        if math.isnan(low):
            return "too few frames to say"
        if low <= 0 <= high:
            return "no difference shown"
        goal = GOALS[self.figure.removeprefix("network ")]
        is_nearer = self.second > self.first if math.isinf(goal) else abs(self.second - goal) < abs(self.first - goal)
        return "better" if is_nearer else "worse"


# ---- summing up -----------------------------------------------------------------------------------------------------------


def make_scorecard(asked: Json, results: Sequence[Json]) -> Json:
    """asked: what the benchmark was asked for and ran on; results: one for each seed, as `run.answer` gives them."""
    seconds = [cast(Mapping[str, float], result["cpu_seconds"]) for result in results]
    return {
        "schema": SCHEMA,
        "kind": "truth benchmark",
        **asked,
        "seeds": [result["seed"] for result in results],
        "steps": [result["steps"] for result in results],
        "faces_seen": [result["faces_seen"] for result in results],
        "cpu_seconds": {name: round(float(np.mean([each[name] for each in seconds])), 1) for name in seconds[0]},
        "num_frames": results[0]["num_frames"],
        "num_compared": results[0]["num_compared"],
        "figures": _figures(results, "series"),
        "floors": results[0]["floors"],
        "network": {name: each for name, each in _figures(results, "network_series").items() if name in _NETWORK},
        "verdicts": [result["verdict"] for result in results],
        "frames_to_look_at": results[0]["frames_to_look_at"],
        "series": {str(result["seed"]): _kept(result["series"], GOALS) for result in results},
        "network_series": {str(result["seed"]): _kept(result["network_series"], _NETWORK) for result in results},
    }


def _figures(results: Sequence[Json], which: str) -> dict[str, Json]:
    """Each figure's mean over the seeds with its interval over frames and seeds, and every seed's own."""
    several = [cast(Mapping[str, Mapping[str, Any]], result[which]) for result in results]
    figures: dict[str, Json] = {}
    for name in several[0]:
        statistic = STATISTICS[several[0][name]["statistic"]]
        rows = [_rows(each[name]) for each in several]
        found = paired_interval((), rows, statistic)
        figures[name] = {**asdict(found), "by_seed": [statistic(each) for each in rows]}
    return figures


def _kept(series: Any, names: Iterable[str]) -> Json:
    return {
        name: {"statistic": series[name]["statistic"], "rows": np.round(_rows(series[name]), _ROWS_ARE_ROUNDED_TO)}
        for name in names
        if name in series
    }


def _rows(series: Mapping[str, Any]) -> FloatArray:
    return np.array(series["rows"], np.float64)  # null, which has been NaN, becomes NaN again


# ---- comparing ------------------------------------------------------------------------------------------------------------


def read_scorecard(path: Path) -> Json:
    """The scorecard in a file. Raises BadInput for anything else."""
    card = read_json(path)
    if card.get("kind") != "truth benchmark" or card.get("schema") != SCHEMA:
        raise BadInput(
            f"{path} is not a scorecard of this benchmark (schema {SCHEMA}); make one with: python -m benchmarks.truth run"
        )
    return card


def compare(first: Json, second: Json) -> list[Difference]:
    """Each figure that both scorecards have, paired over frames and over the seeds that both have (else over all of each).

    Raises BadInput where they are of different footage: frames can then not be paired.
    """
    for card in (first, second):
        if card["footage"] != first["footage"]:
            raise BadInput(
                "the scorecards are of different footage or of different clips of it; only like can be compared in pairs"
            )
    return [
        *_differences(first, second, "series", ""),
        *_differences(first, second, "network_series", "network "),
    ]


def _differences(first: Json, second: Json, which: str, prefix: str) -> list[Difference]:
    sides = [cast(Mapping[str, Mapping[str, Mapping[str, Any]]], card[which]) for card in (first, second)]
    shared = [seed for seed in sides[0] if seed in sides[1]]
    several = [[side[seed] for seed in (shared or side)] for side in sides]
    found = []
    for name in several[0][0]:
        if name not in several[1][0] or name not in GOALS:
            continue
        statistic = STATISTICS[several[0][0][name]["statistic"]]
        before, after = ([_rows(series[name]) for series in side] for side in several)
        values = [float(np.mean([statistic(rows) for rows in side])) for side in (before, after)]
        found.append(Difference(prefix + name, values[0], values[1], paired_interval(before, after, statistic)))
    return [each for each in found if not math.isnan(each.difference.value)]


def comparison_text(first: Json, second: Json) -> str:
    """The comparison as a page of text, with what it rests on."""
    lines = [f"first   {title(first)}", f"second  {title(second)}", ""]
    lines.append(f"{'figure':34}{'first':>9}{'second':>9}{'second - first (95 % within)':>34}  in words")
    for each in compare(first, second):
        found = each.difference
        known = "" if math.isnan(found.low) else f" ({found.low:+.3f} to {found.high:+.3f})"
        within = f"{found.value:+.3f}{known}"
        lines.append(f"{each.figure:34}{each.first:9.3f}{each.second:9.3f}{within:>34}  {each.words}")
    shared = [seed for seed in cast(list[int], first["seeds"]) if seed in cast(list[int], second["seeds"])]
    if len(shared) < 2:
        lines.append("\nOne seed: the intervals are over frames; how much the luck of one training matters is not in them.")
    return "\n".join(lines)


# ---- as a table -----------------------------------------------------------------------------------------------------------


def title(card: Json) -> str:
    """What was run, in a few words."""
    settings = cast(Mapping[str, object], card["settings"])
    asked = " ".join([str(card["recipe"]), *(f"{key}={value}" for key, value in settings.items())])
    convert = cast(Mapping[str, Any], card["convert"])
    how = [convert["recipe"]] if convert["recipe"] != "truth-benchmark" else []
    how += [f"{key}={value}" for key, value in convert["settings"].items()]
    footage = cast(Mapping[str, Any], card["footage"])
    seeds = ", ".join(map(str, cast(list[int], card["seeds"])))
    where = f"{footage['name']}: {footage['replace']} becomes {footage['with']}"
    faces = f"{np.mean(cast(list[int], card['faces_seen'])):,.0f} faces"
    return f"{asked}{' -> ' + ' '.join(how) if how else ''}, {faces}, seed {seeds} ({where})"


_COLUMNS = {
    "PSNR (plate), dB": ("psnr_db", 1), "leak": ("leak", 2), "detail": ("detail", 2), "contrast": ("contrast", 2),
    "edges": ("edge_gain", 2), "landmarks, %": ("landmark_error_percent", 1), "gain": ("expression_gain", 2),
    "of the mouth": ("expression_gain_mouth", 2), "of the eyes": ("expression_gain_eyes", 2), "identity": ("identity_score", 2),
    "jitter": ("jitter_ratio", 2), "flicker": ("flicker", 1), "lag": ("lag_frames", 0),
}  # fmt: skip


def table_text(cards: Sequence[Json]) -> str:
    """A Markdown table, a row a scorecard; half the interval's width stands behind each figure."""
    heads = ["run", "training, CPU minutes", *_COLUMNS, "network alone: PSNR, leak, detail"]
    rows = [heads, ["---"] * len(heads), *(_row(card) for card in cards)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(card: Json) -> list[str]:
    figures, network = (cast(Mapping[str, Mapping[str, Any]], card[which]) for which in ("figures", "network"))
    seconds = cast(Mapping[str, float], card["cpu_seconds"]).get("train", math.nan)
    cells = [title(card), f"{seconds / 60:.1f}"]
    for figure, digits in _COLUMNS.values():
        found = figures.get(figure, {})
        text = _text(found.get("value"), digits)
        if found.get("low") is not None and digits:
            text += f" ± {(found['high'] - found['low']) / 2:.{digits}f}"
        if figure == "psnr_db":
            text += f" ({_text(cast(Mapping[str, Mapping[str, float]], card['floors'])['plate'].get('psnr_db'), 1)})"
        cells.append(text)
    alone = ", ".join(
        _text(network.get(name, {}).get("value"), digits) for name, digits in (("psnr_db", 1), ("leak", 2), ("detail", 2))
    )
    return [*cells, alone]


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:z.{digits}f}"


def refresh_table(page: Path, cards: Sequence[Json]) -> None:
    """Write the table between the markers of a page. Raises BadInput where it has none."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise BadInput(f"{page}: expected the lines {BEGIN} and {END}, between which the table goes")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table_text(cards)}\n{END}{after}", encoding="utf-8")


def write_text_of(card: Json) -> str:
    """A scorecard as the text of its file: one key a line, the rows compact."""
    lines = [f"{json_text(key, is_compact=True)}: {json_text(value, is_compact=True)}" for key, value in card.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
