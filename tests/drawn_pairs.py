"""Drawn pairs of clips for evaluations: a plate and its truth, whose right answers are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.meanface import mean_face_ibug
from understudy.imaging.similarity import Matrix, apply, compose, invert, similarity_from_parameters
from understudy.imaging.warp import warp_image
from understudy.media import write_png
from understudy.types import FloatArray, Image

NUM_FRAMES, FRAME_PX, CROP_PX = 4, 160, 256


@dataclass(frozen=True)
class Pair:
    """A plate and a truth, each a folder of pictures with JSON and masks beside it, and the drawn faces in face space."""

    plate: Path
    truth: Path
    plate_face: FloatArray
    true_face: FloatArray


def drawn_face(seed: int) -> FloatArray:
    """A random texture as a face-space crop, (256, 256, 3), 0 to 1."""
    coarse, fine = (
        cv2.GaussianBlur(np.random.default_rng(seed + k).normal(size=(CROP_PX, CROP_PX, 3)), (0, 0), sigma)
        for k, sigma in enumerate((40.0, 5.0))
    )
    return np.clip(0.5 + 0.15 * coarse / coarse.std() + 0.1 * fine / fine.std(), 0, 1).astype(np.float32)


def frame_from_face(frame: int, tilt: float) -> Matrix:
    """Where a drawn actor's face is: it drifts, and each actor holds the head differently."""
    return similarity_from_parameters(np.log(52.0), tilt + 0.03 * frame, 54.0 + 1.3 * frame, 50.0 + 0.7 * frame)


def drawn_frame(face: FloatArray, where: Matrix) -> tuple[Image, Image]:
    """A frame that shows the face in a disc over grey, and its mask."""
    frame_from_crop = compose(where, invert(crop_from_face(FULL, CROP_PX)))
    size = (FRAME_PX, FRAME_PX)
    rows, columns = np.indices((CROP_PX, CROP_PX)) - (CROP_PX - 1) / 2
    disc = np.clip(80 - np.hypot(rows, columns), 0, 1).astype(np.float32)
    alpha = warp_image(disc, frame_from_crop, size, border="black")[..., None]
    picture = alpha * np.clip(warp_image(face, frame_from_crop, size), 0, 1) + (1 - alpha) * np.float32(0.4)
    return (255 * picture + 0.5).astype(np.uint8), np.repeat((255 * alpha + 0.5).astype(np.uint8), 3, axis=2)


def write_clip(folder: Path, face: FloatArray, tilt: float) -> Path:
    """A drawn actor's clip with its true landmarks and masks."""
    places = [frame_from_face(k, tilt) for k in range(NUM_FRAMES)]
    for k, where in enumerate(places):
        image, mask = drawn_frame(face, where)
        write_png(folder / f"{k:04d}.png", image)
        write_png(folder.with_name(f"{folder.name}_mask") / f"{k:04d}.png", mask)
    frames = [{"frame": k, "landmarks": apply(where, mean_face_ibug()).tolist()} for k, where in enumerate(places)]
    folder.with_name(f"{folder.name}.json").write_text(json.dumps({"frames": frames}), encoding="utf-8")
    return folder


def draw_pair(folder: Path) -> Pair:
    """A new pair."""
    faces = drawn_face(1), drawn_face(5)
    return Pair(write_clip(folder / "plate", faces[0], 0.0), write_clip(folder / "truth", faces[1], 0.2), *faces)


def drawn_swap(pair: Pair, folder: Path, face: FloatArray) -> Path:
    """`face` where the plate's head is."""
    for k in range(NUM_FRAMES):
        write_png(folder / f"{k:04d}.png", drawn_frame(face, frame_from_face(k, 0.0))[0])
    return folder
