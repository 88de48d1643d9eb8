"""Face sets as the tensors that training draws from: cropped, masked, resident in memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.imaging.expression import read_expressions
from understudy.imaging.framing import STORED, crop_from_face, framing
from understudy.imaging.masks import dilate, hull_mask
from understudy.imaging.meanface import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, face_outline
from understudy.imaging.sampling import balanced_shares
from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of
from understudy.imaging.warp import warp_image
from understudy.media import read_image
from understudy.store.faceset import FaceSet
from understudy.types import BadInput, Face, FloatArray, Framing, TrainRecipe

MARGIN = 1.35
"""How much wider than the network's framing the crops in memory are: room for turning, zooming and shifting."""

DENSITY = 1.25
"""Pixels in memory for each pixel of the network's, per axis: resampling then costs no sharpness."""

MIN_FACES = 24
"""Below this there is nothing to learn from; the documentation asks for some hundreds."""

FEATURE_RIM = 0.05
"""How far the mask of eyes and mouth reaches beyond them, in face units: a lid that shuts must weigh as much as an open eye."""

MAX_GALLERY = 64


@dataclass(frozen=True)
class PerformerFaces:
    """crops: (N, 5, S, S) uint8: RGB, face mask, mask of eyes and mouth; readings: (N, 10), what was measured of expressions;
    shares: (N,) how often each is to be shown where sampling is balanced; gallery: (M, 128) identity embeddings."""

    performer: str
    crops: Tensor
    readings: Tensor
    shares: Tensor
    gallery: FloatArray


def load_performers(folders: Sequence[Path], recipe: TrainRecipe) -> list[PerformerFaces]:
    """The kept faces of each face set. Raises BadInput for too few faces, one performer twice, or less than two performers."""
    if len(folders) < 2:
        raise BadInput(f"expected two or more face sets to train on, got {len(folders)}")
    performers = [_load_performer(folder, recipe) for folder in folders]
    names = [each.performer for each in performers]
    if len(set(names)) < len(names):
        raise BadInput(f"expected face sets of different performers, got {', '.join(names)}")
    return performers


def _load_performer(folder: Path, recipe: TrainRecipe) -> PerformerFaces:
    with FaceSet.open(folder) as face_set:
        faces = [face for face in face_set.faces(kept_only=True) if face.crop]
        if len(faces) < MIN_FACES:
            raise BadInput(f"{folder} has {len(faces)} usable faces; training needs {MIN_FACES} or more")
        paths = [face_set.crop_path(face) for face in faces]
        gallery = face_set.gallery().embeddings
        performer = face_set.performer
    size_px = round(recipe.resolution_px * MARGIN * DENSITY)
    region = framing(recipe.framing)
    crops = np.empty((len(faces), 5, size_px, size_px), np.uint8)  # filled in place: a second copy may be gigabytes
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_load_face, region=region), crops, faces, paths))
    chosen = np.linspace(0, len(gallery) - 1, min(len(gallery), MAX_GALLERY)).round().astype(int)
    readings, shares = (torch.from_numpy(each) for each in (read_expressions(faces), balanced_shares(_measures(faces))))
    return PerformerFaces(performer, torch.from_numpy(crops), readings, shares, gallery[chosen])


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
