"""The flicker and the seam of a swap before and after compositing, from finished frames whose faults are known."""

from dataclasses import replace

import numpy as np
import pytest

from test_convert import LOSSLESS, NUM_FRAMES, Mirror, Painter, a_face, planned, plate  # noqa: F401 (plate is a fixture)
from understudy.media.reader import read_frames
from understudy.settings import ConvertRecipe
from understudy.stages._blend_figures import MOST_PAIRS, BlendMeter, frames_to_measure, pooled
from understudy.stages._swapping import swapped_frames

FITTED = replace(ConvertRecipe(), codec="png", fade_seconds=0, is_occlusion_kept=False)


class Flickering(Mirror):
    """A model whose faces are too red, and now brighter, now darker by 15 levels."""

    num_drawn = 0

    def swap(self, crops, from_performer, to_performer, *told):
        drawn = super().swap(crops, from_performer, to_performer)
        for face in drawn:
            face[..., :3] += np.float32([0.15, 0, 0]) + np.float32(15 / 255 * (-1) ** self.num_drawn)
            self.num_drawn += 1
        return np.clip(drawn, 0, 1)


def measured(plate, model, recipe):  # noqa: F811
    plan = planned(plate, [a_face(frame) for frame in range(NUM_FRAMES)], model, recipe)
    meter = BlendMeter(plan)
    return pooled(figures for frame in swapped_frames(read_frames(plate), plan) for figures in meter.measure(frame))


def test_a_model_that_returns_its_input_has_neither_flicker_nor_seam(plate):  # noqa: F811
    figures = measured(plate, Mirror(), LOSSLESS)
    assert figures["flicker_after"] < 0.2
    assert abs(figures["seam_after"]) < 0.2


def test_what_compositing_takes_away_of_flicker_and_seam_shows_in_the_figures(plate):  # noqa: F811
    figures = measured(plate, Flickering(), FITTED)
    assert figures["flicker_before"] == pytest.approx(30, abs=6)
    assert figures["flicker_after"] < figures["flicker_before"] / 3
    assert figures["seam_before"] > 5
    assert figures["seam_after"] < figures["seam_before"] / 3


def test_what_is_composited_without_any_match_is_as_bad_as_before(plate):  # noqa: F811
    figures = measured(plate, Painter(), LOSSLESS)
    assert figures["seam_after"] == pytest.approx(figures["seam_before"], rel=0.1)


def test_pairs_of_neighbours_are_measured_over_the_whole_film_and_no_more_in_a_longer_one():
    frames = [frame for frame in range(1000) if frame not in range(400, 500)]
    chosen = frames_to_measure(frames)
    assert chosen <= set(frames)
    assert min(chosen) == 0
    assert max(chosen) == 999
    assert len(chosen) == 2 * MOST_PAIRS
    assert frames_to_measure([3, 7]) == frozenset()


def test_nothing_measured_is_said_as_nothing():
    assert pooled([]) == {"flicker_before": None, "flicker_after": None, "seam_before": None, "seam_after": None}
