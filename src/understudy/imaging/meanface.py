"""The mean face, the parts of the landmark mesh, the alignment of a face to the mean, and its head pose.

Convention: face units. The mean face's brow-to-mouth box (iBUG points 17..67) spans x from 0 to 1; y is in the same unit, with
the box centred on 0.5; z is in the same unit, positive towards the camera. "Left" and "right" are those of the image.
The numbers in meanface.json are means over the virtual actors' near-frontal frames, symmetric (`tools/make_mean_face.py`).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.pose import fit_rotation, pose_from_rotation
from understudy.imaging.similarity import Matrix, fit_similarity
from understudy.types import FloatArray

# ---- parts of the mesh (indices into the 468 landmarks) -------------------------------------------------------------------

LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""Closed contours, in order (the brows' upper edge outwards to inwards, then the lower edge back)."""

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline from mid-forehead (10) over image right to the chin (152) and back."""

RIGID_POINTS = (
    70, 53, 52, 65, 55, 285, 295, 282, 283, 300,
    168, 197, 5, 4, 2, 97, 326, 240, 460, 48, 278,
    33, 161, 160, 159, 158, 157, 133, 153, 145, 144, 362, 384, 385, 386, 387, 388, 263, 373, 374, 380,
)  # fmt: skip
"""What alignment and head pose rest on: brows, nose and eyes; no jaw, no lips. Of the sets tried it agrees best with
`align_ibug` on the virtual actors' true landmarks up to 45 degrees of yaw: 0.0125 face units apart (RMS over points 17..67)."""

IBUG_FROM_MESH = (
    162, 234, 93, 215, 172, 169, 140, 148, 152, 377, 369, 394, 397, 435, 323, 454, 389,
    70, 53, 52, 65, 55, 285, 295, 282, 283, 300,
    168, 197, 5, 4, 240, 97, 2, 326, 460,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""The mesh point nearest to each of the 68 iBUG points (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth)."""

IBUG_RIGID = tuple(range(17, 48))
"""The iBUG points that alignment rests on: brows, nose, eyes."""


FOREHEAD_MIDDLE, NOSE_ROOT = 10, 168
FOREHEAD_SHARES = {10: 1, 338: 1, 109: 1, 297: 0.9, 67: 0.9, 332: 0.75, 103: 0.75, 284: 0.5, 54: 0.5}
"""The upper rim of the mesh, and how much of the rise each of its points takes part in."""

FOREHEAD_RISE = 0.2

CHIN, CHEEKS = 152, (234, 454)
JAW_DROP = 0.1
"""In profile, as a share of the way from the nose's root to the chin."""


# ---- the mean face --------------------------------------------------------------------------------------------------------


def mean_face() -> NDArray[np.float64]:
    """(468, 3) the mean mesh in face units; a fresh copy."""
    return _arrays()["mean_face"].copy()


def mean_face_ibug() -> NDArray[np.float64]:
    """(68, 2) the mean iBUG landmarks in face units; a fresh copy."""
    return _arrays()["mean_face_ibug"].copy()


def raise_forehead(landmarks: FloatArray) -> NDArray[np.float64]:
    """Landmarks (468, 2 or 3) whose uppermost points stand at mid-forehead; a copy.

    The mesh ends a thumb's breadth above the brows. Each point of its upper rim is moved along the line from the nose's root to
    the rim's middle, which holds for a turned head too. Against the virtual actors' true masks the overlap rises from 0.90 to
    0.94 for bea, and stays at 0.86 for abel, whose hair begins there.
    """
    raised = np.array(landmarks, np.float64)
    up = raised[FOREHEAD_MIDDLE] - raised[NOSE_ROOT]
    for point, share in FOREHEAD_SHARES.items():
        raised[point] += FOREHEAD_RISE * share * up
    return raised


def face_outline(landmarks: FloatArray) -> NDArray[np.float64]:
    """Landmarks (468, 2) that reach as far as the face does: to mid-forehead, and in profile down to the jaw; a copy.

    Of a head that is turned away the mesh draws the jaw too high, of 60 degrees by a twelfth of the way from the nose's root to
    the chin (true landmarks of both virtual actors). Lowered, the overlap with their true masks rises beyond 40 degrees from
    0.82 to 0.87 and from 0.86 to 0.90, between 20 and 40 from 0.87 to 0.89 and from 0.93 to 0.94; in front it stays.
    """
    outline = raise_forehead(landmarks)
    drop = JAW_DROP * _profile_share(outline) * (outline[CHIN] - outline[NOSE_ROOT])
    for point, share in _jaw_shares().items():
        outline[point] += share * drop
    return outline


def _profile_share(landmarks: FloatArray) -> float:
    """0 for a head that is turned by less than some 15 degrees, 1 for one in profile; landmarks (468, 2).

    It is how far the middle between the cheeks lies from the nose's root, as the picture shows them.
    """
    down = landmarks[CHIN] - landmarks[NOSE_ROOT]
    sideways = np.array([-down[1], down[0]])
    left, right = ((landmarks[cheek] - landmarks[NOSE_ROOT]) @ sideways for cheek in CHEEKS)
    return float(np.clip((abs(left + right) / max(abs(left - right), 1e-9) - 0.35) / 0.55, 0, 1))


@cache
def _jaw_shares() -> dict[int, float]:
    """The outline's points below the mouth's height, and how much of the drop each takes part in: the chin in all."""
    face = mean_face()[:, :2]
    down = face[CHIN] - face[NOSE_ROOT]
    heights = (face - face[NOSE_ROOT]) @ down / (down @ down)
    shares = {point: float(np.clip((heights[point] - 0.45) / 0.45, 0, 1)) for point in FACE_OVAL}
    return {point: share for point, share in shares.items() if share}


def mirror_points(points: FloatArray, width: float) -> NDArray[np.float64]:
    """A mesh (468, 2 or 3) as it lies in the mirrored picture of that width: each point is again what its index says."""
    mirrored = np.asarray(points, np.float64)[_arrays()["mirror"]]
    mirrored[:, 0] = width - mirrored[:, 0]
    return mirrored


def mirrored_index(points: tuple[int, ...]) -> tuple[int, ...]:
    """The mesh points that lie where these do on the other half of the face."""
    mirror = _arrays()["mirror"]
    return tuple(int(mirror[point]) for point in points)


@cache
def _arrays() -> dict[str, NDArray[Any]]:
    loaded = json.loads(files("understudy.imaging").joinpath("meanface.json").read_text("utf-8"))
    return {name: np.array(numbers) for name, numbers in loaded.items()}


# ---- alignment and pose ---------------------------------------------------------------------------------------------------


def align_mesh(landmarks: FloatArray) -> Matrix:
    """`face_from_frame` of a mesh (468, 2 or 3) in frame pixels."""
    rigid = list(RIGID_POINTS)
    return fit_similarity(np.asarray(landmarks)[rigid, :2], mean_face()[rigid, :2])


def align_ibug(landmarks: FloatArray) -> Matrix:
    """`face_from_frame` of the 68 iBUG landmarks (68, 2) in frame pixels."""
    rigid = list(IBUG_RIGID)
    return fit_similarity(np.asarray(landmarks)[rigid], mean_face_ibug()[rigid])


def head_pose(landmarks: FloatArray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees (signs as in `Face`) of a mesh (468, 3): how the mean face is turned to fit it best.

    Mean errors on the virtual actors, up to 45 degrees of yaw: 2.1, 3.7 and 0.6 degrees.
    """
    y_up, rigid = np.array([1.0, -1.0, 1.0]), list(RIGID_POINTS)
    rotation, _ = fit_rotation(mean_face()[rigid] * y_up, np.asarray(landmarks, np.float64)[rigid] * y_up)
    return pose_from_rotation(rotation)
