"""Measures the mean face on the virtual actors: `python tools/make_mean_face.py ACTORS [OUT]`.

ACTORS is the folder with `train_A.mp4`, `train_A.json` and the same for `train_B` and `extra_C`. Writes imaging/meanface.json
and prints how well alignment by the mesh agrees with alignment by the true landmarks, and how well the head pose is measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import entry
import numpy as np
from numpy.typing import NDArray

from understudy.imaging import meanface
from understudy.imaging.similarity import apply, fit_similarity, scale_of
from understudy.media import read_frames
from understudy.perception.detect import mediapipe_detector
from understudy.perception.landmarks import mesh_landmarker

CLIPS = ("train_A", "train_B", "extra_C")
MOST_YAW_FRONTAL_DEGREES = 12
MOST_YAW_DEGREES = 45
PACKAGE_FILE = Path(meanface.__file__).with_name("meanface.json")
RIGID = list(meanface.IBUG_RIGID)

IBUG_MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """Frames of one actor: true landmarks (T, 68, 2), true yaw, pitch, roll (T, 3) and measured meshes (T, 468, 3)."""

    true_points: Points
    pose: Points
    meshes: Points

    def is_within(self, yaw_degrees: float) -> NDArray[np.bool_]:
        """The frames (T,) turned no further than that."""
        return np.abs(self.pose[:, 0]) <= yaw_degrees


def main(actors: Path, out: Path) -> None:
    """Measure, write, and say how good it is."""
    mirror = json.loads(PACKAGE_FILE.read_text("utf-8"))["mirror"]  # a fact of the mesh's topology
    clips = [measure(actors / f"{name}.mp4") for name in CLIPS]
    mean_ibug = mean_true_face(clips)
    mean_mesh = mean_measured_face(clips, mean_ibug, mirror)
    numbers = {"mean_face": rounded(mean_mesh, mirror), "mean_face_ibug": rounded(mean_ibug, IBUG_MIRROR), "mirror": mirror}
    out.write_text(json.dumps(numbers, separators=(",", ":")) + "\n", "utf-8")
    if out == PACKAGE_FILE:
        meanface._arrays.cache_clear()
        print_agreement(clips)


def measure(path: Path) -> Clip:
    """Every frame within 45 degrees of yaw that the networks see."""
    detect, landmarks = mediapipe_detector(), mesh_landmarker()
    truth = json.loads(path.with_suffix(".json").read_text("utf-8"))["frames"]
    rows = []
    for record, frame in zip(read_frames(path), truth, strict=True):
        if abs(frame["head_yaw_pitch_roll"][0]) <= MOST_YAW_DEGREES:
            found = detect(record.image)
            rows += [(frame["landmarks"], frame["head_yaw_pitch_roll"], landmarks(record.image, d).points) for d in found[:1]]
    return Clip(*(np.array(column, np.float64) for column in zip(*rows, strict=True)))


def mean_true_face(clips: list[Clip]) -> Points:
    """(68, 2) in face units: each actor's near-frontal frames aligned by their rigid points and averaged, made symmetric."""
    frontal = [clip.true_points[clip.is_within(MOST_YAW_FRONTAL_DEGREES)] for clip in clips]
    mean = in_face_units(frontal[0][0])
    for _ in range(20):
        aligned = [[apply(fit_similarity(p[RIGID], mean[RIGID]), p) for p in points] for points in frontal]
        mean = in_face_units(symmetric(np.mean([np.mean(each, axis=0) for each in aligned], axis=0), IBUG_MIRROR))
    return mean


def mean_measured_face(clips: list[Clip], mean_ibug: Points, mirror: list[int]) -> Points:
    """(468, 3): the meshes of the same frames, carried by the alignment of their true landmarks, made symmetric."""
    means = []
    for clip in clips:
        carried = []
        for i in np.flatnonzero(clip.is_within(MOST_YAW_FRONTAL_DEGREES)):
            face_from_frame = fit_similarity(clip.true_points[i][RIGID], mean_ibug[RIGID])
            x_y, z = apply(face_from_frame, clip.meshes[i][:, :2]), clip.meshes[i][:, 2] * scale_of(face_from_frame)
            carried.append(np.column_stack([x_y, z]))
        means.append(np.mean(carried, axis=0))
    return symmetric(np.mean(means, axis=0), mirror)


def in_face_units(points: Points) -> Points:
    """Scaled and shifted so that the box of points 17..67 spans x from 0 to 1 and is centred on 0.5 in y."""
    low, high = points[17:].min(axis=0), points[17:].max(axis=0)
    return (points - (low + high) / 2) / (high - low)[0] + 0.5


def symmetric(points: Points, mirror: list[int]) -> Points:
    """The mean of a face and its mirror image about x = 0.5."""
    mirrored = points[mirror]
    mirrored[:, 0] = 1 - mirrored[:, 0]
    return np.asarray((points + mirrored) / 2)


def rounded(points: Points, mirror: list[int]) -> list[list[float]]:
    """To about five decimals, still exactly symmetric."""
    return cast(list[list[float]], symmetric(points.round(5), mirror).round(6).tolist())


def print_agreement(clips: list[Clip]) -> None:
    """How far `align_mesh` puts the true points 17..67 from where `align_ibug` puts them (face units), and the pose errors."""
    for name, clip in zip(CLIPS, clips, strict=True):
        apart = [
            apply(meanface.align_mesh(mesh), true[17:]) - apply(meanface.align_ibug(true), true[17:])
            for mesh, true in zip(clip.meshes, clip.true_points, strict=True)
        ]
        errors = np.abs([meanface.head_pose(mesh) for mesh in clip.meshes] - clip.pose)
        rms = float(np.sqrt(np.mean(np.sum(np.square(apart), axis=-1))))
        print(
            f"{name}: {len(apart)} frames, {rms:.4f} face units apart, mean pose error {errors.mean(axis=0).round(1)} degrees"
        )


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("actors", type=Path, metavar="ACTORS")
    asked.add_argument("out", type=Path, metavar="OUT", nargs="?", default=PACKAGE_FILE)
    entry.run(main, asked)
