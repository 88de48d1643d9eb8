"""A match cut, at which one person's face takes another's place before the same background, ends a shot and a track."""

import numpy as np
import pytest

from understudy.imaging.match_cuts import match_cuts
from understudy.imaging.tracking import find_shots
from understudy.media import read_frames
from understudy.perception.follow import link_and_smooth, shots_of
from understudy.perception.survey import load_networks, survey

NUM_FRAMES, CUT = 60, 33
BOX = np.array([100.0, 100, 200, 200])


def person(seed):
    """Whose embedding lies 0.5 from the middle: two people are about 0.7 apart."""
    direction = np.random.default_rng(seed).normal(size=128)
    return 0.5 * direction / np.linalg.norm(direction)


def found(embeddings, shapes, shots=None):
    """Cuts of a face that stays in its place, with an identity measured on every fifth frame."""
    rows = range(len(embeddings))
    measured = np.where((np.array(rows) % 5 == 0)[:, None], embeddings, np.nan)
    return match_cuts([*rows], shots or [0] * len(rows), np.tile(BOX, (len(rows), 1)), measured, shapes)


def talking(seed, num_frames=NUM_FRAMES):
    """The shape of a face of its own (T, 68, 2) in face units, which moves a little all the time."""
    random = np.random.default_rng(seed)
    own = random.normal(0, 0.02, (68, 2))
    return 0.5 + own + np.cumsum(random.normal(0, 0.003, (num_frames, 68, 2)), axis=0)


def cut_together(one, other, at=CUT):
    return np.concatenate([one[:at], other[at:]])


ABEL, BEA = (np.tile(person(seed), (NUM_FRAMES, 1)) for seed in (1, 2))


@pytest.mark.parametrize("at", [30, 33, 34, 35])
def test_another_persons_face_in_the_same_place_is_cut_at_its_very_first_frame(at):
    assert found(cut_together(ABEL, BEA, at), cut_together(talking(1), talking(2), at)) == [at]


def test_there_and_back_are_two_cuts():
    embeddings = np.concatenate([ABEL[:22], BEA[:19], ABEL[:19]])
    shapes = np.concatenate([talking(1)[:22], talking(2)[:19], talking(1)[:19]])
    assert found(embeddings, shapes) == [22, 41]


def test_a_face_that_is_hidden_or_blurred_for_a_moment_stays_the_same_persons():
    hidden, shapes = ABEL.copy(), talking(1)
    hidden[28:38], shapes[28:38] = person(3), talking(3)[28:38]  # two measurements
    assert found(hidden, shapes) == []


def test_a_face_whose_look_changes_by_degrees_stays_the_same_persons():
    weight = np.clip((np.arange(NUM_FRAMES) - 15) / 30, 0, 1)[:, None]
    turning = (1 - weight) * ABEL + weight * BEA
    shapes = (1 - weight[..., None]) * talking(1) + weight[..., None] * talking(2)
    assert found(turning, shapes) == []


def test_a_face_whose_shape_never_jumps_is_not_cut_however_its_look_changes():
    assert found(cut_together(ABEL, BEA), talking(1)) == []


def test_a_cut_that_the_picture_shows_is_not_found_twice():
    shots = [int(frame >= CUT) for frame in range(NUM_FRAMES)]
    assert found(cut_together(ABEL, BEA), cut_together(talking(1), talking(2)), shots) == []


def test_no_face_at_all_is_no_cut():
    assert found(np.empty((0, 128)), np.empty((0, 68, 2))) == []


# ---- the bundled actors, through the networks -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    return load_networks()


@pytest.mark.slow
def test_two_actors_cut_together_in_the_same_performance_are_two_shots_and_two_tracks(sample, networks):
    begin, cut, stop = 70, 90, 110
    frames = [*read_frames(sample / "abel_test.mp4", begin, cut), *read_frames(sample / "bea_test.mp4", cut, stop)]
    surveyed = list(survey(frames, "cut", networks))
    assert set(find_shots(np.stack([each.thumbnail for each in surveyed])).shot) == {0}, "the picture alone does not tell"
    assert np.flatnonzero(np.diff(shots_of(surveyed).shot)).tolist() == [cut - begin - 1]
    faces = link_and_smooth(surveyed)
    assert {(face.frame >= cut, face.shot, face.track) for face in faces} == {(False, 0, 0), (True, 1, 1)}
    alone = list(survey(read_frames(sample / "abel_test.mp4", begin, stop), "abel", networks))
    assert set(shots_of(alone).shot) == {0}, "nor is he cut in two for moving as fast"
