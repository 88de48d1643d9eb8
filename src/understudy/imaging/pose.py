"""Head pose from mesh landmarks: a rigid fit of the mean face in three dimensions.

Convention: angles are degrees; yaw + = nose to image right, pitch + = nose up, roll + = crown to image left. The head's
rotation is R = Ry(yaw) Rx(-pitch) Rz(roll) in axes x to image right, y up, z towards the camera.
"""

from __future__ import annotations

import numpy as np

from understudy.types import FloatArray


def fit_rotation(source: FloatArray, target: FloatArray) -> tuple[FloatArray, float]:
    """The rotation (3, 3) that, with a shift and a scale, brings source (N, 3) closest to target, and how far off it stays.

    The second value is the root mean square distance left, in units of source. Source: Umeyama 1991, eqs. 34-43.
    """
    source_centred, target_centred = source - source.mean(axis=0), target - target.mean(axis=0)
    u, singular_values, v_transposed = np.linalg.svd(target_centred.T @ source_centred)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v_transposed))])
    rotation = u @ np.diag(sign) @ v_transposed
    scale = (singular_values @ sign) / np.sum(source_centred**2)
    if scale <= 0:
        return rotation, float("inf")
    left = target_centred @ rotation / scale - source_centred
    return rotation, float(np.sqrt(np.mean(np.sum(left**2, axis=1))))


def pose_from_rotation(rotation: FloatArray) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in degrees of a head rotation (3, 3) in axes x right, y up, z towards the camera."""
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[1, 2], -1.0, 1.0))
    roll = np.arctan2(rotation[1, 0], rotation[1, 1])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))
