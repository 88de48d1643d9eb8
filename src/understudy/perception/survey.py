"""Finds every face of a clip: the one pass over the frames that runs the networks, which extraction and conversion begin with.

What follows the faces through their shots (follow.py) then needs only its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

import numpy as np

from understudy.imaging.facemeasures import brightness, clipped_share, eye_openness, mouth_openness, share_outside, sharpness
from understudy.imaging.framing import FACE, crop_from_face
from understudy.imaging.masks import polygon_mask
from understudy.imaging.meanface import FACE_OVAL, align_mesh, head_pose
from understudy.imaging.similarity import Matrix, apply, compose
from understudy.imaging.smoothing import CENTRE
from understudy.imaging.tracking import has_scene_changed, intersection_over_union, thumbnail
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord
from understudy.perception.detect import FaceDetector, mediapipe_detector
from understudy.perception.detect_dlib import dlib_aligner, dlib_cnn_detector, dlib_detector
from understudy.perception.embed import dlib_embedder
from understudy.perception.iris import RefinedEyes
from understudy.perception.landmarks import Landmarks, MeshLandmarker, mesh_landmarker
from understudy.perception.mtcnn import mtcnn_detector
from understudy.perception.plausible import believable_mesh, continued_mesh
from understudy.types import BadInput, Box, Detection, Face, FloatArray, Image

Made = TypeVar("Made")

EMBED_EVERY = 5
"""Identity is decided by tracks, so a face that is being followed is embedded on every fifth frame only."""

LOOK_EVERY = 5
"""Where the frame before showed nobody, every part of a frame is looked at on every fifth frame only: a view without people
must not take four times as long as one with a face."""

FRAMES_A_BATCH = 4
"""Frames that the networks look at together, which takes a fifth less time, and frames decoded ahead. Together they are how
late the content gate learns where the faces are, so they stay well under its half second."""

DUPLICATE_OVERLAP = 0.5

SAME_PLACE = 0.5
"""A face whose middle lies within so many face units of where one was a frame before is held for that one."""

MEASURED_SIZE_PX = 128

CUT_OFF = "cut off by the picture's edge"
MOST_OUTSIDE = 0.15
"""A face of which more lies beyond the picture's edge is not kept for training: its crop is filled up with streaks. A close-up
that cuts off some forehead or chin is kept."""

REUSED_BYTES = 31 * 2**20
"""Memory of blocks up to this size is used again instead of given back: just below the most that glibc takes on by itself."""

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

Aligner = Callable[[Image, FloatArray], Matrix]


def aligned_by_mesh(image: Image, mesh: FloatArray) -> Matrix:
    """`face_from_frame` of a mesh (468, 2 or 3) in the frame."""
    return align_mesh(mesh)


LANDMARKS: Mapping[str, Callable[[], Aligner]] = {"mediapipe": lambda: aligned_by_mesh, "dlib-68": dlib_aligner}
"""What `--landmarks` may name: the points that alignment rests on. The mesh is measured whichever it is."""

WEIGHTS_OF_LANDMARKS: Mapping[str, tuple[str, ...]] = {"mediapipe": (), "dlib-68": ("dlib_68_landmarks",)}
"""The optional weights that each uses."""


@dataclass(frozen=True)
class Networks:
    """The pretrained networks as plain callables: who is where, with which landmarks, and how that person looks.

    detect(image) is glance([image]) and, where that sees nobody, search(image): a slower look at every part of the frame.
    """

    detect: Detector
    glance: Callable[[Sequence[Image]], list[list[Detection]]]
    search: Detector
    landmarks: MeshLandmarker
    embed: Callable[[Image, FloatArray], FloatArray]
    align: Aligner = aligned_by_mesh


@dataclass(frozen=True)
class FrameFaces:
    """What one frame showed: its number and time, its thumbnail (for shot cuts) and its faces, best first, not yet linked."""

    frame: int
    time_seconds: float
    thumbnail: Image
    faces: tuple[Face, ...]


def load_networks(detector: str = "mediapipe", landmarks: str = "mediapipe") -> Networks:
    """The networks of these names. Raises BadInput that lists the choices, or names a weight that is missing."""
    check_choices(detector, landmarks)
    _reuse_memory()
    detect = DETECTORS[detector]()
    mesh, embed, align = mesh_landmarker(), dlib_embedder(), LANDMARKS[landmarks]()
    if isinstance(detect, FaceDetector):
        return Networks(detect, detect.glance, detect.search, mesh, embed, align)
    return Networks(detect, lambda images: [detect(image) for image in images], lambda image: [], mesh, embed, align)


def check_choices(detector: str, landmarks: str) -> None:
    """Raises BadInput that lists the choices."""
    if detector not in DETECTORS:
        raise BadInput(f"expected a detector out of {', '.join(DETECTORS)}, got {detector!r}")
    if landmarks not in LANDMARKS:
        raise BadInput(f"expected landmarks out of {', '.join(LANDMARKS)}, got {landmarks!r}")


def _reuse_memory() -> None:
    """Has the C library keep the memory of a layer's answers for the next layer's.

    By default glibc gives back each block over 128 KiB as it is freed, and gets it anew, zeroed page by page: a tenth of the
    networks' time. It raises that limit to the size of the largest block that it ever gave back, so it is shown one. Elsewhere
    this does nothing.
    """
    np.empty(REUSED_BYTES, np.uint8)


# ---- one pass over the frames ---------------------------------------------------------------------------------------------


def survey(
    frames: Iterable[FrameRecord], source: str, networks: Networks, previous: FrameFaces | None = None
) -> Iterator[FrameFaces]:
    """Finds the faces of each frame, with measured (unsmoothed) alignments; frames are decoded ahead in a second thread.

    previous: the frame before the first, where an interrupted survey goes on. Embeddings are measured where a face or the
    scene is new and on every fifth frame; elsewhere they are NaN. The networks look at `FRAMES_A_BATCH` frames at once; a
    survey that goes on after one of the batches of `in_batches` gives the same to the last bit.
    """
    for records in _batches(read_ahead(frames, FRAMES_A_BATCH), lambda record: record.index):
        answers = list(_measured(_looked_at(records, networks, previous), source, networks, previous))
        yield from answers
        previous = answers[-1]


def in_batches(answers: Iterable[FrameFaces]) -> Iterator[list[FrameFaces]]:
    """The answers of a survey as they belong together; who stores them stores a batch as a whole or not at all."""
    return _batches(answers, lambda answer: answer.frame)


def _batches(each_frame: Iterable[Made], number: Callable[[Made], int]) -> Iterator[list[Made]]:
    """Frames that are looked at together: wherever the reading starts, the same ones."""
    batch: list[Made] = []
    for each in each_frame:
        batch.append(each)
        if number(each) % FRAMES_A_BATCH == FRAMES_A_BATCH - 1:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class _Seen:
    """A frame whose faces have a mesh, but no lids and irises yet."""

    record: FrameRecord
    thumbnail: Image
    is_scene_new: bool
    meshes: list[tuple[Detection, FloatArray]]


def _looked_at(records: Sequence[FrameRecord], networks: Networks, previous: FrameFaces | None) -> list[_Seen]:
    """The meshes in frames in a row; `previous` is the answer for the frame before them."""
    images = [record.eight_bit for record in records]
    found = networks.glance(images)
    meshes = iter(_meshes(images, found, networks))
    before = (
        None
        if previous is None
        else (previous.thumbnail, [np.asarray(face.raw_face_from_frame, np.float64) for face in previous.faces])
    )
    seen: list[_Seen] = []
    for record, image, detections in zip(records, images, found, strict=True):
        small = thumbnail(image)
        is_scene_new = before is None or has_scene_changed(before[0], small)
        is_calm = before is not None and not (before[1] or is_scene_new or record.index % LOOK_EVERY == 0)
        looks = [(detection, next(meshes)) for detection in detections]
        if not looks and not is_calm:
            hidden = networks.search(image)
            looks = list(zip(hidden, _meshes([image], [hidden], networks), strict=True))
        past = before[1] if before and not is_scene_new else []
        seen.append(_Seen(record, small, is_scene_new, _believable_meshes(image, looks, past, networks)))
        before = small, [align_mesh(points) for _, points in seen[-1].meshes]
    return seen


def _meshes(images: Sequence[Image], found: Sequence[Sequence[Detection]], networks: Networks) -> list[Landmarks]:
    """The mesh of each detection of each image, one after the other."""
    detections = [detection for several in found for detection in several]
    shown = [image for image, several in zip(images, found, strict=True) for _ in several]
    return networks.landmarks.meshes(shown, detections) if detections else []


def _measured(seen: Sequence[_Seen], source: str, networks: Networks, previous: FrameFaces | None) -> Iterator[FrameFaces]:
    """The answers for frames in a row; `previous` is the one for the frame before them."""
    images = [each.record.eight_bit for each in seen for _ in each.meshes]
    meshes = [points for each in seen for _, points in each.meshes]
    refined = iter(networks.landmarks.refine_eyes(images, meshes) if meshes else ())
    for each in seen:
        known = () if previous is None or each.is_scene_new or each.record.index % EMBED_EVERY == 0 else previous.faces
        faces = [
            face_from_mesh(each.record, source, detection, points, next(refined), networks.align)
            for detection, points in each.meshes
        ]
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
    record: FrameRecord,
    source: str,
    detection: Detection,
    points: FloatArray,
    eyes: RefinedEyes | None = None,
    align: Aligner = aligned_by_mesh,
) -> Face:
    """The row for a face whose mesh (468, 3) lies in the frame: aligned, posed, its picture measured; no embedding yet.

    It is not kept where too much of it lies beyond the picture's edge. eyes: what the iris network sees of that mesh's, which
    is what is stored.
    """
    refined, irises = eyes or RefinedEyes(np.asarray(points, np.float64), np.full((2, 2), np.nan))
    landmarks = refined[:, :2]
    face_from_frame = align(record.eight_bit, points)
    sharp, bright, clipped = _picture_measures(record.eight_bit, landmarks, face_from_frame)
    height, width = record.image.shape[:2]
    is_cut_off = share_outside(landmarks, width, height) > MOST_OUTSIDE
    return Face(
        source=source,
        frame=record.index,
        time_seconds=record.time_seconds,
        box=box_around(landmarks),
        score=detection.score,
        landmarks=landmarks,
        face_from_frame=face_from_frame,
        raw_face_from_frame=face_from_frame,
        pose=head_pose(points),
        embedding=np.full(128, np.nan),
        mouth_openness=mouth_openness(refined),
        eye_openness=eye_openness(refined),
        irises=irises,
        sharpness=sharp,
        brightness=bright,
        exposure=clipped,
        kept=not is_cut_off,
        reason=CUT_OFF if is_cut_off else "",
    )


def _believable_meshes(
    image: Image, looks: Sequence[tuple[Detection, Landmarks]], past: Sequence[Matrix], networks: Networks
) -> list[tuple[Detection, FloatArray]]:
    """Each face once, with its mesh (468, 3): two detections can lead the mesh to the same one.

    past: how the faces of the frame before were aligned.
    """
    found: list[tuple[Detection, FloatArray]] = []
    for detection, look in looks:
        mesh = believable_mesh(image, detection, look, networks.landmarks.mesh, networks.landmarks.presences)
        if mesh is None:
            continue
        if (there := _place_of(mesh.points, past)) is not None:
            mesh = continued_mesh(image, mesh, there, networks.landmarks.mesh)
        if not _overlaps(box_around(mesh.points), [box_around(points) for _, points in found]):
            found.append((detection, mesh.points))
    return found


def _place_of(points: FloatArray, past: Sequence[Matrix]) -> Matrix | None:
    """The alignment of the face that was where this mesh (468, 3) is; None where nobody was."""
    middle = points[:, :2].mean(axis=0, keepdims=True)
    distances = [float(np.linalg.norm(apply(matrix, middle) - CENTRE)) for matrix in past]
    nearest = int(np.argmin(distances)) if distances else 0
    return past[nearest] if distances and distances[nearest] < SAME_PLACE else None


def _is_among(box: Box, faces: Sequence[Face]) -> bool:
    return _overlaps(box, [face.box for face in faces])


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    return any(intersection_over_union(corners(box), corners(other)) > DUPLICATE_OVERLAP for other in others)


def box_around(points: FloatArray) -> Box:
    """The smallest box that holds points (N, 2 or 3)."""
    left, top = points[:, :2].min(axis=0)
    right, bottom = points[:, :2].max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom))


def corners(box: Box) -> FloatArray:
    """(left, top, right, bottom)."""
    return np.array([box.left, box.top, box.right, box.bottom])


def _picture_measures(image: Image, landmarks: FloatArray, face_from_frame: Matrix) -> tuple[float, float, float]:
    """Sharpness, brightness and exposure of the aligned face."""
    crop_from_frame = compose(crop_from_face(FACE, MEASURED_SIZE_PX), face_from_frame)
    crop = warp_image(image, crop_from_frame, (MEASURED_SIZE_PX, MEASURED_SIZE_PX))
    outline = apply(crop_from_frame, landmarks[list(FACE_OVAL)])
    face = polygon_mask(outline, (MEASURED_SIZE_PX, MEASURED_SIZE_PX))
    return sharpness(crop), brightness(crop, face), clipped_share(crop, face)
