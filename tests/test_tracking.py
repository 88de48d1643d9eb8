"""Shots and tracks on constructed footage: where cuts, dissolves and flashes are known, and who is who."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.imaging.pose import fit_rotation, pose_from_rotation
from understudy.imaging.tracking import find_shots, link_tracks, thumbnail

NOT_MEASURED = np.full(128, np.nan)


def scene(seed, num_frames, drift=0.0):
    """Thumbnails of a scene of its own, with a little noise; `drift` pixels a frame of camera motion."""
    random = np.random.default_rng(seed)
    picture = np.kron(random.uniform(30, 220, (6, 32, 3)), np.ones((3, 4, 1)))
    frames = [np.roll(picture, round(drift * frame), axis=1)[:, :32] for frame in range(num_frames)]
    return np.clip(np.stack(frames) + random.normal(0, 1.5, (num_frames, 18, 32, 3)), 0, 255)


def shots_of(frames):
    return find_shots(frames.astype(np.uint8))


def starts(shots):
    return [frame for frame in range(1, len(shots.shot)) if shots.shot[frame] != shots.shot[frame - 1]]


# ---- shots ----------------------------------------------------------------------------------------------------------------


def test_a_hard_cut_begins_a_shot():
    shots = shots_of(np.concatenate([scene(1, 20), scene(2, 3), scene(3, 15)]))
    assert starts(shots) == [20, 23]
    assert not shots.is_mixed.any()


def test_a_pan_is_one_shot():
    assert starts(shots_of(scene(1, 40, drift=1.0))) == []


def test_a_flash_is_no_cut():
    frames = scene(1, 30)
    frames[15] = 250
    assert starts(shots_of(frames)) == []


def test_a_change_of_light_is_no_cut():
    frames = scene(1, 60) * np.linspace(0.5, 1, 60)[:, None, None, None]
    assert starts(shots_of(frames)) == []


def test_a_dissolve_is_divided_in_its_middle_and_its_frames_are_marked():
    weight = np.clip((np.arange(70) - 20) / 24, 0, 1)[:, None, None, None]
    shots = shots_of((1 - weight) * scene(1, 70) + weight * scene(2, 70))
    (start,) = starts(shots)
    assert abs(start - 32) <= 2
    marked = np.flatnonzero(shots.is_mixed)
    assert (abs(marked[0] - 20) <= 4, abs(marked[-1] - 44) <= 4, len(marked)) == (True, True, marked[-1] - marked[0] + 1)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_very_short_footage_is_one_shot(num_frames):
    assert shots_of(scene(1, num_frames)).shot.tolist() == [0] * num_frames


def test_a_thumbnail_has_one_size_whatever_the_picture():
    assert thumbnail(np.zeros((1080, 1920, 3), np.uint8)).shape == thumbnail(np.zeros((7, 5, 3), np.uint8)).shape == (18, 32, 3)


# ---- tracks ---------------------------------------------------------------------------------------------------------------


def person(seed):
    """An embedding; any two persons are far more than 0.6 apart."""
    direction = np.random.default_rng(seed).normal(size=128)
    return direction / np.linalg.norm(direction)


def link(rows, shot_of=lambda frame: 0):
    """rows: (frame, centre x, embedding or None). Boxes are 100 px wide."""
    frames = [frame for frame, _, _ in rows]
    boxes = np.array([[x - 50, 100, x + 50, 220] for _, x, _ in rows], float)
    embeddings = np.array([NOT_MEASURED if who is None else who for _, _, who in rows])
    return link_tracks(frames, [shot_of(frame) for frame in frames], boxes, embeddings).tolist()


def test_two_faces_side_by_side_are_two_tracks():
    rows = [(frame, x, None) for frame in range(10) for x in (200 + 3 * frame, 400 - 3 * frame)]
    assert link(rows) == [0, 1] * 10


@settings(max_examples=30)
@given(st.integers(1, 29))
def test_a_track_never_crosses_a_cut(cut):
    tracks = link([(frame, 200, person(1)) for frame in range(30)], shot_of=lambda frame: int(frame >= cut))
    assert tracks == [0] * cut + [1] * (30 - cut)


def test_a_face_that_is_gone_for_twelve_frames_is_the_same_track_and_for_thirteen_a_new_one():
    assert link([(0, 200, person(1)), (13, 210, person(1))]) == [0, 0]
    assert link([(0, 200, person(1)), (14, 210, person(1))]) == [0, 1]


def test_a_face_that_moved_on_behind_something_is_known_again_by_identity():
    assert link([(0, 200, person(1)), (8, 320, person(1))]) == [0, 0]
    assert link([(0, 200, None), (8, 320, None)]) == [0, 1]


def test_a_head_in_profile_is_like_itself_only_from_frame_to_frame():
    front = person(1)
    profile = front + 0.7 * person(2)
    assert link([(0, 200, front), (1, 200, profile)]) == [0, 0]
    assert link([(0, 200, front), (3, 200, profile)]) == [0, 1]


def test_who_comes_back_much_larger_elsewhere_is_a_new_track():
    boxes = np.array([[150, 100, 250, 220], [290, 100, 390, 220], [260, 100, 480, 370]], float)
    embeddings = np.array([person(1)] * 3)
    assert link_tracks([0, 4], [0, 0], boxes[[0, 1]], embeddings[:2]).tolist() == [0, 0]
    assert link_tracks([0, 4], [0, 0], boxes[[0, 2]], embeddings[:2]).tolist() == [0, 1]


def test_another_person_in_the_same_place_is_another_track():
    assert link([(0, 200, person(1)), (1, 200, person(2))]) == [0, 1]
    assert link([(0, 200, person(1)), (6, 200, person(2))]) == [0, 1]


def test_two_persons_who_change_places_out_of_sight_keep_their_tracks():
    before = [(0, 200, person(1)), (0, 300, person(2))]
    after = [(5, 205, person(2)), (5, 295, person(1))]
    assert link(before + after) == [0, 1, 1, 0]


def test_no_faces_are_no_tracks():
    assert link_tracks([], [], np.empty((0, 4)), np.empty((0, 128))).tolist() == []


# ---- pose -----------------------------------------------------------------------------------------------------------------


@given(st.floats(-80, 80), st.floats(-60, 60), st.floats(-170, 170), st.floats(0.5, 300))
def test_the_pose_of_a_turned_head_is_found(yaw, pitch, roll, size):
    """Checked against R = Ry(yaw) Rx(-pitch) Rz(roll), x to image right, y up, z to the camera."""
    y, p, r = np.radians([yaw, -pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    head = np.random.default_rng(0).normal(size=(30, 3))
    rotation, misfit = fit_rotation(head, size * head @ (about_y @ about_x @ about_z).T + [5, 6, 7])
    np.testing.assert_allclose(pose_from_rotation(rotation), (yaw, pitch, roll), atol=1e-6)
    assert misfit < 1e-9


def test_a_mirrored_head_is_no_head():
    head = np.random.default_rng(0).normal(size=(30, 3))
    rotation, misfit = fit_rotation(head, head * [-1, 1, 1])
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert misfit > 0.3
