"""The nouns that every layer shares, and the exceptions; imports numpy only.

Convention: frame coordinates are (x, y) in pixels, x to the right, y down, with (0, 0) at the outer corner of the first
pixel, whose centre is (0.5, 0.5). Face units measure the mean face: its brow-to-mouth box fills the unit square. Matrices are
named `target_from_source`, are 2x3 float64 and act on column vectors (x, y, 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Image = NDArray[np.uint8]
"""An 8-bit picture, (height, width, 3), channels R G B."""
DeepImage = NDArray[np.uint16]
"""The same at 16 bits, 0 to 65535 (see imaging/depth.py): what a plate of more than 8 bits is read as."""
AnyImage = Image | DeepImage
"""A picture at its own depth."""
AnyMatte = AnyImage
"""One channel of it, (height, width): a transparency."""

Json = dict[str, object]


# ---- failures -------------------------------------------------------------------------------------------------------------


class UnderstudyError(Exception):
    """A failure that the user can act on: printed as one line, without a traceback."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        # What libraries say of damaged files can hold line breaks.
        super().__init__(" ".join(message.split()))


class BadInput(UnderstudyError):
    """A file, option or value is unusable; the message names it and the remedy."""


class Refused(UnderstudyError):
    """Consent, the content gate or an age declaration forbids the work."""

    exit_status = 3


class UnfinishedFrames(UnderstudyError):
    """The work is done, but some frames are in the ledger and `--strict` was given."""

    exit_status = 4


class FaultInFrames(UnderstudyError):
    """The work went on to the end, but a fault of ours spoiled some frames; the ledger has the tracebacks."""

    exit_status = 1


class TrainingDiverged(UnderstudyError):
    """A loss or weight is no longer finite; the last good checkpoint is kept."""

    exit_status = 1


# ---- names ----------------------------------------------------------------------------------------------------------------


def check_performer_name(name: str) -> None:
    """Raises BadInput unless `name` can be a performer's everywhere: in options and project files, as a file or a folder."""
    if not re.fullmatch(r"[^\W_][\w-]{0,63}", name):
        raise BadInput(f"performer name: expected letters, digits, - and _ (64 at most, no - or _ first), got {name[:80]!r}")


# ---- progress -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One line of `events.jsonl`: what a stage has done so far.

    `kind` is "started", "progress", "figures", "warning" or "finished"; `done` of `total` count `unit`s (total 0 = unknown).
    """

    stage: str
    kind: Literal["started", "progress", "figures", "warning", "finished"]
    done: float = 0
    total: float = 0
    unit: str = ""
    message: str = ""
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


Reporter = Callable[[Event], None]


def silent(event: Event) -> None:
    """A reporter that tells nobody."""


# ---- faces ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """An upright rectangle in frame pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True)
class Detection:
    """One face as a detector sees it.

    keypoints: (6, 2) frame pixels: image-left eye, image-right eye, nose tip, mouth centre, image-left ear, image-right ear.
    """

    box: Box
    score: float
    keypoints: FloatArray


@dataclass(frozen=True)
class Face:
    """One face in one frame of a shot, with all that is known of it (a row of a face set).

    landmarks: (468, 2) frame pixels, MediaPipe mesh order. irises: (2, 2) their centres, that at image left first, NaN where
        not known (older face sets). Both as measured in a face set, smoothed in what `link_and_smooth` gives.
    face_from_frame: 2x3, the alignment in use (smoothed over the track); raw_face_from_frame: as measured.
    pose: yaw, pitch, roll in degrees; yaw + = nose to image right, pitch + = nose up, roll + = crown to image left.
    embedding: (128,) identity, NaN where it was not measured (a followed face is on every fifth frame only); Euclidean
        distances under 0.6 usually mean the same person. sharpness: variance of its luminance's Laplacian (0..255, at 128 px).
    mouth_openness: gap between the inner lips, in face units (imaging/facemeasures.py): shut under 0.02, a wide vowel 0.15.
    eye_openness: gap between the lids over the eye's width, mean of those that can be seen: open 0.3, less when they shut.
    brightness: mean luminance of the face, 0..1. exposure: share of it that is black or white, 0..1. occlusion: share that
        something hides, 0..1 (imaging/visibility.py). These five: NaN in bridged (occlusion apart), others', older sets' faces.
    is_bridged: True where no detector saw the face and its alignment was interpolated within the track.
    crop: the stored picture in the face set's folder (`crops/ab/name.jpg`), "" for none. id: its row, from 1; 0 until stored.
    """

    source: str
    frame: int
    time_seconds: float
    box: Box
    score: float
    landmarks: FloatArray
    face_from_frame: FloatArray
    raw_face_from_frame: FloatArray
    pose: tuple[float, float, float]
    embedding: FloatArray
    sharpness: float
    mouth_openness: float = float("nan")
    eye_openness: float = float("nan")
    brightness: float = float("nan")
    exposure: float = float("nan")
    occlusion: float = float("nan")
    irises: FloatArray = field(default_factory=lambda: np.full((2, 2), np.nan))
    shot: int = 0
    track: int = 0
    is_bridged: bool = False
    kept: bool = True
    reason: str = ""
    crop: str = ""
    crop_size_px: int = 0
    id: int = 0


@dataclass(frozen=True)
class Framing:
    """How much of the head a square crop covers: its centre (x, y) and side, in face units."""

    name: str
    centre: tuple[float, float]
    side: float


# ---- what a stage hands back --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageResult:
    """What a stage hands back: the figures of its manifest and the paths it wrote; `--json` prints exactly this."""

    stage: str
    figures: Mapping[str, object]
    outputs: Mapping[str, Path]

    def as_json(self) -> Json:
        """One flat object: the figures, then the outputs as strings."""
        return {**self.figures, **{name: str(path) for name, path in self.outputs.items()}}
