"""Replaces one performer's face by another's in a clip: survey, colour samples, then frame by frame, with a ledger."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import cast

from understudy.media.footage import FootageInfo, ignore_losses
from understudy.media.reader import read_frames
from understudy.media.segments import FRAMES_PER_SEGMENT, PLAN_FILE
from understudy.model.folder import people_in
from understudy.perception.survey import read_ahead
from understudy.perception.weights import licences
from understudy.settings import ConvertRecipe, RangeSettings
from understudy.stages._blend_figures import BlendMeter, frames_to_measure, pooled
from understudy.stages._drawing import frames_to_read
from understudy.stages._marked_output import SEGMENTS_FOLDER, UNSIGNED_FOLDER, MarkedOutput
from understudy.stages._passes import nuke_script
from understudy.stages._plate_looks import LOOKS_FILE, USUAL_FOLDER, measured, rawness_warnings
from understudy.stages._plate_survey import (
    PLATE_FOLDER,
    WHOLE,
    PlateSurvey,
    reuse_survey,
    survey_file,
    survey_plate,
)
from understudy.stages._segment_keys import segment_keys
from understudy.stages._swap_asked import as_json, model_asked, plate_asked
from understudy.stages._swap_ledger import (
    alignment_line,
    counts_of,
    faults_in,
    json_lines,
    ledger_line,
    track_figures,
    without_a_swap,
)
from understudy.stages._swap_plan import (
    Plan,
    Replacement,
    Swapper,
    check_ranges,
    check_somebody_is_replaced,
    parts_of,
    plan_faces,
    roles_of,
    track_ends,
)
from understudy.stages._swap_report import keepsake, keepsake_frames, keepsake_picture, write_swap_report
from understudy.stages._swapping import SwappedFrame, swapped_frames
from understudy.store.atomic import atomic_write_text
from understudy.store.checkpoints import STATE_FILE
from understudy.store.events import combine, event_log
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import read_json
from understudy.store.manifest import describe_input
from understudy.store.runs import open_run
from understudy.trust import gate
from understudy.trust.consent import ConsentReference, consent_folder
from understudy.trust.credentials import Lineage
from understudy.trust.lineage import lineage_of
from understudy.trust.permission import (
    check_plate_faces,
    check_plate_footage,
    footage_behind,
    may_convert_model,
    still_permitted,
)
from understudy.trust.standing import Standing
from understudy.types import BadInput, Event, Face, Json, Reporter, StageResult, UnfinishedFrames, silent

STAGE = "convert"
LEDGER_FILE, REPORT_FILE, ALIGNMENT_FILE = "ledger.jsonl", "report.html", "passes/alignment.jsonl"
NUKE_FILE = "passes/alignment.nk"
NOT_YET_RENDERED = (
    *(PLATE_FOLDER, f"{PLATE_FOLDER}/.*", f"{PLATE_FOLDER}/{LOOKS_FILE}", f"{PLATE_FOLDER}/{USUAL_FOLDER}*"),
    *(SEGMENTS_FOLDER, f"{SEGMENTS_FOLDER}/.*", f"{SEGMENTS_FOLDER}/{PLAN_FILE}", f"{UNSIGNED_FOLDER}*", LEDGER_FILE),
)
"""What a conversion leaves in its folder before its first segment is whole, or where no frame got a new face."""
_SECONDS_BETWEEN_EVENTS = 0.5


def convert(
    footage: Path,
    model: Path,
    replace: str | Sequence[str],
    with_: str | Sequence[str],
    out: Path,
    *,
    recipe: ConvertRecipe = ConvertRecipe(),  # noqa: B008 (frozen)
    ranges: Sequence[RangeSettings] = (),
    frames: tuple[int, int] | None = None,
    is_strict: bool = False,
    consent: Path | None = None,
    earlier: Path | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Put the performer `with_` in the place of `replace` in `footage`, by the trained `model`; writes the folder `out`.

    Several performers are replaced in one pass where both are given as lists, pair by pair. ranges: parts of the plate with
    settings of their own, or that are left as they are; where they overlap, the last one counts. frames: (first, last) to show
    alone, as a clip without sound that starts at time 0, for tuning; only what is around them is looked at.
    Frames, times and sound are the plate's. Every frame is in ledger.jsonl; one without a swap shows the plate (or what
    `recipe.on_missing` says). The same call again goes on after a kill, or returns the finished result.
    Every output is labelled, watermarked and signed. consent: the folder of the performers' consent records. earlier: that
    of an earlier conversion of this plate, there or not: what would come out the same is taken from it instead of being
    rendered anew, and `out` keeps its segments for the next time. Only what is set for ranges may differ there; else
    nothing is taken.
    Raises Refused without consent of both performers, also where it ends meanwhile (then nothing that was rendered is kept), or
    where the content gate says so, BadInput for unusable footage, model or names and where nobody who is to be replaced is in
    the plate, UnfinishedFrames (after finishing) if `is_strict` and any frame is not swapped, FaultInFrames (after writing what
    could be made, without finishing) if a fault of ours spoiled frames; the same call makes their segments again.
    """
    plate = plate_asked(footage, recipe, ranges, frames)
    info, shown, around, footage = plate.info, plate.shown, plate.around, plate.info.path
    by = model_asked(model, replace, with_, recipe, ranges)
    swapper, roles = by.swapper, by.roles
    inputs = {"plate": describe_input(footage), "model": describe_input(swapper.checkpoint / STATE_FILE)}
    asked = as_json(recipe, roles, ranges, frames)
    with open_run(out, STAGE, asked, inputs, serves_others=survey_file(out), preliminary=NOT_YET_RENDERED) as run:
        if run.state != "finished":
            report = combine(report, event_log(out))
            report(Event(STAGE, "started", total=info.num_frames_estimate, unit="frames"))
            started = time.monotonic()
            folder = consent_folder(consent)
            references, standing = _permission(model, swapper, roles, folder, read_json(swapper.checkpoint / STATE_FILE))
            report = combine(report, standing.listen)
            check_plate_footage([role.replace for role in roles], inputs["plate"].sha256, folder)
            if earlier is not None:
                reuse_survey(earlier, out, info, around, inputs["plate"].sha256)
            survey = survey_plate(info, out, report, around, inputs["plate"].sha256)
            if frames and shown.start not in survey.shot:
                raise BadInput(f"--frames {frames[0]}-{frames[1]}: {footage} has no frame {frames[0]} (they count from 0)")
            if not frames:  # which know only what is around them
                check_ranges(ranges, len(survey.shot))
            plan = make_plan(info, survey, swapper, roles, recipe, ranges)
            check_somebody_is_replaced(plan, survey.faces, footage, shown)
            for role in roles:
                check_plate_faces(role.replace, performers_faces(plan, role.replace), folder)
            plan = measure_looks(info, plan, out / PLATE_FOLDER, report, around)
            lineage = lineage_of(inputs, references, sha256_of_json(run.recipe), swapper.recipe.seed)
            if ranges:
                whole_file = {name: value for name, value in asked.items() if name != "ranges"}
                lineage = changed(lineage, marked_recipe_sha256=sha256_of_json(whole_file))
            figures, outputs = swap_footage(info, survey, plan, out, lineage, report, shown, earlier, standing)
            check_no_faults(figures, out)
            figures["frames_per_second"] = round(int(str(figures["num_frames"])) / (time.monotonic() - started), 2)
            run.finish(
                figures,
                outputs,
                licences={**licences(), "content_gate": gate.LICENCE},
                consent={each.performer: each.record_sha256 for each in references},
            )
            report(Event(STAGE, "finished", message=f"{figures['num_swapped']} of {figures['num_frames']} frames are swapped"))
        result = run.result()
    if is_strict:
        _check_all_swapped(result.figures, out)
    return result


def swap_footage(
    info: FootageInfo,
    survey: PlateSurvey,
    plan: Plan,
    out: Path,
    lineage: Lineage,
    report: Reporter = silent,
    shown: range = WHOLE,
    earlier: Path | None = None,
    standing: Standing | None = None,
) -> tuple[dict[str, object], dict[str, Path]]:
    """Composite the clip, or the frames `shown` alone, into `out`, once its faces are known; returns figures and outputs.

    earlier: see `convert`; standing: see `MarkedOutput`. Raises BadInput, or FaultInFrames where that is our fault, before
    anything is signed, where no frame has a new face: it would be the plate under a false label.
    """
    for role in plan.replacements:
        if role not in plan.roles.values():
            report(Event(STAGE, "warning", message=f"{info.path}: no face in it is {role.replace}; nobody is replaced there"))
    losses: set[str] = set()
    is_excerpt = shown != WHOLE
    note_of = _Notes(plan, [frame for frame in sorted(plan.faces or survey.shot) if frame in shown])
    with MarkedOutput(
        out,
        info,
        plan.recipe,
        lineage,
        losses.add,
        is_resumed=True,
        excerpt=shown if is_excerpt else None,
        keys=_keys(plan, survey, info, lineage, shown),
        earlier=earlier,
        standing=standing,
    ) as output:
        progress = _Progress(min(info.num_frames_estimate, shown.stop), report)
        for part in output.missing:
            todo = _of_the_plate(part, survey, shown)
            read = frames_to_read(todo, plan, frame_bytes(info))
            is_last = part is output.missing[-1]  # reads to the end, and tells all that is lost on the way
            on_loss = losses.add if is_last else ignore_losses
            frames = read_frames(info.path, read.start, read.stop, is_sought=is_excerpt, on_loss=on_loss)
            with closing(cast(Generator[SwappedFrame], read_ahead(swapped_frames(frames, plan, todo), num_frames=2))) as stream:
                for finished in stream:
                    shot = survey.shot.get(finished.record.index, 0)
                    output.write(finished, shot, note_of(finished, shot))
                    progress.tell(finished.record.index + 1)
        notes = list(output.notes())
        ledger = [cast(Json, note["ledger"]) for note in notes]
        if not counts_of(ledger)["num_swapped"]:
            atomic_write_text(out / LEDGER_FILE, json_lines(ledger))
            output.discard_unless_spoiled()
            raise without_a_swap(ledger, plan, info.path, out / LEDGER_FILE)
    for loss in sorted(losses):
        report(Event(STAGE, "warning", message=loss))
    atomic_write_text(out / LEDGER_FILE, json_lines(ledger))
    (out / ALIGNMENT_FILE).parent.mkdir(exist_ok=True)
    alignments = [cast(Json, note["alignment"]) for note in notes]
    atomic_write_text(out / ALIGNMENT_FILE, json_lines(alignments))
    atomic_write_text(out / NUKE_FILE, nuke_script(alignments, info))
    blending = pooled(each for note in notes for each in cast(list[Json], note.get("blending", [])))
    figures = {**counts_of(ledger), **track_figures(plan, survey, ledger), **blending, **output.figures}
    keepsakes = [keepsake_picture(str(note["keepsake"]), cast(Json, note["ledger"])) for note in notes if "keepsake" in note]
    write_swap_report(out / REPORT_FILE, plan, info, figures, ledger, keepsakes, sorted(losses))
    return figures, {
        "swap": output.path,
        "ledger": out / LEDGER_FILE,
        "alignment": out / ALIGNMENT_FILE,
        "report": out / REPORT_FILE,
    }


def _of_the_plate(part: range, survey: PlateSurvey, shown: range) -> range:
    """The plate's frames of a part of what is shown; those of an excerpt that do not decode are left out and not counted."""
    if shown == WHOLE:
        return part
    there = [frame for frame in sorted(survey.shot) if frame in shown]
    return range(*(there[number] if number < len(there) else shown.stop for number in (part.start, part.stop)))


def _keys(plan: Plan, survey: PlateSurvey, info: FootageInfo, lineage: Lineage, shown: range) -> list[str]:
    num_frames = max(survey.shot, default=-1) + 1
    return segment_keys(plan, num_frames, FRAMES_PER_SEGMENT, frame_bytes(info), lineage.watermark_id, shown)


def _permission(
    model: Path, swapper: Swapper, roles: Sequence[Replacement], folder: Path, state: Json
) -> tuple[tuple[ConsentReference, ...], Standing]:
    """Consent of everybody concerned for what this model does with their faces, and how long it holds. Raises Refused."""
    names = dict.fromkeys(name for role in roles for name in (role.replace, role.with_))
    behind = footage_behind(model)
    known = {name: footage for name, footage in behind.items() if name in names}
    people = people_in(model, state)
    others = still_permitted({name: faces for name, faces in people.items() if name not in names}, folder, behind)
    references = may_convert_model({name: swapper.galleries[name] for name in names}, folder, known)
    return references, Standing(folder, ("convert", references), ("train", others))


def performers_faces(plan: Plan, replace: str) -> list[Face]:
    """The faces of the plate that are taken for the performer's."""
    return [face for faces in plan.faces.values() for face in faces if plan.roles[face.track].replace == replace]


def make_plan(
    info: FootageInfo,
    survey: PlateSurvey,
    swapper: Swapper,
    roles: Sequence[Replacement],
    recipe: ConvertRecipe,
    ranges: Sequence[RangeSettings] = (),
) -> Plan:
    """Who is swapped where: all that is decided before the first frame is composited, but for the colours to match."""
    roles_by_track = roles_of(survey.faces, swapper.galleries, roles, recipe.identity_distance)
    faces, strangers = plan_faces(survey.faces, roles_by_track)
    return Plan(
        swapper,
        tuple(roles),
        recipe,
        faces,
        roles_by_track,
        strangers,
        track_ends(faces, survey.shot, roles_by_track),
        float(info.frame_rate),
        survey.shot,
        parts_of(ranges, recipe, survey.shot),
        transfer=info.colour.transfer,
    )


def measure_looks(info: FootageInfo, plan: Plan, folder: Path, report: Reporter = silent, frames: range = WHOLE) -> Plan:
    """The plan with what the plate looks like and what the model makes of it, measured at samples over the whole clip.

    folder: where the answers are kept, the survey's; frames: those of the survey.
    """
    progress = _Progress(min(info.num_frames_estimate, frames.stop), report, "measuring colours")
    read = partial(read_frames, info.path, frames.start, frames.stop, is_sought=frames != WHOLE)
    plan = measured(plan, lambda: read_ahead(read()), folder, progress.tell)
    for words in rawness_warnings(plan):
        report(Event(STAGE, "warning", message=words))
    return plan


def frame_bytes(info: FootageInfo) -> int:
    """Bytes of a decoded frame."""
    return info.width * info.height * 3 * (2 if info.bits_per_channel > 8 else 1)


# ---- helpers --------------------------------------------------------------------------------------------------------------


class _Progress:
    """Reports every half second, so that a fast clip does not write an event a frame."""

    def __init__(self, total: int, report: Reporter, message: str = "swapping") -> None:
        self._total = total
        self._report = report
        self._message = message
        self._told = 0.0

    def tell(self, done: int) -> None:
        if done == self._total or time.monotonic() - self._told > _SECONDS_BETWEEN_EVENTS:
            self._told = time.monotonic()
            self._report(Event(STAGE, "progress", done, self._total, "frames", self._message))


class _Notes:
    """All that must be remembered of a frame when it is written."""

    def __init__(self, plan: Plan, frames: Sequence[int]) -> None:
        self._kept, self._measured, self._meter = keepsake_frames(frames), frames_to_measure(frames), BlendMeter(plan)

    def __call__(self, finished: SwappedFrame, shot: int) -> Json:
        note: Json = {"ledger": ledger_line(finished, shot), "alignment": alignment_line(finished)}
        if finished.record.index in self._kept:
            note["keepsake"] = keepsake(finished)
        if finished.record.index in self._measured:
            note["blending"] = [*self._meter.measure(finished)]
        return note


def _check_all_swapped(figures: Mapping[str, object], out: Path) -> None:
    num_whole = int(str(figures["num_swapped"])) - int(str(figures.get("num_partly_swapped", 0)))  # older folders do not count
    if num_missing := int(str(figures["num_frames"])) - num_whole - int(str(figures["num_left_out"])):
        raise UnfinishedFrames(
            f"{num_missing} of {figures['num_frames']} frames are not swapped; {out / LEDGER_FILE} says which and why"
        )


def check_no_faults(figures: Mapping[str, object], out: Path) -> None:
    """Raises FaultInFrames where a fault of ours spoiled frames."""
    if figures["num_faults"]:
        raise faults_in(figures, out / LEDGER_FILE, "The rest is written")
