"""Follows the faces of a clip through its shots and steadies each: what comes after looking through the frames (survey.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.match_cuts import match_cuts
from understudy.imaging.meanface import IBUG_FROM_MESH
from understudy.imaging.similarity import apply
from understudy.imaging.smoothing import (
    out_of_course,
    smooth_landmarks,
    smooth_similarities,
    squared_jitter_px,
    strides_off_course,
)
from understudy.imaging.tracking import Shots, find_shots, link_tracks
from understudy.perception.survey import FrameFaces, box_around, corners
from understudy.types import Face, FloatArray

NOT_SEEN = "not seen: interpolated"
IN_A_DISSOLVE = "in a dissolve"
OUT_OF_ITS_TRACK = "another way up than before and after: interpolated"

STILLS_OFF_COURSE = 0.15
"""Footage whose faces lie farther (face units, median) off the line between their neighbours is a heap of stills.

Measured: film up to 0.03, small faces under hats in a shaking picture 0.05, every eighth frame of film 0.08, portraits of one
person 0.64."""


def shots_of(surveyed: Sequence[FrameFaces]) -> Shots:
    """The shots of a clip, of which every frame was surveyed: they end where its picture is cut, and where a face becomes
    another person's for good, which a match cut before a background that hardly changes shows in the faces alone."""
    shots = find_shots(np.stack([each.thumbnail for each in surveyed]))
    faces = [face for each in surveyed for face in each.faces]
    places = [place for place, each in enumerate(surveyed) for _ in each.faces]
    return shots.divided(match_cuts(places, shots.shot[places].tolist(), _boxes(faces), _embeddings(faces), _shapes(faces)))


def _boxes(faces: Sequence[Face]) -> FloatArray:
    return np.array([corners(face.box) for face in faces]).reshape(-1, 4)


def _embeddings(faces: Sequence[Face]) -> FloatArray:
    return np.array([face.embedding for face in faces], np.float64).reshape(-1, 128)


def _shapes(faces: Sequence[Face]) -> FloatArray:
    """Landmarks (N, 68, 2) in face units, as measured."""
    points = list(IBUG_FROM_MESH)
    shapes = [apply(np.asarray(face.raw_face_from_frame, np.float64), face.landmarks[points]) for face in faces]
    return np.array(shapes, np.float32).reshape(-1, len(points), 2)


def link_and_smooth(surveyed: Sequence[FrameFaces], first_track: int = 0, shots: Shots | None = None) -> list[Face]:
    """All faces of one clip in order of time, with shots, tracks, steady alignments and landmarks, short gaps bridged.

    surveyed: every frame of the clip, in order. Tracks are counted from `first_track`. shots: from `shots_of`, where they are
    known. Measured alignments stay in `raw_face_from_frame`; `landmarks` and `irises` are smoothed. Faces that nobody saw
    (`is_bridged`: up to 12 frames within a track) have score 0, and neither embedding nor measures of their picture (NaN);
    they are not kept for training, nor are faces in a dissolve and those whose mesh was another way up than before and after,
    but all have an alignment to swap with.

    In pictures that do not follow one another (photographs, time lapse) faces stay as measured and none is bridged; each whose
    identity was measured is a track of its own.
    """
    if not surveyed:
        return []
    shots = shots or shots_of(surveyed)
    places = [place for place, each in enumerate(surveyed) for _ in each.faces]
    faces = [_in_its_shot(face, shots, place) for place, each in enumerate(surveyed) for face in each.faces]
    embeddings = _embeddings(faces)
    tracks = link_tracks(places, [face.shot for face in faces], _boxes(faces), embeddings)
    are_stills = _are_stills(faces, places, tracks)
    if are_stills:
        tracks = _tracks_of_stills(tracks, [bool(np.isfinite(each).all()) for each in embeddings])
    linked: list[Face] = []
    for track in range(int(tracks.max(initial=-1)) + 1):
        rows = np.flatnonzero(tracks == track)
        followed = {places[row]: replace(faces[row], track=first_track + track) for row in rows}
        linked += followed.values() if are_stills else _smooth_track(followed, surveyed)
    return sorted(linked, key=lambda face: (face.frame, face.track))


def jitter_px(faces: Sequence[Face]) -> tuple[float, float]:
    """How far linked faces tremble about their course, in frame pixels: (as measured, as smoothed).

    Root mean square over tracks, frames and five points of the face (see `squared_jitter_px`); 0 where no face is seen in five
    frames in a row.
    """
    sums = np.zeros((2, 2))
    tracks: dict[int, list[Face]] = {}
    for face in faces:
        tracks.setdefault(face.track, []).append(face)
    for followed in tracks.values():
        is_seen = np.array([not face.is_bridged and face.reason != OUT_OF_ITS_TRACK for face in followed])
        sums += [
            squared_jitter_px(np.stack([face.raw_face_from_frame for face in followed]), is_seen),
            squared_jitter_px(np.stack([face.face_from_frame for face in followed]), is_seen),
        ]
    before, after = np.sqrt(sums[:, 0] / np.maximum(sums[:, 1], 1))
    return float(before), float(after)


def _in_its_shot(face: Face, shots: Shots, place: int) -> Face:
    if shots.is_mixed[place]:
        face = replace(face, kept=False, reason=IN_A_DISSOLVE)
    return replace(face, shot=int(shots.shot[place]))


def _are_stills(faces: Sequence[Face], places: Sequence[int], tracks: NDArray[np.int64]) -> bool:
    """Whether the frames do not follow one another: there is no course to smooth, and smoothing would miss every face."""
    off: list[float] = []
    for track in range(int(tracks.max(initial=-1)) + 1):
        rows = np.flatnonzero(tracks == track).tolist()
        if len(rows) > 2:
            alignments = np.stack([faces[row].raw_face_from_frame for row in rows])
            off += strides_off_course(alignments, [places[row] for row in rows]).tolist()
    return bool(off) and float(np.median(off)) > STILLS_OFF_COURSE


def _tracks_of_stills(tracks: NDArray[np.int64], is_known: Sequence[bool]) -> NDArray[np.int64]:
    """Tracks (N,) anew, counted from 0: each face of known identity begins one, and those after it of none continue it."""
    anew = np.empty_like(tracks)
    now: dict[int, int] = {}
    num_tracks = 0
    for row, track in enumerate(tracks.tolist()):
        if is_known[row] or track not in now:
            now[track] = num_tracks
            num_tracks += 1
        anew[row] = now[track]
    return anew


def _smooth_track(followed: dict[int, Face], surveyed: Sequence[FrameFaces]) -> list[Face]:
    """The faces of one track (by their frames' places), steady, without gaps and without what is out of course."""
    is_out = out_of_course(np.stack([followed[place].raw_face_from_frame for place in sorted(followed)]))
    odd = {place: followed[place] for place, out in zip(sorted(followed), is_out, strict=True) if out}
    followed = {place: face for place, face in followed.items() if place not in odd}
    places = range(min(followed), max(followed) + 1)
    is_seen = np.array([place in followed for place in places])
    known = [followed.get(place) for place in places]
    raw = np.stack([face.raw_face_from_frame if face else np.full((2, 3), np.nan) for face in known])
    steady = smooth_similarities(raw, is_seen)
    landmarks, irises = _steady_points(known, raw, steady, is_seen)
    return [
        replace(followed[place], face_from_frame=steady[row], landmarks=landmarks[row], irises=irises[row])
        if is_seen[row]
        else _bridge(followed, surveyed[place], place, steady[row], landmarks[row], irises[row], odd.get(place))
        for row, place in enumerate(places)
    ]


def _steady_points(
    known: Sequence[Face | None], raw: FloatArray, steady: FloatArray, is_seen: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Landmarks (T, 468, 2) and irises (T, 2, 2) that move with the steady alignment; no irises if a face seen lacks them."""
    nothing = np.full((470, 2), np.nan)
    measured = np.stack([np.concatenate([face.landmarks, face.irises]) if face else nothing for face in known])
    if np.isfinite(measured[is_seen, 468:]).all():
        points = smooth_landmarks(measured, raw, steady, is_seen)
        return points[:, :468], points[:, 468:]
    return smooth_landmarks(measured[:, :468], raw, steady, is_seen), np.full((len(known), 2, 2), np.nan)


def _bridge(
    followed: dict[int, Face],
    unseen: FrameFaces,
    place: int,
    face_from_frame: FloatArray,
    landmarks: FloatArray,
    irises: FloatArray,
    odd: Face | None,
) -> Face:
    """The row for a face that nobody saw in this frame, or saw as it cannot be (`odd`), between those before and after."""
    before, after = max(each for each in followed if each < place), min(each for each in followed if each > place)
    share = (place - before) / (after - before)
    poses = zip(followed[before].pose, followed[after].pose, strict=True)
    yaw, pitch, roll = (earlier + share * ((later - earlier + 180) % 360 - 180) for earlier, later in poses)
    box = box_around(landmarks)
    if odd is not None:
        course = replace(odd, face_from_frame=face_from_frame, landmarks=landmarks, irises=irises, box=box)
        return replace(course, pose=(yaw, pitch, roll), embedding=np.full(128, np.nan), kept=False, reason=OUT_OF_ITS_TRACK)
    return replace(
        followed[before],
        frame=unseen.frame,
        time_seconds=unseen.time_seconds,
        box=box,
        score=0.0,
        landmarks=landmarks,
        face_from_frame=face_from_frame,
        raw_face_from_frame=face_from_frame,
        pose=(yaw, pitch, roll),
        embedding=np.full(128, np.nan),
        sharpness=float("nan"),
        mouth_openness=float("nan"),
        eye_openness=float("nan"),
        irises=irises,
        brightness=float("nan"),
        exposure=float("nan"),
        is_bridged=True,
        kept=False,
        reason=NOT_SEEN,
        id=0,
    )
