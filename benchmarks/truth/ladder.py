"""The oracle ladder: one stage at a time is replaced by the truth, so that each stage's bill can be read off.

| rung | face | place | matte |
|---|---|---|---|
| ceiling | true | true | true |
| our matte | true | true | ours |
| our place | true | ours | ours |
| our face | ours | true | true |
| whole | ours | ours | ours |

The ceiling's distance from the truth is what blending, marking and coding cost; from there down, the matte, the alignment and,
on a branch of its own, the network. Every rung is composited and evaluated as a swap is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import understudy
from benchmarks.truth.network import Drawn, crop_of, true_frames
from benchmarks.truth.run import Question, answer, make_ready, model_folder, result_name
from understudy.imaging.exemplars import Exemplars
from understudy.imaging.expression import Drive, read_expressions
from understudy.imaging.framing import crop_from_face
from understudy.imaging.masks import Mask
from understudy.imaging.matte import enlarge
from understudy.imaging.similarity import Matrix, compose
from understudy.imaging.warp import warp_image
from understudy.media import read_frames
from understudy.stages._swap_plan import Codes, Crops, Masks, Plan, RgbaCrops, Swapper, face_in_crop
from understudy.store.json_files import write_json
from understudy.store.report import Section, Table, render_report
from understudy.types import Face, FloatArray, Framing, Json, Reporter

ORACLE_PX = 256
"""What the oracle draws at: as fine as mattes are worked out."""

FIGURES: Mapping[str, tuple[str, int]] = {
    "psnr_db": ("PSNR, dB", 1), "leak": ("leak", 3), "detail": ("detail", 3), "contrast": ("contrast", 2),
    "landmark_error_percent": ("landmarks, %", 2), "jitter_ratio": ("jitter", 2), "flicker": ("flicker", 2),
    "seam_step": ("seam, ΔE", 2), "occluder_error": ("occluder", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """Which of the three things that make a swap are the truth's here."""

    name: str
    is_face_true: bool
    is_place_true: bool
    is_matte_true: bool


RUNGS = (
    Rung("ceiling", True, True, True),
    Rung("our matte", True, True, False),
    Rung("our place", True, False, False),
    Rung("our face", False, True, True),
)
WHOLE = "whole"


class Oracle:
    """A swapper that answers with what was prepared for exactly the crop it is shown."""

    def __init__(self, model: Swapper, answers: Mapping[bytes, NDArray[np.float32]]) -> None:
        self.performers, self.framing, self.galleries = model.performers, model.framing, model.galleries
        self.skins, self.reads_expressions = model.skins, True
        self.exemplars: Mapping[str, Exemplars] = {}
        self.resolution_px: int = ORACLE_PX
        self._answers = answers

    def read(self, crops: Crops, performer: str, faces: Masks | None = None) -> Codes:
        """Nothing is known of the crops but themselves."""
        return np.asarray(crops, np.float32)

    def swap(
        self,
        crops: Crops,
        from_performer: str,
        to_performer: str,
        drive: Drive | None = None,
        codes: Codes | None = None,
    ) -> RgbaCrops:
        """The answers to the crops (N, 256, 256, 3) in the model's framing: (N, 256, 256, 4) in 0..1."""
        return np.stack([self._answers[crop.tobytes()] for crop in crops])


def climb(question: Question, work: Path, report: Reporter) -> tuple[Json, Path]:
    """The figures of every rung and what they say in words, and the report's path; what was done before is found again."""
    answer(question, work, report)
    model, name = model_folder(question, work), result_name(question)
    ready = make_ready(question, model, work, report)
    footage = question.footage
    rungs: dict[str, Mapping[str, object]] = {}
    for rung in RUNGS:
        place = work / "ladders" / name / rung.name.replace(" ", "_")
        if not (place / "report" / "manifest.json").is_file():
            replace(ready, plan=_oracle_plan(ready.plan, question, rung)).composite(place / "swap", report)
        swap = place / "swap" / "swap.mp4"
        evaluated = understudy.evaluate(swap, plate=footage.plate, truth=footage.truth, out=place / "report", report=report)
        rungs[rung.name] = evaluated.figures
    whole = understudy.evaluate(
        work / "swaps" / name / "swap.mp4", plate=footage.plate, truth=footage.truth, out=work / "reports" / name, report=report
    )
    rungs[WHOLE] = whole.figures
    found: Json = {"rungs": {name: {key: each.get(key) for key in FIGURES} for name, each in rungs.items()}}
    found["words"] = words(found["rungs"])  # type: ignore[arg-type]
    folder = work / "ladders" / name
    write_json(folder / "ladder.json", found)
    _write_report(folder / "report.html", found)
    return found, folder / "report.html"


def words(rungs: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """What each stage costs, the dearest in decibels first, then what blending and coding leave at best."""
    bills = {
        "the network's face": ("ceiling", "our face"),
        "the matte": ("ceiling", "our matte"),
        "the alignment": ("our matte", "our place"),
    }
    said = [(_fall(rungs, *pair), _sentence(rungs, stage, *pair)) for stage, pair in bills.items()]
    ordered = [sentence for _, sentence in sorted(said, key=lambda each: -each[0])]
    best, whole = rungs["ceiling"]["psnr_db"], rungs[WHOLE]["psnr_db"]
    if best is None or whole is None:
        return ordered
    return [
        f"The whole swap is at {whole:.1f} dB; with the true face, place and matte it would be at {best:.1f} dB, "
        "the most that blending, marking and coding allow.",
        *ordered,
    ]


def _fall(rungs: Mapping[str, Mapping[str, float | None]], upper: str, lower: str) -> float:
    above, below = rungs[upper]["psnr_db"], rungs[lower]["psnr_db"]
    return float("-inf") if above is None or below is None else above - below


def _sentence(rungs: Mapping[str, Mapping[str, float | None]], stage: str, upper: str, lower: str) -> str:
    parts = []
    for figure, (label, digits) in FIGURES.items():
        before, after = rungs[upper].get(figure), rungs[lower].get(figure)
        if before is not None and after is not None:
            parts.append(f"{label} {before:.{digits}f} to {after:.{digits}f}")
    return f"{stage[0].upper()}{stage[1:]} costs {_fall(rungs, upper, lower):.1f} dB ({'; '.join(parts[1:])})."


# ---- oracles --------------------------------------------------------------------------------------------------------------


def _oracle_plan(plan: Plan, question: Question, rung: Rung) -> Plan:
    """The plan with the truth in the place of what the rung replaces."""
    recipe = replace(plan.recipe, num_crops=1)
    if rung.is_matte_true:
        recipe = replace(
            recipe, mask="learned", erode_fraction=0.0, feather_fraction=0.0, matte_seconds=0.0, is_occlusion_kept=False
        )
    model = plan.swapper
    answers: dict[bytes, NDArray[np.float32]] = {}
    faces: dict[int, list[Face]] = {}
    oracle = Oracle(model, answers)
    records = read_frames(question.footage.plate)
    for record, drawn in zip(records, true_frames(question.footage), strict=False):
        here = plan.faces.get(record.index)
        if drawn is None or not here:
            continue
        place = drawn.plate_from_frame if rung.is_place_true else np.asarray(here[0].face_from_frame, np.float64)
        crop = crop_of(record.eight_bit, place, oracle.framing, oracle.resolution_px)
        face = _true_face(drawn, model.framing) if rung.is_face_true else None
        drive = Drive(read_expressions(here[:1]), faces=face_in_crop(replace(here[0], face_from_frame=place), model)[None])
        small = crop_of(record.eight_bit, place, model.framing, model.resolution_px)
        answers[crop.tobytes()] = _answer(face, small, drive, drawn, rung, question, model)
        faces[record.index] = [replace(here[0], face_from_frame=place)]
    return replace(plan, swapper=oracle, recipe=recipe, faces=faces, parts=())


def _answer(
    face: FloatArray | None, small: Crops, drive: Drive, drawn: Drawn, rung: Rung, question: Question, model: Swapper
) -> NDArray[np.float32]:
    """(256, 256, 4): the face and its alpha for one crop; `small` and `drive` are what the model is shown and told."""
    ours = model.swap(small[None], question.footage.replace, question.footage.with_, drive)[0]
    ours = np.clip(enlarge(ours.astype(np.float32)), 0, 1)
    colours = face if face is not None else ours[..., :3]
    alpha = _true_matte(drawn, model.framing) if rung.is_matte_true else ours[..., 3]
    return np.concatenate([colours, alpha[..., None]], axis=2).astype(np.float32)


def _true_face(drawn: Drawn, framing: Framing) -> FloatArray:
    assert drawn.frames.truth is not None
    image = drawn.frames.truth.astype(np.float32) / np.float32(255)
    return np.clip(warp_image(image, _crop_from_frame(framing, drawn.truth_from_frame), (ORACLE_PX, ORACLE_PX)), 0, 1)


def _true_matte(drawn: Drawn, framing: Framing) -> Mask:
    """Where both actors' faces are visible, each in its own place."""
    mattes = [
        warp_image(mask, _crop_from_frame(framing, place), (ORACLE_PX, ORACLE_PX), border="black")
        for mask, place in (
            (drawn.frames.plate_mask, drawn.plate_from_frame),
            (drawn.frames.truth_mask, drawn.truth_from_frame),
        )
        if mask is not None
    ]
    whole = np.ones((ORACLE_PX, ORACLE_PX), np.float32)
    return np.clip(np.minimum.reduce([whole, *mattes]), 0, 1)


def _crop_from_frame(framing: Framing, face_from_frame: Matrix) -> Matrix:
    return compose(crop_from_face(framing, ORACLE_PX), face_from_frame)


def _write_report(path: Path, found: Json) -> None:
    rungs: Mapping[str, Mapping[str, float | None]] = found["rungs"]  # type: ignore[assignment]
    rows = []
    for name, figures in rungs.items():
        values = [(figures.get(figure), digits) for figure, (_, digits) in FIGURES.items()]
        rows.append([name, *("–" if value is None else f"{value:.{digits}f}" for value, digits in values)])
    said: list[str] = found["words"]  # type: ignore[assignment]
    render_report(
        path,
        "Which stage costs how much?",
        [
            Section("In words", items=said[1:]),
            Section("Every rung", table=Table(["rung", *(label for label, _ in FIGURES.values())], rows)),
            Section("What the rungs are", text=_LEGEND),
        ],
        verdict=said[0] if said else "",
        eyebrow="Oracle ladder",
    )


_LEGEND = """Ceiling: the true face, in its true place, through the true matte. Our matte: the same through the matte that the
converter makes. Our place: the same where the converter's own alignment puts it. Our face: the network's face in the true place
through the true matte. Whole: the swap as it is. The bills need not add up: a soft face hides a rough matte."""
