"""Face sets of drawn faces for tests of curation: without a fault, and with one of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from drawn_faces import FRAME_PX, draw_face
from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.meanface import mean_face
from understudy.imaging.similarity import apply, compose, invert, similarity_from_parameters
from understudy.media import encode_jpeg
from understudy.store.faceset import FaceSet
from understudy.types import Box, Face, FloatArray, Image, StageResult

SKIN = {"abel": (205, 160, 140), "bea": (140, 100, 80)}
NUM_FACES = 40
BLURRED, SHAKEN, BURNT, DARK, SLIPPED, LOST, SMALL, STRANGER, DOUBLE = range(3, 30, 3)


def embedding(performer: str, seed: int) -> FloatArray:
    """Near the performer's own (0.15), far from everybody else's (0.9)."""
    own = np.random.default_rng(len(performer)).normal(size=128)
    noise = np.random.default_rng(1000 + seed).normal(size=128)
    return np.asarray(0.65 * own / np.linalg.norm(own) + 0.1 * noise / np.linalg.norm(noise), np.float32)


def a_face(performer: str, number: int, yaw: float) -> tuple[Face, Image]:
    """Face and picture: skin with pores, a mouth that opens and shuts, a landmark mesh that is a head's."""
    picture = draw_face(SKIN[performer], openness=(number % 10) / 9).astype(np.float32)
    rng = np.random.default_rng(number)
    picture += cv2.GaussianBlur(rng.normal(scale=25, size=(FRAME_PX, FRAME_PX, 1)).astype(np.float32), (0, 0), 1.5)[..., None]
    picture += 6 * np.sin(number + np.linspace(0, 3, FRAME_PX))[:, None, None]  # no two frames alike
    face_from_frame = invert(crop_from_face(STORED, FRAME_PX))
    head = mean_face() @ turned(yaw).T
    points = apply(invert(face_from_frame), head[:, :2] + rng.normal(scale=0.002, size=(468, 2)))
    return (
        Face(
            source=f"{performer}.mp4",
            frame=number,
            time_seconds=number / 2,
            box=Box(40, 40, 150, 150),
            score=1.0,
            landmarks=points.astype(np.float32),
            face_from_frame=face_from_frame,
            raw_face_from_frame=face_from_frame,
            pose=(yaw, 3.0 * np.sin(number), 0.0),
            embedding=embedding(performer, number),
            sharpness=100.0,
            mouth_openness=0.01 + 0.016 * (number % 10),
            eye_openness=0.3,
            brightness=0.5,
            exposure=0.0,
            crop_size_px=FRAME_PX,
        ),
        np.clip(picture, 0, 255).astype(np.uint8),
    )


def turned(yaw_degrees: float) -> FloatArray:
    cosine, sine = np.cos(np.radians(yaw_degrees)), np.sin(np.radians(yaw_degrees))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def write_face_set(folder: Path, performer: str, faces: list[tuple[Face, Image]]) -> Path:
    with FaceSet.create(folder, performer) as face_set:
        for number, (face, picture) in enumerate(faces, 1):
            crop = face_set.write_crop(f"{performer}_{number}", encode_jpeg(picture))
            face_set.add_faces([replace(face, crop=crop)], num_frames_done={face.source: number})
    return folder


def good_faces(performer: str, low: float, high: float) -> list[tuple[Face, Image]]:
    return [a_face(performer, number, yaw) for number, yaw in enumerate(np.linspace(low, high, NUM_FACES))]


def bea_in(folder: Path) -> Path:
    """Faces from one profile to the other."""
    return write_face_set(folder / "bea", "bea", good_faces("bea", -75, 75))


def abel_in(folder: Path) -> Path:
    """Faces to the front, without a fault."""
    return write_face_set(folder / "abel", "abel", good_faces("abel", -20, 20))


def faulty_in(folder: Path) -> Path:
    """Abel's faces with one of each fault; ids are the places in this list, from 1."""
    faces = good_faces("abel", -20, 20)
    blur = cv2.GaussianBlur(faces[BLURRED][1], (0, 0), 4.0)
    faces[BLURRED] = (faces[BLURRED][0], blur)
    shake = cv2.blur(faces[SHAKEN][1], (15, 1))
    faces[SHAKEN] = (faces[SHAKEN][0], shake)
    faces[BURNT] = (replace(faces[BURNT][0], brightness=0.97, exposure=0.8), faces[BURNT][1])
    faces[DARK] = (replace(faces[DARK][0], brightness=0.03, exposure=0.2), faces[DARK][1])
    points = faces[SLIPPED][0].landmarks + np.random.default_rng(0).normal(scale=0.03 * FRAME_PX / STORED.side, size=(468, 2))
    faces[SLIPPED] = (replace(faces[SLIPPED][0], landmarks=points.astype(np.float32)), faces[SLIPPED][1])
    shifted = compose(similarity_from_parameters(0, 0, 0.3, 0), np.asarray(faces[LOST][0].raw_face_from_frame, np.float64))
    faces[LOST] = (replace(faces[LOST][0], raw_face_from_frame=shifted), faces[LOST][1])
    far = compose(np.asarray(faces[SMALL][0].face_from_frame, np.float64), similarity_from_parameters(np.log(4), 0, 0, 0))
    near_points = (faces[SMALL][0].landmarks / 4).astype(np.float32)
    small = replace(faces[SMALL][0], face_from_frame=far, raw_face_from_frame=far, landmarks=near_points)
    faces[SMALL] = (small, faces[SMALL][1])
    faces[STRANGER] = (replace(faces[STRANGER][0], embedding=embedding("bea", 7), track=9), faces[STRANGER][1])
    faces.append((replace(faces[DOUBLE][0], frame=99), faces[DOUBLE][1]))
    return write_face_set(folder / "abel", "abel", faces)


def states(folder: Path) -> dict[int, tuple[bool, str]]:
    with FaceSet.open(folder) as face_set:
        return {face.id: (face.kept, face.reason) for face in face_set.faces(kept_only=False)}


def kinds(result: StageResult) -> dict[int, str]:
    left_out = result.figures["left_out"]
    assert isinstance(left_out, dict)
    return {int(number): reason.split(":")[0] for number, reason in left_out.items()}
