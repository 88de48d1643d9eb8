"""Finds every face of a clip, follows each through its shots and steadies it: what extraction and conversion both begin with.

`survey` is the one pass over the frames that runs the networks; `link_and_smooth` then needs only its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

import numpy as np

from understudy.imaging.facemeasures import brightness, clipped_share, eye_openness, mouth_openness, sharpness
from understudy.imaging.framing import FACE, crop_from_face
from understudy.imaging.masks import polygon_mask
from understudy.imaging.meanface import FACE_OVAL, align_mesh, head_pose
from understudy.imaging.similarity import Matrix, apply, compose
from understudy.imaging.smoothing import smooth_landmarks, smooth_similarities, squared_jitter_px
from understudy.imaging.tracking import (
    Shots,
    find_shots,
    has_scene_changed,
    intersection_over_union,
    link_tracks,
    thumbnail,
)
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord
from understudy.perception.detect import mediapipe_detector
from understudy.perception.detect_dlib import dlib_cnn_detector, dlib_detector
from understudy.perception.embed import dlib_embedder
from understudy.perception.landmarks import MeshLandmarker, mesh_landmarker
from understudy.perception.mtcnn import mtcnn_detector
from understudy.perception.plausible import believable_mesh
from understudy.types import BadInput, Box, Detection, Face, FloatArray, Image

Made = TypeVar("Made")

EMBED_EVERY = 5
"""Identity is decided by tracks, so a face that is being followed is embedded on every fifth frame only."""

LOOK_EVERY = 5
"""Where the frame before showed nobody, every part of a frame is looked at on every fifth frame only: a view without people
must not take four times as long as one with a face."""

FRAMES_A_BATCH = 4
"""Frames whose eyes are looked at together, and frames decoded ahead. Together they are how late the content gate learns where
the faces are, so they stay well under its half second."""

DUPLICATE_OVERLAP = 0.5

MEASURED_SIZE_PX = 128

NOT_SEEN = "not seen: interpolated"
IN_A_DISSOLVE = "in a dissolve"


Detector = Callable[[Image], list[Detection]]

DETECTORS: Mapping[str, Callable[[], Detector]] = {
    "mediapipe": mediapipe_detector,
    "mtcnn": mtcnn_detector,
    "dlib": dlib_detector,
    "dlib-cnn": dlib_cnn_detector,
}
"""What `--detector` may name."""

WEIGHTS_OF_DETECTOR: Mapping[str, tuple[str, ...]] = {
    "mediapipe": (),
    "mtcnn": ("mtcnn_proposal", "mtcnn_refinement", "mtcnn_output"),
    "dlib": (),
    "dlib-cnn": ("dlib_cnn_detector",),
}
"""The optional weights that each uses."""


@dataclass(frozen=True)
class Networks:
    """The pretrained networks as plain callables: who is where, with which landmarks, and how that person looks.

    glance: a quicker `detect`, for frames in which a face is not expected.
    """

    detect: Detector
    glance: Detector
    landmarks: MeshLandmarker
    embed: Callable[[Image, FloatArray], FloatArray]


@dataclass(frozen=True)
class FrameFaces:
    """What one frame showed: its number and time, its thumbnail (for shot cuts) and its faces, best first, not yet linked."""

    frame: int
    time_seconds: float
    thumbnail: Image
    faces: tuple[Face, ...]


def load_networks(detector: str = "mediapipe") -> Networks:
    """The networks for `detector`. Raises BadInput that lists the choices, or names a weight that is missing."""
    check_detector(detector)
    detect = DETECTORS[detector]()
    return Networks(detect, getattr(detect, "glance", detect), mesh_landmarker(), dlib_embedder())


def check_detector(name: str) -> None:
    """Raises BadInput that lists the choices."""
    if name not in DETECTORS:
        raise BadInput(f"expected a detector out of {', '.join(DETECTORS)}, got {name!r}")


# ---- one pass over the frames ---------------------------------------------------------------------------------------------


def survey(
    frames: Iterable[FrameRecord], source: str, networks: Networks, previous: FrameFaces | None = None
) -> Iterator[FrameFaces]:
    """Finds the faces of each frame, with measured (unsmoothed) alignments; frames are decoded ahead in a second thread.

    previous: the frame before the first, where an interrupted survey goes on. Embeddings are measured where a face or the
    scene is new and on every fifth frame; elsewhere they are NaN. The lids are refined for `FRAMES_A_BATCH` frames at once; a
    survey that goes on after one of the batches of `in_batches` gives the same to the last bit.
    """
    waiting: list[_Seen] = []
    before = None if previous is None else (previous.thumbnail, bool(previous.faces))
    for record in read_ahead(frames, FRAMES_A_BATCH):
        small = thumbnail(record.eight_bit)
        is_scene_new = before is None or has_scene_changed(before[0], small)
        is_calm = before is not None and not (before[1] or is_scene_new or record.index % LOOK_EVERY == 0)
        meshes = _believable_meshes(record.eight_bit, networks.glance if is_calm else networks.detect, networks)
        waiting.append(_Seen(record, small, is_scene_new, meshes))
        before = small, bool(meshes)
        if _ends_batch(record.index):
            answers = list(_measured(waiting, source, networks, previous))
            yield from answers
            waiting, previous = [], answers[-1]
    yield from _measured(waiting, source, networks, previous)


def in_batches(answers: Iterable[FrameFaces]) -> Iterator[list[FrameFaces]]:
    """The answers of a survey as they belong together; who stores them stores a batch as a whole or not at all."""
    batch: list[FrameFaces] = []
    for each in answers:
        batch.append(each)
        if _ends_batch(each.frame):
            yield batch
            batch = []
    if batch:
        yield batch


def _ends_batch(frame: int) -> bool:
    return frame % FRAMES_A_BATCH == FRAMES_A_BATCH - 1


@dataclass(frozen=True)
class _Seen:
    """A frame whose faces have a mesh, but no lids yet."""

    record: FrameRecord
    thumbnail: Image
    is_scene_new: bool
    meshes: list[tuple[Detection, FloatArray]]


def _measured(seen: Sequence[_Seen], source: str, networks: Networks, previous: FrameFaces | None) -> Iterator[FrameFaces]:
    """The answers for frames in a row; `previous` is the one for the frame before them."""
    images = [each.record.eight_bit for each in seen for _ in each.meshes]
    meshes = [points for each in seen for _, points in each.meshes]
    refined = iter(networks.landmarks.refine_lids(images, meshes) if meshes else ())
    for each in seen:
        known = () if previous is None or each.is_scene_new or each.record.index % EMBED_EVERY == 0 else previous.faces
        faces = [face_from_mesh(each.record, source, detection, points, next(refined)) for detection, points in each.meshes]
        faces = [
            face
            if _is_among(face.box, known)
            else replace(face, embedding=networks.embed(each.record.eight_bit, face.landmarks))
            for face in faces
        ]
        previous = FrameFaces(each.record.index, each.record.time_seconds, each.thumbnail, tuple(faces))
        yield previous


def read_ahead(frames: Iterable[Made], num_frames: int = 8) -> Iterator[Made]:
    """The same frames, made (decoded, say) in a background thread up to `num_frames` before they are asked for."""
    queue: Queue[Made | BaseException | None] = Queue(num_frames)
    is_wanted = True

    def decode() -> None:
        try:
            for frame in frames:
                queue.put(frame)
                if not is_wanted:
                    return
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    thread = Thread(target=decode, name="decode", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_wanted = False
        while thread.is_alive():
            with suppress(Empty):
                queue.get(timeout=0.05)


def face_from_mesh(
    record: FrameRecord, source: str, detection: Detection, points: FloatArray, refined: FloatArray | None = None
) -> Face:
    """The row for a face whose mesh (468, 3) lies in the frame: aligned, posed, its picture measured; no embedding yet.

    refined: the same mesh with the lids refined, which is what is stored.
    """
    refined = points if refined is None else refined
    landmarks = refined[:, :2]
    face_from_frame = align_mesh(points)
    sharp, bright, clipped = _picture_measures(record.eight_bit, landmarks, face_from_frame)
    return Face(
        source=source,
        frame=record.index,
        time_seconds=record.time_seconds,
        box=_box_around(landmarks),
        score=detection.score,
        landmarks=landmarks,
        face_from_frame=face_from_frame,
        raw_face_from_frame=face_from_frame,
        pose=head_pose(points),
        embedding=np.full(128, np.nan),
        mouth_openness=mouth_openness(refined),
        eye_openness=eye_openness(refined),
        sharpness=sharp,
        brightness=bright,
        exposure=clipped,
    )


def _believable_meshes(image: Image, detect: Detector, networks: Networks) -> list[tuple[Detection, FloatArray]]:
    """Each face once, with its mesh (468, 3): two detections can lead the mesh to the same one."""
    found: list[tuple[Detection, FloatArray]] = []
    for detection in detect(image):
        mesh = believable_mesh(image, detection, networks.landmarks.mesh)
        if mesh is not None and not _overlaps(_box_around(mesh.points), [_box_around(points) for _, points in found]):
            found.append((detection, mesh.points))
    return found


def _is_among(box: Box, faces: Sequence[Face]) -> bool:
    return _overlaps(box, [face.box for face in faces])


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    return any(intersection_over_union(_corners(box), _corners(other)) > DUPLICATE_OVERLAP for other in others)


def _box_around(points: FloatArray) -> Box:
    left, top = points[:, :2].min(axis=0)
    right, bottom = points[:, :2].max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom))


def _corners(box: Box) -> FloatArray:
    return np.array([box.left, box.top, box.right, box.bottom])


def _picture_measures(image: Image, landmarks: FloatArray, face_from_frame: Matrix) -> tuple[float, float, float]:
    """Sharpness, brightness and exposure of the aligned face."""
    crop_from_frame = compose(crop_from_face(FACE, MEASURED_SIZE_PX), face_from_frame)
    crop = warp_image(image, crop_from_frame, (MEASURED_SIZE_PX, MEASURED_SIZE_PX))
    outline = apply(crop_from_frame, landmarks[list(FACE_OVAL)])
    face = polygon_mask(outline, (MEASURED_SIZE_PX, MEASURED_SIZE_PX))
    return sharpness(crop), brightness(crop, face), clipped_share(crop, face)


# ---- shots, tracks and steady alignments ----------------------------------------------------------------------------------


def link_and_smooth(surveyed: Sequence[FrameFaces], first_track: int = 0) -> list[Face]:
    """All faces of one clip in order of time, with shots, tracks, steady alignments and landmarks, short gaps bridged.

    surveyed: every frame of the clip, in order. Tracks are counted from `first_track`. Measured alignments stay in
    `raw_face_from_frame`; `landmarks` are smoothed. Faces that nobody saw (`is_bridged`: up to 12 frames within a track) have
    score 0, and neither embedding nor measures of their picture (NaN); they are not kept for training, nor are faces in a
    dissolve, but both have an alignment to swap with.
    """
    if not surveyed:
        return []
    shots = find_shots(np.stack([each.thumbnail for each in surveyed]))
    places = [place for place, each in enumerate(surveyed) for _ in each.faces]
    faces = [_in_its_shot(face, shots, place) for place, each in enumerate(surveyed) for face in each.faces]
    boxes = np.array([_corners(face.box) for face in faces]).reshape(-1, 4)
    embeddings = np.array([face.embedding for face in faces], np.float64).reshape(-1, 128)
    tracks = link_tracks(places, [face.shot for face in faces], boxes, embeddings)
    linked: list[Face] = []
    for track in range(int(tracks.max(initial=-1)) + 1):
        rows = np.flatnonzero(tracks == track)
        followed = {places[row]: replace(faces[row], track=first_track + track) for row in rows}
        linked += _smooth_track(followed, surveyed)
    return sorted(linked, key=lambda face: (face.frame, face.track))


def jitter_px(faces: Sequence[Face]) -> tuple[float, float]:
    """How far linked faces tremble about their course, in frame pixels: (as measured, as smoothed).

    Root mean square over tracks, frames and five points of the face (see `squared_jitter_px`); 0 where no face is seen in five
    frames in a row.
    """
    sums = np.zeros((2, 2))
    tracks: dict[int, list[Face]] = {}
    for face in faces:
        tracks.setdefault(face.track, []).append(face)
    for followed in tracks.values():
        is_seen = np.array([not face.is_bridged for face in followed])
        sums += [
            squared_jitter_px(np.stack([face.raw_face_from_frame for face in followed]), is_seen),
            squared_jitter_px(np.stack([face.face_from_frame for face in followed]), is_seen),
        ]
    before, after = np.sqrt(sums[:, 0] / np.maximum(sums[:, 1], 1))
    return float(before), float(after)


def _in_its_shot(face: Face, shots: Shots, place: int) -> Face:
    if shots.is_mixed[place]:
        face = replace(face, kept=False, reason=IN_A_DISSOLVE)
    return replace(face, shot=int(shots.shot[place]))


def _smooth_track(followed: dict[int, Face], surveyed: Sequence[FrameFaces]) -> list[Face]:
    """The faces of one track (by their frames' places), steady and without gaps."""
    places = range(min(followed), max(followed) + 1)
    is_seen = np.array([place in followed for place in places])
    known = [followed.get(place) for place in places]
    raw = np.stack([face.raw_face_from_frame if face else np.full((2, 3), np.nan) for face in known])
    measured = np.stack([face.landmarks if face else np.full((468, 2), np.nan) for face in known])
    steady = smooth_similarities(raw, is_seen)
    landmarks = smooth_landmarks(measured, raw, steady, is_seen)
    return [
        replace(followed[place], face_from_frame=steady[row], landmarks=landmarks[row])
        if is_seen[row]
        else _bridge(followed, surveyed[place], place, steady[row], landmarks[row])
        for row, place in enumerate(places)
    ]


def _bridge(
    followed: dict[int, Face], unseen: FrameFaces, place: int, face_from_frame: FloatArray, landmarks: FloatArray
) -> Face:
    """The row for a face that nobody saw in this frame, between those of its track before and after."""
    before, after = max(each for each in followed if each < place), min(each for each in followed if each > place)
    share = (place - before) / (after - before)
    poses = zip(followed[before].pose, followed[after].pose, strict=True)
    yaw, pitch, roll = (earlier + share * ((later - earlier + 180) % 360 - 180) for earlier, later in poses)
    return replace(
        followed[before],
        frame=unseen.frame,
        time_seconds=unseen.time_seconds,
        box=_box_around(landmarks),
        score=0.0,
        landmarks=landmarks,
        face_from_frame=face_from_frame,
        raw_face_from_frame=face_from_frame,
        pose=(yaw, pitch, roll),
        embedding=np.full(128, np.nan),
        sharpness=float("nan"),
        mouth_openness=float("nan"),
        eye_openness=float("nan"),
        brightness=float("nan"),
        exposure=float("nan"),
        is_bridged=True,
        kept=False,
        reason=NOT_SEEN,
        id=0,
    )
