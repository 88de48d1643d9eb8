"""Learns to read a play from whole meshes: `python tools/make_play.py CLIPS WORK [--out FILE]`.

CLIPS holds a clip of each performer and a JSON of what it plays in each frame (tools/starter_performers.py); WORK gets their
face sets, under consent records that say that they show nobody. For each of imaging/play.py's readings: what the plain measure
is of a play is fitted first, a line in the weights of the muscles that belong to it; then the weights of all the mesh's points
that tell that best, each performer's neutral and the head's pose apart. Mirrored faces are learned from too. Writes
imaging/play.json, and says how well performers left out agree with their play. Minutes on two CPU cores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import entry
import numpy as np
from make_starter import clips_parser, face_sets
from numpy.typing import NDArray

from understudy.imaging import play
from understudy.imaging.expression import MEASURED, measured_of
from understudy.imaging.meanface import mean_face, mirror_points
from understudy.imaging.play import NUM_POSE_TERMS, PLAYED, pose_terms
from understudy.imaging.similarity import apply
from understudy.store.faceset import FaceSet
from understudy.types import BadInput

PACKAGE_FILE = Path(play.__file__).with_name("play.json")

MUSCLES = ("mouth", "mouth", "eyebrows-right", "eyebrows-left")
"""How the names of the muscles begin that belong to each of `PLAYED`; theirs are the performer's own left and right."""

MIRRORED = (0, 1, 3, 2)
"""Where each of `PLAYED` stands in a mirrored face."""

BROWS = (2, 3)
"""Where they stand in `PLAYED`, that at image left first."""

MUSCLE_DOUBT = 1e-3
"""Ridge of the plain measure's line in the muscles, which are seldom moved one by one, as a share of their variance."""

POINT_DOUBT = 3e-4
"""Ridge of the points' weights, in squared face units. Tenths of it fit performers left out better by 0.01 to 0.02, but agree
less where two different faces play the same, ten times as much is worse at both."""

ONE_SIDED_SHARE = 0.25
"""How much of what the plain measures of both brows differ by is added. The rendered performers hardly ever raise one alone, so
that nothing of it can be learned; plainly measured it is noise for the most part. Twice as much costs the brows a tenth of
their agreement with the play."""

NUM_POINTS = 468
FRONTAL_DEGREES = 30.0
NUM_FOLDS = 4

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Faces:
    """Of N faces: points (N, 468, 2) in face units, poses (N, 3), plain (N, 4) as plainly measured, muscles (N, M) and
    who (N,), the performer's number."""

    points: Numbers
    poses: Numbers
    plain: Numbers
    muscles: Numbers
    who: NDArray[np.intp]


def main() -> None:
    """Extract, learn, write, and say how good it is."""
    asked = clips_parser(__doc__, PACKAGE_FILE).parse_args()
    clips = clips_with_play(asked.clips)
    folders = face_sets(clips, asked.work, asked.jobs)
    faces, names = load(folders, clips)
    meant = meant_by_muscles(faces, names)
    print(f"{len(faces.points)} faces of {len(folders)} performers; agreement with the play, of performers left out:")
    for name, plain, learned in zip(PLAYED, *agreements(faces, meant), strict=True):
        print(f"  {name:16} plain {plain:.2f}, learned {learned:.2f}")
    weights, slopes = learn(faces, meant, np.ones(len(faces.who), bool))
    numbers = {
        "weights": [[float(f"{each:.4g}") for each in row] for row in weights],
        "pose_slopes": [[float(f"{each:.4g}") for each in row] for row in slopes],
    }
    asked.out.write_text(json.dumps(numbers, separators=(",", ":")) + "\n", "utf-8")
    print(f"{asked.out}: {asked.out.stat().st_size / 1e3:.0f} kB")


def clips_with_play(folder: Path) -> list[Path]:
    """The clips beside which lies what they play. Raises BadInput where there are too few to leave some out."""
    clips = [clip for clip in sorted(folder.glob("*.mp4")) if clip.with_suffix(".json").is_file()]
    if len(clips) < NUM_FOLDS:
        raise BadInput(
            f"{folder}: expected {NUM_FOLDS} or more clips NAME.mp4 with NAME.json beside them, found {len(clips)}; render "
            "them with tools/starter_performers.py (those that it left without a JSON: take them away first)"
        )
    return clips


def load(folders: Sequence[Path], clips: Sequence[Path]) -> tuple[Faces, list[str]]:
    """All faces, and the names of the muscles."""
    plays = [json.loads(clip.with_suffix(".json").read_text("utf-8"))["frames"] for clip in clips]
    names = sorted({name for frames in plays for frame in frames for name in frame["expression"]})
    rows: list[tuple[Numbers, Numbers, Numbers, list[float], int]] = []
    for number, (folder, frames) in enumerate(zip(folders, plays, strict=True)):
        with FaceSet.open(folder) as face_set:
            for face in face_set.faces(kept_only=False):
                place, played = np.asarray(face.face_from_frame, np.float64), frames[face.frame]["expression"]
                muscles = [float(played.get(name, 0.0)) for name in names]
                rows.append((apply(place, face.landmarks), apply(place, face.irises), np.array(face.pose), muscles, number))
    points, irises, poses, moved, who = (np.array(column) for column in zip(*rows, strict=True))
    plain = measured_of(points, irises, poses)[:, [MEASURED.index(name) for name in PLAYED]].astype(np.float64)
    return Faces(points, poses, plain, moved, who), names


def meant_by_muscles(faces: Faces, names: Sequence[str]) -> Numbers:
    """(N, 4): what the plain measures of these faces would be, were there nothing but play in them."""
    is_frontal = np.abs(faces.poses[:, 0]) < FRONTAL_DEGREES
    known = np.column_stack([_neutrals(faces.who), pose_terms(faces.poses)])
    muscles, plain = (_rest(known, each, is_frontal) for each in (faces.muscles, faces.plain))
    lines = np.zeros((len(names), len(PLAYED)))
    for place, beginning in enumerate(MUSCLES):
        own = [number for number, name in enumerate(names) if name.startswith(beginning)]
        lines[own, place] = _ridge(muscles[is_frontal][:, own], plain[is_frontal, place], MUSCLE_DOUBT)
    other_side = [names.index(_of_other_side(name)) for name in names]
    lines = (lines + lines[other_side][:, list(MIRRORED)]) / 2
    return faces.muscles @ lines


def learn(faces: Faces, meant: Numbers, chosen: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Weights (936, 4) and pose slopes (5, 4) from the chosen faces (N,) and their mirror images; meant: (N, 4)."""
    some = Faces(*(each[chosen] for each in (faces.points, faces.poses, faces.plain, faces.muscles, faces.who)))
    mirrored = np.stack([mirror_points(mesh, 1.0) for mesh in some.points])
    points = np.concatenate([some.points, mirrored]).reshape(2 * len(mirrored), -1)
    poses = np.concatenate([some.poses[:, :2], some.poses[:, :2] * [-1, 1]])
    wanted = np.concatenate([meant[chosen], meant[chosen][:, list(MIRRORED)]])
    known = np.column_stack([_neutrals(np.concatenate([some.who, some.who + some.who.max() + 1])), pose_terms(poses)])
    everywhere = np.ones(len(points), bool)
    weights = _ridge(_rest(known, points, everywhere), _rest(known, wanted, everywhere), POINT_DOUBT)
    weights[:, list(BROWS)] += ONE_SIDED_SHARE * _difference_of_brows()[:, None] * [0.5, -0.5]
    slopes = np.linalg.lstsq(known, points, rcond=None)[0][-NUM_POSE_TERMS:] @ weights
    return weights, slopes


def _difference_of_brows() -> Numbers:
    """(936,): weights of the points by which the brow at image left is plainly measured to be higher than the other."""
    one_point_moved = mean_face()[None, :, :2] + np.eye(2 * NUM_POINTS).reshape(-1, NUM_POINTS, 2)  # plain brows are lines
    plain = measured_of(one_point_moved, np.zeros((2 * NUM_POINTS, 2, 2)), np.zeros((2 * NUM_POINTS, 3)))
    left, right = (plain[:, MEASURED.index(PLAYED[brow])].astype(np.float64) for brow in BROWS)
    difference = left - right
    return np.asarray(difference - np.median(difference))


def agreements(faces: Faces, meant: Numbers) -> tuple[Numbers, Numbers]:
    """(4,) and (4,): the correlation with the play of the plain measures, and of what was learned from other performers."""
    known = np.column_stack([_neutrals(faces.who), pose_terms(faces.poses)])
    learned = np.zeros_like(meant)
    for fold in range(NUM_FOLDS):
        held = faces.who % NUM_FOLDS == fold
        weights, slopes = learn(faces, meant, ~held)
        learned[held] = faces.points[held].reshape(held.sum(), -1) @ weights - pose_terms(faces.poses[held]) @ slopes
    everywhere = np.ones(len(meant), bool)
    plain = _rest(known, faces.plain, everywhere)
    learned, wanted = (_rest(_neutrals(faces.who), each, everywhere) for each in (learned, meant))
    return _correlations(plain, wanted), _correlations(learned, wanted)


def _correlations(first: Numbers, second: Numbers) -> Numbers:
    """(K,), of the columns of (N, K) and (N, K)."""
    return np.array([np.corrcoef(*pair)[0, 1] for pair in zip(first.T, second.T, strict=True)])


def _of_other_side(muscle: str) -> str:
    return muscle.replace("left", "right") if "left" in muscle else muscle.replace("right", "left")


def _neutrals(who: NDArray[np.intp]) -> Numbers:
    """(N, P): a column for each performer."""
    return np.asarray(np.unique(who)[None] == who[:, None], np.float64)


def _rest(known: Numbers, values: Numbers, fitted_to: NDArray[np.bool_]) -> Numbers:
    """Values (N, K) without the part that is a line in `known` (N, L), fitted to some of the rows."""
    return np.asarray(values - known @ np.linalg.lstsq(known[fitted_to], values[fitted_to], rcond=None)[0])


def _ridge(inputs: Numbers, wanted: Numbers, doubt: float) -> Numbers:
    """Weights (K,) or (K, L) of inputs (N, K) for `wanted` (N,) or (N, L)."""
    moments = inputs.T @ inputs / len(inputs) + doubt * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(moments, inputs.T @ wanted / len(inputs)))


if __name__ == "__main__":
    entry.run(main)
