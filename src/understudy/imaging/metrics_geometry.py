"""Geometry: landmarks, head pose, expression and identity of a swap against those of the truth.

Convention: landmark arrays are (T, N, 2) in face units, one row a frame, NaN where no face was found. Meshes are (T, 468, 3),
x right, y down, z towards the camera, all in one unit. Distances are percent of the mean face's outer eye corner distance,
which is a constant: the eye distance seen in a frame shrinks as the head turns, and would make every profile look bad.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.meanface import RIGID_POINTS, mean_face
from understudy.imaging.pose import fit_rotation, pose_from_rotation
from understudy.types import FloatArray

_EYE_CORNERS = (33, 263)
"""Mesh indices of the outer eye corners."""

_LEAST_SPREAD = 0.004
"""Face units: a measure that varies less than this in the truth is not performed there; its gain would be noise over noise."""

EXPRESSIONS = ("mouth", "smile", "brow", "eyes")
"""What `expression_measures` measures, in order: mouth opening, mouth corners, brow height, eye opening."""


def eye_distance() -> float:
    """The mean face's distance between outer eye corners, in face units."""
    face = mean_face()
    return float(np.linalg.norm(face[_EYE_CORNERS[0], :2] - face[_EYE_CORNERS[1], :2]))


def landmark_errors_percent(points: FloatArray, true_points: FloatArray) -> NDArray[np.float64]:
    """Mean distance of corresponding landmarks, a figure for each frame: (T,)."""
    distances = np.linalg.norm(np.asarray(points, np.float64) - true_points, axis=-1)
    return np.asarray(100 * distances.mean(axis=-1) / eye_distance())


# ---- pose and expression --------------------------------------------------------------------------------------------------


def frontal(meshes: FloatArray, shown: FloatArray | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Meshes turned to face the camera, in face units (T, 468, 3), and the head rotations (T, 3, 3) they were turned from.

    Rotations are in the axes of `imaging.pose` (y up), fitted to the mean face's rigid points; NaN where the mesh is.
    shown: what is turned in the place of `meshes`: the same heads with points that should not move the fit (refined lids).
    """
    shown = meshes if shown is None else shown
    rigid, y_up = list(RIGID_POINTS), np.array([1.0, -1.0, 1.0])
    target = mean_face()[rigid].astype(np.float64)
    target_centred = (target - target.mean(0)) * y_up
    turned, rotations = np.full(meshes.shape, np.nan), np.full((len(meshes), 3, 3), np.nan)
    for frame in np.flatnonzero(np.isfinite(meshes).all(axis=(1, 2))):
        centred = (np.asarray(meshes[frame], np.float64) - meshes[frame][rigid].mean(0)) * y_up
        rotation, _ = fit_rotation(target_centred, centred[rigid])
        facing = centred[rigid] @ rotation
        scale = np.sum(target_centred * facing) / np.sum(facing**2)
        drawn = (np.asarray(shown[frame], np.float64) - meshes[frame][rigid].mean(0)) * y_up
        turned[frame], rotations[frame] = scale * (drawn @ rotation) * y_up + target.mean(0), rotation
    return turned, rotations


def yaw_pitch_roll_degrees(rotations: FloatArray) -> NDArray[np.float64]:
    """(T, 3) of head rotations (T, 3, 3), NaN where they are; signs as in `imaging.pose`."""
    return np.array([pose_from_rotation(rotation) for rotation in rotations]).reshape(-1, 3)


def pose_errors_degrees(rotations: FloatArray, true_rotations: FloatArray) -> NDArray[np.float64]:
    """The angle between two head rotations, a figure for each frame: (T,)."""
    difference = np.swapaxes(np.asarray(true_rotations, np.float64), 1, 2) @ rotations
    cosine = (np.trace(difference, axis1=1, axis2=2) - 1) / 2
    return np.asarray(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def expression_measures(frontal_meshes: FloatArray) -> NDArray[np.float64]:
    """The four `EXPRESSIONS` of each frame, in face units: (T, 4); larger is more open, wider, higher."""
    mesh = np.asarray(frontal_meshes, np.float64)

    def gap(first: int, second: int) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(mesh[:, first] - mesh[:, second], axis=-1))

    mouth = (gap(81, 178) + gap(13, 14) + gap(311, 402)) / 3
    smile = gap(61, 291) + mesh[:, [13, 14], 1].mean(1) - mesh[:, [61, 291], 1].mean(1)
    brow = mesh[:, [33, 133, 362, 263], 1].mean(1) - mesh[:, [70, 63, 105, 66, 107, 300, 293, 334, 296, 336], 1].mean(1)
    eyes = (gap(160, 144) + gap(159, 145) + gap(158, 153) + gap(385, 380) + gap(386, 374) + gap(387, 373)) / 6
    return np.stack([mouth, smile, brow, eyes], axis=1)


def gaze_measures(irises: FloatArray, meshes: FloatArray) -> NDArray[np.float64]:
    """How far the eyes look to image right of straight ahead (of where the eye's corners face), in face units: (T,).

    irises: (T, 2, 2), centres in the pixels of `meshes` (T, 468, 3), the eye at image left first. The iris's place between the
    corners, as a share of their distance, hardly changes as the head turns; the mean face's eye makes a length of it.
    """
    mesh, face = np.asarray(meshes, np.float64)[..., :2], mean_face()
    places = []
    for eye, (left, right) in enumerate(((33, 133), (362, 263))):
        axis = mesh[:, right] - mesh[:, left]
        length = np.maximum((axis**2).sum(axis=-1), 1e-9)
        share = ((irises[:, eye] - (mesh[:, left] + mesh[:, right]) / 2) * axis).sum(axis=-1) / length
        places.append(share * np.linalg.norm(face[right, :2] - face[left, :2]))
    return np.asarray(np.mean(places, axis=0))


def gain_and_r2(pairs: FloatArray) -> tuple[float, float]:
    """Slope and R² of the line that predicts a swap's measure from the truth's; `pairs` (T, 2): swap, truth; NaN rows skipped.

    Each one's neutral drops out as the line's offset. 1 = as much expression as in the truth, 0.5 = half of it. Noise in the
    truth's measure pulls the slope down a little; the re-encoded truth's own gain says by how much. NaN where the truth's
    measure hardly varies.
    """
    known = pairs[np.isfinite(pairs).all(axis=1)]
    if len(known) < 3:
        return float("nan"), float("nan")
    swap, truth = (known - known.mean(0)).T
    if truth.std() < _LEAST_SPREAD:
        return float("nan"), float("nan")
    gain = float(swap @ truth / (truth @ truth))
    return gain, float((swap @ truth) ** 2 / ((truth @ truth) * (swap @ swap))) if swap @ swap > 0 else 0.0


def mean_gain(rows: FloatArray) -> float:
    """The mean gain of those of several measures that the truth performs; `rows` (T, 2, K): swap and truth of K measures."""
    gains = np.array([gain_and_r2(rows[:, :, k])[0] for k in range(rows.shape[2])])
    return float(gains[~np.isnan(gains)].mean()) if (~np.isnan(gains)).any() else float("nan")


# ---- identity -------------------------------------------------------------------------------------------------------------


def identity_scores(embeddings: FloatArray, plate_mean: FloatArray, performer_mean: FloatArray) -> NDArray[np.float64]:
    """[d(out, A) − d(out, B)] / d(A, B) of each embedding (T, D): +1 is the performer B, −1 the plate's A; (T,).

    plate_mean, performer_mean: (D,), each person's mean embedding.
    """
    means = (plate_mean, performer_mean)
    to_plate, to_performer = (np.linalg.norm(np.asarray(embeddings, np.float64) - mean, axis=1) for mean in means)
    apart = float(np.linalg.norm(np.asarray(plate_mean, np.float64) - performer_mean))
    return np.asarray((to_plate - to_performer) / apart) if apart > 0 else np.full(len(embeddings), np.nan)
