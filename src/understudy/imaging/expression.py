"""What a face expresses, measured on its landmarks: the same numbers for everybody, so that one performer's can drive another.

Convention: readings are (N, 9), what was measured of N faces (`READINGS`); expressions are (N, 8), the same free of whose they
are (`MEASURES`): 0 is how the performer looks on average at that head pose, 1 as much above it as the performer's spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.similarity import apply
from understudy.types import BadInput, Face, FloatArray

READINGS = (
    "yaw", "pitch", "mouth opening", "mouth width", "mouth corners", "image-left brow", "image-right brow",
    "image-left eye", "image-right eye",
)  # fmt: skip
"""Degrees, degrees, and then face units."""

MEASURES = ("yaw", *READINGS[2:])
"""Pitch is left out of an expression: meshes of two people holding their heads alike differ in it by up to ten degrees."""

MIRRORED = (0, 1, 2, 3, 5, 4, 7, 6)
"""Where each measure of a mirrored face stands in the expression; its yaw is negative besides."""

YAW_UNIT_DEGREES = 30.0
LEAST_SPREAD_SHARE = 0.5
"""A performer who hardly moves a part of the face is taken to move it at least this share of what all do on average: else the
measuring noise of a short clip would become grimaces."""

RANGE_PERCENT = (0.5, 99.5)
"""Nobody is driven beyond what its own footage shows, but for this share of faces: further out lie errors of measurement."""

_LIPS = ((81, 178), (13, 14), (311, 402))
_EYES = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))
_BROWS = (((33, 133), (70, 63, 105, 66, 107)), ((362, 263), (300, 293, 334, 296, 336)))


@dataclass(frozen=True)
class Drive:
    """What plays a swap: readings (N, 9) of the plate's faces, and how much of them is to be played, one or (N,)."""

    readings: FloatArray
    strength: FloatArray | float = 1.0


def read_expressions(faces: Sequence[Face]) -> NDArray[np.float32]:
    """The readings (N, 9) of faces that have the mesh's 468 landmarks."""
    if not faces:
        return np.zeros((0, len(READINGS)), np.float32)
    points = np.stack([apply(np.asarray(face.face_from_frame, np.float64), face.landmarks) for face in faces])
    return readings_of(points, np.array([face.pose for face in faces]))


def readings_of(points: FloatArray, poses: FloatArray) -> NDArray[np.float32]:
    """The readings (N, 9) of meshes (N, 468, 2) in face units and poses (N, 3) in degrees."""
    return np.asarray(np.column_stack([np.asarray(poses)[:, :2], _parts(points)]), np.float32)


def _parts(points: FloatArray) -> NDArray[np.float64]:
    """(N, 7): how far mouth, brows and eyes are open, wide or high; points (N, 468, 2) in face units."""

    def gaps(pairs: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        return np.asarray(np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in pairs], axis=0))

    def height(indices: Sequence[int]) -> NDArray[np.float64]:
        return np.asarray(points[:, list(indices), 1].mean(axis=1))

    corners = height((13, 14)) - height((61, 291))
    brows = [height(eye) - height(brow) for eye, brow in _BROWS]
    return np.column_stack([gaps(_LIPS), gaps([(61, 291)]), corners, *brows, *(gaps(eye) for eye in _EYES)])


@dataclass(frozen=True)
class ExpressionStandard:
    """What is ordinary for a performer: takes readings to expressions.

    neutral: of each part, at a straight head pose; pose_slopes: by part, how it changes with the five terms of `_pose_terms`
    (the same for everybody: what foreshortening does to a mesh); spread, low, high: of what is left, by part.
    """

    neutral: tuple[float, ...]
    pose_slopes: tuple[tuple[float, ...], ...]
    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, readings: FloatArray, strength: FloatArray | float = 1.0) -> NDArray[np.float32]:
        """Readings (N, 9) of this performer -> expressions (N, 8); strength, one or (N,): how much, but for the head's turn."""
        readings = np.asarray(readings, np.float64)
        usual = np.asarray(self.neutral) + _pose_terms(readings) @ np.asarray(self.pose_slopes).T
        parts = np.clip((readings[:, 2:] - usual) / np.asarray(self.spread), self.low, self.high)
        strengths = np.broadcast_to(strength, len(readings))[:, None]
        return np.asarray(np.column_stack([readings[:, 0] / YAW_UNIT_DEGREES, strengths * parts]), np.float32)

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> ExpressionStandard:
        """Raises BadInput where `values` is not what `as_json` made."""
        shapes = {"neutral": (7,), "pose_slopes": (7, 5), "spread": (7,), "low": (7,), "high": (7,)}
        try:
            arrays = {name: np.array(values[name], np.float64) for name in shapes}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"expected an expression standard with {', '.join(shapes)}, got {str(values)[:100]!r}") from error
        for name, array in arrays.items():
            if array.shape != shapes[name] or not np.isfinite(array).all() or (name == "spread" and array.min() <= 0):
                raise BadInput(
                    f"expected {name} of an expression standard to be {shapes[name]} numbers; restore it from a copy"
                )
        rows = tuple(tuple(row) for row in arrays.pop("pose_slopes").tolist())
        return cls(pose_slopes=rows, **{name: tuple(array.tolist()) for name, array in arrays.items()})


def measure_standards(readings: Mapping[str, FloatArray]) -> dict[str, ExpressionStandard]:
    """Each performer's standard, from its readings (N, 9).

    How a part changes with the head's pose is fitted to all performers together, by least squares with a neutral for each:
    one performer's footage alone seldom has each expression at each pose.
    """
    names = list(readings)
    rows = np.concatenate([np.asarray(readings[name], np.float64) for name in names])
    who = np.repeat(np.arange(len(names)), [len(readings[name]) for name in names])
    terms = np.column_stack([np.eye(len(names))[who], _pose_terms(rows)])
    fitted, *_ = np.linalg.lstsq(terms, rows[:, 2:], rcond=None)
    left = rows[:, 2:] - terms @ fitted
    common = np.maximum(left.std(axis=0), 1e-4)
    standards = {}
    for number, name in enumerate(names):
        own = left[who == number]
        spread = np.maximum(own.std(axis=0), LEAST_SPREAD_SHARE * common)
        low, high = np.percentile(own / spread, RANGE_PERCENT, axis=0)
        slopes = tuple(tuple(row) for row in fitted[len(names) :].T.tolist())
        standards[name] = ExpressionStandard(tuple(fitted[number].tolist()), slopes, *map(_numbers, (spread, low, high)))
    return standards


def _numbers(values: FloatArray) -> tuple[float, ...]:
    return tuple(np.asarray(values, np.float64).tolist())


def _pose_terms(readings: FloatArray) -> NDArray[np.float64]:
    """(N, 5): yaw and pitch, their squares and their product, of the order of 1."""
    yaw, pitch = np.asarray(readings[:, :2], np.float64).T / YAW_UNIT_DEGREES
    return np.column_stack([yaw, pitch, yaw**2, pitch**2, yaw * pitch])
