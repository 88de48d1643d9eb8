"""Decides which faces are left out of a set, and why: pure rules over `Measures`, the gravest fault first.

A rule names a face only where it is poor by the recipe's figure *and* unlike its own set: beyond the set's median by several of
its usual deviations. What every face of the footage has is its look, not a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from understudy.settings import CurateRecipe
from understudy.stages._curation_measure import Measures
from understudy.types import FloatArray

Kind = Literal[
    "wrong person", "misaligned", "occluded", "blurred", "over-exposed", "under-exposed", "too small", "near-duplicate"
]
KINDS: tuple[Kind, ...] = (
    "wrong person",
    "misaligned",
    "occluded",
    "blurred",
    "over-exposed",
    "under-exposed",
    "too small",
    "near-duplicate",
)

USUAL_DEVIATIONS = 5.0
"""How many robust standard deviations off the median a face must be to count as unlike its set."""

SOFT_SOURCE = 0.5
"""A clip is judged by its own sharpness as long as that is at least this share of the set's."""

LEAST_FACES_FOR_OWN_MEASURE = 20

NEAR_FACES = 3
"""How many of a performer's faces a face is compared with: the nearest, because a profile is like other profiles only."""

GROWING = 0.8
"""The performer's own faces are found by this share of the distance at which another person begins: no stranger slips in."""

FACES_OF_A_POSE = 25

MOST_EMBEDDINGS = 3000
"""Beyond this the performer's own faces are taken evenly over the footage."""

ALIKE_MOUTH, ALIKE_EYES, ALIKE_DEGREES = 0.015, 0.03, 3.0
"""Faces alike in so few pixels may still differ in what a decoder must learn: an eye half shut, lips just apart."""


@dataclass(frozen=True)
class Fault:
    """Why one face is left out: the kind, and the reason in words.

    is_other_performer: it is a face of the performer that the set was compared with. like: the id of the kept face it doubles.
    """

    kind: Kind
    words: str
    is_other_performer: bool = False
    like: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


def find_faults(
    measures: Measures,
    recipe: CurateRecipe,
    other: Measures | None = None,
    pinned: frozenset[int] = frozenset(),
    excluded: frozenset[int] = frozenset(),
) -> dict[int, Fault]:
    """The fault of each face that has one, by row. other: another performer's faces, to which none should be nearer.

    pinned, excluded: rows that a person keeps or leaves out whatever they are. They have no fault; a pinned one may stand for
    the faces that double it.
    """
    if not len(measures):
        return {}
    faults: dict[int, Fault] = {}
    for found in (
        _wrong_person(measures, recipe, other),
        _misaligned(measures, recipe),
        _occluded(measures, recipe),
        _blurred(measures, recipe),
        _badly_exposed(measures, recipe),
        _too_small(measures, recipe),
    ):
        for row, fault in found:
            if row not in pinned and row not in excluded:
                faults.setdefault(row, fault)
    return faults | _near_duplicates(measures, recipe, pinned, excluded | faults.keys())


# ---- who it is ------------------------------------------------------------------------------------------------------------


def own_embeddings(measures: Measures, reach: float) -> FloatArray:
    """The identity embeddings (N, 128) of the person who is most of the set: grown from its middle, neighbour by neighbour."""
    reach = GROWING * reach
    embeddings = measures.embedding[np.isfinite(measures.embedding).all(axis=1)].astype(np.float64)
    if len(embeddings) > MOST_EMBEDDINGS:
        embeddings = embeddings[np.linspace(0, len(embeddings) - 1, MOST_EMBEDDINGS).round().astype(int)]
    if len(embeddings) < 2:
        return embeddings
    distances = _distances(embeddings, embeddings)
    is_own = distances[np.argmin(np.median(distances, axis=1))] < reach
    for _ in range(20):  # a few suffice: each round reaches one neighbour further round the head
        num_near = min(NEAR_FACES, int(is_own.sum()))
        near = np.sort(distances[:, is_own], axis=1)[:, :num_near].mean(axis=1)
        grown = is_own | (near < reach)
        if (grown == is_own).all():
            break
        is_own = grown
    return embeddings[is_own]


def identity_distances(measures: Measures, gallery: FloatArray) -> FloatArray:
    """How far (N,) each face is from the nearest faces of a gallery (M, 128), itself left out.

    A face that was not measured (only every fifth of a track is) has the distance of the nearest in its track that was; NaN
    where there is none.
    """
    distances = np.full(len(measures), np.nan)
    measured = np.flatnonzero(np.isfinite(measures.embedding).all(axis=1))
    if not len(gallery) or not len(measured):
        return distances
    apart = _distances(measures.embedding[measured].astype(np.float64), gallery)
    apart[apart < 1e-4] = np.inf  # itself
    apart.sort(axis=1)
    near = apart[:, : min(NEAR_FACES, apart.shape[1])]
    distances[measured] = np.where(np.isfinite(near).any(axis=1), _finite_mean(near), 0.0)
    return _filled_along_tracks(measures, distances)


def _finite_mean(values: FloatArray) -> FloatArray:
    is_finite = np.isfinite(values)
    return np.where(is_finite, values, 0.0).sum(axis=1) / np.maximum(is_finite.sum(axis=1), 1)


def _distances(one: FloatArray, other: FloatArray) -> FloatArray:
    """Euclidean, (N, M), from inner products: the differences themselves would take N M 128 numbers."""
    squares = np.sum(one**2, axis=1)[:, None] + np.sum(other**2, axis=1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0.0))


def _filled_along_tracks(measures: Measures, values: FloatArray) -> FloatArray:
    tracks: dict[tuple[str, int], list[int]] = {}
    for row, face in enumerate(measures.faces):
        tracks.setdefault((face.source, face.track), []).append(row)
    filled = values.copy()
    for rows in tracks.values():
        known = [row for row in rows if np.isfinite(values[row])]
        for row in rows:
            if known and not np.isfinite(values[row]):
                frame = measures.faces[row].frame
                filled[row] = values[min(known, key=lambda each: abs(measures.faces[each].frame - frame))]
    return filled


def _wrong_person(measures: Measures, recipe: CurateRecipe, other: Measures | None) -> Iterator[tuple[int, Fault]]:
    if not recipe.identity_distance:
        return
    own = identity_distances(measures, own_embeddings(measures, recipe.identity_distance))
    theirs = np.full(len(measures), np.nan)
    if other is not None:
        theirs = identity_distances(measures, own_embeddings(other, recipe.identity_distance))
    limit = max(recipe.identity_distance, _upper_fence(own))
    is_theirs = (theirs < own) & (theirs < recipe.identity_distance)
    for row in np.flatnonzero((own > limit) | is_theirs):
        if is_theirs[row]:
            assert other is not None
            words = f"{theirs[row]:.2f} from {other.performer}, {own[row]:.2f} from {measures.performer}"
        else:
            words = f"{own[row]:.2f} from {measures.performer} (usual: {np.nanmedian(own):.2f})"
        yield int(row), Fault("wrong person", words, is_other_performer=bool(is_theirs[row]))


# ---- how it is aligned, hidden, focused and lit ---------------------------------------------------------------------------


def _misaligned(measures: Measures, recipe: CurateRecipe) -> Iterator[tuple[int, Fault]]:
    usual = _usual_at_pose(measures, measures.misfit)
    excess = measures.misfit - usual
    is_unlike = excess > _upper_fence(excess)
    rows = np.flatnonzero(is_unlike & (measures.misfit > recipe.misfit)).tolist() if recipe.misfit else []
    for row in rows:
        words = f"landmarks {measures.misfit[row]:.3f} off a head's shape (usual: {usual[row]:.3f})"
        yield row, Fault("misaligned", words)
    for row in _above(measures.deviation, recipe.deviation):
        words = f"{measures.deviation[row]:.0%} of its width off its track"
        yield row, Fault("misaligned", words)


def _usual_at_pose(measures: Measures, values: FloatArray) -> FloatArray:
    """The median (N,) of the faces that are turned most alike: in profile a head fits the mean head less well."""
    poses = np.nan_to_num(np.column_stack([measures.yaw, measures.pitch]))
    num_near = min(FACES_OF_A_POSE, len(poses))
    usual = np.empty(len(poses))
    for start in range(0, len(poses), 256):  # all at once would take N N numbers
        apart = np.sum((poses[start : start + 256, None] - poses) ** 2, axis=2)
        near = np.argpartition(apart, num_near - 1, axis=1)[:, :num_near]
        usual[start : start + 256] = np.nanmedian(values[near], axis=1)
    return usual


def _occluded(measures: Measures, recipe: CurateRecipe) -> Iterator[tuple[int, Fault]]:
    for row in _above(measures.occlusion, recipe.occluded_fraction):
        yield row, Fault("occluded", f"about {measures.occlusion[row]:.0%} of the face is hidden")


def _blurred(measures: Measures, recipe: CurateRecipe) -> Iterator[tuple[int, Fault]]:
    if not recipe.blur_fraction:
        return
    share = relative_sharpness(measures)
    logarithm = np.log(share)
    limit = min(recipe.blur_fraction, float(np.exp(np.nanmedian(logarithm) - USUAL_DEVIATIONS * _spread(logarithm))))
    for row in np.flatnonzero(share < limit):
        yield int(row), Fault("blurred", f"{share[row]:.0%} of the usual fine detail")


def relative_sharpness(measures: Measures) -> FloatArray:
    """The fine detail (N,) of each face as a share of what is usual, in the direction that lacks it most.

    Usual is the median of its own clip, unless that is far below the set's.
    """
    of_set = _column_medians(measures.focus)
    usual = np.tile(of_set, (len(measures), 1))
    sources = np.array([face.source for face in measures.faces])
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        if np.isfinite(measures.focus[rows]).all(axis=1).sum() >= LEAST_FACES_FOR_OWN_MEASURE:
            usual[rows] = np.maximum(_column_medians(measures.focus[rows]), SOFT_SOURCE * of_set)
    return np.asarray((measures.focus / usual).min(axis=1))


def _column_medians(values: FloatArray) -> FloatArray:
    known = values[np.isfinite(values).all(axis=1)]
    return np.asarray(np.median(known, axis=0)) if len(known) else np.full(values.shape[1], np.nan)


def _badly_exposed(measures: Measures, recipe: CurateRecipe) -> Iterator[tuple[int, Fault]]:
    middle = np.nanmedian(measures.brightness)
    for row in _above(measures.clipped, recipe.clipped_fraction):
        is_bright = measures.brightness[row] > 0.5
        colour = "white" if is_bright else "black"
        words = f"{measures.clipped[row]:.0%} of the face is pure {colour}"
        yield row, Fault("over-exposed" if is_bright else "under-exposed", words)
    for row in _above(measures.brightness, recipe.most_brightness):
        yield row, Fault("over-exposed", f"brightness {measures.brightness[row]:.2f} (usual: {middle:.2f})")
    for row in _above(-measures.brightness, -recipe.least_brightness):
        yield row, Fault("under-exposed", f"brightness {measures.brightness[row]:.2f} (usual: {middle:.2f})")


def _too_small(measures: Measures, recipe: CurateRecipe) -> Iterator[tuple[int, Fault]]:
    usual = float(np.nanmedian(measures.width_px))
    limit = min(recipe.least_width_px, 0.6 * usual)
    for row in np.flatnonzero(measures.width_px < limit):
        words = f"{measures.width_px[row]:.0f} px from brow end to brow end (usual: {usual:.0f})"
        yield int(row), Fault("too small", words)


def _above(values: FloatArray, limit: float) -> list[int]:
    """The rows beyond the recipe's limit and beyond what the set's spread explains; none where the check is switched off."""
    if not limit or not np.isfinite(values).any():
        return []
    return [int(row) for row in np.flatnonzero(values > max(limit, _upper_fence(values)))]


def _upper_fence(values: FloatArray) -> float:
    if not np.isfinite(values).any():
        return np.inf
    return float(np.nanmedian(values) + USUAL_DEVIATIONS * _spread(values))


def _spread(values: FloatArray) -> float:
    """A standard deviation that a minority of outliers does not widen (1.4826 times the median absolute deviation)."""
    return float(1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values)))) if np.isfinite(values).any() else 0.0


# ---- faces that are alike -------------------------------------------------------------------------------------------------


def _near_duplicates(
    measures: Measures, recipe: CurateRecipe, pinned: frozenset[int], excluded: frozenset[int]
) -> dict[int, Fault]:
    """Faces alike to one that is kept. The sharpest is always kept, so each has a kept face within reach: no chains."""
    if not recipe.alike_levels:
        return {}
    candidates = [row for row in range(len(measures)) if row not in excluded]
    sharpness = np.nan_to_num(measures.focus.mean(axis=1) * np.sqrt(measures.width_px))
    order = sorted(candidates, key=lambda row: (row not in pinned, -sharpness[row], row))
    features = np.column_stack([measures.mouth / ALIKE_MOUTH, measures.eyes / ALIKE_EYES, measures.yaw / ALIKE_DEGREES])
    features = np.nan_to_num(np.column_stack([features, measures.pitch / ALIKE_DEGREES]))
    kept = _Kept(measures.fingerprint, features, recipe.alike_levels)
    found = {}
    for row in order:
        like = kept.like(row) if row not in pinned else None
        if like is None:
            kept.add(row)
            continue
        face = measures.faces[like]
        words = f"alike to #{face.id}, frame {face.frame} of {face.source}, which is as sharp or sharper"
        found[row] = Fault("near-duplicate", words, like=face.id)
    return found


class _Kept:
    """The rows that are kept so far; asks for the first that a row is alike to."""

    def __init__(self, fingerprints: NDArray[np.float32], features: FloatArray, levels: float) -> None:
        self._fingerprints, self._features, self._levels = fingerprints, features, levels
        self._rows = np.zeros(len(features), np.intp)
        self._num = 0

    def add(self, row: int) -> None:
        self._rows[self._num] = row
        self._num += 1

    def like(self, row: int) -> int | None:
        """The nearest kept row with the same pose, mouth and eyes and nearly the same pixels, or None."""
        rows = self._rows[: self._num]
        rows = rows[(np.abs(self._features[rows] - self._features[row]) < 1).all(axis=1)]
        if not len(rows):
            return None
        differences = np.sqrt(np.mean((self._fingerprints[rows] - self._fingerprints[row]) ** 2, axis=1))
        nearest = int(np.argmin(differences))
        return int(rows[nearest]) if differences[nearest] < self._levels else None
