"""Divides footage into shots, by its thumbnails, and follows faces through them, by overlap and identity.

Convention: boxes are (left, top, right, bottom) in frame pixels; an embedding that was not measured is a row of NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.types import FloatArray, Image

THUMBNAIL_SIZE = (32, 18)
"""Width and height, pixels: enough to tell scenes apart, too little to see faces move."""

CUT_DIFFERENCE = 6.0
"""Least mean difference (0..255) over a cut. Cuts between sittings of one speaker before new backgrounds begin at 12."""

CUT_OVER_MOTION = 2.0
"""A cut differs this many times more than its neighbours; a pan or a shaky camera does not."""

DISSOLVE_WINDOW = 8
"""Frames over which a dissolve must look like a blend of its ends; the shortest that can be found."""

DISSOLVE_STEP = 4.0
"""Least mean difference (0..255) over the window."""

DISSOLVE_DIFFERENCE = 15.0
DISSOLVE_CORRELATION = 0.5
"""Two scenes differ at least so much and correlate at most so well; a change of light alone correlates with 0.65 and more."""

BRIDGE_FRAMES = 12
"""The longest gap within a track: half a second at film rates. Longer ones are left open."""

SAME_PERSON_DISTANCE = 0.6
"""Embeddings closer than this belong to one person (dlib's own threshold)."""

OTHER_PERSON_DISTANCE = 0.8
"""A face further than this from its track is another's even without a gap. One person in profile can be 0.7 from himself."""

LEAST_OVERLAP = 0.3
"""Intersection over union of one face in two neighbouring frames; a box moves by a quarter of its side at most."""


@dataclass(frozen=True)
class Shots:
    """The shot of each frame (T,), counted from 0, and whether the frame shows two shots at once (a dissolve)."""

    shot: NDArray[np.int64]
    is_mixed: NDArray[np.bool_]

    def divided(self, begins: Sequence[int]) -> Shots:
        """The same with new shots that begin at these frames."""
        is_start = np.isin(np.arange(len(self.shot)), begins)
        return Shots(self.shot + np.cumsum(is_start), self.is_mixed)


# ---- shots ----------------------------------------------------------------------------------------------------------------


def thumbnail(image: Image) -> Image:
    """The picture at THUMBNAIL_SIZE, area-averaged, whatever its shape."""
    return np.asarray(cv2.resize(image, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def find_shots(thumbnails: NDArray[np.uint8]) -> Shots:
    """Shots of consecutive frames, from their thumbnails (T, h, w, 3).

    A hard cut begins a shot; a dissolve is divided in its middle and its frames are marked as mixed. Fades, flashes and
    changes of light do not end a shot.
    """
    num_frames = len(thumbnails)
    is_start, is_mixed = np.zeros(num_frames, bool), np.zeros(num_frames, bool)
    cuts = [frame for frame in range(1, num_frames) if is_cut(thumbnails, frame)]
    for start, stop in zip([0, *cuts], [*cuts, num_frames], strict=True):
        is_start[start:stop][:1] = True
        for first, last in _dissolves(thumbnails[start:stop].astype(np.float64)):
            is_start[start + (first + last + 1) // 2] = True
            is_mixed[start + first : start + last + 1] = True
    return Shots(np.cumsum(is_start) - 1, is_mixed)


def is_cut(thumbnails: NDArray[np.uint8], frame: int) -> bool:
    """Whether a new shot begins at `frame` (1 or later).

    Both frames before must differ from both after, or else it is a flash; and by more than neighbours do.
    """
    before = thumbnails[max(0, frame - 2) : frame].astype(np.float64)
    after = thumbnails[frame : frame + 2].astype(np.float64)
    difference = min(_difference(one, other) for one in before for other in after)
    motion = max(_difference(before[0], before[-1]), _difference(after[0], after[-1]))
    return difference > CUT_DIFFERENCE and difference > CUT_OVER_MOTION * motion


def has_scene_changed(before: Image, after: Image) -> bool:
    """Whether two neighbouring frames' thumbnails differ enough for a cut; the first sign of one, without its context."""
    return _difference(before.astype(np.float64), after.astype(np.float64)) > CUT_DIFFERENCE


def _dissolves(thumbnails: FloatArray) -> list[tuple[int, int]]:
    """First and last frame of each dissolve: stretches that are blends of their ends, and these are different scenes."""
    is_blend = np.zeros(len(thumbnails), bool)
    for start in range(len(thumbnails) - DISSOLVE_WINDOW):
        if _is_blend(thumbnails[start : start + DISSOLVE_WINDOW + 1]):
            is_blend[start : start + DISSOLVE_WINDOW + 1] = True
    return [
        (first, last)
        for first, last in runs(is_blend)
        if _difference(thumbnails[first], thumbnails[last]) > DISSOLVE_DIFFERENCE
        and _correlation(thumbnails[first], thumbnails[last]) < DISSOLVE_CORRELATION
    ]


def _is_blend(window: FloatArray) -> bool:
    """Whether the frames between run evenly from the first picture to the last: (1 - w) first + w last, w rising."""
    change = window[-1] - window[0]
    size = np.abs(change).mean()
    if size < DISSOLVE_STEP:
        return False
    for step in (len(window) // 4, len(window) // 2, 3 * len(window) // 4):
        so_far = window[step] - window[0]
        weight = float(np.sum(so_far * change) / np.sum(change * change))
        rest = np.abs(so_far - weight * change).mean()
        if rest > 0.25 * size or abs(weight - step / (len(window) - 1)) > 0.25:
            return False
    return True


def _difference(one: FloatArray, other: FloatArray) -> float:
    return float(np.abs(one - other).mean())


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Of the luminance; 0 where one of the two is flat."""
    a, b = one.mean(axis=-1).ravel(), other.mean(axis=-1).ravel()
    return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1 else 0.0


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each unbroken stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(stop) - 1) for first, stop in edges.reshape(-1, 2)]


# ---- tracks ---------------------------------------------------------------------------------------------------------------


@dataclass
class _Track:
    """A face being followed: the rows that belong to it, the last one first to be asked."""

    number: int
    rows: list[int]


def link_tracks(
    frames: Sequence[int], shots: Sequence[int], boxes: FloatArray, embeddings: FloatArray, max_gap: int = BRIDGE_FRAMES
) -> NDArray[np.int64]:
    """The track, counted from 0, of each face (N,): rows ordered by frame, each with its shot, box (N, 4) and embedding (N, D).

    In neighbouring frames faces are followed by overlap, best overlap first; over a gap of up to `max_gap` missing frames
    by overlap as well, or by identity while the face has not gone far. A track holds one person as far as its embeddings tell,
    and none crosses a shot.
    """
    tracks = np.full(len(frames), -1)
    active: list[_Track] = []
    num_tracks = 0
    for start, stop in _groups(frames):
        rows = range(start, stop)
        frame, shot = frames[start], shots[start]
        active = [t for t in active if shots[t.rows[-1]] == shot and frame - frames[t.rows[-1]] <= max_gap + 1]
        candidates = [
            (score, track, row)
            for track in active
            for row in rows
            if (score := _affinity(track, row, frame - frames[track.rows[-1]], boxes, embeddings)) > 0
        ]
        taken: set[int] = set()
        for _, track, row in sorted(candidates, key=lambda candidate: -candidate[0]):
            if track.number not in taken and tracks[row] < 0:
                tracks[row] = track.number
                track.rows.append(row)
                taken.add(track.number)
        for row in rows:
            if tracks[row] < 0:
                tracks[row] = num_tracks
                active.append(_Track(num_tracks, [row]))
                num_tracks += 1
    return tracks


def _affinity(track: _Track, row: int, num_frames_since: int, boxes: FloatArray, embeddings: FloatArray) -> float:
    """How well a face continues a track: above 0 if at all; recent tracks first, then overlap."""
    last = track.rows[-1]
    distance = _identity_distance(track, row, embeddings)
    if distance > (OTHER_PERSON_DISTANCE if num_frames_since == 1 else SAME_PERSON_DISTANCE):
        return 0.0
    overlap = intersection_over_union(boxes[last], boxes[row])
    is_near = overlap > LEAST_OVERLAP or (distance < SAME_PERSON_DISTANCE and _is_within_reach(boxes[last], boxes[row]))
    return (1 + overlap) / num_frames_since if is_near else 0.0


def _identity_distance(track: _Track, row: int, embeddings: FloatArray) -> float:
    """From the face to the mean of the track's latest measured embeddings; NaN where either is unmeasured."""
    measured = [embeddings[each] for each in track.rows[-25:] if np.isfinite(embeddings[each]).all()]
    if not measured or not np.isfinite(embeddings[row]).all():
        return float("nan")
    return float(np.linalg.norm(np.mean(measured, axis=0) - embeddings[row]))


def intersection_over_union(one: FloatArray, other: FloatArray) -> float:
    """Overlap of two boxes: 0 apart, 1 the same."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


def _is_within_reach(one: FloatArray, other: FloatArray) -> bool:
    """Whether the centres lie within one and a half box sides of each other and the sizes agree by a factor of two."""
    sides = [float(box[2] - box[0]) for box in (one, other)]
    apart = float(np.hypot(*((one[:2] + one[2:]) / 2 - (other[:2] + other[2:]) / 2)))
    return apart < 1.5 * max(sides) and max(sides) < 2 * min(sides)


def _groups(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop of each run of equal frame numbers."""
    starts = [row for row in range(len(frames)) if row == 0 or frames[row] != frames[row - 1]]
    return list(pairwise([*starts, len(frames)]))
