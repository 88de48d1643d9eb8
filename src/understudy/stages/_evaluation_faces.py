"""What the networks see of the faces: landmarks, pose, expression and identity of swap and truth, followed through the clip.

Every clip is looked at by the same networks in the same way, so that their own errors largely cancel; the noise floors say how
much remains. Neither network takes part in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from understudy.imaging import metrics_geometry, metrics_temporal
from understudy.imaging.meanface import IBUG_FROM_MESH
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import apply
from understudy.perception.plausible import LEAST_PRESENCE
from understudy.perception.survey import Networks
from understudy.types import Detection, FloatArray, Image

EMBED_EVERY = 3
"""Identity is measured on every third frame: neighbours tell nothing new."""

READABLE_YAW_DEGREES = 40.0
"""Beyond this the mesh guesses the far half of the face; such frames are left out of what is measured on it."""

_INNER, _RIGID, _JAW = slice(17, 68), slice(17, 48), slice(0, 17)


@dataclass(frozen=True)
class Sight:
    """A face as the networks see it in one frame: mesh (468, 3) in frame pixels, the same with lids as the iris network sees
    them, the irises' centres (2, 2), embedding (128,); NaN where there is none to be seen or it was not measured."""

    mesh: FloatArray = field(default_factory=lambda: np.full((468, 3), np.nan))
    refined: FloatArray = field(default_factory=lambda: np.full((468, 3), np.nan))
    irises: FloatArray = field(default_factory=lambda: np.full((2, 2), np.nan))
    embedding: FloatArray = field(default_factory=lambda: np.full(128, np.nan))


def look(frame: int, image: Image, detection: Detection | None, networks: Networks) -> Sight:
    """What is seen in a frame; `detection` is where its face must be, None where there is none to be seen."""
    if detection is None:
        return Sight()
    found = networks.landmarks(image, detection)
    if found.presence < LEAST_PRESENCE:
        return Sight()
    if frame % EMBED_EVERY:
        return Sight(found.points, found.refined, found.irises)
    return Sight(found.points, found.refined, found.irises, np.asarray(networks.embed(image, found.points), np.float64))


@dataclass(frozen=True)
class FaceMotion:
    """A clip's face in face units. points: (T, 68, 2) by the clip's own alignment; rotations: (T, 3, 3) of the head;
    expressions: (T, 4); gaze: (T,); embeddings: (T, 128); all NaN where the face was not seen."""

    points: FloatArray
    rotations: FloatArray
    expressions: FloatArray
    gaze: FloatArray
    embeddings: FloatArray


def motion(sight: Sight, face_from_frame: FloatArray) -> FaceMotion:
    """A frame's face in face units: all that is remembered of it, a tenth of its mesh."""
    mesh = np.asarray(sight.mesh, np.float64)
    frontal, rotations = metrics_geometry.frontal(mesh[None], np.asarray(sight.refined, np.float64)[None])
    gaze = metrics_geometry.gaze_measures(np.asarray(sight.irises, np.float64)[None], mesh[None])
    points = apply(np.asarray(face_from_frame), mesh[list(IBUG_FROM_MESH), :2])
    return FaceMotion(points[None], rotations, metrics_geometry.expression_measures(frontal), gaze, sight.embedding[None])


def joined(motions: Sequence[FaceMotion]) -> FaceMotion:
    """Motions in a row as one. Raises ValueError where there are none."""
    return FaceMotion(*(np.concatenate([getattr(each, name.name) for each in motions]) for name in fields(FaceMotion)))


def is_readable(reference: FaceMotion) -> NDArray[np.bool_]:
    """(T,) whether the reference's face is seen from so near the front that its mesh can be believed."""
    yaw = metrics_geometry.yaw_pitch_roll_degrees(reference.rotations)[:, 0]
    return np.abs(yaw) <= READABLE_YAW_DEGREES  # NaN, a face not seen, is not


# ---- figures --------------------------------------------------------------------------------------------------------------


def geometry(swap: FaceMotion, truth: FaceMotion) -> dict[str, Series]:
    """Landmarks, jaw, pose and expression of the swap against the truth."""
    readable = is_readable(truth)
    swap_measures, true_measures = (_only(readable, each.expressions) for each in (swap, truth))
    pairs = np.stack([swap_measures, true_measures], axis=1)  # T 2 K
    series = {
        "landmark_error_percent": Series(_only(readable, _landmark_errors(swap, truth, _INNER))),
        "jaw_error_percent": Series(_only(readable, _landmark_errors(swap, truth, _JAW))),
        "pose_error_degrees": Series(_only(readable, metrics_geometry.pose_errors_degrees(swap.rotations, truth.rotations))),
        "expression_gain": Series(pairs, "mean gain"),
    }
    gazes = _only(readable, np.stack([swap.gaze, truth.gaze], axis=1))
    series |= {"expression_gain_gaze": Series(gazes, "gain"), "expression_r2_gaze": Series(gazes, "r2")}
    for k, name in enumerate(metrics_geometry.EXPRESSIONS):
        series[f"expression_gain_{name}"] = Series(pairs[:, :, k], "gain")
        series[f"expression_r2_{name}"] = Series(pairs[:, :, k], "r2")
    return series


def performance_kept(swap: FaceMotion, plate: FaceMotion) -> dict[str, Series]:
    """Without a truth: pose and expression of the swap against the plate, each person's own bias and neutral taken out.

    Two people's landmarks differ by nature, so landmark errors mean nothing here.
    """
    series = {name: each for name, each in geometry(swap, plate).items() if name.startswith("expression")}
    angles = [metrics_geometry.yaw_pitch_roll_degrees(each.rotations) for each in (swap, plate)]
    apart = _only(is_readable(plate), angles[0] - angles[1])
    known = apart[np.isfinite(apart).all(axis=1)]
    bias = np.median(known, axis=0) if len(known) else np.zeros(3)
    series["pose_error_degrees"] = Series(np.linalg.norm(apart - bias, axis=1))
    return series


def steadiness(swap: FaceMotion, truth: FaceMotion, covered: NDArray[np.bool_] | None = None) -> dict[str, Series]:
    """What shakes in the swap and not in the truth, and how late the swap is.

    covered: (T,) the frames in which something hides part of the face, where that is known. On half a face the finder of
    landmarks guesses, and each guess is another one, so that even the plate trembles there.
    """
    readable = is_readable(truth)
    swap_points, true_points = (_only(readable, each.points) for each in (swap, truth))
    speeds = [metrics_temporal.accelerations_percent(points[:, _INNER]) for points in (swap_points, true_points)]
    excess = metrics_temporal.accelerations_percent(swap_points[:, _INNER] - true_points[:, _INNER])
    shake = metrics_temporal.similarity_accelerations(swap_points[:, _RIGID], true_points[:, _RIGID])
    free = readable if covered is None else readable & ~_beside(covered)
    free_speeds = [
        metrics_temporal.accelerations_percent(_only(free, points)[:, _INNER]) for points in (swap_points, true_points)
    ]
    lags = metrics_temporal.lagged(_only(readable, truth.expressions))
    late = np.concatenate([_only(readable, swap.expressions)[:, :, None], lags], axis=2)  # T K 1 + lags
    return {
        "jitter_ratio": Series(np.stack(speeds, axis=1), "ratio"),
        "free_jitter_ratio": Series(np.stack(free_speeds, axis=1), "ratio"),
        "excess_acceleration_percent": Series(excess, "root mean square"),
        "pumping_percent": Series(shake[:, 0], "root mean square"),
        "rolling_degrees": Series(shake[:, 1], "root mean square"),
        "shake_x_percent": Series(shake[:, 2], "root mean square"),
        "shake_y_percent": Series(shake[:, 3], "root mean square"),
        "lag_frames": Series(late, "lag"),
    }


def identity(swap: FaceMotion, plate_mean: FloatArray, performer_mean: FloatArray) -> dict[str, Series]:
    """Whose face it is: the score between the two people's mean embeddings, and the plain distance to the performer."""
    distances = np.linalg.norm(swap.embeddings - performer_mean, axis=1)
    return {
        "identity_score": Series(metrics_geometry.identity_scores(swap.embeddings, plate_mean, performer_mean)),
        "identity_distance": Series(distances),
    }


def mean_embedding(track: FaceMotion) -> FloatArray:
    """The mean of the readable frames' embeddings (128,); NaN where there are none."""
    known = track.embeddings[np.isfinite(track.embeddings).all(axis=1) & is_readable(track)]
    return np.asarray(known.mean(axis=0)) if len(known) else np.full(128, np.nan)


def _beside(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(T,) the rows that are set, and those next to them."""
    padded = np.pad(rows, 1)
    return np.asarray(padded[:-2] | padded[1:-1] | padded[2:])


def _only(readable: NDArray[np.bool_], rows: FloatArray) -> FloatArray:
    return np.where(readable.reshape(-1, *[1] * (rows.ndim - 1)), rows, np.nan)


def _landmark_errors(swap: FaceMotion, truth: FaceMotion, part: slice) -> FloatArray:
    return metrics_geometry.landmark_errors_percent(swap.points[:, part], truth.points[:, part])
