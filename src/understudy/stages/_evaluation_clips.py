"""What an evaluation is given: clips, what is known beside them (true landmarks, masks), and where their faces are.

Beside `CLIP.mp4` (or a folder `CLIP`) may lie `CLIP.json`, whose `frames[k].landmarks` are the 68 true points of frame k, and
`CLIP_mask/` (pictures) or `CLIP_mask.mp4`, the visible face in white: the format of rendered pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.masks import Mask
from understudy.imaging.meanface import align_ibug
from understudy.imaging.similarity import Matrix
from understudy.media import FrameRecord, read_frames
from understudy.media.footage import with_a_name
from understudy.perception.follow import link_and_smooth
from understudy.perception.survey import Networks
from understudy.stages._stored_survey import survey_stored
from understudy.store.faceset import FaceSet
from understudy.store.json_files import json_text, read_json
from understudy.types import BadInput, Box, Detection, Face, FloatArray, Image

_CHANGES = "changes"
_MOST_CELLS = 128
"""To a side of a difference picture: a few for a small face, and of a whole film less than its faces take."""


@dataclass(frozen=True)
class Clip:
    """Footage and what lies beside it.

    true_points: (T, 68, 2) frame pixels, from the file `landmarks`; NaN where a frame has none. start, stop: the frames that
    are compared, where a swap shows some frames alone; they are counted from 0 then, in `true_points` too.
    """

    path: Path
    landmarks: Path | None = None
    true_points: FloatArray | None = None
    mask: Path | None = None
    start: int = 0
    stop: int | None = None

    def cut(self, start: int, stop: int) -> Clip:
        """The clip between two of its frames."""
        points = None if self.true_points is None else self.true_points[start:stop]
        return replace(self, true_points=points, start=start, stop=stop)

    def read(self, first: int = 0) -> Iterator[FrameRecord]:
        """The frames that are compared, from the `first` of them on."""
        return self._read(self.path, first)

    def read_mask(self, first: int = 0) -> Iterator[FrameRecord]:
        """The mask's frames beside them. Only where there is a mask."""
        assert self.mask is not None
        return self._read(self.mask, first)

    def _read(self, path: Path, first: int) -> Iterator[FrameRecord]:
        if self.stop is None:
            yield from read_frames(path, first)
            return
        # Counted as they decode, like those of the swap: a frame that the plate's file has lost is not in it either.
        for number, record in enumerate(read_frames(path, self.start, self.stop, is_sought=True)):
            if number >= first:
                yield replace(record, index=number)


@dataclass(frozen=True)
class FrameSet:
    """The same moment in each clip; `truth` and its mask are None without a truth, masks are None where none are given."""

    index: int
    swap: Image
    plate: Image
    truth: Image | None
    plate_mask: Mask | None
    truth_mask: Mask | None


@dataclass(frozen=True)
class Whereabouts:
    """Where the face of a clip is, frame by frame, for T frames; NaN and None where there is none.

    face_from_frame: (T, 2, 3); points: (T, 68, 2) frame pixels where they are known from the renderer, None where the networks
    must find them; detections: where to look for the mesh.
    """

    face_from_frame: FloatArray
    points: FloatArray | None
    detections: tuple[Detection | None, ...]

    def is_known(self, frame: int) -> bool:
        """Whether the face of `frame` is known."""
        return frame < len(self.face_from_frame) and bool(np.isfinite(self.face_from_frame[frame]).all())

    def alignment(self, frame: int) -> Matrix:
        """`face_from_frame` of a frame, NaN where its face is not known."""
        return np.asarray(self.face_from_frame[frame] if self.is_known(frame) else np.full((2, 3), np.nan), np.float64)


# ---- reading --------------------------------------------------------------------------------------------------------------


def open_clip(path: Path, mask: Path | None = None) -> Clip:
    """The clip with its true landmarks and mask, where they lie beside it; `mask` overrides the mask beside it."""
    path = with_a_name(path)
    stem = path.name if path.is_dir() else path.stem
    landmarks = path.with_name(f"{stem}.json")
    beside = (path.with_name(f"{stem}_mask"), path.with_name(f"{stem}_mask.mp4"))
    found = next((each for each in beside if each.exists()), None)
    if not landmarks.is_file():
        return Clip(path, mask=mask or found)
    return Clip(path, landmarks, _true_points(landmarks), mask or found)


def read_frame_sets(
    swap: Clip, plate: Clip, truth: Clip | None, frames: set[int] | None = None, first: int = 0
) -> Iterator[FrameSet]:
    """The clips side by side until the shortest ends, all frames from `first` on or only those of them numbered in `frames`.

    Raises BadInput where a mask's size is not its clip's.
    """
    stop = None if frames is None else max(frames, default=-1) + 1
    streams = [clip.read(first) if clip else _nothing() for clip in (swap, plate, truth)]
    masks = [clip.read_mask(first) if clip and clip.mask else _nothing() for clip in (plate, truth)]
    together = islice(zip(*streams, *masks, strict=False), None if stop is None else max(0, stop - first))
    for index, (s, p, t, pm, tm) in enumerate(together, first):
        assert s is not None
        assert p is not None
        if frames is None or index in frames:
            plate_mask = _mask(plate, pm.eight_bit, p.eight_bit) if pm else None
            truth_mask = _mask(truth, tm.eight_bit, t.eight_bit) if truth and t and tm else None
            yield FrameSet(index, s.eight_bit, p.eight_bit, t.eight_bit if t else None, plate_mask, truth_mask)


def _nothing() -> Iterator[None]:
    while True:
        yield None


def _mask(clip: Clip, mask: Image, image: Image) -> Mask:
    assert clip.mask is not None
    check_size(clip.mask, mask.shape[1::-1], clip.path, image.shape[1::-1])
    return mask[:, :, 1].astype(np.float32) / np.float32(255)


def check_size(path: Path, size: tuple[int, ...], like: Path, expected: tuple[int, ...]) -> None:
    """Raises BadInput where the picture at `path` has not the expected size (width, height), that of `like`."""
    if size != expected:
        there, here = (f"{width}x{height}" for width, height in (expected, size))
        raise BadInput(f"{path}: expected the size of {like.name}, {there}, got {here}; export it at that size")


def _true_points(path: Path) -> FloatArray:
    try:
        frames = cast(list[dict[str, object]], read_json(path)["frames"])
        missing = np.full((68, 2), np.nan)
        points = np.array([frame.get("landmarks") or missing for frame in frames], np.float64)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f'{path}: expected {{"frames": [{{"landmarks": [[x, y], ... 68 points]}}, ...]}} ({error!r})') from error
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise BadInput(f"{path}: expected 68 landmarks [x, y] for each frame, got an array of shape {points.shape}")
    return points


# ---- where the faces are --------------------------------------------------------------------------------------------------


def true_whereabouts(points: FloatArray) -> Whereabouts:
    """From true landmarks (T, 68, 2)."""
    is_known = [bool(np.isfinite(each).all()) for each in points]
    matrices = np.full((len(points), 2, 3), np.nan)
    for frame in np.flatnonzero(is_known):
        matrices[frame] = align_ibug(points[frame])
    detections = tuple(_detection(p, p[36:42], p[42:48]) if known else None for p, known in zip(points, is_known, strict=True))
    return Whereabouts(matrices, points, detections)


def surveyed_whereabouts(
    clip: Clip,
    networks: Networks,
    folder: Path,
    changes: Callable[[], ChangeMeter] | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Whereabouts:
    """From the networks: the face that `changes` say the swap has altered most, else the largest, track by track.

    folder: keeps what was found, for the same call after a kill. tell: is told how many frames are done.
    """
    with FaceSet.create(folder, performer="clip") as stored:
        surveyed = survey_stored(stored, "clip", clip.read, lambda: networks, tell)
        faces = link_and_smooth(surveyed)
        changed = _kept_changes(faces, stored, changes) if changes else None
    return faces_as_whereabouts(faces, len(surveyed), changed)


def _kept_changes(faces: Sequence[Face], stored: FaceSet, changes: Callable[[], ChangeMeter]) -> Callable[[Face], float]:
    """How much of each face was changed, measured once."""
    if stored.note(_CHANGES) is None:
        stored.set_note(_CHANGES, json_text(list(map(changes().of, faces)), is_compact=True))
    kept = json.loads(stored.note(_CHANGES) or "[]")
    change = {(face.frame, face.track): each for face, each in zip(faces, kept, strict=True)}
    return lambda face: float(change[face.frame, face.track])


class ChangeMeter:
    """How much a swap altered the plate inside a box: by frame, from difference pictures reduced to few cells."""

    def __init__(self) -> None:
        self._differences: list[NDArray[np.float16]] = []
        self._scale = 1.0

    def add(self, swap: Image, plate: Image) -> None:
        difference = np.abs(swap.astype(np.int16) - plate).max(axis=2).astype(np.float32)
        height, width = difference.shape
        self._scale = min(1.0, _MOST_CELLS / max(width, height))
        size = max(1, round(width * self._scale)), max(1, round(height * self._scale))
        cells = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
        self._differences.append(cells.astype(np.float16))

    def of(self, face: Face) -> float:
        """Mean change inside the face's box, 0 to 255."""
        box = face.box
        if face.frame >= len(self._differences):
            return 0.0
        top, bottom, left, right = (max(0, int(edge * self._scale)) for edge in (box.top, box.bottom, box.left, box.right))
        inside = self._differences[face.frame][top : bottom + 1, left : right + 1]
        return float(inside.mean(dtype=np.float32)) if inside.size else 0.0


def faces_as_whereabouts(faces: list[Face], num_frames: int, changed: Callable[[Face], float] | None) -> Whereabouts:
    """One face for each frame: of the track that stands highest by change, then by size."""
    rank: dict[int, list[tuple[float, float]]] = {}
    for face in faces:
        rank.setdefault(face.track, []).append((changed(face) if changed else 0.0, face.box.width * face.box.height))
    standing = {track: tuple(np.mean(values, axis=0)) for track, values in rank.items()}
    matrices = np.full((num_frames, 2, 3), np.nan)
    detections: list[Detection | None] = [None] * num_frames
    for face in sorted(faces, key=lambda each: standing[each.track]):
        matrices[face.frame] = face.face_from_frame
        detections[face.frame] = _detection(face.landmarks, face.landmarks[[33, 133]], face.landmarks[[362, 263]])
    return Whereabouts(matrices, None, tuple(detections))


def _detection(points: FloatArray, left_eye: FloatArray, right_eye: FloatArray) -> Detection:
    """The detection that known landmarks stand for; only its box and eyes mean anything."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    keypoints = np.tile(points.mean(axis=0), (6, 1))
    keypoints[0], keypoints[1] = left_eye.mean(axis=0), right_eye.mean(axis=0)
    return Detection(Box(float(left), float(top), float(right), float(bottom)), 1.0, keypoints)
