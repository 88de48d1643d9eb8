"""What a face expresses, measured on its landmarks: the same numbers for everybody, so that one performer's can drive another.

Convention: readings are (N, 14), what was measured of N faces (`READINGS`); expressions are (N, 9), what is told of them, free
of whose they are (`MEASURES`): 0 is how the performer looks on average at that head pose, 1 as much above it as `UNITS` says
or, of eyes, as the performer's own spread. A reading that is not known is NaN; it is told as 0. Older models are told otherwise
(`Told`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.play import NUM_POSE_TERMS, PLAYED, YAW_UNIT_DEGREES, pose_terms, read_play
from understudy.imaging.similarity import apply
from understudy.types import BadInput, Face, FloatArray

MEASURED = (
    "yaw", "pitch", "mouth opening", "mouth width", "mouth corners", "image-left brow", "image-right brow",
    "image-left eye", "image-right eye", "gaze",
)  # fmt: skip
"""Degrees, degrees, and then face units, each from the few points that it is about."""

PLAYED_READINGS = tuple(f"played {part}" for part in PLAYED)
READINGS = (*MEASURED, *PLAYED_READINGS)
"""What is measured, and what is read from the whole mesh (imaging/play.py)."""

PARTS = (
    "mouth opening", "played mouth width", "played mouth corners", "played image-left brow", "played image-right brow",
    "image-left eye", "image-right eye", "gaze",
)  # fmt: skip
"""The readings that models are told."""

FORMER_PARTS = (MEASURED[2:], MEASURED[2:-1])
"""What models of before the play was read from the whole mesh are told, and those of before the gaze was told."""

MEASURES = ("yaw", *PARTS)
"""Pitch is left out of an expression: meshes of two people holding their heads alike differ in it by up to ten degrees."""

MIRRORED = (0, 1, 2, 3, 5, 4, 7, 6, 8)
"""Where each measure of a mirrored face stands in the expression."""

SIDEWAYS = (0, 8)
"""The measures that are negative of what they were in a mirrored face: yaw and gaze."""

UNITS = {
    "mouth opening": 0.034, "played mouth width": 0.0186, "played mouth corners": 0.0095,
    "played image-left brow": 0.004, "played image-right brow": 0.004, "gaze": 0.006,
}  # fmt: skip
"""What is told as 1, in face units: about the spread of a lively performance (the bundled one's), as the starter was told it.

The same for everybody, for a mouth opens as far on one face as on another: by each one's own spread, whoever hardly moves in
the training footage would drive the other to grimaces, and be driven by too little. Lids are not among these: how far they have
to go to close an eye differs from face to face, and blinking shows it.
"""

LEAST_SPREAD_SHARE = 0.5
"""A performer who hardly blinks is taken to move the lids at least this share of what all do on average: else the measuring
noise of a short clip would become blinks."""

FACES_OF_DOUBT = 3.0
"""Fitted to 100 faces of either virtual actor, the gaze told of the same performance agrees best with none (correlation 0.60,
with three 0.51, with common slopes 0.24); a clip that hardly turns needs some."""

RANGE_PERCENT = (0.5, 99.5)
"""Nobody is driven beyond what its own footage shows, but for this share of faces: further out lie errors of measurement."""

_LIPS = ((81, 178), (13, 14), (311, 402))
_EYES = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))
_BROWS = (((33, 133), (70, 63, 105, 66, 107)), ((362, 263), (300, 293, 334, 296, 336)))
_AROUND_EYES = (
    (130, 25, 110, 24, 23, 22, 26, 112, 243, 190, 56, 28, 27, 29, 30, 247),
    (359, 255, 339, 254, 253, 252, 256, 341, 463, 414, 286, 258, 257, 259, 260, 467),
)
"""The mesh's second ring about each eye, the one at image left first: just outside the points that the iris network refines."""


@dataclass(frozen=True)
class Told:
    """What of the readings a network is told: which parts, and whether 1 is `UNITS` of them or, in models of before, each one's
    own spread."""

    parts: tuple[str, ...] = PARTS
    is_in_units: bool = True

    def unit(self, part: str) -> float | None:
        """What is told as 1; None for each one's own spread."""
        return UNITS.get(part) if self.is_in_units else None


@dataclass(frozen=True)
class Drive:
    """What plays a swap: readings (N, 14) of the plate's faces, and how much of them is to be played, one or (N,).

    faces: (N, R, R), where the faces lie in the crops, by which a model that draws in ordinary light measures the plate's.
    shading: how much of the shadows and lights on the plate's faces is put on what is drawn, one or (N,).
    """

    readings: FloatArray
    strength: FloatArray | float = 1.0
    faces: NDArray[np.float32] | None = None
    shading: FloatArray | float = 1.0


def read_expressions(faces: Sequence[Face]) -> NDArray[np.float32]:
    """The readings (N, 14) of faces that have the mesh's 468 landmarks."""
    if not faces:
        return np.zeros((0, len(READINGS)), np.float32)
    places = [np.asarray(face.face_from_frame, np.float64) for face in faces]
    points = np.stack([apply(place, face.landmarks) for place, face in zip(places, faces, strict=True)])
    irises = np.stack([apply(place, face.irises) for place, face in zip(places, faces, strict=True)])
    return readings_of(points, irises, np.array([face.pose for face in faces]))


def readings_of(points: FloatArray, irises: FloatArray, poses: FloatArray) -> NDArray[np.float32]:
    """The readings (N, 14) of meshes (N, 468, 2) and irises (N, 2, 2) in face units and poses (N, 3) in degrees."""
    return np.column_stack([measured_of(points, irises, poses), read_play(points, poses).astype(np.float32)])


def measured_of(points: FloatArray, irises: FloatArray, poses: FloatArray) -> NDArray[np.float32]:
    """(N, 10): the part of `readings_of` that is `MEASURED`."""
    return np.asarray(np.column_stack([np.asarray(poses)[:, :2], _parts(points), _gaze(points, irises)]), np.float32)


def _parts(points: FloatArray) -> NDArray[np.float64]:
    """(N, 7): how far mouth, brows and eyes are open, wide or high; points (N, 468, 2) in face units."""

    def gaps(pairs: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        return np.asarray(np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in pairs], axis=0))

    def height(indices: Sequence[int]) -> NDArray[np.float64]:
        return np.asarray(points[:, list(indices), 1].mean(axis=1))

    corners = height((13, 14)) - height((61, 291))
    brows = [height(eye) - height(brow) for eye, brow in _BROWS]
    return np.column_stack([gaps(_LIPS), gaps([(61, 291)]), corners, *brows, *(gaps(eye) for eye in _EYES)])


def _gaze(points: FloatArray, irises: FloatArray) -> NDArray[np.float64]:
    """(N,): how far the irises (N, 2, 2) lie to image right of the middles of what surrounds the eyes, in the mean of both.

    The place between the eye's corners, by which a swap's gaze is judged, would be a poor guide here: the stored corners are
    the iris network's, which go along with the iris, and those of an eye that is turned away lie so close that noise is all.
    """
    middles = np.stack([points[:, list(ring), 0].mean(axis=1) for ring in _AROUND_EYES], axis=1)
    return np.asarray((irises[:, :, 0] - middles).mean(axis=1))


@dataclass(frozen=True)
class ExpressionStandard:
    """What is ordinary for a performer: takes readings to expressions.

    parts: the readings that it takes. neutral: of each, at a straight head pose; pose_slopes: how each changes with the five
    `pose_terms` (the same for everybody: what foreshortening does to a mesh; but for the gaze: how deep the eyes lie is
    everyone's own; 0 for what is played, which is free of it); spread, low, high: of what is left, by part.
    """

    parts: tuple[str, ...]
    neutral: tuple[float, ...]
    pose_slopes: tuple[tuple[float, ...], ...]
    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def told(self) -> Told:
        """How a network with this standard is told."""
        return Told(
            self.parts, all(spread == UNITS.get(part, spread) for part, spread in zip(self.parts, self.spread, strict=True))
        )

    def apply(self, readings: FloatArray, strength: FloatArray | float = 1.0) -> NDArray[np.float32]:
        """Readings (N, 14) of this performer -> expressions (N, 9); strength: how much, one or (N,), the head's turn apart."""
        readings = np.asarray(readings, np.float64)
        usual = np.asarray(self.neutral) + pose_terms(readings) @ np.asarray(self.pose_slopes).T
        parts = np.clip(
            (readings[:, [READINGS.index(part) for part in self.parts]] - usual) / np.asarray(self.spread), self.low, self.high
        )
        parts = np.where(np.isnan(parts), 0.0, parts)
        strengths = np.broadcast_to(strength, len(readings))[:, None]
        return np.asarray(np.column_stack([readings[:, 0] / YAW_UNIT_DEGREES, strengths * parts]), np.float32)

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> ExpressionStandard:
        """Raises BadInput where `values` is not what `as_json` made."""
        names = ("neutral", "pose_slopes", "spread", "low", "high")
        known = {len(parts): parts for parts in FORMER_PARTS}
        try:
            arrays = {name: np.array(values[name], np.float64) for name in names}
            parts = tuple(cast(Sequence[str], values.get("parts", known.get(arrays["neutral"].size, PARTS))))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"expected an expression standard with {', '.join(names)}, got {str(values)[:100]!r}") from error
        if parts not in (PARTS, *FORMER_PARTS):
            raise BadInput(f"expected an expression standard of known parts, got {str(parts)[:100]}; update Understudy")
        num = len(parts)
        shapes = {name: (num, NUM_POSE_TERMS) if name == "pose_slopes" else (num,) for name in names}
        for name, array in arrays.items():
            if array.shape != shapes[name] or not np.isfinite(array).all() or (name == "spread" and array.min() <= 0):
                raise BadInput(
                    f"expected {name} of an expression standard to be {shapes[name]} numbers; restore it from a copy"
                )
        rows = tuple(tuple(row) for row in arrays.pop("pose_slopes").tolist())
        return cls(parts, pose_slopes=rows, **{name: tuple(array.tolist()) for name, array in arrays.items()})


def measure_standards(readings: Mapping[str, FloatArray], told: Told | None = None) -> dict[str, ExpressionStandard]:
    """Each performer's standard, from its readings (N, 14); told: what of them, and how.

    How a part changes with the head's pose is fitted to all performers together, by least squares with a neutral for each:
    one performer's footage alone seldom has each expression at each pose. The gaze's is fitted to each one's besides; what is
    played is free of it already, as hundreds of other poses and plays have told, which these few would only confuse. A
    performer of whom a part is never known is taken to be as the others are; where nobody's is known, none is ever told.
    """
    names = list(readings)
    rows = np.concatenate([np.asarray(readings[name], np.float64) for name in names])
    who = np.repeat(np.arange(len(names)), [len(readings[name]) for name in names])
    poses = pose_terms(rows)
    measured = []
    told = told or Told()
    for part in told.parts:
        terms = np.zeros_like(poses) if part in PLAYED_READINGS else poses
        values = rows[:, READINGS.index(part)]
        measured.append(_measure_part(values, terms, who, len(names), told.unit(part), has_own_slopes=part == "gaze"))
    return {name: _standard(told.parts, each) for name, each in zip(names, np.stack(measured, axis=1), strict=True)}


def _measure_part(
    part: FloatArray,
    poses: FloatArray,
    who: NDArray[np.intp],
    num_performers: int,
    unit: float | None,
    has_own_slopes: bool,
) -> NDArray[np.float64]:
    """(P, 9): of each performer neutral, the five slopes, spread, low and high of one part of the face.

    part: (N,), NaN where it is not known; poses: (N, 5) as `pose_terms` has them; who: (N,) whose rows they are; unit: the
    spread of all, None for each one's own.
    """
    is_known = np.isfinite(part)
    if not is_known.any():
        return np.tile([0.0] * (1 + NUM_POSE_TERMS) + [unit or 1.0, 0.0, 0.0], (num_performers, 1))
    part, poses, who = part[is_known], poses[is_known], who[is_known]
    fitted, *_ = np.linalg.lstsq(np.column_stack([np.eye(num_performers)[who], poses]), part, rcond=None)
    neutral, slopes = fitted[:num_performers], fitted[num_performers:]
    has_rows = np.isin(np.arange(num_performers), who)
    neutral = np.where(has_rows, neutral, neutral[has_rows].mean())
    courses = np.column_stack([neutral, np.tile(slopes, (num_performers, 1))])  # P 1 + 5
    terms = np.column_stack([np.ones(len(poses)), poses])
    if has_own_slopes:
        for number in np.flatnonzero(has_rows).tolist():
            own = who == number
            courses[number] += _own_course(terms[own], part[own] - terms[own] @ courses[number])
    left = part - (terms * courses[who]).sum(axis=1)
    least_spread = LEAST_SPREAD_SHARE * max(left.std(), 1e-4)
    ranges = []
    for number in range(num_performers):
        own_left = left[who == number] if has_rows[number] else left
        spread = unit or max(own_left.std(), least_spread)
        ranges.append([spread, *np.percentile(own_left / spread, RANGE_PERCENT)])
    return np.column_stack([courses, ranges])


def _own_course(terms: FloatArray, left: FloatArray) -> NDArray[np.float64]:
    """(6,): how one performer differs from all in neutral and slopes; terms: (N, 6), left: (N,) what the common ones leave.

    Slopes that few poses tell of are drawn to the common ones, as by `FACES_OF_DOUBT` faces without any difference.
    """
    doubt = np.diag([0.0] + [FACES_OF_DOUBT] * NUM_POSE_TERMS)
    return np.asarray(np.linalg.solve(terms.T @ terms + doubt, terms.T @ left))


def _standard(parts: tuple[str, ...], measured: FloatArray) -> ExpressionStandard:
    """Of rows (parts, 9) as `_measure_part` has them."""
    neutral, spread, low, high = (tuple(measured[:, place].tolist()) for place in (0, -3, -2, -1))
    return ExpressionStandard(parts, neutral, tuple(tuple(row) for row in measured[:, 1:-3].tolist()), spread, low, high)
