"""Finds match cuts: another person's face where one was, before a background that hardly changes, so that no picture tells.

Convention: faces are rows (N, ...) ordered by frame, as in tracking.py; an embedding that was not measured is a row of NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.imaging.tracking import SAME_PERSON_DISTANCE, link_tracks
from understudy.types import FloatArray

NUM_MEASURED = 3
"""Embeddings on either side that must all say so: half a second at film rates. A blur or a hand is gone by then."""

JUMP_OVER_MOTION = 2.0
"""A cut changes the face's shape so many times more than is usual around it; a turn or an occluder comes by degrees."""

JUMP_WINDOW = 6
"""Rows to either side that say what is usual."""


def match_cuts(
    frames: Sequence[int], shots: Sequence[int], boxes: FloatArray, embeddings: FloatArray, shapes: FloatArray
) -> list[int]:
    """The frames at which a face becomes another person's for good, within a shot and without leaving its place.

    boxes (N, 4) in frame pixels, embeddings (N, D); shapes (N, P, 2): landmarks in face units. Embeddings tell who is who, to a
    few frames; where the face's shape jumps most between two of them is the cut.
    """
    chains = link_tracks(frames, shots, boxes, np.full_like(embeddings, np.nan), max_gap=0)  # by place alone
    is_measured = np.array([np.isfinite(each).all() for each in embeddings], bool)
    cuts: set[int] = set()
    for chain in range(int(chains.max(initial=-1)) + 1):
        rows = np.flatnonzero(chains == chain)
        jumps = np.append(0.0, np.abs(np.diff(shapes[rows], axis=0)).mean(axis=(1, 2)))
        measured = np.flatnonzero(is_measured[rows])
        for before, after in _changes_of_person(embeddings[rows[measured]]):
            first, last = measured[before] + 1, measured[after]
            cut = first + int(np.argmax(jumps[first : last + 1]))
            around = np.delete(jumps[max(1, cut - JUMP_WINDOW) : cut + JUMP_WINDOW + 1], min(JUMP_WINDOW, cut - 1))
            if jumps[cut] > JUMP_OVER_MOTION * np.median(around):
                cuts.add(int(frames[rows[cut]]))
    return sorted(cuts)


def _changes_of_person(embeddings: FloatArray) -> list[tuple[int, int]]:
    """Neighbouring embeddings between which all near ones before differ from all near ones after: (before, after)."""
    changes = []
    for after in range(NUM_MEASURED, len(embeddings) - NUM_MEASURED + 1):
        earlier, later = embeddings[after - NUM_MEASURED : after], embeddings[after : after + NUM_MEASURED]
        if np.linalg.norm(earlier[:, None] - later[None], axis=-1).min() > SAME_PERSON_DISTANCE:
            changes.append((after - 1, after))
    return changes
