"""The report of a training: how it went in words, its curves, what went wrong, and the last sheet of previews."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from understudy.stages._training_previews import PREVIEWS_FOLDER
from understudy.stages._training_state import Progress
from understudy.store.charts import Chart, curves
from understudy.store.report import Picture, Section, Table, headline, render_report, settings_section
from understudy.types import Json

REPORT_FILE = "report.html"
NOTES = {
    "step": "steps done",
    "num_faces_seen": "faces shown, over all sessions",
    "faces_per_second": "of training time",
    "loss": "on training faces, disturbed, smoothed",
    "held_out_error": "of the best checkpoint, on faces never learned from, undisturbed",
    "best_step": "the checkpoint that conversion uses",
    "sharpness": "finest detail of restored over true faces: 1 is as sharp",
    "variation": "how much restored faces differ, over true ones",
    "identity": "of swaps: +1 is the performer, -1 the plate's own",
    "leak": "of mean swaps: 0 is the performer's mean face, 1 the plate's",
    "expression": "of swaps: 1 is all the play of the plate's face",
    "pose": "of swaps, degrees away from the plate's",
    "num_incidents": "times that something had to be mended",
}
"""The figures at the top of the page, and how to read them."""


def write_training_report(out: Path, progress: Progress, figures: Mapping[str, object], recipe: Mapping[str, object]) -> None:
    """Write report.html of a training."""
    sections = [Section("Curves", _curves_text(progress), charts=list(_curves(progress)))]
    if progress.incidents:
        rows = [(str(each["step"]), str(each["what"]), str(each["remedy"])) for each in progress.incidents]
        sections.append(
            Section("Incidents", "What went wrong, and what was done.", table=Table(("step", "what", "done"), rows))
        )
    sections.append(settings_section("Recipe", recipe))
    sections += _lineage(progress.lineage)
    sheets = sorted((out / PREVIEWS_FOLDER).glob("[0-9]*.jpg"))
    caption = "face, restored, swapped, mask; then restored and swapped by the weights that are not averaged"
    render_report(
        out / REPORT_FILE,
        " and ".join(map(str, figures["performers"])) if isinstance(figures["performers"], list) else "Training",
        sections,
        verdict=str(figures["verdict"]),
        figures=headline(figures, NOTES),
        pictures=[Picture(sheets[-1].read_bytes(), f"step {int(sheets[-1].stem)}: {caption}", is_sheet=True)] if sheets else [],
        eyebrow="Understudy: train",
        footer="The pictures of this page are AI-made.",
    )


def _curves_text(progress: Progress) -> str:
    if not progress.judgements:
        return "No faces were held out, so only the training loss is known."
    return (
        "The training loss is that of disturbed faces, smoothed. The errors are those of undisturbed ones: where the held-out "
        "faces part from the training faces, the model learns by heart."
    )


def _curves(progress: Progress) -> Iterator[Chart]:
    if len(progress.losses) > 1:
        yield curves({"training loss": progress.losses}, caption="training loss by step")
    judged = progress.judgements
    if len(judged) > 1:
        errors = {
            "held-out faces": [(each.step, each.error) for each in judged],
            "training faces": [(each.step, each.train_error) for each in judged],
        }
        yield curves(errors, caption="error on undisturbed faces by step")
    names = sorted({name for each in judged for name in each.figures})
    for name in names:
        curve = [(each.step, each.figures[name]) for each in judged if name in each.figures]
        if len(curve) > 1:
            yield curves({name: curve}, caption=f"{name} by step")


def _lineage(lineage: Sequence[Json]) -> Iterator[Section]:
    if lineage:
        rows = [", ".join(f"{key.replace('_', ' ')} {value}" for key, value in entry.items()) for entry in lineage]
        yield Section("Lineage", "What it began from, and where it was taken up again.", items=rows)
