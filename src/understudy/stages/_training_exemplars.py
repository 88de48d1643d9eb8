"""Writes the pictures of each performer that a swap takes its fine detail from (imaging/exemplars.py) beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.exemplars import choose_exemplars
from understudy.imaging.framing import STORED, crop_from_face, framing
from understudy.imaging.similarity import apply, compose, invert
from understudy.imaging.warp import warp_image
from understudy.media import read_image
from understudy.model.folder import EXEMPLARS_FILE, FORMS, PICTURES
from understudy.settings import TrainRecipe
from understudy.stages._training_faces import StoredFaces, is_held_out, open_performers
from understudy.store.atomic import atomic_write_bytes
from understudy.store.checkpoints import stated_beside
from understudy.store.hashing import sha256_of_file
from understudy.types import Face, FloatArray, Framing, Json

LEAST_SHARPNESS = 0.5
"""Of the middle face's sharpness: what is less sharp has no detail to give."""

MOST_HIDDEN = 0.02
"""The share of a face that may be hidden by something in front of it, which would come along."""


def write_exemplars(out: Path, face_sets: Sequence[Path], recipe: TrainRecipe, state: Json) -> None:
    """The recipe's number of pictures of each performer; none where it asks for none, and no file either.

    state: of the checkpoint that the run goes on from. What its checkpoints are bound to stays as it is.
    """
    from safetensors.numpy import save

    path = out / EXEMPLARS_FILE
    if path.is_file() and sha256_of_file(path) == stated_beside(state).get(EXEMPLARS_FILE):
        return
    if not recipe.num_exemplars:
        path.unlink(missing_ok=True)
        return
    arrays: dict[str, NDArray[np.generic]] = {}
    for stored in open_performers(face_sets):
        pictures, forms = _exemplars_of(stored, recipe)
        arrays |= {f"{stored.performer}.{PICTURES}": pictures, f"{stored.performer}.{FORMS}": forms}
    atomic_write_bytes(path, save(arrays))


def _exemplars_of(stored: StoredFaces, recipe: TrainRecipe) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures (K, S, S, 3) and forms (K, 470, 2) of the faces that stand best for all that are learned from."""
    numbers = presentable(stored, recipe)
    faces, paths = [stored.faces[number] for number in numbers], [stored.paths[number] for number in numbers]
    chosen = _representatives(faces, recipe.num_exemplars)
    size_px, region = max(recipe.exemplar_px, recipe.resolution_px), framing(recipe.framing)
    with ThreadPoolExecutor() as pool:
        cut = partial(_picture, region=region, size_px=size_px)
        pictures = list(pool.map(cut, [faces[number] for number in chosen], [paths[number] for number in chosen]))
    crop_from_units = crop_from_face(region, size_px)
    forms = np.stack([apply(crop_from_units, _form(faces[number])) for number in chosen])
    return np.stack(pictures), np.asarray(forms, np.float32)


def _representatives(faces: Sequence[Face], num: int) -> list[int]:
    """The numbers of at most `num` faces that stand best for all, in ascending order.

    Those whose gaze is not known come in only where there are too few others: they would pass for looking straight ahead.
    """
    forms = np.stack([_form(face) for face in faces])
    is_known = np.array([bool(np.isfinite(face.irises).all()) for face in faces])
    chosen: list[int] = []
    for rows in (np.flatnonzero(is_known), np.flatnonzero(~is_known)):
        if len(rows) and len(chosen) < num:
            chosen += rows[choose_exemplars(forms[rows], num - len(chosen))].tolist()
    return sorted(chosen)


def presentable(stored: StoredFaces, recipe: TrainRecipe) -> NDArray[np.int64]:
    """The numbers of the faces to choose from: learned from, seen by the detector, sharp, with nothing in front of them."""
    is_learned = ~is_held_out(len(stored), recipe.held_out_fraction)
    sharpness = np.array([face.sharpness for face in stored.faces])
    is_sharp = ~(sharpness < LEAST_SHARPNESS * np.nanmedian(sharpness[is_learned]))
    is_clear = np.array([not face.is_bridged and not face.occlusion > MOST_HIDDEN for face in stored.faces])
    is_clear &= np.array([bool(np.isfinite(face.landmarks).all()) for face in stored.faces])
    wanted = is_learned & is_sharp & is_clear
    return np.flatnonzero(wanted if wanted.any() else is_learned)


def _form(face: Face) -> FloatArray:
    """(470, 2): a face's mesh and irises in face units; an iris that is not known lies in the middle of its lids."""
    points = np.asarray(face.landmarks, np.float64)
    irises = np.array(face.irises, np.float64)
    for row, lids in enumerate(((33, 133, 159, 145), (362, 263, 386, 374))):
        if not np.isfinite(irises[row]).all():
            irises[row] = points[list(lids)].mean(axis=0)
    return apply(np.asarray(face.face_from_frame, np.float64), np.concatenate([points, irises]))


def _picture(face: Face, path: Path, region: Framing, size_px: int) -> NDArray[np.uint8]:
    picture_from_stored = compose(crop_from_face(region, size_px), invert(crop_from_face(STORED, face.crop_size_px)))
    return np.asarray(warp_image(read_image(path), picture_from_stored, (size_px, size_px)), np.uint8)
