"""How much of the play that was rendered is to be seen in a swap: `python tools/measure_play.py ACTORS SWAP [SWAP ...]`.

ACTORS is the folder with `test_A.mp4`, `test_B.mp4` and `test_B.json`, which says what both play in each frame; each SWAP is a
film of test_A with B's face. Both actors' films are measured too: as well as the truth shows its own play no swap need be.
Three columns a film, the head's pose apart. Agreement: the correlation with the play, of what `imaging/expression.py` reads.
Gain: how much of the play shows over how much of it shows in the truth; noise that both have in common, as meshes of the same
turning head do, makes none here (an instrumental variable, Wright 1928). Alike: the correlation with what is read of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import entry
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.expression import READINGS, readings_of
from understudy.imaging.meanface import align_mesh, head_pose
from understudy.imaging.play import pose_terms
from understudy.imaging.similarity import apply
from understudy.media import probe, read_frames
from understudy.perception.detect import mediapipe_detector
from understudy.perception.landmarks import mesh_landmarker
from understudy.store.json_files import read_json
from understudy.types import BadInput

MOST_YAW_DEGREES = 40.0

_LEFT_BROW, _RIGHT_BROW = ({f"eyebrows-{side}-up": 1.0, f"eyebrows-{side}-down": -1.0} for side in ("right", "left"))
MUSCLES: Mapping[str, Mapping[str, float]] = {
    "mouth opening": {"mouth-open": 1},
    "mouth width": {"mouth-corner-puller": 1},
    "mouth corners": {"mouth-corner-puller": 1},
    "image-left brow": _LEFT_BROW,
    "image-right brow": _RIGHT_BROW,
    "image-left eye": {"eye-right-closure": -1},
    "image-right eye": {"eye-left-closure": -1},
    "played mouth width": {"mouth-corner-puller": 1},
    "played mouth corners": {"mouth-corner-puller": 1},
    "played image-left brow": _LEFT_BROW,
    "played image-right brow": _RIGHT_BROW,
}
"""What of the renderer's play each reading is to show; the muscles' left and right are the actor's own."""

Numbers = NDArray[np.float64]


def main(actors: Path, swaps: Sequence[Path]) -> None:
    """Print a table: a row for each reading, three columns for each film."""
    if not (actors / "test_B.json").is_file():
        raise BadInput(f"{actors}: expected the actors' folder with test_A.mp4, test_B.mp4 and test_B.json")
    frames = cast(Sequence[Any], read_json(actors / "test_B.json")["frames"])
    poses = np.array([frame["head_yaw_pitch_roll"] for frame in frames], np.float64)
    played = np.array([[_sum(frame["expression"], muscles) for muscles in MUSCLES.values()] for frame in frames])
    paths, truth = (actors / "test_A.mp4", actors / "test_B.mp4", *swaps), read(actors / "test_B.mp4")
    for path in paths:
        if probe(path).num_frames_estimate != len(frames):
            raise BadInput(f"{path}: expected {len(frames)} frames, as the actors play; give a swap of the whole of test_A.mp4")
    columns = [np.stack(compare(read(path), truth, played, poses), axis=1) for path in paths]
    print(f"{'agreement, gain, alike':24}" + "".join(f"{path.parent.name[-10:] + '/' + path.stem:>22}" for path in paths))
    for name, figures in zip(MUSCLES, np.stack(columns, axis=1), strict=True):
        print(f"{name:24}" + "".join(f"{a:10.2f}{g:6.2f}{k:6.2f}" for a, g, k in figures))


def compare(shown: Numbers, truth: Numbers, played: Numbers, poses: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(K,) agreement, gain and likeness of readings (T, K) with the truth's and with what was played; poses: (T, 3)."""
    is_used = (np.abs(poses[:, 0]) <= MOST_YAW_DEGREES) & np.isfinite(shown).all(1) & np.isfinite(truth).all(1)
    known = np.column_stack([np.ones(is_used.sum()), pose_terms(poses[is_used])])
    shown, truth, played = (
        each[is_used] - known @ np.linalg.lstsq(known, each[is_used], rcond=None)[0] for each in (shown, truth, played)
    )
    gain = (shown * played).sum(0) / (truth * played).sum(0)
    return _correlation(shown, played), gain, _correlation(shown, truth)


def _correlation(first: Numbers, second: Numbers) -> Numbers:
    """(K,), of columns (T, K) whose means are 0."""
    return np.asarray((first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0)))


def read(path: Path) -> Numbers:
    """The readings (T, K) of a film's largest face; NaN where there is none."""
    detect, landmarks, rows = mediapipe_detector(), mesh_landmarker(), []
    for record in read_frames(path):
        found = detect(record.image)
        if not found:
            rows.append(np.full(len(READINGS), np.nan))
            continue
        seen = landmarks(record.image, found[0])
        place = align_mesh(seen.points)
        points, irises = (apply(place, each) for each in (seen.refined[:, :2], seen.irises))
        rows.append(readings_of(points[None], irises[None], np.array([head_pose(seen.points)]))[0])
    return np.array(rows, np.float64)[:, [READINGS.index(name) for name in MUSCLES]]


def _sum(expression: Mapping[str, float], muscles: Mapping[str, float]) -> float:
    return sum(share * expression.get(name, 0.0) for name, share in muscles.items())


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("actors", type=Path, metavar="ACTORS")
    asked.add_argument("swaps", type=Path, metavar="SWAP", nargs="*")
    entry.run(main, asked)
