"""Results: one small file for each arm and seed, found again by what was asked, and the strip of pictures of the first seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from experiments.claims.model import Arm
from experiments.training import Scale
from understudy.imaging.metrics_series import STATISTICS, Series
from understudy.store.atomic import atomic_write_text
from understudy.store.json_files import json_text, read_json
from understudy.types import FloatArray, Json

FOLDER = Path(__file__).parent / "results"
DIGITS = 4


def path_of(arm: Arm, scale: Scale, seed: int, folder: Path = FOLDER) -> Path:
    """Where the result of an arm and seed lies."""
    return folder / scale.name / f"{arm.name}-{seed}.json"


def strip_of(arm: Arm, scale: Scale, folder: Path = FOLDER) -> Path:
    """Where the pictures of an arm lie."""
    return folder / scale.name / f"{arm.name}.jpg"


def truth_strip(scale: Scale, folder: Path = FOLDER) -> Path:
    """Where the pictures of what would be right lie."""
    return folder / scale.name / "truth.jpg"


def load(arm: Arm, scale: Scale, seed: int, folder: Path = FOLDER) -> Json | None:
    """The result, if it is there and answers what the arm asks today."""
    path = path_of(arm, scale, seed, folder)
    found = read_json(path) if path.is_file() else None
    return found if found is not None and found["key"] == arm.key(scale) else None


def save(arm: Arm, scale: Scale, seed: int, series: Mapping[str, Series], told: Json, folder: Path = FOLDER) -> None:
    """Keep a result: its rows, and what else is told of how it came about."""
    rows = {name: {"statistic": each.statistic, "rows": _plain(each.rows)} for name, each in series.items()}
    values = {"arm": arm.name, "seed": seed, "key": arm.key(scale), **told}
    lines = [f"{json_text(key, is_compact=True)}: {json_text(value, is_compact=True)}" for key, value in values.items()]
    inner = ",\n".join(f"{json_text(key, is_compact=True)}: {json_text(value, is_compact=True)}" for key, value in rows.items())
    path = path_of(arm, scale, seed, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, "{\n" + ",\n".join([*lines, '"series": {\n' + inner + "}"]) + "\n}\n")


def series_of(found: Json) -> dict[str, Series]:
    """The rows of a result."""
    several = cast(Mapping[str, Mapping[str, Any]], found["series"])
    return {name: Series(np.array(each["rows"], np.float64), str(each["statistic"])) for name, each in several.items()}


def rows_of(results: Iterable[Json], figure: str) -> tuple[list[FloatArray], str]:
    """A figure's rows for each of several seeds, and its statistic's name. Raises KeyError where one lacks it."""
    found = [series_of(each)[figure] for each in results]
    return [each.rows for each in found], found[0].statistic


def value_of(found: Json, figure: str) -> float:
    """A figure of one result; NaN where it has none."""
    series = series_of(found).get(figure)
    return float("nan") if series is None else STATISTICS[series.statistic](series.rows)


def _plain(rows: FloatArray) -> Any:
    rounded = np.round(np.asarray(rows, np.float64), DIGITS)
    return [_none_for_nan(each) for each in rounded.tolist()]


def _none_for_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_none_for_nan(each) for each in value]
    return None if value != value else value
