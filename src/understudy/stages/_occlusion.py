"""Estimates how much of each of the performer's faces is hidden, from the crops that an extraction has stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

import numpy as np

from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.similarity import apply, compose
from understudy.imaging.visibility import MOST_SAMPLES, Appearance, hidden_share, usual_appearance
from understudy.imaging.warp import resize
from understudy.media.images import read_small_image
from understudy.store.faceset import FaceSet
from understudy.types import Face, FloatArray, Image

SIZE_PX = 128
"""Crops are looked at in this size; the unwrapped face has fewer pixels still."""

_Crop = tuple[Image, FloatArray]

LEAST_TRACK = 24
"""Shorter tracks are compared with all of the performer's faces in their clip, because they know too little of their own."""


def measure_occlusion(face_set: FaceSet, faces: Sequence[Face], tell: Callable[[], None]) -> None:
    """Fill in the occlusion of `faces` that have a crop and none yet; `tell` is called after each.

    What is known of a track, and with it every figure, depends on its faces alone: a killed run ends the same.
    """
    stored = [face for face in faces if face.crop]
    with ThreadPoolExecutor(2) as pool:
        for _, of_source in groupby(stored, key=lambda face: face.source):
            of_clip = list(of_source)
            tracks: dict[int, list[Face]] = {}
            for face in of_clip:
                tracks.setdefault(face.track, []).append(face)
            for track in tracks.values():
                waiting = [face for face in track if np.isnan(face.occlusion)]
                if not waiting:
                    continue
                crops: dict[int, _Crop] = {}
                appearance = _learn(face_set, track if len(track) >= LEAST_TRACK else of_clip, crops)
                shares = pool.map(partial(_share, face_set, crops, appearance), waiting)
                with face_set.transaction():
                    for face, share in zip(waiting, shares, strict=True):
                        face_set.set_occlusion(face.id, share)
                        tell()


def _learn(face_set: FaceSet, faces: Sequence[Face], crops: dict[int, _Crop]) -> Appearance:
    """How the faces usually look; `crops` keeps the pictures looked at, by the face's id, so that none is decoded twice."""
    seen = [face for face in faces if not face.is_bridged]
    rows = np.unique(np.linspace(0, max(len(seen) - 1, 0), min(len(seen), MOST_SAMPLES)).round().astype(int))
    crops |= {seen[row].id: _small_crop(face_set, seen[row]) for row in rows}
    looked_at = [crops[seen[row].id] for row in rows]
    return usual_appearance([crop for crop, _ in looked_at], [landmarks for _, landmarks in looked_at])


def _share(face_set: FaceSet, crops: dict[int, _Crop], appearance: Appearance, face: Face) -> float:
    return hidden_share(*(crops.get(face.id) or _small_crop(face_set, face)), appearance)


def _small_crop(face_set: FaceSet, face: Face) -> _Crop:
    """The stored crop at SIZE_PX and the face's landmarks in it."""
    crop = resize(read_small_image(face_set.crop_path(face), SIZE_PX), (SIZE_PX, SIZE_PX))
    crop_from_frame = compose(crop_from_face(STORED, SIZE_PX), np.asarray(face.face_from_frame, np.float64))
    return crop, apply(crop_from_frame, face.landmarks)
