"""Face sets of drawn faces, for tests of training: small, quick to make, and different enough to be learned."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.meanface import mean_face
from understudy.imaging.similarity import apply, invert
from understudy.media import encode_jpeg
from understudy.store.faceset import FaceSet
from understudy.types import Box, Face, Image

FRAME_PX = 192


def draw_face_set(folder: Path, performer: str, skin: tuple[int, int, int], num_faces: int = 32) -> Path:
    """A face set of `num_faces` flat faces of one skin colour, whose mouths open and shut."""
    face_from_frame = invert(crop_from_face(STORED, FRAME_PX))
    embedding = np.random.default_rng(len(performer)).normal(size=128)
    with FaceSet.create(folder, performer) as face_set:
        for number in range(num_faces):
            openness = number / (num_faces - 1)
            picture = draw_face(skin, openness)
            face = Face(
                source="drawn",
                frame=number,
                time_seconds=number / 25,
                box=Box(40, 40, 150, 150),
                score=1.0,
                landmarks=apply(invert(face_from_frame), drawn_landmarks(openness)),
                irises=apply(invert(face_from_frame), drawn_irises(0.05 * np.sin(number))),
                face_from_frame=face_from_frame,
                raw_face_from_frame=face_from_frame,
                pose=(0.0, 0.0, 0.0),
                embedding=embedding,
                sharpness=100.0,
                crop=face_set.write_crop(f"drawn_{number:03d}", encode_jpeg(picture)),
                crop_size_px=FRAME_PX,
            )
            face_set.add_faces([face], num_frames_done={"drawn": number + 1})
    return folder


def drawn_landmarks(openness: float) -> np.ndarray:
    """The mesh of a drawn face in face units, (468, 2): the mean face's, with the lower lip where it is drawn."""
    points = mean_face()[:, :2].copy()
    points[[178, 14, 402], 1] += 0.3 * openness
    return points


def drawn_irises(gaze: float) -> np.ndarray:
    """Where the irises of a drawn face are in face units, (2, 2): `gaze` face units to the right of the eyes' middles."""
    corners = mean_face()[[[33, 133], [362, 263]], :2]
    return corners.mean(axis=1) + np.array([gaze, 0])


def draw_face(skin: tuple[int, int, int], openness: float) -> Image:
    """A flat oval with eyes and a mouth that is `openness` (0..1) open, in the stored framing."""
    picture = np.full((FRAME_PX, FRAME_PX, 3), 90, np.uint8)
    frame_from_face = crop_from_face(STORED, FRAME_PX)
    scale = FRAME_PX / STORED.side

    def place(x: float, y: float) -> tuple[int, int]:
        return tuple(int(value) for value in apply(frame_from_face, np.array([x, y])))

    cv2.ellipse(picture, place(0.5, 0.5), (int(0.6 * scale), int(0.85 * scale)), 0, 0, 360, skin, -1)
    for x in (0.25, 0.75):
        cv2.circle(picture, place(x, 0.25), int(0.08 * scale), (20, 20, 30), -1)
    mouth = (int(0.22 * scale), max(1, int((0.02 + 0.18 * openness) * scale)))
    cv2.ellipse(picture, place(0.5, 0.85), mouth, 0, 0, 360, (150, 40, 50), -1)
    return picture
