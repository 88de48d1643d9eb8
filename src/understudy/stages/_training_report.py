"""The report of a training: how it went in words, its curves, what went wrong, and the last sheet of previews."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from understudy.media import encode_png
from understudy.stages._training_previews import PREVIEWS_FOLDER
from understudy.stages._training_state import Progress
from understudy.store.report import Figure, Picture, Section, Table, render_report
from understudy.types import Image, Json

REPORT_FILE = "report.html"
CURVE_PX = (960, 360)
_INK, _PAPER, _LINE = (60, 60, 60), (255, 255, 255), (225, 225, 225)
_COLOURS = ((31, 92, 150), (200, 96, 30), (70, 130, 70))
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 28, 34

Curve = Sequence[tuple[float, float]]


def write_training_report(out: Path, progress: Progress, figures: Mapping[str, object], recipe: Mapping[str, object]) -> None:
    """Write report.html of a training."""
    sections = [Section("Curves", _curves_text(progress), pictures=list(_curves(progress)))]
    if progress.incidents:
        rows = [(str(each["step"]), str(each["what"]), str(each["remedy"])) for each in progress.incidents]
        sections.append(
            Section("Incidents", "What went wrong, and what was done.", table=Table(("step", "what", "done"), rows))
        )
    settings = [(key.replace("_", " "), str(value)) for key, value in recipe.items()]
    sections.append(Section("Recipe", table=Table(("setting", "value"), settings)))
    sections += _lineage(progress.lineage)
    sheets = sorted((out / PREVIEWS_FOLDER).glob("[0-9]*.jpg"))
    caption = "face, restored, swapped, mask; then restored and swapped by the weights that are not averaged"
    render_report(
        out / REPORT_FILE,
        " and ".join(map(str, figures["performers"])) if isinstance(figures["performers"], list) else "Training",
        sections,
        verdict=str(figures["verdict"]),
        figures=list(_headline(figures)),
        pictures=[Picture(sheets[-1].read_bytes(), f"step {int(sheets[-1].stem)}: {caption}")] if sheets else [],
        eyebrow="Understudy: train",
        footer="The pictures of this page are AI-made.",
    )


def _headline(figures: Mapping[str, object]) -> Iterator[Figure]:
    notes = {
        "step": "steps done",
        "num_faces_seen": "faces shown, over all sessions",
        "faces_per_second": "of training time",
        "loss": "on training faces, disturbed, smoothed",
        "held_out_error": "of the best checkpoint, on faces never learned from, undisturbed",
        "best_step": "the checkpoint that conversion uses",
        "sharpness": "finest detail of restored over true faces: 1 is as sharp",
        "variation": "how much restored faces differ, over true ones",
        "identity": "of swaps: +1 is the performer, -1 the plate's own",
        "expression": "of swaps: 1 is all the play of the plate's face",
        "num_incidents": "times that something had to be mended",
    }
    for name, note in notes.items():
        value = figures.get(name)
        if isinstance(value, int | float):
            yield name.removeprefix("num_").replace("_", " "), value, note


def _curves_text(progress: Progress) -> str:
    if not progress.judgements:
        return "No faces were held out, so only the training loss is known."
    return (
        "The training loss is that of disturbed faces, smoothed. The errors are those of undisturbed ones: where the held-out "
        "faces part from the training faces, the model learns by heart."
    )


def _curves(progress: Progress) -> Iterator[Picture]:
    if len(progress.losses) > 1:
        yield _picture("training loss by step", {"training loss": progress.losses})
    judged = progress.judgements
    if len(judged) > 1:
        errors = {
            "held-out faces": [(each.step, each.error) for each in judged],
            "training faces": [(each.step, each.train_error) for each in judged],
        }
        yield _picture("error on undisturbed faces by step", errors)
    names = sorted({name for each in judged for name in each.figures})
    for name in names:
        curve = [(each.step, each.figures[name]) for each in judged if name in each.figures]
        if len(curve) > 1:
            yield _picture(f"{name} by step", {name: curve})


def _picture(caption: str, curves: Mapping[str, Curve]) -> Picture:
    return Picture(encode_png(draw_curves(curves)), caption)


def draw_curves(curves: Mapping[str, Curve]) -> Image:
    """Curves of (x, y) over common axes, each with its name."""
    width, height = CURVE_PX
    canvas = np.full((height, width, 3), _PAPER, np.uint8)
    points = np.array([point for curve in curves.values() for point in curve], np.float64)
    (x_low, y_low), (x_high, y_high) = points.min(0), points.max(0)
    y_low, y_high = (y_low, y_high) if y_high > y_low else (y_low - 0.5, y_high + 0.5)
    x_high = max(x_high, x_low + 1)

    def place(x: float, y: float) -> tuple[int, int]:
        right, down = (x - x_low) / (x_high - x_low), (y_high - y) / (y_high - y_low)
        return round(_LEFT + right * (width - _LEFT - _RIGHT)), round(_TOP + down * (height - _TOP - _BOTTOM))

    for y in np.linspace(y_low, y_high, 5):
        left, level = place(x_low, y)
        cv2.line(canvas, (left, level), (width - _RIGHT, level), _LINE, 1)
        _write(canvas, f"{y:.3g}", (8, level + 4), _INK)
    for x in np.linspace(x_low, x_high, 5):
        _write(canvas, f"{x:,.0f}", (min(place(x, y_low)[0] - 12, width - 70), height - 12), _INK)
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = np.array([place(*point) for point in curve], np.int32)
        cv2.polylines(canvas, [line[:, None]], False, colour, 2, cv2.LINE_AA)
        _write(canvas, name, (_LEFT + 8 + 180 * number, 18), colour)
    return canvas


def _write(canvas: Image, text: str, where: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def _lineage(lineage: Sequence[Json]) -> Iterator[Section]:
    if lineage:
        rows = [", ".join(f"{key.replace('_', ' ')} {value}" for key, value in entry.items()) for entry in lineage]
        yield Section("Lineage", "What it began from, and where it was taken up again.", items=rows)
