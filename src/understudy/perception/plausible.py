"""Decides whether a face mesh can be believed, and turns one that has locked on to a face the wrong way up.

The detector and the mesh were trained on faces that are more or less upright. Shown one upside down, both may agree on an
upright face that is not there. Its shape may fit a head as well as the face's own, but the network is far less sure of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from understudy.imaging.meanface import RIGID_POINTS, align_mesh, mean_face
from understudy.imaging.pose import fit_rotation
from understudy.imaging.similarity import Matrix, apply, invert, scale_of, similarity_from_parameters
from understudy.imaging.smoothing import has_jumped
from understudy.perception.landmarks import Landmarks
from understudy.types import Box, Detection, FloatArray, Image

LEAST_PRESENCE = 0.5
"""The mesh network's own threshold: below it the points mean nothing."""

UNDOUBTED_PRESENCE = 1 - 1e-5
"""The presence whose logit is 11.5. Over 200 faces, half of them upside down or coarse, it was 13.5 and more, mostly beyond 20,
where a face on its head was looked at the right way up, and at most 8.6 where it was not."""

MOST_MISFIT = 0.06
"""How far (face units) a mesh's rigid points may stay from the mean head: faces up to 0.048, grimaces behind a hand too."""

MOST_KEYPOINT_DISTANCE = 0.4
"""How far (face units) eyes and mouth of mesh and detector may lie apart on average; upside down they are 0.5 to 0.8 apart."""

_KEYPOINTS = ((33, 133), (362, 263), (4,), (13, 14), (234,), (454,))
"""Mesh indices whose means are the detector's keypoints: image-left eye, image-right eye, nose tip, mouth, ears."""


def believable_mesh(
    image: Image,
    detection: Detection,
    mesh: Landmarks,
    landmarks: Callable[[Image, Detection], Landmarks],
    presences: Callable[[Image, Sequence[Detection]], Sequence[float]],
) -> Landmarks | None:
    """The mesh of a detected face; None where the detection is no face or the mesh does not fit it.

    mesh: what `landmarks` gives for the detection. Where the network is not sure of it, it is tried again from the detection
    turned by 90, 180 and 270 degrees; but only those ways up at which a first look, `presences`, sees a face at all. Without
    one the points of that look mean nothing, nor does the square that the mesh would then be sought in.
    """
    if mesh.presence < UNDOUBTED_PRESENCE:
        turned = [turn(detection, np.pi / 2 * quarters) for quarters in (1, 2, 3)]
        seen = zip(turned, presences(image, turned), strict=True)
        tried = [landmarks(image, other) for other, presence in seen if presence >= LEAST_PRESENCE]
        undoubted = [other for other in tried if other.presence >= UNDOUBTED_PRESENCE]
        if undoubted:
            best = min(undoubted, key=lambda other: misfit(other.points))
            detection = detection_from_mesh(best.points, detection.score)
            mesh = landmarks(image, detection)  # once more, now from the right place
    return mesh if is_plausible(mesh, detection) else None


def continued_mesh(
    image: Image, mesh: Landmarks, past: Matrix, landmarks: Callable[[Image, Detection], Landmarks]
) -> Landmarks:
    """The mesh of a face that had the alignment `past` a frame before: its own or, where that jumped, one sought anew there.

    What was seen wrongly before and rightly now jumps as well, so the network itself must be sure of the one and not of the
    other. A jump that stays is left for the track to judge.
    """
    if mesh.presence >= UNDOUBTED_PRESENCE or not has_jumped(align_mesh(mesh.points), past):
        return mesh
    as_before = detection_from_mesh(apply(invert(past), mean_face()[:, :2]), mesh.presence)
    again = landmarks(image, as_before)
    is_better = again.presence >= UNDOUBTED_PRESENCE and is_plausible(again, as_before)
    return again if is_better and not has_jumped(align_mesh(again.points), past) else mesh


def is_plausible(mesh: Landmarks, detection: Detection) -> bool:
    """Whether the mesh is a face, shaped like a head, and lies where the detector saw eyes and mouth."""
    if mesh.presence < LEAST_PRESENCE or misfit(mesh.points) > MOST_MISFIT:
        return False
    of_mesh = detection_from_mesh(mesh.points, detection.score)
    apart_px = np.linalg.norm((of_mesh.keypoints - detection.keypoints)[[0, 1, 3]], axis=1).mean()
    return bool(apart_px * scale_of(align_mesh(mesh.points)) < MOST_KEYPOINT_DISTANCE)


def misfit(points: FloatArray) -> float:
    """How far (face units) the rigid points of a mesh (468, 3) stay from the mean head, turned but never mirrored to fit."""
    rigid = list(RIGID_POINTS)
    return fit_rotation(mean_face()[rigid], points[rigid])[1]


def detection_from_mesh(points: FloatArray, score: float) -> Detection:
    """What a detector would say of the face with this mesh (468, 2 or 3)."""
    (left, top), (right, bottom) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    keypoints = np.stack([points[list(indices), :2].mean(axis=0) for indices in _KEYPOINTS])
    return Detection(Box(float(left), float(top), float(right), float(bottom)), score, keypoints)


def turn(detection: Detection, angle_radians: float) -> Detection:
    """The detection with its keypoints turned about the middle of its box."""
    box = detection.box
    centre = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
    about_origin = similarity_from_parameters(0.0, angle_radians, 0.0, 0.0)
    return replace(detection, keypoints=apply(about_origin, detection.keypoints - centre) + centre)
