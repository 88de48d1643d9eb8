"""May these performers be trained on, may this plate be converted: one call each, before the work begins."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from understudy.media.images import read_image
from understudy.store.faceset import FaceSet
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import read_manifest
from understudy.store.runs import RECIPE_FILE
from understudy.trust.consent import ConsentReference, create_record, require
from understudy.trust.gate import ContentGate
from understudy.trust.identity import bind_identity, check_identity, read_identity
from understudy.trust.records import Footage, SignedRecord, read_record, record_path
from understudy.types import Face, FloatArray, Json

MOST_GATED_CROPS = 16
VIRTUAL_ACTORS = Path(__file__).with_name("virtual_actors.json")


def may_train(face_sets: Sequence[Path], folder: Path, on: datetime.date | None = None) -> tuple[ConsentReference, ...]:
    """Every face set's performer has a record in force in `folder`, and its kept faces are theirs; raises Refused.

    Virtual actors whose footage is known by its hash get a record of their own on the spot.

    The first training under a record binds its face. A record that names its footage is compared with the face set's manifest.
    """
    embeddings, tracks, footage = {}, {}, {}
    for path in face_sets:
        with FaceSet.open(path) as face_set:
            name, faces = face_set.performer, face_set.faces(kept_only=True)
        embeddings[name], tracks[name] = _faces_and_tracks(faces)
        manifest = read_manifest(path)
        inputs = manifest.inputs if manifest else {}
        footage[name] = [given.sha256 for role, given in inputs.items() if role.startswith("footage")]
    record_virtual_actors(folder, footage)
    return require(embeddings, "train", folder, tracks=tracks, footage_sha256=footage, on=on)


def may_convert(
    galleries: Mapping[str, FloatArray],
    replace: str,
    plate_faces: Sequence[Face],
    folder: Path,
    footage: Mapping[str, Sequence[str]],
    on: datetime.date | None = None,
) -> tuple[ConsentReference, ...]:
    """Both performers have a record in force, the model's faces are theirs, and so are the plate's; raises Refused.

    galleries: (N, 128) of the two performers, from the model; plate_faces: those in which `replace` will be replaced;
    footage: the sha256 of the footage that the model learned each from, as far as it is known.
    """
    for signed in record_virtual_actors(folder, footage):
        bind_identity(signed, galleries[signed.record.performer])
    references = require(galleries, "convert", folder, on=on)
    embeddings, tracks = _faces_and_tracks(plate_faces)
    identity = read_identity(read_record(folder, replace))
    if len(embeddings) and identity is not None:
        check_identity(identity, embeddings, tracks)
    return references


def record_virtual_actors(folder: Path, footage: Mapping[str, Sequence[str]]) -> list[SignedRecord]:
    """Records for performers without one whose whole footage (sha256 by performer) shows a bundled virtual actor.

    Nobody in those clips exists, so there is nobody to ask; the record says so, and is limited to that footage.
    """
    actors = cast(Mapping[str, Mapping[str, str]], read_json(VIRTUAL_ACTORS)["actors"])
    made = []
    for performer, used in footage.items():
        clips = next((tuple(known.values()) for known in actors.values() if used and set(used) <= set(known.values())), ())
        if clips and not record_path(folder, performer).exists():
            made.append(create_record(folder, performer, "synthetic", footage=Footage(clips)))
    return made


def gate_face_sets(face_sets: Sequence[Path], known: Path) -> Json:
    """What the content gate says of each face set, by performer; raises Refused.

    One whose extraction was gated is not looked at again. known: a file of earlier answers, kept so that a resumed training
    does not ask again; they hold for the very same faces only.
    """
    answers = read_json(known) if known.is_file() else {}
    for path in face_sets:
        with FaceSet.open(path) as face_set:
            performer, sha256 = face_set.performer, face_set.sha256()
        manifest = read_manifest(path)
        if manifest and "gate" in manifest.figures:
            answers[performer] = {"faces_sha256": sha256, "gate": manifest.figures["gate"]}
        elif cast(Json, answers.get(performer, {})).get("faces_sha256") != sha256:
            with ContentGate() as gate:
                gate_face_set(path, gate)
                answers[performer] = {"faces_sha256": sha256, "gate": gate.result().as_json()}
    write_json(known, answers)
    return answers


def footage_behind(model: Path) -> dict[str, list[str]]:
    """The sha256 of the footage that a model's performers were learned from, as far as their face sets are still there."""
    recipe = model / RECIPE_FILE
    inputs = cast(Mapping[str, Mapping[str, str]], read_json(recipe).get("inputs", {})) if recipe.is_file() else {}
    manifests = {performer: read_manifest(Path(given["path"])) for performer, given in inputs.items()}
    return {
        performer: [given.sha256 for role, given in manifest.inputs.items() if role.startswith("footage")]
        for performer, manifest in manifests.items()
        if manifest
    }


def gate_face_set(path: Path, gate: ContentGate) -> None:
    """Looks at pictures spread evenly over a face set; raises Refused."""
    with FaceSet.open(path) as face_set:
        faces = [face for face in face_set.faces(kept_only=True) if face.crop]
        chosen = np.linspace(0, len(faces) - 1, min(len(faces), MOST_GATED_CROPS)).astype(int)
        pictures = [(face_set.crop_path(faces[number]), faces[number].track) for number in chosen]
    for picture, track in pictures:
        gate.look(read_image(picture), str(picture), (path, track))


def _faces_and_tracks(faces: Sequence[Face]) -> tuple[FloatArray, NDArray[np.intp]]:
    """Embeddings (N, 128) and tracks (N,) of the faces that were measured; extraction leaves out most faces of a track."""
    measured = [face for face in faces if np.isfinite(face.embedding).all()]
    if not measured:
        return np.zeros((0, 128)), np.zeros(0, dtype=int)
    return np.stack([face.embedding for face in measured]), np.array([face.track for face in measured])
