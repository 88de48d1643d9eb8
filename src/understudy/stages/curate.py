"""Curates a face set: leaves out what would teach a decoder nothing or the wrong thing, and says what is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from understudy.settings import CurateRecipe
from understudy.stages._curation_coverage import Showing, find_gaps, trait_counts
from understudy.stages._curation_faults import KINDS, Fault, find_faults, own_embeddings
from understudy.stages._curation_measure import Measures, measure
from understudy.stages._curation_report import (
    Curation,
    missing_in_words,
    verdict,
    write_contact_sheet,
    write_curation_report,
)
from understudy.store.events import combine, event_log
from understudy.store.faceset import FaceSet
from understudy.store.manifest import MANIFEST_FILE, InputFile
from understudy.store.runs import Run, check_extracted, locked, open_run
from understudy.store.selection import (
    CURATION_FOLDER,
    clear_selection,
    decided_by,
    may_be_curated,
    note_hands,
    set_by_hand,
    sha256_before_curation,
    write_selection,
)
from understudy.types import BadInput, Event, Face, Json, Reporter, StageResult, silent

STAGE = "curate"
SECONDS_BETWEEN_EVENTS = 0.5

FEW_FACES = 24
"""Training refuses fewer."""

SAME_PERSON = 0.4
"""Two sets whose people are so near (see `own_embeddings`) show one person: different ones are 0.55 apart and more."""


def curate(
    faces: Path,
    *,
    against: Path | None = None,
    recipe: CurateRecipe,
    keep: Sequence[int] = (),
    leave_out: Sequence[int] = (),
    is_undo: bool = False,
    report: Reporter = silent,
) -> StageResult:
    """Choose which of the face set's faces training sees, by setting their `kept` and `reason`; deletes nothing.

    What the extraction left out and what a person decided stays. The report, the contact sheet and the manifest are in
    `curation/` inside the face set. The same call again has nothing to do; one with another recipe, after another extraction or
    after a change by hand takes its place. against: the face set of the other performer, which is only read: faces that look
    more like them are left out, and what either shows and the other lacks is listed. keep, leave_out: numbers of faces to set
    by hand, for good. is_undo: keep again all that was left out here. Raises BadInput for unfinished face sets.
    """
    folder = faces / CURATION_FOLDER
    if is_undo:
        return _undo(faces, folder)
    with FaceSet.open(faces) as face_set:
        check_extracted(faces, before="curate")
        _check_against(face_set, against)
        _set_by_hand(face_set, keep, leave_out)
        inputs = {"faces": InputFile(faces.as_posix(), sha256_before_curation(face_set))}
        if against is not None:
            inputs["against"] = _describe_other(against)
        with open_run(folder, STAGE, asdict(recipe), inputs, may_replace=True) as run:
            if run.state == "finished":
                return run.result()
            report = combine(event_log(folder), report)
            report(Event(STAGE, "started", message=f"curating the faces of {face_set.performer}"))
            curation = _find(face_set, against, recipe, report)
            _select(face_set, curation)
            return _finish(run, face_set, curation, report)


# ---- what may be curated --------------------------------------------------------------------------------------------------


def _check_against(face_set: FaceSet, against: Path | None) -> None:
    if against is None:
        return
    check_extracted(against, before="curate")
    with FaceSet.open(against) as other:
        if other.performer == face_set.performer:
            raise BadInput(f"--against {against}: it holds faces of {other.performer} too; name the other performer's face set")


def _describe_other(against: Path) -> InputFile:
    with FaceSet.open(against) as other:
        return InputFile(against.as_posix(), sha256_before_curation(other))


def _set_by_hand(face_set: FaceSet, keep: Sequence[int], leave_out: Sequence[int]) -> None:
    if both := sorted(set(keep) & set(leave_out)):
        raise BadInput(f"face {both[0]} is to be kept and to be left out; name it once")
    with face_set.transaction():
        note_hands(face_set)
        if keep:
            set_by_hand(face_set, keep, True)
        if leave_out:
            set_by_hand(face_set, leave_out, False)


def _undo(faces: Path, folder: Path) -> StageResult:
    with FaceSet.open(faces) as face_set, locked(folder):
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        num_before = len(face_set.faces())
        clear_selection(face_set)
        num_kept = len(face_set.faces())
        shutil.rmtree(folder, ignore_errors=True)
    return StageResult(STAGE, {"num_kept": num_kept, "num_restored": num_kept - num_before}, {"faces": faces})


# ---- the work -------------------------------------------------------------------------------------------------------------


def _find(face_set: FaceSet, against: Path | None, recipe: CurateRecipe, report: Reporter) -> Curation:
    """Measure both sets and judge them by the same rules; nothing is written."""
    own = _measured(face_set, report)
    theirs, their_hands = None, {}
    if against is not None:
        with FaceSet.open(against) as other:
            theirs, their_hands = _measured(other, report), _by_hand(other)
    by_hand = _by_hand(face_set)
    one = _judged(own, recipe, theirs, by_hand)
    other_showing = _judged(theirs, recipe, own, their_hands) if theirs is not None else None
    return Curation(
        one,
        other_showing,
        find_gaps(one, other_showing) if other_showing else [],
        by_hand,
        _missing(face_set),
        _warnings(one, other_showing, recipe),
        recipe,
    )


def _measured(face_set: FaceSet, report: Reporter) -> Measures:
    """The figures of all faces with pictures in which curation or a person has a say."""
    faces = [face for face in face_set.faces(kept_only=False) if face.crop and (may_be_curated(face) or _is_by_hand(face))]
    paths = [face_set.crop_path(face) for face in faces]
    _check_there(face_set.folder, paths)
    done, told = 0, time.monotonic()

    def tick() -> None:
        nonlocal done, told
        done += 1
        if done == len(faces) or time.monotonic() - told >= SECONDS_BETWEEN_EVENTS:
            told = time.monotonic()
            report(Event(STAGE, "progress", done, len(faces), "faces", f"looking at {face_set.performer}"))

    return measure(face_set.performer, faces, paths, tick)


def _check_there(folder: Path, pictures: Sequence[Path]) -> None:
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        raise BadInput(
            f"{folder}: {len(missing)} of its {len(pictures)} pictures of faces are missing, {missing[0].relative_to(folder)} "
            "for one; copy the face set again, or extract it into a new folder"
        )


def _is_by_hand(face: Face) -> bool:
    return decided_by(face) == "hand"


def _by_hand(face_set: FaceSet) -> dict[int, bool]:
    """Which faces a person set, by id, and whether to be kept."""
    return {face.id: face.kept for face in face_set.faces(kept_only=False) if face.crop and _is_by_hand(face)}


def _judged(measures: Measures, recipe: CurateRecipe, other: Measures | None, by_hand: dict[int, bool]) -> Showing:
    pinned = frozenset(row for row, face in enumerate(measures.faces) if by_hand.get(face.id))
    excluded = frozenset(row for row, face in enumerate(measures.faces) if by_hand.get(face.id) is False)
    faults = find_faults(measures, recipe, other, pinned, excluded)
    is_kept = np.array([row not in faults and row not in excluded for row in range(len(measures))], bool)
    return Showing(measures, faults, is_kept)


def _missing(face_set: FaceSet) -> dict[str, tuple[int, list[int]]]:
    """For each clip the number of frames looked through, and those in which the performer's face was not seen."""
    seen: dict[str, set[int]] = {}
    for face in face_set.faces(kept_only=False):
        if face.crop and not face.is_bridged:
            seen.setdefault(face.source, set()).add(face.frame)
    missing = {}
    for source in face_set.sources():
        frames = [frame.frame for frame in face_set.frames(source)]
        found = seen.get(source, set())
        missing[source] = (max(len(frames), len(found)), [frame for frame in frames if frame not in found])
    return missing


def _warnings(one: Showing, other: Showing | None, recipe: CurateRecipe) -> list[str]:
    """What makes the whole set doubtful."""
    found = []
    num_kept = int(one.is_kept.sum())
    if num_kept < FEW_FACES:
        found.append(
            f"only {_faces_are(num_kept)} kept of {one.performer}; training needs {FEW_FACES} and is good from some hundreds on"
        )
    if other is None:
        return found
    num_foreign = sum(fault.is_other_performer for fault in one.faults.values())
    if num_foreign:
        found.append(f"{_faces_are(num_foreign)} of {other.performer} in the set of {one.performer}; left out")
    num_theirs = sum(fault.is_other_performer for fault in other.faults.values())
    if num_theirs:
        found.append(
            f"{_faces_are(num_theirs)} of {one.performer} in the set of {other.performer}; curate that one against this too"
        )
    galleries = [own_embeddings(showing.measures, recipe.identity_distance) for showing in (one, other)]
    if all(map(len, galleries)) and np.linalg.norm(galleries[0].mean(axis=0) - galleries[1].mean(axis=0)) < SAME_PERSON:
        found.append(
            f"the faces of {one.performer} and {other.performer} look like one person's; is one set of the wrong footage?"
        )
    return found


def _faces_are(num: int) -> str:
    return "1 face is" if num == 1 else f"{num} faces are"


def _select(face_set: FaceSet, curation: Curation) -> None:
    faces = curation.one.measures.faces
    write_selection(face_set, {faces[row].id: str(fault) for row, fault in curation.one.faults.items()})


# ---- what came of it ------------------------------------------------------------------------------------------------------


def _finish(run: Run, face_set: FaceSet, curation: Curation, report: Reporter) -> StageResult:
    outputs = {"contact_sheet": run.folder / "contact_sheet.jpg", "report": run.folder / "report.html"}
    write_contact_sheet(curation, face_set, outputs["contact_sheet"])
    write_curation_report(outputs["report"], curation, face_set)
    result = run.finish(_figures(curation), outputs)
    for warning in curation.warnings:
        report(Event(STAGE, "warning", message=warning))
    report(Event(STAGE, "finished", message=verdict(curation)))
    return result


def _figures(curation: Curation) -> Json:
    """Counts of faces kept and left out, in all and by kind, what is missing, coverage and gaps, and all of it in words."""
    one, other = curation.one, curation.other
    figures: Json = {
        "performer": one.performer,
        "verdict": verdict(curation),
        "num_faces": len(one.measures),
        "num_kept": curation.num_kept,
        "num_left_out": len(one.faults),
        "num_by_hand": len(curation.by_hand),
        **{f"num_{kind.replace(' ', '_').replace('-', '_')}": _num_of_kind(one.faults.values(), kind) for kind in KINDS},
        "num_of_other_performer": sum(fault.is_other_performer for fault in one.faults.values()),
        "num_frames_without_face": sum(len(frames) for _, frames in curation.missing.values()),
        "num_gaps": len(curation.gaps),
        "left_out": {str(one.measures.faces[row].id): str(fault) for row, fault in sorted(one.faults.items())},
        "missing": missing_in_words(curation),
        "warnings": list(curation.warnings),
        "coverage": {showing.performer: trait_counts(showing) for showing in (one, other) if showing},
        "gaps": [
            {
                "lacking": gap.lacking,
                "having": gap.having,
                "group": gap.trait.group,
                "trait": gap.trait.name,
                "num": gap.num,
                "num_having": gap.num_having,
                "num_wanted": gap.num_wanted,
                "nearest": [{"source": face.source, "frame": face.frame, "id": face.id} for face in gap.nearest],
                "words": gap.words(),
            }
            for gap in curation.gaps
        ],
    }
    return figures


def _num_of_kind(faults: Iterable[Fault], kind: str) -> int:
    return sum(fault.kind == kind for fault in faults)
