"""What a performer plays, read from all points of the mesh, where a few of them tell it badly.

How high a brow stands over its eye, or how far apart the mouth's corners are, is a matter of two to ten points, and the mesh
network's noise is of the size of the play. Weights for all 468 were learned by ridge regression (Hoerl and Kennard 1970) from
rendered performers, whose play is known (`tools/make_play.py`): what a plain measure would be, were there nothing but play in
it. Of performers left out the brows so read agree with the play by 0.78 where the plain measure does by 0.60, the width of the
mouth by 0.89 for 0.78, its corners by 0.88 for 0.77.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray

PLAYED = ("mouth width", "mouth corners", "image-left brow", "image-right brow")
"""What is read so, in face units. A mouth's opening and the lids are told as well or better by the few points that move."""

YAW_UNIT_DEGREES = 30.0
NUM_POSE_TERMS = 5


def read_play(points: FloatArray, poses: FloatArray) -> NDArray[np.float64]:
    """(N, 4): `PLAYED` of meshes (N, 468, 2) in face units, free of what poses (N, 2 or more) in degrees do to every mesh.

    Of one performer it says how much more or less is played than in another picture: its neutral is as much its face's shape.
    """
    weights, pose_slopes = _learned()
    flat = np.asarray(points, np.float64).reshape(len(points), -1)
    return np.asarray(flat @ weights - pose_terms(poses) @ pose_slopes)


def pose_terms(poses: FloatArray) -> NDArray[np.float64]:
    """(N, 5): yaw and pitch, their squares and their product, of the order of 1; poses: (N, 2 or more) in degrees."""
    yaw, pitch = np.asarray(poses, np.float64)[:, :2].T / YAW_UNIT_DEGREES
    return np.column_stack([yaw, pitch, yaw**2, pitch**2, yaw * pitch])


@cache
def _learned() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (936, 4) of the points' x and y, and slopes (5, 4) of the pose terms."""
    numbers = json.loads(files("understudy.imaging").joinpath("play.json").read_text("utf-8"))
    return np.array(numbers["weights"], np.float64).reshape(-1, len(PLAYED)), np.array(numbers["pose_slopes"], np.float64)
