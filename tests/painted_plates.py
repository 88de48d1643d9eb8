"""Plates of soft texture with faces whose place is known, and models that return their input or a colour."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from drawn_faces import drawn_irises
from understudy.imaging.meanface import mean_face
from understudy.imaging.similarity import apply, invert, similarity_from_parameters
from understudy.media.footage import probe
from understudy.media.images import write_png
from understudy.media.reader import read_frames
from understudy.model.identity import IdentitySwapper
from understudy.settings import ConvertRecipe
from understudy.stages._plate_survey import PlateSurvey
from understudy.stages._swap_plan import Replacement
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import (
    counts_of,
    ledger_line,
    make_plan,
    measure_looks,
    swap_footage,
)
from understudy.trust.credentials import Lineage
from understudy.types import Box, Face

NUM_FRAMES, WIDTH, HEIGHT = 16, 240, 160
AS_BEA = (Replacement("abel", "bea"),)
LOSSLESS = ConvertRecipe(colour="none", codec="png", mask="outline", fade_seconds=0, is_occlusion_kept=False)


GALLERIES = {"abel": np.zeros((3, 128)), "bea": np.ones((3, 128))}


class Mirror(IdentitySwapper):
    """A model that returns its input, opaque: what goes in must come out where it was."""

    def __init__(self, galleries=GALLERIES):
        super().__init__(galleries, resolution_px=128)


class Painter(Mirror):
    """A model whose new face is one flat colour."""

    def __init__(self, colour=(0.9, 0.1, 0.1), galleries=GALLERIES):
        super().__init__(galleries)
        self.colour = colour

    def swap(self, crops, from_performer, to_performer, *told):
        painted = super().swap(crops, from_performer, to_performer)
        painted[..., :3] = np.float32(self.colour)
        return painted


def soft_texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    return np.clip(128 + 30 * 6 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)


def write_plate(folder: Path) -> Path:
    """Soft texture that moves to the right by a pixel a frame."""
    folder.mkdir()
    for frame in range(NUM_FRAMES):
        write_png(folder / f"{frame:04d}.png", np.roll(soft_texture(0), frame, axis=1))
    return folder


def a_face(frame: int, track: int = 0, x: float | None = None, embedding: float = 0.0, size: float = 55.0) -> Face:
    """The mean face, `size` px to a face unit, its centre at (x, 80), tilted a little, moving right by a pixel a frame."""
    frame_from_face = similarity_from_parameters(np.log(size), 0.1, 0, 0)
    frame_from_face[:, 2] = [100.3 + frame if x is None else x, 80.6] - apply(frame_from_face, np.array([0.5, 0.5]))
    landmarks = apply(frame_from_face, mean_face()[:, :2])
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
    return Face(
        source="plate",
        frame=frame,
        time_seconds=frame / 25,
        box=Box(left, top, right, bottom),
        score=1.0,
        landmarks=landmarks,
        irises=apply(frame_from_face, drawn_irises(0)),
        face_from_frame=invert(frame_from_face),
        raw_face_from_frame=invert(frame_from_face),
        pose=(0.0, 0.0, 0.0),
        embedding=np.full(128, embedding),
        sharpness=1.0,
        track=track,
    )


def surveyed(faces: list[Face]) -> PlateSurvey:
    return PlateSurvey(faces, dict.fromkeys(range(NUM_FRAMES), 0))


def planned(plate: Path, faces: list[Face], model, recipe: ConvertRecipe, ranges=(), roles=AS_BEA):
    plan = make_plan(probe(plate), surveyed(faces), model, roles, recipe, ranges)
    return measure_looks(probe(plate), plan, Path(tempfile.mkdtemp(dir=plate.parent)))


def converted(plate: Path, faces: list[Face], model=None, recipe: ConvertRecipe = LOSSLESS):
    """Figures, ledger lines and frames of a conversion; the frames as they are before they are marked and written."""
    plan = planned(plate, faces, model or Mirror(), recipe)
    finished = list(swapped_frames(read_frames(plate), plan))
    ledger = [ledger_line(frame) for frame in finished]
    return counts_of(ledger), ledger, [frame.image for frame in finished]


def written(plate: Path, faces: list[Face], out: Path, recipe: ConvertRecipe = LOSSLESS) -> dict[str, object]:
    """The figures of a conversion into `out`, marked, signed and all."""
    plan = planned(plate, faces, Mirror(), recipe)
    out.mkdir(parents=True, exist_ok=True)
    return swap_footage(probe(plate), surveyed(faces), plan, out, Lineage({}, ()))[0]
