"""Decides which tracks are of one person, and which of them are the performer's, from the identity of linked faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.imaging.tracking import intersection_over_union
from understudy.types import Face, FloatArray

SECOND_LOOK_OVERLAP = 0.3

PERSON_DISTANCE = 0.5
"""Tracks whose mean embeddings lie closer are of one person. Means scatter less than single embeddings (threshold 0.6):
measured, 0.1 within a clip, up to 0.41 over years, and 0.51 and more between strangers."""


def select_performer(faces: Sequence[Face], gallery: FloatArray, max_distance: float = PERSON_DISTANCE) -> frozenset[int]:
    """The tracks of the person whom `gallery` (N, 128) shows: those whose mean embedding is within `max_distance` of its mean.

    Nobody is twice in a frame: of two such tracks that share a frame, the more distant one is left out. A short track on top of
    a longer one is the same face seen twice, and left out first.
    """
    if not len(gallery):
        return frozenset()
    person = np.nanmean(np.asarray(gallery, np.float64), axis=0)
    distances = {track: float(np.linalg.norm(mean - person)) for track, mean in track_embeddings(faces).items()}
    frames = _frames_of_tracks(faces)
    chosen: list[int] = []
    for track in sorted(distances.keys() - second_looks(faces), key=lambda each: distances[each]):
        if distances[track] <= max_distance and all(frames[track].isdisjoint(frames[other]) for other in chosen):
            chosen.append(track)
    return frozenset(chosen)


def second_looks(faces: Sequence[Face]) -> set[int]:
    """The tracks that lie on a longer one in most of their frames: a mesh that settled elsewhere on the same face."""
    by_frame: dict[tuple[str, int], list[Face]] = {}
    for face in faces:
        by_frame.setdefault((face.source, face.frame), []).append(face)
    length = {track: len(frames) for track, frames in _frames_of_tracks(faces).items()}
    num_covered = dict.fromkeys(length, 0)
    for together in by_frame.values():
        for face in together:
            longer = [other for other in together if length[other.track] > length[face.track]]
            num_covered[face.track] += any(
                intersection_over_union(_corners(face), _corners(other)) > SECOND_LOOK_OVERLAP for other in longer
            )
    return {track for track, covered in num_covered.items() if covered > length[track] / 2}


def most_frequent_person(faces: Sequence[Face], max_distance: float = PERSON_DISTANCE) -> FloatArray:
    """The mean embedding (1, 128) of the person who is in most frames; (0, 128) where no face was measured."""
    frames, means = _frames_of_tracks(faces), track_embeddings(faces)
    persons = _persons_by_frames(faces, max_distance)
    if not persons:
        return np.empty((0, 128))
    _, main = persons[0]
    weights = [len(frames[track]) for track in main]
    return np.average([means[track] for track in main], axis=0, weights=weights)[None]


def num_frames_of_persons(faces: Sequence[Face], max_distance: float = PERSON_DISTANCE) -> list[int]:
    """In how many frames each person is, the most first."""
    return [num_frames for num_frames, _ in _persons_by_frames(faces, max_distance)]


def _persons_by_frames(faces: Sequence[Face], max_distance: float) -> list[tuple[int, list[int]]]:
    """In how many frames each person is, and that person's tracks, the most first.

    A mesh that settled elsewhere on a face is nobody of its own, and does not show its person twice.
    """
    frames, doubles = _frames_of_tracks(faces), second_looks(faces)
    means = {track: mean for track, mean in track_embeddings(faces).items() if track not in doubles}
    persons = _persons(means, frames, max_distance)
    counted = [(len(set().union(*(frames[track] for track in person))), person) for person in persons]
    return sorted(counted, key=lambda pair: -pair[0])


def track_embeddings(faces: Sequence[Face]) -> dict[int, FloatArray]:
    """The mean of the measured embeddings of each track that has any."""
    measured: dict[int, list[FloatArray]] = {}
    for face in faces:
        if np.isfinite(face.embedding).all():
            measured.setdefault(face.track, []).append(np.asarray(face.embedding, np.float64))
    return {track: np.mean(embeddings, axis=0) for track, embeddings in measured.items()}


def _persons(means: dict[int, FloatArray], frames: dict[int, set[tuple[str, int]]], max_distance: float) -> list[list[int]]:
    """Tracks gathered to persons from the longest down, each to the nearest person within `max_distance`."""
    persons: list[list[int]] = []
    for track in sorted(means, key=lambda each: -len(frames[each])):
        near = [(_person_distance(means, person, track), person) for person in persons]
        distance, person = min(near, key=lambda pair: pair[0], default=(np.inf, []))
        if distance <= max_distance:
            person.append(track)
        else:
            persons.append([track])
    return persons


def _person_distance(means: dict[int, FloatArray], person: Sequence[int], track: int) -> float:
    return float(np.linalg.norm(np.mean([means[each] for each in person], axis=0) - means[track]))


def _frames_of_tracks(faces: Sequence[Face]) -> dict[int, set[tuple[str, int]]]:
    frames: dict[int, set[tuple[str, int]]] = {}
    for face in faces:
        frames.setdefault(face.track, set()).add((face.source, face.frame))
    return frames


def _corners(face: Face) -> FloatArray:
    return np.array([face.box.left, face.box.top, face.box.right, face.box.bottom])
