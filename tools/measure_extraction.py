"""Measures finding, following and aligning against known truth.

`python tools/measure_extraction.py CLIP.mp4... [--detector NAME]...`; beside each clip lies CLIP.json with its true landmarks
and head poses (the form of src/understudy/sample/README.md). Prints a table in Markdown, a row for each detector and clip:

found       frames with a face, of those with |yaw| up to 60 degrees, in percent; in brackets those in which a detector saw it
landmarks   mean distance of the points 27-67 from the truth, |yaw| up to 30 degrees, nothing before the face, in percent of the
            distance between the outer eye corners; in brackets without the constant difference of definition of each point
jitter      of the alignment as measured and as smoothed, in pixels (imaging/smoothing.py), and their ratio
lag         frames by which the smoothed alignment follows the truth: where the correlation of their velocities peaks
yaw         mean error of the head's yaw in degrees, |yaw| up to 45 degrees
ms          processor time of the survey per frame
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import entry
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.meanface import IBUG_FROM_MESH, align_ibug
from understudy.imaging.similarity import apply, invert
from understudy.imaging.smoothing import CENTRE
from understudy.media import read_frames
from understudy.perception.follow import jitter_px, link_and_smooth
from understudy.perception.survey import DETECTORS, load_networks, survey
from understudy.types import Face, FloatArray

INNER = slice(27, 68)
LAGS = range(-5, 6)


@dataclass(frozen=True)
class Truth:
    """Per frame (T): landmarks (T, 68, 2), yaw in degrees (T,) and whether a prop covers a part of the face (T,)."""

    landmarks: FloatArray
    yaw: FloatArray
    is_covered: NDArray[np.bool_]


def main() -> None:
    """Measure each detector on each clip."""
    parser = entry.parser(__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--detector", action="append", choices=list(DETECTORS), help="default: mediapipe, mtcnn and dlib")
    asked = parser.parse_args()
    print("| detector | clip | found, % | landmarks, % | jitter, px | lag | yaw, ° | ms |\n|---|---|---|---|---|---|---|---|")
    for detector in asked.detector or ["mediapipe", "mtcnn", "dlib"]:
        networks = load_networks(detector)
        for clip in asked.clips:
            started = time.process_time()
            surveyed = list(survey(read_frames(clip), clip.name, networks))
            cost_ms = 1000 * (time.process_time() - started) / len(surveyed)
            truth = read_truth(clip.with_suffix(".json"))
            faces = main_face(link_and_smooth(surveyed), truth)
            print(f"| {detector} | {clip.stem} | {figures(faces, truth)} | {cost_ms:.0f} |", flush=True)


def read_truth(path: Path) -> Truth:
    """The truth of a clip; a face is covered where an inner point is hidden although the head is not turned far."""
    frames = json.loads(path.read_text("utf-8"))["frames"]
    landmarks = np.array([frame["landmarks"] for frame in frames], np.float64)
    yaw = np.array([frame["head_yaw_pitch_roll"][0] for frame in frames])
    hidden = np.array([1 - np.mean(np.array(frame["visible"])[INNER]) for frame in frames])
    has_prop = np.array([frame.get("prop") is not None for frame in frames])
    return Truth(landmarks, yaw, has_prop & (hidden > 0) & (np.abs(yaw) < 45))


def main_face(faces: list[Face], truth: Truth) -> dict[int, Face]:
    """By frame, the face nearest to the true one, if its centre lies within half a face of it."""
    chosen: dict[int, Face] = {}
    for face in faces:
        true_centre = apply(invert(align_ibug(truth.landmarks[face.frame])), CENTRE)[0]
        apart = float(np.linalg.norm(apply(align_ibug(truth.landmarks[face.frame]), centre_of(face)[None]) - CENTRE))
        if apart < 0.5 and (
            face.frame not in chosen or distance(chosen[face.frame], true_centre) > distance(face, true_centre)
        ):
            chosen[face.frame] = face
    return chosen


def centre_of(face: Face) -> FloatArray:
    """The middle of the aligned face in the frame."""
    return apply(invert(face.face_from_frame), CENTRE)[0]


def distance(face: Face, point: FloatArray) -> float:
    """How far the face's centre is from a point of the frame, in pixels."""
    return float(np.linalg.norm(centre_of(face) - point))


def figures(faces: dict[int, Face], truth: Truth) -> str:
    """The cells of one row."""
    within = np.flatnonzero(np.abs(truth.yaw) <= 60)
    found = np.mean([frame in faces for frame in within])
    seen = np.mean([frame in faces and not faces[frame].is_bridged for frame in within])
    error, without_offset = landmark_errors(faces, truth)
    before, after = jitter_px(list(faces.values()))
    yaw = np.mean([abs(face.pose[0] - truth.yaw[n]) for n, face in faces.items() if abs(truth.yaw[n]) <= 45])
    cells = [
        f"{100 * found:.1f} ({100 * seen:.1f})",
        f"{100 * error:.2f} ({100 * without_offset:.2f})",
        f"{before:.3f} → {after:.3f} ({after / max(before, 1e-9):.2f})",
        str(lag(faces, truth)),
        f"{yaw:.1f}",
    ]
    return " | ".join(cells)


def landmark_errors(faces: dict[int, Face], truth: Truth) -> tuple[float, float]:
    """Mean distance of the inner points from the truth over the eye distance; and without each point's mean difference.

    The mean difference is taken in face space, where it does not depend on where the head is.
    """
    rows = [n for n, face in faces.items() if abs(truth.yaw[n]) <= 30 and not truth.is_covered[n] and not face.is_bridged]
    differences, scales = [], []
    for row in rows:
        true = truth.landmarks[row]
        face_from_frame = align_ibug(true)
        found = faces[row].landmarks[list(IBUG_FROM_MESH)]
        differences.append((apply(face_from_frame, found) - apply(face_from_frame, true))[INNER])
        eyes = apply(face_from_frame, true[[36, 45]])
        scales.append(np.linalg.norm(eyes[0] - eyes[1]))
    if not rows:
        return float("nan"), float("nan")
    difference, scale = np.stack(differences), np.array(scales)[:, None]
    without_offset = difference - difference.mean(axis=0)
    return tuple(float((np.linalg.norm(each, axis=-1) / scale).mean()) for each in (difference, without_offset))  # type: ignore[return-value]


def lag(faces: dict[int, Face], truth: Truth) -> int:
    """Frames by which the smoothed centre follows the true one."""
    num_frames = len(truth.yaw)
    ours = np.full((num_frames, 2), np.nan)
    for frame, face in faces.items():
        ours[frame] = centre_of(face)
    true = np.stack([apply(invert(align_ibug(points)), CENTRE)[0] for points in truth.landmarks])
    ours, true = np.diff(ours, axis=0), np.diff(true, axis=0)
    scores = []
    for shift in LAGS:
        moved = np.roll(true, shift, axis=0)
        inner = slice(len(LAGS), -len(LAGS))
        both = np.isfinite(ours[inner]) & np.isfinite(moved[inner])
        scores.append(np.corrcoef(ours[inner][both], moved[inner][both])[0, 1])
    return LAGS[int(np.argmax(scores))]


if __name__ == "__main__":
    entry.run(main)
