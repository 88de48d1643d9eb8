"""May these performers be trained on, may this plate be converted: one call each, before the work begins."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from understudy.media.images import read_image
from understudy.store.faceset import FaceSet
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import Manifest, read_manifest
from understudy.trust.age import MOST_PICTURES, AgeJudgement, check_age, installed_age_model
from understudy.trust.consent import ConsentReference, check_footage_named, create_record, require
from understudy.trust.credentials import check_can_sign
from understudy.trust.gate import ContentGate
from understudy.trust.identity import check_identity, read_identity
from understudy.trust.lineage import stated_pictures
from understudy.trust.records import Footage, SignedRecord, read_record, record_path
from understudy.types import BadInput, Face, FloatArray, Json, Refused

GATE_FILE = "gate.json"
MOST_GATED_CROPS = 16
VIRTUAL_ACTORS = Path(__file__).with_name("virtual_actors.json")


def may_train(face_sets: Sequence[Path], folder: Path, on: datetime.date | None = None) -> tuple[ConsentReference, ...]:
    """Every face set's performer has a record in force in `folder`, and its kept faces are theirs; raises Refused.

    Raises BadInput for a face set without a face.

    Virtual actors whose footage is known by its hash get a record of their own on the spot.

    The first training under a record binds its face. A record that names its footage is compared with the face set's manifest.
    """
    embeddings, tracks, footage = {}, {}, {}
    for path in face_sets:
        with FaceSet.open(path) as face_set:
            name, faces = face_set.performer, face_set.faces(kept_only=True)
        embeddings[name], tracks[name] = _faces_and_tracks(faces)
        if not len(embeddings[name]):
            raise BadInput(f"{path} holds no face of {name} to train on; its report.html says what was found instead")
        manifest = read_manifest(path)
        footage[name] = _footage_of(manifest) if manifest else []
    record_virtual_actors(folder, footage)
    references = require(embeddings, "train", folder, tracks=tracks, footage_sha256=footage, on=on)
    if command := installed_age_model():
        for path in face_sets:
            check_age_of(path, folder, command)
    return references


def check_age_of(face_set: Path, folder: Path, command: Sequence[str]) -> AgeJudgement:
    """What the installed age model says of a face set; raises Refused where it does not agree with the performer's record."""
    with FaceSet.open(face_set) as opened:
        performer = opened.performer
    crops = [read_image(picture) for picture, _ in _spread_pictures(face_set, MOST_PICTURES)]
    return check_age(performer, crops, read_record(folder, performer).record.review, command)


def may_train_from(
    start: Path, people: Mapping[str, FloatArray], folder: Path, model: Path, on: datetime.date | None = None
) -> tuple[ConsentReference, ...]:
    """Everybody whose face is in the weights that a training begins from has a record in force that permits training.

    start: the model's folder; people: their embeddings by name; model: the folder of the new model, which inherits what is
    known of their footage. Raises Refused.
    """
    footage = footage_behind(start)
    record_virtual_actors(folder, footage)
    references = require(people, "train", folder, footage_sha256=footage, on=on)
    known = model / GATE_FILE
    answers = read_json(known) if known.is_file() else {}
    inherited = read_json(start / GATE_FILE) if (start / GATE_FILE).is_file() else {}
    write_json(known, {**inherited, **answers})
    return references


def still_permitted(
    people: Mapping[str, FloatArray], folder: Path, footage: Mapping[str, Sequence[str]]
) -> tuple[ConsentReference, ...]:
    """Those whose faces are in a model's weights, though they are not swapped now, still permit that; raises Refused.

    So a model that somebody's revocation asks to be deleted can no longer be used for anybody.
    """
    record_virtual_actors(folder, {name: used for name, used in footage.items() if name in people})
    return require(people, "train", folder, footage_sha256=footage)


def may_convert_model(
    galleries: Mapping[str, FloatArray],
    folder: Path,
    footage: Mapping[str, Sequence[str]],
    on: datetime.date | None = None,
) -> tuple[ConsentReference, ...]:
    """Both performers have a record in force, and the model's faces are theirs; raises Refused.

    Raises BadInput where the output could not be signed in the end.

    galleries: (N, 128) of the two performers, from the model; footage: the sha256 of the footage that the model learned each
    from, as far as it is known. A record that names its footage permits no model whose footage is unknown.
    """
    record_virtual_actors(folder, footage)
    virtual = [name for name in galleries if _is_virtual_actor(folder, name)]
    references = require(galleries, "convert", folder, footage_sha256=footage, may_bind=virtual, on=on)
    check_can_sign()
    return references


def check_plate_footage(replaced: Iterable[str], plate_sha256: str, folder: Path) -> None:
    """Raises Refused where somebody who is to be replaced permits named footage only, and the plate is not among it.

    Cuts of the virtual actors' clips are let through, because nobody is in them.
    """
    for performer in replaced:
        if not _is_virtual_actor(folder, performer):
            check_footage_named(read_record(folder, performer), [plate_sha256])


def check_plate_faces(replace: str, plate_faces: Sequence[Face], folder: Path) -> None:
    """Raises Refused where the faces of the plate in which `replace` will be replaced are not theirs."""
    embeddings, tracks = _faces_and_tracks(plate_faces)
    identity = read_identity(read_record(folder, replace))
    if len(embeddings) and identity is not None:
        check_identity(identity, embeddings, tracks)


def record_virtual_actors(folder: Path, footage: Mapping[str, Sequence[str]]) -> list[SignedRecord]:
    """Records for performers without one whose whole footage (sha256 by performer) shows a bundled virtual actor.

    Nobody in those clips exists, so there is nobody to ask; the record says so, and is limited to that footage.
    """
    made = []
    for performer, used in footage.items():
        clips = next((clips for clips in _virtual_actors() if used and set(used) <= set(clips)), ())
        if clips and not record_path(folder, performer).exists():
            made.append(create_record(folder, performer, "synthetic", footage=Footage(clips)))
    return made


def _virtual_actors() -> list[tuple[str, ...]]:
    """The sha256 of each virtual actor's clips."""
    actors = cast(Mapping[str, Mapping[str, str]], read_json(VIRTUAL_ACTORS)["actors"])
    return [tuple(clips.values()) for clips in actors.values()]


def _is_virtual_actor(folder: Path, performer: str) -> bool:
    """Whether a record was made by `record_virtual_actors`: such a face may be bound late, because nobody was to be asked."""
    record = read_record(folder, performer).record
    return record.kind == "synthetic" and record.footage.sha256 in _virtual_actors()


def gate_face_sets(face_sets: Sequence[Path], model: Path) -> Json:
    """What the content gate says of each face set, by performer; raises Refused.

    An answer holds for the pictures that it was given for. One whose extraction was gated, and states the digest of the
    pictures that it left, is not looked at again; with other pictures it is refused, for neither its gate nor the footage that
    it names answers for them. Any other is looked at whenever it changed. The answers are written into the model's folder, with
    the footage that each performer is learned from: a resumed training does not ask again, and a conversion knows the footage.
    """
    known = model / GATE_FILE
    answers = read_json(known) if known.is_file() else {}
    for path in face_sets:
        with FaceSet.open(path) as face_set:
            performer = face_set.performer
            seen: Json = {"faces_sha256": face_set.sha256(), "pictures_sha256": face_set.pictures_sha256()}
        answers[performer] = _answer_for(path, seen, cast(Json, answers.get(performer, {})))
    write_json(known, answers)
    return answers


def _answer_for(path: Path, seen: Json, before: Json) -> Json:
    """The gate's answer for a face set as it is now. seen: its digests; before: the answer that a model's folder holds."""
    manifest = read_manifest(path)
    gated = cast(Json, manifest.figures.get("gate")) if manifest else None
    footage: Json = {"footage_sha256": list(_footage_of(manifest))} if manifest and gated else {}
    stated = stated_pictures(manifest)
    if stated and stated != seen["pictures_sha256"]:
        raise Refused(
            f"{path}: its pictures are not those that were extracted, for which the content gate and its footage answer; "
            "restore them from a copy, or extract again into another folder"
        )
    if stated:
        return {**seen, "gate": gated, **footage}
    if all(before.get(key) == digest for key, digest in seen.items()):
        return {**seen, "gate": before.get("gate"), **footage}
    with ContentGate() as gate:
        gate_face_set(path, gate)
        return {**seen, "gate": gate.result().as_json(), **footage}


def footage_behind(model: Path) -> dict[str, list[str]]:
    """The sha256 of the footage that a model's performers were learned from, as its folder states; without unknown ones."""
    path = model / GATE_FILE
    answers = cast(Mapping[str, Json], read_json(path)) if path.is_file() else {}
    stated = {performer: answer.get("footage_sha256") for performer, answer in answers.items() if isinstance(answer, dict)}
    return {performer: list(map(str, hashes)) for performer, hashes in stated.items() if isinstance(hashes, list) and hashes}


def _footage_of(manifest: Manifest) -> list[str]:
    return [given.sha256 for role, given in manifest.inputs.items() if role.startswith("footage")]


def gate_face_set(path: Path, gate: ContentGate) -> None:
    """Looks at pictures spread evenly over a face set; raises Refused."""
    for picture, track in _spread_pictures(path, MOST_GATED_CROPS):
        gate.look(read_image(picture), str(picture), (path, track))


def _spread_pictures(path: Path, most: int) -> list[tuple[Path, int]]:
    """Pictures spread evenly over the kept faces of a face set, each with its track."""
    with FaceSet.open(path) as face_set:
        faces = [face for face in face_set.faces(kept_only=True) if face.crop]
        chosen = np.linspace(0, len(faces) - 1, min(len(faces), most)).astype(int)
        return [(face_set.crop_path(faces[number]), faces[number].track) for number in chosen]


def _faces_and_tracks(faces: Sequence[Face]) -> tuple[FloatArray, NDArray[np.intp]]:
    """Embeddings (N, 128) and tracks (N,) of the faces that were measured; extraction leaves out most faces of a track."""
    measured = [face for face in faces if np.isfinite(face.embedding).all()]
    if not measured:
        return np.zeros((0, 128)), np.zeros(0, dtype=int)
    return np.stack([face.embedding for face in measured]), np.array([face.track for face in measured])
