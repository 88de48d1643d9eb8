"""Measures the faces of a set for curation: one pass over the crops, one row of figures a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.facemeasures import brightness, clipped_share, mouth_openness
from understudy.imaging.framing import FULL, STORED, crop_from_face
from understudy.imaging.masks import hull_mask
from understudy.imaging.quality import alignment_error, fingerprint, flat_eye_openness, focus, light_side, shape_misfit
from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of
from understudy.imaging.warp import warp_image
from understudy.media import read_image
from understudy.types import Face, FloatArray, Image

WORKING_PX = 96


@dataclass(frozen=True)
class Measures:
    """A figure for each of N faces, NaN where it is not known; order as in `faces`.

    yaw, pitch: degrees. mouth, eyes, brightness, clipped, occlusion, light_side and focus (N, 4): as in
    imaging/facemeasures.py and imaging/quality.py. width_px: of the brows in the footage, which is one face unit.
    misfit, deviation: face units; how far the landmarks are from a head's, and the face's own alignment from the one in use.
    embedding: (N, 128). fingerprint: (N, 576).
    """

    performer: str
    faces: tuple[Face, ...]
    yaw: FloatArray
    pitch: FloatArray
    mouth: FloatArray
    eyes: FloatArray
    brightness: FloatArray
    clipped: FloatArray
    occlusion: FloatArray
    focus: FloatArray
    light_side: FloatArray
    width_px: FloatArray
    misfit: FloatArray
    deviation: FloatArray
    embedding: FloatArray
    fingerprint: FloatArray

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True)
class _OfPicture:
    brightness: float
    clipped: float
    focus: NDArray[np.float64]
    light_side: float
    fingerprint: NDArray[np.float32]


def measure(performer: str, faces: Sequence[Face], paths: Sequence[Path], tick: Callable[[], None]) -> Measures:
    """The figures of `faces`, whose crops lie at `paths`; `tick` is called after each. Raises BadInput for a missing crop."""
    with ThreadPoolExecutor(2) as pool:
        pictures = []
        for picture in pool.map(_measure_crop, faces, paths):
            pictures.append(picture)
            tick()
    return Measures(
        performer=performer,
        faces=tuple(faces),
        yaw=np.array([face.pose[0] for face in faces]),
        pitch=np.array([face.pose[1] for face in faces]),
        mouth=_known([face.mouth_openness for face in faces], lambda row: mouth_openness(faces[row].landmarks)),
        eyes=_known([face.eye_openness for face in faces], lambda row: flat_eye_openness(faces[row].landmarks)),
        brightness=_known([face.brightness for face in faces], lambda row: pictures[row].brightness),
        clipped=_known([face.exposure for face in faces], lambda row: pictures[row].clipped),
        occlusion=np.array([face.occlusion for face in faces]),
        focus=np.array([picture.focus for picture in pictures]),
        light_side=np.array([picture.light_side for picture in pictures]),
        width_px=np.array([1 / scale_of(_matrix(face.face_from_frame)) for face in faces]),
        misfit=np.array([shape_misfit(face.landmarks, _matrix(face.face_from_frame)) for face in faces]),
        deviation=np.array(
            [alignment_error(_matrix(face.raw_face_from_frame), _matrix(face.face_from_frame)) for face in faces]
        ),
        embedding=np.array([_embedding(face) for face in faces]).reshape(-1, 128),
        fingerprint=np.array([picture.fingerprint for picture in pictures]),
    )


def _known(values: Sequence[float], measured: Callable[[int], float]) -> FloatArray:
    """`values`, with what an older face set does not know measured here."""
    return np.array([value if np.isfinite(value) else measured(row) for row, value in enumerate(values)])


def _embedding(face: Face) -> FloatArray:
    return face.embedding if face.embedding.size == 128 else np.full(128, np.nan)


def _matrix(face_from_frame: FloatArray) -> Matrix:
    return np.asarray(face_from_frame, np.float64)


def _measure_crop(face: Face, path: Path) -> _OfPicture:
    picture = working_picture(face, path, WORKING_PX)
    working_from_frame = compose(crop_from_face(FULL, WORKING_PX), np.asarray(face.face_from_frame, np.float64))
    points = apply(working_from_frame, face.landmarks[:, :2])
    soft_mask = hull_mask(points, (WORKING_PX, WORKING_PX))
    mask = soft_mask > 0.5
    luminance = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if not mask.any():
        unknown = float("nan")
        return _OfPicture(unknown, unknown, np.full(4, unknown), unknown, fingerprint(luminance))
    return _OfPicture(
        brightness=brightness(picture, soft_mask),
        clipped=clipped_share(picture, soft_mask),
        focus=focus(luminance, mask),
        light_side=light_side(luminance, mask, middle=float(points[_NOSE_LINE, 0].mean())),
        fingerprint=fingerprint(luminance),
    )


_NOSE_LINE = [168, 6, 197, 195, 5, 4]
"""Down the ridge of the nose."""


def working_picture(face: Face, path: Path, size_px: int) -> Image:
    """The stored crop of a face in the framing `full`, `size_px` square."""
    working_from_stored = compose(crop_from_face(FULL, size_px), invert(crop_from_face(STORED, face.crop_size_px)))
    return warp_image(read_image(path), working_from_stored, (size_px, size_px))
