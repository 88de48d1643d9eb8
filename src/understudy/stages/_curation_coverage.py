"""Compares what two performers show, pose by pose, and says what one has and the other lacks, and where to look for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from understudy.stages._curation_faults import Fault
from understudy.stages._curation_measure import Measures
from understudy.types import Face, FloatArray

ENOUGH_FACES = 30
"""With so many faces of a kind a decoder has seen it: about a second of footage."""

LEAST_FACES = 8
"""What fewer faces of the other performer show is chance: a third of a second."""

MOST_NEAREST = 3

PROFILE_DEGREES, TURNED_DEGREES, TILTED_DEGREES = 40.0, 15.0, 12.0
SHUT_EYES, WIDE_EYES = 0.7, 1.2
DARK, BRIGHT = 0.75, 1.3
"""Shares of the performer's own median: lids and skins differ from one person to the next."""

LIT_FROM_ONE_SIDE = 0.15
SHUT_MOUTH, OPEN_MOUTH, WIDE_MOUTH = 0.02, 0.06, 0.12
"""Gap between the lips, in face units."""

_INFINITE = float("inf")


@dataclass(frozen=True)
class Trait:
    """One kind of face: a name in words (a plural), and between which values (low, high) each of its columns lies."""

    group: str
    name: str
    bounds: Mapping[str, tuple[float, float]]

    def distance(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """How far (N,) each face is from showing this, in columns' scales; 0 where it does, inf where it is unknown."""
        parts = []
        for column, (low, high) in self.bounds.items():
            values = columns[column]
            outside = np.maximum(np.maximum(low - values, values - high), 0.0) / _SCALES[column]
            outside[values == high] = 1e-9  # half open, so that each face is of one kind in each group
            parts.append(np.where(np.isfinite(values), outside, _INFINITE))
        return np.sqrt(np.sum(np.square(parts), axis=0))

    def shown(self, columns: Mapping[str, FloatArray]) -> NDArray[np.bool_]:
        """Which faces (N,) show it."""
        return self.distance(columns) == 0.0


_SCALES = {"yaw": 10.0, "pitch": 10.0, "mouth": 0.03, "eyes": 0.15, "brightness": 0.2, "light_side": 0.1}
"""How far apart two faces must be in a column to look different."""


def _intervals(edges: Sequence[float], names: Sequence[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    return zip(names, pairwise((-_INFINITE, *edges, _INFINITE)), strict=True)


def _traits() -> Iterator[Trait]:
    turns = list(
        _intervals(
            (-PROFILE_DEGREES, -TURNED_DEGREES, TURNED_DEGREES, PROFILE_DEGREES),
            ("left profiles", "left three-quarter views", "front views", "right three-quarter views", "right profiles"),
        )
    )
    tilts = list(_intervals((-TILTED_DEGREES, TILTED_DEGREES), (" looking down", "", " looking up")))
    for turn, yaw in turns:
        for tilt, pitch in tilts:
            yield Trait("pose", turn + tilt, {"yaw": yaw, "pitch": pitch})
    others = {
        ("mouth", "mouth"): (
            (SHUT_MOUTH, OPEN_MOUTH, WIDE_MOUTH),
            ("shut mouths", "parted lips", "open mouths", "wide open mouths"),
        ),
        ("eyes", "eyes"): ((SHUT_EYES, WIDE_EYES), ("shut eyes", "open eyes", "wide eyes")),
        ("light", "brightness"): ((DARK, BRIGHT), ("dark faces", "faces as bright as usual", "bright faces")),
        ("light from", "light_side"): (
            (-LIT_FROM_ONE_SIDE, LIT_FROM_ONE_SIDE),
            ("faces lit from the left", "faces lit evenly", "faces lit from the right"),
        ),
    }
    for (group, column), (edges, names) in others.items():
        yield from (Trait(group, name, {column: bounds}) for name, bounds in _intervals(edges, names))


TRAITS = tuple(_traits())
"""Poses (turn by tilt; left and right are the image's), mouths, eyes, light: a group divides all faces among its traits."""


@dataclass(frozen=True)
class Gap:
    """A trait that `lacking` shows too rarely for how often `having` shows it.

    nearest: kept faces of `lacking` that come closest. left_out: its faces that show it and were left out for their looks.
    example: where `having` shows it longest, "clip.mp4, frames 12 to 40".
    """

    trait: Trait
    lacking: str
    having: str
    num: int
    num_having: int
    nearest: tuple[Face, ...]
    left_out: tuple[Face, ...]
    example: str

    @property
    def num_wanted(self) -> int:
        """How many more faces would do."""
        return min(ENOUGH_FACES, self.num_having) - self.num

    def comparison(self) -> str:
        """ "bea has 412 left profiles, abel 3" """
        return f"{self.having} has {self.num_having} {self.trait.name}, {self.lacking} {self.num or 'none'}"

    def words(self) -> str:
        """ "bea has 412 left profiles, abel 3; nearest frames of abel: 120 and 340 (abel.mp4); to shoot or extract: ..." """
        parts = [self.comparison()]
        if self.nearest:
            parts.append(f"nearest frames of {self.lacking}: {frames_in_words(self.nearest)}")
        if self.left_out:
            numbers = ",".join(str(face.id) for face in self.left_out[:8])
            parts.append(f"{len(self.left_out)} that show it were left out (--keep {numbers} brings them back)")
        parts.append(f"to shoot or extract: {self.num_wanted} or more, as {self.having} in {self.example}")
        return "; ".join(parts)


def columns_of(measures: Measures) -> dict[str, FloatArray]:
    """What traits are told by: eyes and brightness as shares of the performer's own median."""
    return {
        "yaw": measures.yaw,
        "pitch": measures.pitch,
        "mouth": measures.mouth,
        "eyes": _relative(measures.eyes),
        "brightness": _relative(measures.brightness),
        "light_side": measures.light_side,
    }


def _relative(values: FloatArray) -> FloatArray:
    is_known = np.isfinite(values)
    return values / np.median(values[is_known]) if is_known.any() else values


@dataclass(frozen=True)
class Showing:
    """A performer's faces, which of them are kept, and why others are not (by row)."""

    measures: Measures
    faults: Mapping[int, Fault]
    is_kept: NDArray[np.bool_]

    @property
    def performer(self) -> str:
        return self.measures.performer


def trait_counts(showing: Showing) -> dict[str, dict[str, int]]:
    """How many kept faces show each trait, by group and name."""
    columns = columns_of(showing.measures)
    counts: dict[str, dict[str, int]] = {}
    for trait in TRAITS:
        counts.setdefault(trait.group, {})[trait.name] = int(np.sum(trait.shown(columns) & showing.is_kept))
    return counts


def find_gaps(one: Showing, other: Showing) -> list[Gap]:
    """What either lacks and the other has, the commonest first: a swap can show only what both have given."""
    gaps = [*_lacks(one, other), *_lacks(other, one)]
    return sorted(gaps, key=lambda gap: (-gap.num_wanted, -gap.num_having, gap.trait.name, gap.lacking))


def _lacks(lacking: Showing, having: Showing) -> Iterator[Gap]:
    columns, having_columns = columns_of(lacking.measures), columns_of(having.measures)
    for trait in TRAITS:
        shown, having_shown = trait.shown(columns), trait.shown(having_columns) & having.is_kept
        num, num_having = int(np.sum(shown & lacking.is_kept)), int(having_shown.sum())
        if num_having < LEAST_FACES or num >= min(ENOUGH_FACES, num_having / 2):
            continue
        left_out = [
            lacking.measures.faces[row]
            for row, fault in sorted(lacking.faults.items())
            if shown[row] and fault.kind in ("blurred", "over-exposed", "under-exposed", "too small", "occluded")
        ]
        yield Gap(
            trait,
            lacking.performer,
            having.performer,
            num,
            num_having,
            tuple(_nearest(lacking, trait.distance(columns))),
            tuple(left_out),
            _longest_run([face for face, is_shown in zip(having.measures.faces, having_shown, strict=True) if is_shown]),
        )


def _nearest(showing: Showing, distance: FloatArray) -> list[Face]:
    """The kept faces that come closest without showing it, no two within a second of each other."""
    chosen: list[Face] = []
    for row in np.argsort(distance, kind="stable"):
        face = showing.measures.faces[row]
        if not showing.is_kept[row] or not 0 < distance[row] < _INFINITE:
            continue
        if all(face.source != near.source or abs(face.time_seconds - near.time_seconds) >= 1 for near in chosen):
            chosen.append(face)
        if len(chosen) == MOST_NEAREST:
            break
    return chosen


def _longest_run(faces: Sequence[Face]) -> str:
    """Where most of these faces follow one another closely."""
    runs: list[list[Face]] = []
    for face in faces:
        is_next = runs and runs[-1][-1].source == face.source and face.frame - runs[-1][-1].frame <= 5
        if is_next:
            runs[-1].append(face)
        else:
            runs.append([face])
    longest = max(runs, key=len)
    return f"{longest[0].source}, {ranges_in_words([face.frame for face in longest], most_gap=5)}"


# ---- in words -------------------------------------------------------------------------------------------------------------


def frames_in_words(faces: Sequence[Face]) -> str:
    """ "120, 133 and 340 (abel.mp4), 12 (take2.mp4)" """
    by_source: dict[str, list[str]] = {}
    for face in faces:
        by_source.setdefault(face.source, []).append(str(face.frame))
    return ", ".join(f"{_and(frames)} ({source})" for source, frames in by_source.items())


def ranges_in_words(frames: Sequence[int], most_gap: int = 1, most_ranges: int = 8) -> str:
    """ "frames 3, 7 to 12 and 40": consecutive numbers (or closer than `most_gap`) as one range."""
    ranges: list[list[int]] = []
    for frame in sorted(frames):
        if ranges and frame - ranges[-1][1] <= most_gap:
            ranges[-1][1] = frame
        else:
            ranges.append([frame, frame])
    words = [str(first) if first == last else f"{first} to {last}" for first, last in ranges]
    if len(words) > most_ranges:
        words = [*words[:most_ranges], f"{len(words) - most_ranges} more"]
    is_one = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return f"frame{'' if is_one else 's'} {_and(words)}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
