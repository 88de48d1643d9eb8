"""Goes through an evaluation's clips once, side by side, and collects what every frame shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.imaging import metrics
from understudy.imaging.masks import Mask
from understudy.imaging.matte import silhouette
from understudy.imaging.meanface import IBUG_FROM_MESH
from understudy.imaging.similarity import apply, translation
from understudy.imaging.tracking import intersection_over_union
from understudy.imaging.warp import warp_image
from understudy.media import VideoWriter, read_frames
from understudy.perception.survey import Networks
from understudy.settings import ConvertRecipe
from understudy.stages import _evaluation_pixels as pixels
from understudy.stages._evaluation_clips import Clip, FrameSet, Whereabouts, read_frame_sets
from understudy.stages._evaluation_faces import FaceMotion, Sight, look, motion
from understudy.stages._evaluation_kept import (
    REENCODED_FILE,
    ROWS_FILE,
    FrameFigures,
    face_in,
    figures_in,
    row_from,
)
from understudy.store.frame_rows import FrameRow, FrameRows
from understudy.types import Box, Detection, FloatArray, Image

FLOORS = ("plate", "truth_reencoded", "truth_shifted", "truth_in_plate")
"""What is scored beside the swap: no swap at all; the truth after coding; half a pixel off; and set into the plate, as a
perfect swap would be: its surroundings are the plate's, and filters that reach beyond the mask see them.
"""

STEADY = ("swap", "plate", "truth_reencoded")
"""Whose changes from frame to frame are measured; the others are the truth again, moved or cut out."""

FLOOR_EVERY = 3
"""The truth's own fidelity hardly varies: it is taken on every third frame."""

MOST_WAITING = 4
"""Frames whose figures may be outstanding: each holds its pictures."""

DETECT_EVERY = 5
_LEAST_OVERLAP = 0.3

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Scene:
    """What is compared. truth and truth_faces are None where there is no truth: then the plate takes its place.

    detectors: independent of each other, by name; without a truth each must find the face in the swap, since one may be fooled.
    """

    swap: Clip
    plate: Clip
    truth: Clip | None
    plate_faces: Whereabouts
    truth_faces: Whereabouts | None
    networks: Networks
    detectors: Mapping[str, Callable[[Image], list[Detection]]]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of what is scored, the swap first."""
        return ("swap", *FLOORS) if self.truth else ("swap", "plate")

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The names of those whose faces the networks look at."""
        return ("swap", "plate", "truth", "truth_reencoded") if self.truth else ("swap", "plate")


@dataclass(frozen=True)
class Measurements:
    """Everything measured: a row of figures for each frame, and each clip's face in it (T = 1)."""

    rows: list[FrameFigures]
    faces: Mapping[str, list[FaceMotion]]


@dataclass(frozen=True)
class View:
    """A picture and where its face is: its alignment and 68 landmarks come from `place`, at `frame`."""

    image: Image
    place: Whereabouts


def measure(scene: Scene, folder: Path, tell: Tell, tell_coding: Tell) -> Measurements:
    """Every frame of the clips side by side; `folder` keeps each as it is measured, and the same call after a kill goes on.

    tell: is told how many frames are done; tell_coding: how many of the truth are coded anew, before.
    """
    copy = _reencoded(scene.truth, folder / REENCODED_FILE, tell_coding) if scene.truth else None
    with FrameRows(folder / ROWS_FILE) as kept, ThreadPoolExecutor(1) as pool:
        waiting: deque[_Asked] = deque()
        for asked in _asked(scene, copy, len(kept), pool):
            waiting.append(asked)
            if len(waiting) > MOST_WAITING:
                kept.append(waiting.popleft().row())
                tell(len(kept))
        for asked in waiting:
            kept.append(asked.row())
            tell(len(kept))
        rows = list(kept)
    faces_of = {name: [face_in(row, name) for row in rows] for name in scene.looked_at}
    return Measurements([figures_in(row) for row in rows], faces_of)


@dataclass(frozen=True)
class _Asked:
    """A frame whose faces are found and whose figures are being worked out."""

    figures: Future[FrameFigures]
    faces: Mapping[str, FaceMotion]

    def row(self) -> FrameRow:
        """Waits for the figures."""
        return row_from(self.figures.result(), self.faces)


def _asked(scene: Scene, copy: Path | None, num_kept: int, pool: Executor) -> Iterator[_Asked]:
    """The frames from `num_kept` on: networks look at one here while the figures of those before it are worked out."""
    earlier: pixels.Moment | None = None
    before: pixels.Moment | None = None
    # The two frames before the first new one are looked at once more: steadiness compares neighbours.
    first = max(0, num_kept - 2)
    copies = read_frames(copy, first) if copy else iter(())
    for frames in read_frame_sets(scene.swap, scene.plate, scene.truth, first=first):
        record = next(copies, None)
        views = _views(scene, frames, record.eight_bit if record else None)
        sights = {name: _look(scene, views[name], frames.index) for name in scene.looked_at}
        now = make_moment(scene, frames, views, sights)
        if frames.index >= num_kept:
            figures = pool.submit(_figures, scene, frames, (earlier, before, now), sights["plate"])
            faces = {name: motion(sight, views[name].place.alignment(frames.index)) for name, sight in sights.items()}
            yield _Asked(figures, faces)
        earlier, before = before, now


def _look(scene: Scene, view: View, frame: int) -> Sight:
    detection = view.place.detections[frame] if view.place.is_known(frame) else None
    return look(frame, view.image, detection, scene.networks)


def _views(scene: Scene, frames: FrameSet, reencoded: Image | None) -> dict[str, View]:
    views = {"swap": View(frames.swap, scene.plate_faces), "plate": View(frames.plate, scene.plate_faces)}
    if frames.truth is not None and scene.truth_faces is not None:
        size = (frames.truth.shape[1], frames.truth.shape[0])
        shifted = warp_image(frames.truth, translation(0.5, 0.5), size)
        views["truth"] = View(frames.truth, scene.truth_faces)
        views["truth_reencoded"] = View(frames.truth if reencoded is None else reencoded, scene.truth_faces)
        views["truth_shifted"] = View(shifted, scene.truth_faces)
    return views


def make_moment(scene: Scene, frames: FrameSet, views: Mapping[str, View], sights: Mapping[str, Sight]) -> pixels.Moment | None:
    """The frame in face space; None where a face that is needed is not known, or too little of it shows."""
    reference = "truth" if "truth" in views else "plate"
    if not all(view.place.is_known(frames.index) for view in views.values()):
        return None
    crops = {name: pixels.face_crop(view.image, view.place.alignment(frames.index)) for name, view in views.items()}
    masks = {"plate": frames.plate_mask, "truth": frames.truth_mask}
    areas = [_visible(views[name], masks[name], frames.index, sights[name]) for name in {"plate", reference}]
    if any(area is None for area in areas):
        return None
    mask = np.prod([area for area in areas if area is not None], axis=0, dtype=np.float32)
    place = views[reference].place
    points = apply(pixels.crop_from_frame(place.alignment(frames.index)), _points(place, frames.index, sights[reference]))
    pictures = {name: crop for name, crop in crops.items() if name != "truth"}
    if scene.truth:
        pictures["truth_in_plate"] = crops["plate"] + mask[..., None] * (crops["truth"] - crops["plate"])
    if mask.sum() < metrics.LEAST_MASK_PX:
        return None
    return pixels.Moment(pictures, crops[reference], mask, pixels.feature_regions(mask, points))


def _visible(view: View, mask: Mask | None, index: int, sight: Sight) -> Mask | None:
    """The visible face in face space: from its mask where there is one, else the silhouette of its mesh."""
    if mask is not None:
        return pixels.mask_crop(mask, view.place.alignment(index))
    if np.isnan(sight.mesh).any():
        return None
    return silhouette(apply(pixels.crop_from_frame(view.place.alignment(index)), sight.mesh[:, :2]), pixels.SIZE[0])


def _points(place: Whereabouts, index: int, sight: Sight) -> FloatArray:
    """The 68 landmarks of a frame, true or found, in frame pixels."""
    return place.points[index] if place.points is not None else sight.mesh[list(IBUG_FROM_MESH), :2]


def _figures(scene: Scene, frames: FrameSet, moments: tuple[pixels.Moment | None, ...], plate_sight: Sight) -> FrameFigures:
    """moments: the frame, last, and the two before it."""
    earlier, before, now = moments
    if now is None:
        return {}
    figures: FrameFigures = {name: {} for name in scene.candidates}
    if before is not None:
        figures |= pixels.steadiness(now, before, earlier, [name for name in STEADY if name in now.pictures])
    for name in scene.candidates:
        if name in ("swap", "plate") or frames.index % FLOOR_EVERY == 0:
            figures[name] |= pixels.sharpness(now, name)
            figures[name] |= pixels.fidelity(now, name) if scene.truth else {}
    if scene.truth is None and frames.index % DETECT_EVERY == 0:
        for name, image in (("swap", frames.swap), ("plate", frames.plate)):
            figures[name] |= _detected(scene, image, frames.index)
    points = _points(scene.plate_faces, frames.index, plate_sight)
    matrix = scene.plate_faces.alignment(frames.index)
    figures["swap"] |= pixels.compositing(frames.swap, frames.plate, matrix, points, frames.plate_mask)
    return figures


def _detected(scene: Scene, image: Image, index: int) -> dict[str, float]:
    """1 where a detector finds a face where the plate's is, else 0: for each detector, and for all of them together."""
    expected = scene.plate_faces.detections[index]
    if expected is None:
        return {}
    is_found = {
        f"detected_by_{name}": float(any(_overlap(each.box, expected.box) > _LEAST_OVERLAP for each in detect(image)))
        for name, detect in scene.detectors.items()
    }
    return {**is_found, "detected_share": min(is_found.values())}


def _overlap(one: Box, other: Box) -> float:
    return intersection_over_union(*(np.array([box.left, box.top, box.right, box.bottom]) for box in (one, other)))


def _reencoded(truth: Clip, path: Path, tell: Tell) -> Path:
    """A copy of the truth as `convert` would deliver it, at `path`; one that is there is whole."""
    if not path.is_file():
        with VideoWriter(path, plate=truth.path, codec="h264", crf=ConvertRecipe().crf) as writer:
            for num_done, record in enumerate(truth.read(), start=1):
                writer.write(record.image, record)
                tell(num_done)
    return path
