"""Replaces one performer's face by another's in a clip: survey, colour samples, then frame by frame, with a ledger."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from understudy.media.footage import FootageInfo, probe
from understudy.media.reader import read_frames
from understudy.model.swapper import load_swapper
from understudy.perception.survey import jitter_px, read_ahead, select_performer, track_embeddings
from understudy.perception.weights import WEIGHTS
from understudy.stages._marked_output import MarkedOutput
from understudy.stages._plate_survey import PlateSurvey, survey_plate
from understudy.stages._swap_report import Keepsakes, write_swap_report
from understudy.stages._swapping import Plan, SwappedFrame, Swapper, plan_faces, sample_looks, swapped_frames, track_ends
from understudy.store.atomic import atomic_write_text
from understudy.store.checkpoints import STATE_FILE
from understudy.store.events import combine, event_log
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import json_text
from understudy.store.manifest import describe_input
from understudy.store.runs import open_run
from understudy.trust import gate
from understudy.trust.consent import ConsentReference, consent_folder
from understudy.trust.credentials import Lineage
from understudy.trust.lineage import lineage_of
from understudy.trust.permission import check_plate_faces, footage_behind, may_convert_model
from understudy.types import BadInput, ConvertRecipe, Event, Face, Json, Reporter, StageResult, UnfinishedFrames, silent

STAGE = "convert"
LEDGER_FILE, REPORT_FILE, ALIGNMENT_FILE = "ledger.jsonl", "report.html", "passes/alignment.jsonl"
_SECONDS_BETWEEN_EVENTS = 0.5


def convert(
    footage: Path,
    model: Path,
    replace: str,
    with_: str,
    out: Path,
    *,
    recipe: ConvertRecipe = ConvertRecipe(),  # noqa: B008 (frozen)
    is_strict: bool = False,
    consent: Path | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Put the performer `with_` in the place of `replace` in `footage`, by the trained `model`; writes the folder `out`.

    Frames, times and sound are the plate's. Every frame is in ledger.jsonl; one without a swap shows the plate (or what
    `recipe.on_missing` says). The same call again goes on after a kill, or returns the finished result.
    Every output is labelled, watermarked and signed. consent: the folder of the performers' consent records.
    Raises Refused without consent of both performers or where the content gate says so, BadInput for unusable footage, model or
    names, UnfinishedFrames (after finishing) if `is_strict` and any frame is not swapped.
    """
    info = probe(footage)
    swapper = load_swapper(model, weights=recipe.weights)
    _check_performers(swapper, replace, with_)
    inputs = {"plate": describe_input(footage), "model": describe_input(swapper.checkpoint / STATE_FILE)}
    with open_run(out, STAGE, {**asdict(recipe), "replace": replace, "with": with_}, inputs) as run:
        if run.state != "finished":
            report = combine(report, event_log(out))
            report(Event(STAGE, "started", total=info.num_frames_estimate, unit="frames"))
            started = time.monotonic()
            folder = consent_folder(consent)
            references = _permission(model, swapper, replace, with_, folder)
            survey = survey_plate(info, out, report)
            check_plate_faces(replace, performers_faces(survey, swapper, replace, recipe), folder)
            plan = make_plan(info, survey, swapper, replace, with_, recipe)
            lineage = lineage_of(inputs, references, sha256_of_json(run.recipe), swapper.recipe.seed)
            figures, outputs = swap_footage(info, survey, plan, out, lineage, report)
            figures["frames_per_second"] = round(int(str(figures["num_frames"])) / (time.monotonic() - started), 2)
            run.finish(
                figures,
                outputs,
                licences={**{weight.name: weight.licence for weight in WEIGHTS}, "content_gate": gate.LICENCE},
                consent={each.performer: each.record_sha256 for each in references},
            )
            report(Event(STAGE, "finished", message=f"{figures['num_swapped']} of {figures['num_frames']} frames are swapped"))
        result = run.result()
    if is_strict:
        _check_all_swapped(result.figures, out)
    return result


def swap_footage(
    info: FootageInfo, survey: PlateSurvey, plan: Plan, out: Path, lineage: Lineage, report: Reporter = silent
) -> tuple[dict[str, object], dict[str, Path]]:
    """Composite the whole clip into `out`, once its faces are known; returns the figures and the paths of the outputs."""
    if not plan.faces:
        report(Event(STAGE, "warning", message=f"{info.path}: no face in it is {plan.replace}; the clip is passed through"))
    losses: set[str] = set()
    keepsakes = Keepsakes.of(sorted(plan.faces or survey.shot))
    ledger: list[Json] = []
    swapped: list[Face] = []
    alignments: list[Json] = []
    with MarkedOutput(out, info, plan.recipe, lineage, on_loss=losses.add) as output:
        progress = _Progress(info.num_frames_estimate, report)
        for finished in swapped_frames(read_ahead(read_frames(info.path, on_loss=losses.add)), plan):
            output.write(finished, survey.shot.get(finished.record.index, 0))
            ledger.append(ledger_line(finished))
            alignments.append(_alignment_line(finished))
            swapped += finished.faces if finished.status == "swapped" else ()
            keepsakes.offer(finished)
            progress.tell(len(ledger))
    for loss in sorted(losses):
        report(Event(STAGE, "warning", message=loss))
    atomic_write_text(out / LEDGER_FILE, _json_lines(ledger))
    (out / ALIGNMENT_FILE).parent.mkdir(exist_ok=True)
    atomic_write_text(out / ALIGNMENT_FILE, _json_lines(alignments))
    figures = {**counts_of(ledger), **_track_figures(plan, survey, swapped), **output.figures}
    write_swap_report(out / REPORT_FILE, plan, info, figures, ledger, keepsakes, sorted(losses))
    return figures, {
        "swap": output.path,
        "ledger": out / LEDGER_FILE,
        "alignment": out / ALIGNMENT_FILE,
        "report": out / REPORT_FILE,
    }


def _permission(model: Path, swapper: Swapper, replace: str, with_: str, folder: Path) -> tuple[ConsentReference, ...]:
    """Consent of both performers for what this model does with their faces. Raises Refused."""
    galleries = {name: swapper.galleries[name] for name in (replace, with_)}
    known = {name: footage for name, footage in footage_behind(model).items() if name in galleries}
    return may_convert_model(galleries, folder, known)


def performers_faces(survey: PlateSurvey, swapper: Swapper, replace: str, recipe: ConvertRecipe) -> list[Face]:
    """The faces of the plate that are taken for the performer's."""
    tracks = select_performer(survey.faces, swapper.galleries[replace], recipe.identity_distance)
    return [face for face in survey.faces if face.track in tracks]


def make_plan(
    info: FootageInfo, survey: PlateSurvey, swapper: Swapper, replace: str, with_: str, recipe: ConvertRecipe
) -> Plan:
    """Who is swapped where, and in which colours: all that is decided before the first frame is composited."""
    _check_performers(swapper, replace, with_)
    tracks = select_performer(survey.faces, swapper.galleries[replace], recipe.identity_distance)
    faces, strangers = plan_faces(survey.faces, tracks)
    plan = Plan(swapper, replace, with_, recipe, faces, strangers, track_ends(faces, survey.shot), {}, float(info.frame_rate))
    if recipe.colour == "none" or not faces:
        return plan
    return dataclasses.replace(plan, looks=sample_looks(read_ahead(read_frames(info.path)), plan))


def preview(info: FootageInfo, plan: Plan, frames: range) -> Iterator[SwappedFrame]:
    """The finished frames of a range (step 1) without rendering the rest: what the film will show, for tuning."""
    return swapped_frames(read_frames(info.path, frames.start, frames.stop), plan)


# ---- helpers --------------------------------------------------------------------------------------------------------------


class _Progress:
    """Reports every half second, so that a fast clip does not write an event a frame."""

    def __init__(self, total: int, report: Reporter) -> None:
        self._total = total
        self._report = report
        self._told = 0.0

    def tell(self, done: int) -> None:
        if done == self._total or time.monotonic() - self._told > _SECONDS_BETWEEN_EVENTS:
            self._told = time.monotonic()
            self._report(Event(STAGE, "progress", done, self._total, "swapped frames", "swapping"))


def _check_performers(swapper: Swapper, replace: str, with_: str) -> None:
    for option, name in (("--replace", replace), ("--with", with_)):
        if name not in swapper.performers:
            raise BadInput(f"{option} {name}: expected a performer whom the model knows: {', '.join(swapper.performers)}")
    if replace == with_:
        raise BadInput(f"--replace and --with are both {replace}; name two performers")


def ledger_line(finished: SwappedFrame) -> Json:
    """What the ledger says of a frame."""
    return {
        "frame": finished.record.index,
        "time_seconds": finished.record.time_seconds,
        "status": finished.status,
        "reason": finished.reason,
        "track": finished.faces[0].track if finished.faces else None,
    }


def _alignment_line(finished: SwappedFrame) -> Json:
    """Every frame has its line, those without a face too."""
    faces = [{"track": face.track, "face_from_frame": np.asarray(face.face_from_frame).tolist()} for face in finished.faces]
    return {"frame": finished.record.index, "time_seconds": finished.record.time_seconds, "faces": faces}


def _json_lines(lines: Sequence[Json]) -> str:
    return "".join(json_text(line, is_compact=True) + "\n" for line in lines)


def counts_of(ledger: Sequence[Json]) -> dict[str, object]:
    """The figures that account for every frame."""
    by_status = Counter(line["status"] for line in ledger)
    return {
        "num_frames": len(ledger),
        "num_swapped": by_status["swapped"],
        "num_without_face": by_status["no_face"],
        "num_other_person": by_status["other_person"],
        "num_failed": by_status["failed"],
    }


def _track_figures(plan: Plan, survey: PlateSurvey, swapped: Sequence[Face]) -> dict[str, object]:
    """How sure the choice of the performer is: the farthest track taken, and the nearest face that was left alone."""
    person = np.nanmean(np.asarray(plan.swapper.galleries[plan.replace], np.float64), axis=0)
    distance = {track: float(np.linalg.norm(mean - person)) for track, mean in track_embeddings(survey.faces).items()}
    taken, left = [d for t, d in distance.items() if t in plan.ends], [d for t, d in distance.items() if t not in plan.ends]
    before_px, after_px = jitter_px(swapped)
    return {
        "num_tracks": len(plan.ends),
        "identity_distance": round(max(taken), 4) if taken else None,
        "nearest_other_distance": round(min(left), 4) if left else None,
        "jitter_before_px": round(before_px, 4),
        "jitter_after_px": round(after_px, 4),
    }


def _check_all_swapped(figures: Mapping[str, object], out: Path) -> None:
    num_missing = int(str(figures["num_frames"])) - int(str(figures["num_swapped"]))
    if num_missing:
        raise UnfinishedFrames(
            f"{num_missing} of {figures['num_frames']} frames are not swapped; {out / LEDGER_FILE} says which and why"
        )
