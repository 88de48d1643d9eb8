"""Who decided that a face is kept or left out: the extraction, `curate` or a person. Only `curate`'s word is ever taken back.

What is kept is the faces' `kept` and `reason`. A reason that begins with CURATED is `curate`'s, one that begins with BY_HAND a
person's. A face that was changed since `curate` last ran, by whatever means, was changed by a person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Literal

from understudy.store.faceset import FaceSet
from understudy.types import BadInput, Face

CURATION_FOLDER = "curation"
"""Inside the face set: the folder of the stage `curate`."""

CURATED = "curate: "
BY_HAND = "by hand"
LAST_SELECTION = "curated"
"""The note that holds the ids that the last curation left out, as a JSON list."""

DecidedBy = Literal["extraction", "curate", "hand"]


def decided_by(face: Face) -> DecidedBy:
    """Whose word it is that the face is kept or not."""
    if face.reason.startswith(BY_HAND):
        return "hand"
    return "curate" if face.reason.startswith(CURATED) else "extraction"


def may_be_curated(face: Face) -> bool:
    """Whether `curate` has a say: in faces with a picture that the extraction kept, and those that it left out itself."""
    return bool(face.crop) and (decided_by(face) == "curate" or (face.kept and not face.reason))


def set_by_hand(face_set: FaceSet, ids: Iterable[int], is_kept: bool) -> None:
    """A person's decision, which stays whatever `curate` finds.

    Numbers run through all faces of the footage, so a range may hold other people's: faces without a picture stay as they are.
    Raises BadInput for ids that are not in the face set, and where none of them has a picture.
    """
    wanted = sorted(set(ids))
    there = {face.id: face for face in face_set.faces(kept_only=False)}
    if missing := [number for number in wanted if number not in there]:
        raise BadInput(
            f"{face_set.folder} has no face with the number {missing[0]}; "
            f"report.html and {CURATION_FOLDER}/report.html in it show faces with their #numbers"
        )
    shown = [number for number in wanted if there[number].crop]
    if wanted and not shown:
        why = there[wanted[0]].reason or "its extraction stored none"
        raise BadInput(
            f"{face_set.folder}: face {wanted[0]} has no picture ({why}), so there is nothing to train on; "
            "give numbers that the reports show"
        )
    face_set.set_kept(shown, is_kept, BY_HAND)


def write_selection(face_set: FaceSet, reasons: Mapping[int, str]) -> None:
    """Leave out the faces with these ids, for these reasons, and nothing else that `curate` has a say in; all or nothing."""
    with face_set.transaction():
        clear_selection(face_set)
        for row, reason in reasons.items():
            face_set.set_kept([row], False, f"{CURATED}{reason}")
        face_set.set_note(LAST_SELECTION, json.dumps(sorted(reasons)))


def clear_selection(face_set: FaceSet) -> None:
    """Keep again all that `curate` left out; what a person or the extraction decided stays."""
    with face_set.transaction():
        note_hands(face_set)
        own = [face.id for face in face_set.faces(kept_only=False) if decided_by(face) == "curate"]
        face_set.set_kept(own, True)
        face_set.set_note(LAST_SELECTION, "[]")


def note_hands(face_set: FaceSet) -> None:
    """Mark as a person's what `curate` had left out and is kept now: whoever set it back need not say so."""
    left_out = set(json.loads(face_set.note(LAST_SELECTION) or "[]"))
    set_back = [face.id for face in face_set.faces(kept_only=True) if face.id in left_out and not face.reason]
    face_set.set_kept(set_back, True, BY_HAND)


def sha256_before_curation(face_set: FaceSet) -> str:
    """The digest of what a curation rests on: every face, but not what `curate` decided, so that it is the same afterwards."""
    left_out = set(json.loads(face_set.note(LAST_SELECTION) or "[]"))
    digest = hashlib.sha256(face_set.performer.encode())
    for face in face_set.faces(kept_only=False):
        decision: tuple[bool, str] = (face.kept, face.reason)
        if decided_by(face) == "curate":
            decision = (True, "")
        elif face.kept and not face.reason and face.id in left_out:
            decision = (True, BY_HAND)
        values = (face.id, face.source, face.frame, face.shot, face.track, face.crop, face.crop_size_px, *decision)
        known = (*face.pose, face.mouth_openness, face.eye_openness, face.brightness, face.exposure, face.occlusion)
        digest.update(repr((values, tuple(float(value) for value in known))).encode())
        for array in (face.landmarks, face.face_from_frame, face.raw_face_from_frame, face.embedding):
            digest.update(array.tobytes())
    return digest.hexdigest()
