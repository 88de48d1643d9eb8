"""What trembles in a swap is told from what a finder of landmarks guesses on half a face."""

from __future__ import annotations

import numpy as np

from understudy.imaging.meanface import mean_face_ibug
from understudy.stages._evaluation_faces import FaceMotion, steadiness

NUM_FRAMES = 40


def still_face(trembling: np.ndarray) -> FaceMotion:
    """A face that sways smoothly, its landmarks moved by `trembling` (T, 68, 2) besides, in face units."""
    sway = 0.1 * np.sin(np.arange(NUM_FRAMES) / 4)[:, None, None]
    turned = np.tile(np.eye(3), (NUM_FRAMES, 1, 1))
    measures = np.random.default_rng(1).standard_normal((NUM_FRAMES, 4))
    points = mean_face_ibug()[None, :, :2] + sway + trembling
    return FaceMotion(points, turned, measures, measures[:, 0], np.full((NUM_FRAMES, 128), np.nan))


def guesses(frames: slice) -> np.ndarray:
    moved = np.zeros((NUM_FRAMES, 68, 2))
    moved[frames] = np.random.default_rng(0).normal(0, 0.02, moved[frames].shape)
    return moved


def test_guesses_behind_a_bar_are_no_trembling_and_those_in_the_open_are() -> None:
    covered = np.zeros(NUM_FRAMES, bool)
    covered[10:15] = True
    truth = still_face(np.zeros((NUM_FRAMES, 68, 2)))
    behind = steadiness(still_face(guesses(slice(9, 16))), truth, covered)
    assert behind["jitter_ratio"].value > 2
    assert behind["free_jitter_ratio"].value == 1
    beyond = steadiness(still_face(guesses(slice(20, 27))), truth, covered)
    assert beyond["free_jitter_ratio"].value > 2


def test_where_nothing_is_known_to_cover_the_face_every_frame_counts() -> None:
    truth, swap = still_face(np.zeros((NUM_FRAMES, 68, 2))), still_face(guesses(slice(9, 16)))
    figures = steadiness(swap, truth)
    assert figures["free_jitter_ratio"].value == figures["jitter_ratio"].value > 2
