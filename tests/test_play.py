"""What is played is read from the whole mesh: the same of everybody, on either side, and better than from a few points."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from understudy.imaging.expression import MEASURED
from understudy.imaging.meanface import mean_face, mirror_points
from understudy.imaging.play import PLAYED, read_play
from understudy.types import BadInput

MAKER = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "make_play.py"))
MEASURE = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "measure_play.py"))
BROWS = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))


def _meshes(num: int) -> np.ndarray:
    return np.repeat(mean_face()[None, :, :2], num, axis=0)


def test_a_brow_or_a_mouth_that_moves_is_read_as_moving_its_own_way() -> None:
    meshes = _meshes(4)
    for row, brow in enumerate(BROWS):
        meshes[1 + row, list(brow), 1] -= 0.05
    meshes[3, 61] += [-0.03, -0.03]
    meshes[3, 291] += [0.03, -0.03]
    moved = read_play(meshes, np.zeros((4, 3)))
    left, right, smiling = moved[1:] - moved[0]
    assert left[PLAYED.index("image-left brow")] > 3 * abs(left[PLAYED.index("image-right brow")])
    assert right[PLAYED.index("image-right brow")] > 3 * abs(right[PLAYED.index("image-left brow")])
    assert smiling[PLAYED.index("mouth width")] > 0
    assert smiling[PLAYED.index("mouth corners")] > 0


def test_a_mirrored_face_plays_the_same_with_its_sides_exchanged() -> None:
    random = np.random.default_rng(0)
    meshes, poses = _meshes(5) + 0.01 * random.normal(size=(5, 468, 2)), random.normal(size=(5, 3)) * 20
    mirrored = np.stack([mirror_points(mesh, 1.0) for mesh in meshes])
    there, here = read_play(mirrored, poses * [-1, 1, -1]), read_play(meshes, poses)
    np.testing.assert_allclose(there - there[0], (here - here[0])[:, [0, 1, 3, 2]], atol=2e-4)


def test_what_is_learned_finds_the_play_in_meshes_of_which_every_point_is_noisy() -> None:
    """Performers of different faces raise their brows; the plain measure sees ten noisy points, what is learned all of them."""
    random, rows = np.random.default_rng(1), 60
    names = ["eyebrows-left-up", "eyebrows-right-up", "mouth-corner-puller"]
    shows = 0.02 * random.normal(size=(3, 468, 2))
    shows[1] = np.stack([mirror_points(each, 0.0) for each in shows[:1]])[0]
    shows[2] = (shows[2] + mirror_points(shows[2], 0.0)) / 2
    who = np.repeat(np.arange(8), rows)
    muscles = random.uniform(size=(len(who), 3))
    faces = _meshes(8)[who] + 0.05 * random.normal(size=(8, 468, 2))[who]
    points = faces + np.einsum("nm,mpc->npc", muscles, shows) + 0.01 * random.normal(size=(len(who), 468, 2))
    plain = muscles[:, [2, 2, 1, 0]] * 0.02 + 0.02 * random.normal(size=(len(who), 4))
    given = MAKER["Faces"](points, random.normal(size=(len(who), 3)) * 10, plain, muscles, who)
    meant = MAKER["meant_by_muscles"](given, names)
    np.testing.assert_allclose(np.corrcoef(meant[:, 2], muscles[:, 1])[0, 1], 1, atol=1e-6)
    of_plain, of_learned = MAKER["agreements"](given, meant)
    assert of_plain.max() < 0.5
    assert of_learned.min() > 0.9
    weights, slopes = MAKER["learn"](given, meant, np.ones(len(who), bool))
    assert weights.shape == (936, 4)
    assert slopes.shape == (5, 4)


@pytest.mark.parametrize("part", PLAYED)
def test_what_is_played_has_a_plain_measure_of_that_name(part: str) -> None:
    assert part in MEASURED


def test_what_swap_and_truth_have_in_common_beside_the_play_makes_no_gain_of_it() -> None:
    """Both meshes err alike as the head turns, which the plain slope takes for following."""
    random, num = np.random.default_rng(3), 400
    played, error = random.normal(size=(2, num, 1))
    truth, swap = played + error, 0.5 * played + error
    agreement, gain, alike = MEASURE["compare"](swap, truth, played, random.uniform(-30, 30, size=(num, 3)))
    assert gain[0] == pytest.approx(0.5, abs=0.1)
    assert agreement[0] == pytest.approx(0.5 / 1.25**0.5, abs=0.1)
    assert alike[0] == pytest.approx(1.5 / (2 * 1.25) ** 0.5, abs=0.05)
    assert np.polyfit(truth[:, 0], swap[:, 0], 1)[0] > 0.7


def test_frames_turned_far_or_without_a_face_do_not_count() -> None:
    random, num = np.random.default_rng(4), 60
    played, poses = random.normal(size=(num, 1)), random.uniform(-30, 30, size=(num, 3))
    swap = played.copy()
    poses[:20, 0], swap[:20], swap[20:30] = 60.0, 99.0, np.nan
    np.testing.assert_allclose(np.concatenate(MEASURE["compare"](swap, played, played, poses)), 1.0)


def test_clips_that_do_not_say_what_they_play_are_refused_in_a_line(tmp_path: Path) -> None:
    for name in ("p000", "p001"):
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "p000.json").touch()
    with pytest.raises(BadInput, match=r"expected 4 or more clips NAME.mp4 with NAME.json beside them, found 1; render them"):
        MAKER["clips_with_play"](tmp_path)
