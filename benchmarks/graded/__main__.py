"""How a model does on plates of graded distance: leak and likeness against how far the plate's person is from the performer.

python -m benchmarks.graded MODEL TRUTH PLATE [PLATE ...] --replace abel --with bea

Each PLATE is a morph by `benchmarks.graded.render`, or any rendered performer, giving TRUTH's performance; the model takes its
person for `--replace`. Their distance from the performer is measured, by the identity network of `understudy evaluate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import understudy
from benchmarks.truth.run import Ready
from understudy.console import EXIT_STOPPED, progress, stopped
from understudy.imaging.expression import Drive
from understudy.media.footage import probe
from understudy.model.swapper import load_swapper
from understudy.recipes import convert_recipe
from understudy.stages._evaluation_clips import open_clip
from understudy.stages._plate_survey import survey_plate
from understudy.stages._swap_plan import Codes, Crops, Masks, RgbaCrops, Swapper, replacements_of
from understudy.stages.convert import make_plan
from understudy.store.checkpoints import best_valid
from understudy.store.hashing import sha256_of_file, sha256_of_footage, sha256_of_json
from understudy.trust.credentials import Lineage
from understudy.trust.permission import footage_behind, may_convert_model
from understudy.types import BadInput, FloatArray, Reporter, UnderstudyError

DISTANCE, PLATE_PSNR = "distance", "plate_psnr_db"

COLUMNS: Mapping[str, tuple[str, int]] = {
    DISTANCE: ("identity distance, plate to truth", 2), PLATE_PSNR: ("PSNR of the plate, dB", 1), "psnr_db": ("PSNR, dB", 1),
    "leak": ("leak λ", 2), "detail": ("detail", 2), "contrast": ("contrast", 2), "identity_score": ("identity", 2),
    "identity_distance": ("identity distance, swap to truth", 2), "landmark_error_percent": ("landmarks, %", 1),
}  # fmt: skip


class StandIn:
    """The model, taking the person of a plate for a performer it knows, however little alike they are."""

    def __init__(self, model: Swapper, galleries: Mapping[str, FloatArray]) -> None:
        self.performers, self.framing, self.resolution_px = model.performers, model.framing, model.resolution_px
        self.galleries, self.skins, self._model = galleries, model.skins, model
        self.reads_expressions, self.exemplars = model.reads_expressions, model.exemplars

    def read(self, crops: Crops, performer: str, faces: Masks | None = None) -> Codes:
        """As the model's own."""
        return self._model.read(crops, performer, faces)

    def swap(
        self,
        crops: Crops,
        from_performer: str,
        to_performer: str,
        drive: Drive | None = None,
        codes: Codes | None = None,
    ) -> RgbaCrops:
        """As the model's own."""
        return self._model.swap(crops, from_performer, to_performer, drive, codes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Swap and evaluate every plate, then print a row for each; returns the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        with progress() as report:
            rows = {plate.stem: figures_of(plate, asked, report) for plate in asked.plates}
    except UnderstudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(stopped(goes_on=True), file=sys.stderr)
        return EXIT_STOPPED
    print(table(rows))
    return 0


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The figures of every plate as a Markdown table, the nearest to the performer last."""
    lines = [["plate", *(label for label, _ in COLUMNS.values())], ["---"] * (1 + len(COLUMNS))]
    for name, row in sorted(rows.items(), key=lambda each: -each[1][DISTANCE]):
        lines.append([name, *(f"{row[figure]:.{digits}f}" for figure, (_, digits) in COLUMNS.items())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures_of(plate: Path, asked: argparse.Namespace, report: Reporter) -> dict[str, float]:
    """The figures of the model's swap of one plate; what stands in the work folder is not made again."""
    checkpoint = best_valid(asked.model)
    if checkpoint is None:
        raise BadInput(f"{asked.model} has no checkpoint; train a model there first")
    weights = sha256_of_file(checkpoint.path / "weights.safetensors")
    folder = asked.work / sha256_of_json([sha256_of_footage(plate), weights, asked.replace, asked.with_])[:12]
    swap = folder / "swap" / "swap.mp4"
    if not (folder / "report" / "manifest.json").is_file():
        swap = _ready(plate, folder, asked, report).composite(swap.parent, report)
    found: Mapping[str, Any] = understudy.evaluate(
        swap, plate=plate, truth=asked.truth, out=folder / "report", report=report
    ).figures
    others = {DISTANCE: found["floors"]["plate"].get("identity_distance")}
    figures = {name: others.get(name, found.get(name)) for name in COLUMNS}
    return {name: np.nan if value is None else float(value) for name, value in figures.items()}


def _ready(plate: Path, folder: Path, asked: argparse.Namespace, report: Reporter) -> Ready:
    """The plan of a plate's swap, in which everybody seen is taken for `--replace`; consent is checked as for any swap.

    That is right for rendered plates alone, which show nobody who could be asked: there the true landmarks are known.
    """
    if open_clip(plate).true_points is None:
        raise BadInput(
            f"{plate} has no true landmarks beside it; give morphs by benchmarks.graded.render, or other rendered clips"
        )
    model, info = load_swapper(asked.model), probe(plate)
    roles = replacements_of(asked.replace, asked.with_, model.performers)
    known = {name: model.galleries[name] for name in (asked.replace, asked.with_)}
    may_convert_model(known, asked.work / "consent", footage_behind(asked.model))
    survey = survey_plate(info, folder, report)
    seen = np.array([face.embedding for face in survey.faces if np.isfinite(face.embedding).all()]).reshape(-1, 128)
    if not len(seen):
        raise BadInput(f"{plate}: no face was found in it")
    recipe = convert_recipe("truth-benchmark", {"passes": "none"})
    plan = make_plan(info, survey, StandIn(model, {asked.replace: seen}), roles, recipe)
    inputs = {"plate": sha256_of_footage(plate)}
    return Ready(info, survey, plan, Lineage(inputs, (), sha256_of_json(asdict(recipe)), 0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graded", description="Leak and likeness by identity distance.")
    parser.add_argument("model", type=Path, help="the folder of a trained model")
    parser.add_argument("truth", type=Path, help="the performer's test clip, with landmarks and masks beside it")
    parser.add_argument("plates", type=Path, nargs="+", help="rendered clips of the same performance")
    parser.add_argument("--replace", required=True, metavar="NAME", help="the performer that the model takes the plates' for")
    parser.add_argument("--with", required=True, dest="with_", metavar="NAME", help="the performer who is put in")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/runs/graded"), help="where swaps and reports are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
