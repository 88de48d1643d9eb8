"""Face sets as the tensors that training draws from: cropped, masked, resident in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.imaging.expression import read_expressions
from understudy.imaging.framing import STORED, crop_from_face, framing
from understudy.imaging.light import light_on
from understudy.imaging.masks import dilate, hull_mask
from understudy.imaging.meanface import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, face_outline
from understudy.imaging.sampling import balanced_shares
from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of
from understudy.imaging.warp import warp_image
from understudy.media import read_image
from understudy.model.colour import measure_standard
from understudy.settings import TrainRecipe
from understudy.store.faceset import FaceSet
from understudy.types import BadInput, Face, FloatArray, Framing

MARGIN = 1.35
"""How much wider than the network's framing the crops in memory are: room for turning, zooming and shifting."""

DENSITY = 1.25
"""Pixels in memory for each pixel of the network's, per axis: resampling then costs no sharpness."""

MIN_FACES = 24
"""Below this there is nothing to learn from; the documentation asks for some hundreds."""

FEATURE_RIM = 0.05
"""How far the mask of eyes and mouth reaches beyond them, in face units: a lid that shuts must weigh as much as an open eye."""

MAX_GALLERY = 64

NUM_BLOCKS = 4
"""Held-out faces are so many stretches of time: a single frame held out has twins beside it that are learned from."""


@dataclass(frozen=True)
class PerformerFaces:
    """crops: (N, 5, S, S) uint8: RGB, face mask, mask of eyes and mouth; readings: (N, 14), what was measured of expressions;
    shares: (N,) how often each is to be shown where sampling is balanced; gallery: (M, 128) identity embeddings; skin: the
    colour that all faces' skin was brought to, where the light was taken out of them."""

    performer: str
    crops: Tensor
    readings: Tensor
    shares: Tensor
    gallery: FloatArray
    skin: tuple[float, ...] | None = None


@dataclass(frozen=True)
class StoredFaces:
    """What of a face set is to be trained on, in the order of time, before its pictures are read."""

    performer: str
    faces: tuple[Face, ...]
    paths: tuple[Path, ...]
    gallery: FloatArray

    def __len__(self) -> int:
        return len(self.faces)


def open_performers(folders: Sequence[Path]) -> list[StoredFaces]:
    """The kept faces of each face set. Raises BadInput for too few faces, one performer twice, or less than two performers."""
    if len(folders) < 2:
        raise BadInput(f"expected two or more face sets to train on, got {len(folders)}")
    performers = [_open_performer(folder) for folder in folders]
    names = [each.performer for each in performers]
    if len(set(names)) < len(names):
        raise BadInput(f"expected face sets of different performers, got {', '.join(names)}")
    return performers


def _open_performer(folder: Path) -> StoredFaces:
    with FaceSet.open(folder) as face_set:
        faces = tuple(face for face in face_set.faces(kept_only=True) if face.crop)
        if len(faces) < MIN_FACES:
            raise BadInput(f"{folder} has {len(faces)} usable faces; training needs {MIN_FACES} or more")
        paths = tuple(face_set.crop_path(face) for face in faces)
        return StoredFaces(face_set.performer, faces, paths, face_set.gallery().embeddings)


def load_performers(folders: Sequence[Path], recipe: TrainRecipe) -> list[PerformerFaces]:
    """All faces of each face set. Raises BadInput like `open_performers`."""
    return [_load(each, recipe, np.ones(len(each), bool)) for each in open_performers(folders)]


def load_split(
    performers: Sequence[StoredFaces], recipe: TrainRecipe, tell: Callable[[], None] = lambda: None
) -> tuple[list[PerformerFaces], list[PerformerFaces]]:
    """The faces to learn from, and those that are held out, none of them twice in memory; tell: called after each face."""
    held = [is_held_out(len(each), recipe.held_out_fraction) for each in performers]
    learned = [_load(each, recipe, ~is_held, tell) for each, is_held in zip(performers, held, strict=True)]
    return learned, [_load(each, recipe, is_held, tell) for each, is_held in zip(performers, held, strict=True)]


def in_ordinary_light(
    learned: Sequence[PerformerFaces], held_out: Sequence[PerformerFaces], recipe: TrainRecipe
) -> tuple[list[PerformerFaces], list[PerformerFaces]]:
    """The same with the light taken out of each face, in place: what is ordinary is the middle of a performer's footage."""
    px_per_unit = recipe.resolution_px * DENSITY / framing(recipe.framing).side
    pairs = [_in_ordinary_light(*each, px_per_unit) for each in zip(learned, held_out, strict=True)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _in_ordinary_light(
    learned: PerformerFaces, held_out: PerformerFaces, px_per_unit: float
) -> tuple[PerformerFaces, PerformerFaces]:
    faces = [crop.numpy() for crop in learned.crops]
    first_guess = np.array(measure_standard(learned.crops).mean)
    measure = partial(_light_on_stored, px_per_unit=px_per_unit)
    with ThreadPoolExecutor() as pool:
        lights = np.array(list(pool.map(partial(measure, skin=first_guess), faces)))
        skin = first_guess * np.exp(np.log(lights).mean(0))
        for _ in pool.map(_relight, faces, skin / (first_guess * lights)):
            pass
        others = [crop.numpy() for crop in held_out.crops]
        for _ in pool.map(_relight, others, [1 / light for light in pool.map(partial(measure, skin=skin), others)]):
            pass
    known = tuple(map(float, skin))
    return replace(learned, skin=known), replace(held_out, skin=known)


def _light_on_stored(crop: NDArray[np.uint8], skin: FloatArray, px_per_unit: float) -> FloatArray:
    picture = np.ascontiguousarray(crop[:3].transpose(1, 2, 0))
    return light_on(picture, crop[3].astype(np.float32) / np.float32(255), skin, px_per_unit)


def _relight(crop: NDArray[np.uint8], gains: FloatArray) -> None:
    """crop (5, S, S): its R, G, B multiplied by gains (3,), in place."""
    crop[:3] = np.clip(np.rint(crop[:3] * gains[:, None, None].astype(np.float32)), 0, 255)


def is_held_out(num_faces: int, fraction: float) -> NDArray[np.bool_]:
    """(num_faces,): which faces, in the order of time, are held out of training; always the same ones.

    They are `NUM_BLOCKS` stretches at even distances (fewer where a stretch would be under two faces), none at either end.
    """
    held = np.zeros(num_faces, bool)
    wanted = round(num_faces * fraction)
    num_blocks = min(NUM_BLOCKS, wanted // 2)
    for block in range(num_blocks):
        length = (wanted * (block + 1)) // num_blocks - (wanted * block) // num_blocks
        first = round((block + 0.5) / num_blocks * num_faces - length / 2)
        held[first : first + length] = True
    return held


def _load(
    stored: StoredFaces, recipe: TrainRecipe, chosen: NDArray[np.bool_], tell: Callable[[], None] = lambda: None
) -> PerformerFaces:
    """Those of a performer's faces that are chosen, (N,), of which all that is known of each is known among all."""
    numbers = np.flatnonzero(chosen)
    size_px = round(recipe.resolution_px * MARGIN * DENSITY)
    region = framing(recipe.framing)
    crops = np.empty((len(numbers), 5, size_px, size_px), np.uint8)  # filled in place: a second copy may be gigabytes
    faces, paths = [stored.faces[number] for number in numbers], [stored.paths[number] for number in numbers]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(partial(_load_face, region=region), crops, faces, paths):
            tell()
    gallery = stored.gallery[np.linspace(0, len(stored.gallery) - 1, min(len(stored.gallery), MAX_GALLERY)).round().astype(int)]
    shares = balanced_shares(_measures(stored.faces))[chosen]
    readings = read_expressions(faces)
    return PerformerFaces(
        stored.performer, torch.from_numpy(crops), torch.from_numpy(readings), torch.from_numpy(shares), gallery
    )


def _measures(faces: Sequence[Face]) -> FloatArray:
    """(N, 4): what training is balanced over."""
    return np.array([(face.pose[0], face.pose[1], face.mouth_openness, face.eye_openness) for face in faces])


def _load_face(crop: NDArray[np.uint8], face: Face, path: Path, region: Framing) -> None:
    """Fill a training crop (5, S, S) uint8 with one face and its masks."""
    size_px = crop.shape[-1]
    wide = Framing(region.name, region.centre, region.side * MARGIN)
    training_from_face = crop_from_face(wide, size_px)
    training_from_stored = compose(training_from_face, invert(crop_from_face(STORED, face.crop_size_px)))
    picture = warp_image(read_image(path), training_from_stored, (size_px, size_px))
    masks = face_masks(face, compose(training_from_face, np.asarray(face.face_from_frame, np.float64)), size_px)
    crop[:3] = picture.transpose(2, 0, 1)
    crop[3:] = np.round(np.stack(masks) * 255)


def face_masks(face: Face, crop_from_frame: Matrix, size_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The face's silhouette, and its eyes and mouth, in a square crop."""
    points = apply(crop_from_frame, face.landmarks)
    size = (size_px, size_px)
    parts = [hull_mask(points[list(part)], size) for part in (LEFT_EYE, RIGHT_EYE, OUTER_LIPS)]
    widened = dilate(
        np.maximum.reduce(parts),
        FEATURE_RIM * scale_of(crop_from_frame) / scale_of(np.asarray(face.face_from_frame, np.float64)),
    )
    return hull_mask(face_outline(points), size), widened
