"""What the network draws, compared with the truth in face space directly: before compositing, by true landmarks throughout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth.footage import Footage
from understudy.imaging import metrics
from understudy.imaging.expression import Drive, readings_of
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.masks import Mask, hull_mask
from understudy.imaging.meanface import face_outline, head_pose
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import Matrix, apply, compose, invert
from understudy.imaging.warp import warp_image
from understudy.perception.landmarks import MeshLandmarker, mesh_landmarker
from understudy.stages import _evaluation_pixels as pixels
from understudy.stages._evaluation_clips import FrameSet, Whereabouts, open_clip, read_frame_sets, true_whereabouts
from understudy.stages._swap_plan import Swapper
from understudy.types import Detection, FloatArray, Framing, Image


@dataclass(frozen=True)
class Drawn:
    """A frame of plate and truth with their true alignments and landmarks."""

    frames: FrameSet
    plate_from_frame: Matrix
    truth_from_frame: Matrix
    true_points: FloatArray
    plate_detection: Detection


def measure_network(swapper: Swapper, footage: Footage) -> dict[str, Series]:
    """The figures of every frame in which both faces are known, by name; NaN rows elsewhere.

    They cover what the model's framing shows, which for `core` is less than the face that a swap is scored on.
    """
    rows: list[dict[str, float]] = []
    earlier: pixels.Moment | None = None
    before: pixels.Moment | None = None
    landmarker = mesh_landmarker()
    for drawn in true_frames(footage):
        now = _moment(swapper, footage, drawn, landmarker) if drawn is not None else None
        figures: dict[str, float] = {}
        if now is not None:
            plate = pixels.fidelity(now, "plate")
            figures = {**pixels.fidelity(now, "swap"), "plate_psnr_db": plate["psnr_db"]}
            figures |= pixels.steadiness(now, before, earlier, ["swap"])["swap"] if before is not None else {}
        rows.append(figures)
        earlier, before = before, now
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: Series(np.array([row.get(name, np.nan) for row in rows])) for name in names}


def true_frames(footage: Footage) -> Iterator[Drawn | None]:
    """Plate and truth side by side; None where a face of either is not known."""
    plate, truth = open_clip(footage.plate), open_clip(footage.truth)
    places: list[Whereabouts] = []
    for clip in (plate, truth):
        assert clip.true_points is not None
        places.append(true_whereabouts(clip.true_points))
    for frames in read_frame_sets(plate, plate, truth):
        if not all(place.is_known(frames.index) for place in places):
            yield None
            continue
        points, detection = places[1].points, places[0].detections[frames.index]
        assert points is not None
        assert detection is not None
        plate_from_frame, truth_from_frame = (place.alignment(frames.index) for place in places)
        yield Drawn(frames, plate_from_frame, truth_from_frame, points[frames.index], detection)


def crop_of(image: Image, face_from_frame: Matrix, region: Framing, size_px: int) -> Image:
    """A frame's face as a network of that framing and size sees it."""
    return warp_image(image, compose(crop_from_face(region, size_px), face_from_frame), (size_px, size_px))


def in_face_space(picture: NDArray[np.float32], region: Framing) -> tuple[FloatArray, Mask]:
    """A network's crop (R, R, 3) in the face-space crop, and where that lies within it."""
    matrix = compose(crop_from_face(FULL, metrics.FACE_SPACE_PX), invert(crop_from_face(region, len(picture))))
    inside = warp_image(np.ones(picture.shape[:2], np.float32), matrix, pixels.SIZE, border="black")
    return np.clip(warp_image(picture, matrix, pixels.SIZE), 0, 1), (inside > 0.99).astype(np.float32)


def _drive(drawn: Drawn, landmarker: MeshLandmarker, swapper: Swapper) -> Drive:
    """What is measured of the plate's face: its expression, and where it lies in the network's crop."""
    seen = landmarker(drawn.frames.plate, drawn.plate_detection)
    points, irises = (apply(drawn.plate_from_frame, each) for each in (seen.refined[:, :2], seen.irises))
    readings = readings_of(points[None], irises[None], np.array([head_pose(seen.points)]))
    size_px = swapper.resolution_px
    outline = face_outline(apply(crop_from_face(swapper.framing, size_px), points))
    return Drive(readings, faces=hull_mask(outline, (size_px, size_px))[None])


def _moment(swapper: Swapper, footage: Footage, drawn: Drawn, landmarker: MeshLandmarker) -> pixels.Moment | None:
    frames = drawn.frames
    assert frames.truth is not None
    crop = crop_of(frames.plate, drawn.plate_from_frame, swapper.framing, swapper.resolution_px)
    answer = swapper.swap(crop[None], footage.replace, footage.with_, _drive(drawn, landmarker, swapper))[0]
    picture, inside = in_face_space(answer[..., :3], swapper.framing)
    masks = [
        pixels.mask_crop(mask, place) if mask is not None else np.ones(pixels.SIZE, np.float32)
        for mask, place in ((frames.plate_mask, drawn.plate_from_frame), (frames.truth_mask, drawn.truth_from_frame))
    ]
    mask = masks[0] * masks[1] * inside
    if mask.sum() < metrics.LEAST_MASK_PX:
        return None
    points = apply(pixels.crop_from_frame(drawn.truth_from_frame), drawn.true_points)
    pictures = {"swap": picture, "plate": pixels.face_crop(frames.plate, drawn.plate_from_frame)}
    truth = pixels.face_crop(frames.truth, drawn.truth_from_frame)
    return pixels.Moment(pictures, truth, mask, pixels.feature_regions(mask, points))
