"""May these performers be trained on, may this plate be converted: one call each, before the work begins."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.media.images import read_image
from understudy.store.faceset import FaceSet
from understudy.store.manifest import read_manifest
from understudy.trust.consent import ConsentReference, require
from understudy.trust.gate import ContentGate
from understudy.trust.identity import check_identity, read_identity
from understudy.trust.records import read_record
from understudy.types import Face, FloatArray

MOST_GATED_CROPS = 40


def may_train(face_sets: Sequence[Path], folder: Path, on: datetime.date | None = None) -> tuple[ConsentReference, ...]:
    """Every face set's performer has a record in force in `folder`, and its kept faces are theirs; raises Refused.

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
    return require(embeddings, "train", folder, tracks=tracks, footage_sha256=footage, on=on)


def may_convert(
    galleries: Mapping[str, FloatArray],
    replace: str,
    plate_faces: Sequence[Face],
    folder: Path,
    on: datetime.date | None = None,
) -> tuple[ConsentReference, ...]:
    """Both performers have a record in force, the model's faces are theirs, and so are the plate's; raises Refused.

    galleries: (N, 128) of the two performers, from the model; plate_faces: those in which `replace` will be replaced.
    """
    references = require(galleries, "convert", folder, on=on)
    measured = [face for face in plate_faces if np.isfinite(face.embedding).all()]
    identity = read_identity(read_record(folder, replace))
    if measured and identity is not None:
        check_identity(identity, *_faces_and_tracks(measured))
    return references


def gate_face_set(path: Path, gate: ContentGate) -> None:
    """Looks at pictures spread evenly over a face set; raises Refused."""
    with FaceSet.open(path) as face_set:
        faces = [face for face in face_set.faces(kept_only=True) if face.crop]
        chosen = np.linspace(0, len(faces) - 1, min(len(faces), MOST_GATED_CROPS)).astype(int)
        pictures = [(face_set.crop_path(faces[number]), faces[number].track) for number in chosen]
    for picture, track in pictures:
        gate.look(read_image(picture), str(picture), (path, track))


def _faces_and_tracks(faces: Sequence[Face]) -> tuple[FloatArray, NDArray[np.intp]]:
    if not faces:
        return np.zeros((0, 128)), np.zeros(0, dtype=int)
    return np.stack([face.embedding for face in faces]), np.array([face.track for face in faces])
