"""The smoother against tracks whose truth is known: steadier, closer, without lag, sound over gaps and at the ends."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.imaging.meanface import mean_face
from understudy.imaging.similarity import apply, compose, invert, similarity_from_parameters, similarity_parameters
from understudy.imaging.smoothing import (
    FACE_POINTS,
    estimate_noise,
    has_jumped,
    out_of_course,
    rts_smooth,
    smooth_landmarks,
    smooth_similarities,
    squared_jitter_px,
    strides_off_course,
)


def nodding_head(seed, num_frames=300):
    """Where a head is that drifts and nods 3 to 10 px, and where a detector with noise, outliers and gaps sees it.

    The recipe of the project's comparison of filters: 25 fps, white noise of 1 px, slow bias of 0.5 px, 6 % missing in bursts
    of 1 to 6 frames, 1 % outliers of 8 px. Returns truth and observations (T, 2), and which frames are missing.
    """
    random = np.random.default_rng(seed)
    time = np.arange(num_frames)[:, None]
    truth = sum(
        random.uniform(5, 25, 2) * np.sin(2 * np.pi * time / random.uniform(60, 200, 2) + random.uniform(0, 6, 2))
        for _ in range(3)
    )
    for _ in range(6):
        middle, width = random.uniform(0, num_frames, 2), random.uniform(4, 10, 2)
        truth = truth + random.uniform(3, 10, 2) * random.choice([-1, 1], 2) * np.exp(-0.5 * ((time - middle) / width) ** 2)
    bias = np.zeros((num_frames, 2))
    for frame in range(1, num_frames):
        bias[frame] = 0.9 * bias[frame - 1] + random.normal(0, 0.5 * np.sqrt(1 - 0.81), 2)
    observed = truth + bias + random.normal(0, 1, (num_frames, 2))
    is_outlier = random.random(num_frames) < 0.01
    observed[is_outlier] += 8 * random.choice([-1, 1], (int(is_outlier.sum()), 2))
    is_missing = np.zeros(num_frames, bool)
    while is_missing.mean() < 0.06:
        start = random.integers(5, num_frames - 12)
        is_missing[start : start + random.integers(1, 7)] = True
    observed[is_missing] = np.nan
    return truth, observed, is_missing


def many_channels(num_frames):
    """A mesh's worth of channels that wander, each with noise of its own and one gap: (T, 940)."""
    random = np.random.default_rng(9)
    course = np.cumsum(random.normal(size=(num_frames, 940)), axis=0) + random.normal(size=(num_frames, 940))
    course[num_frames // 2 : num_frames // 2 + 5] = np.nan
    return course


def interpolated(observed):
    time = np.arange(len(observed))
    columns = [np.interp(time, time[~np.isnan(column)], column[~np.isnan(column)]) for column in observed.T]
    return np.stack(columns, axis=1)


def root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.fixture(scope="module")
def heads():
    return [nodding_head(seed) for seed in range(12)]


def test_jitter_of_a_nodding_head_falls_at_least_fivefold(heads):
    for truth, observed, _ in heads:
        raw, smooth = (np.diff(course - truth, 2, axis=0) for course in (interpolated(observed), rts_smooth(observed)))
        assert root_mean_square(raw) > 5 * root_mean_square(smooth)


def test_the_smoothed_course_is_closer_to_the_truth_than_the_measured_one(heads):
    raw = root_mean_square([interpolated(observed) - truth for truth, observed, _ in heads])
    smooth = root_mean_square([rts_smooth(observed) - truth for truth, observed, _ in heads])
    assert smooth < 0.6 * raw


def test_gaps_are_bridged_better_than_by_straight_lines(heads):
    raw = root_mean_square(np.concatenate([(interpolated(o) - truth)[gap] for truth, o, gap in heads]))
    smooth = root_mean_square(np.concatenate([(rts_smooth(o) - truth)[gap] for truth, o, gap in heads]))
    assert smooth < 0.8 * raw


def test_the_smoother_has_no_lag(heads):
    def agreement(lag):
        pairs = [(np.diff(truth, axis=0), np.diff(rts_smooth(observed), axis=0)) for truth, observed, _ in heads]
        return sum(np.sum(true[5:-5] * smooth[5 + lag : len(smooth) - 5 + lag]) for true, smooth in pairs)

    agreements = {lag: agreement(lag) for lag in range(-3, 4)}
    assert max(agreements, key=agreements.get) == 0


def test_smoothing_backwards_in_time_gives_the_same_course(heads):
    _, observed, _ = heads[0]
    np.testing.assert_allclose(rts_smooth(observed[::-1])[::-1], rts_smooth(observed), atol=0.4)


def test_a_single_wild_frame_hardly_moves_the_course():
    random = np.random.default_rng(0)
    observed = np.cumsum(np.full((80, 1), 2.0), axis=0) + random.normal(0, 0.5, (80, 1))
    spoilt = observed.copy()
    spoilt[40] += 60
    assert np.abs(rts_smooth(spoilt) - rts_smooth(observed)).max() < 0.5


def test_a_quick_turn_of_the_head_is_followed():
    time = np.arange(120.0)[:, None]
    truth = 200 / (1 + np.exp(-(time - 60) / 2.0))
    observed = truth + np.random.default_rng(1).normal(0, 0.5, truth.shape)
    assert np.abs(rts_smooth(observed) - truth).max() < 5  # 2.5 % of a turn that takes ten frames


def test_noise_is_told_from_motion():
    random = np.random.default_rng(2)
    time = np.arange(600.0)[:, None]
    motion = 30 * np.sin(2 * np.pi * time / 50)
    noise = estimate_noise(motion + random.normal(0, 0.7, motion.shape))
    assert noise.measurement[0] == pytest.approx(0.7, rel=0.15)
    assert noise.acceleration[0] == pytest.approx(30 * (2 * np.pi / 50) ** 2 / np.sqrt(2), rel=0.25)


@settings(max_examples=40)
@given(st.integers(1, 30), st.floats(-1e3, 1e3), st.floats(-20, 20), st.data())
def test_a_straight_course_stays_as_it_is(num_frames, start, velocity, data):
    course = (start + velocity * np.arange(num_frames))[:, None]
    is_seen = np.array(data.draw(st.lists(st.booleans(), min_size=num_frames, max_size=num_frames)))
    is_seen[[0, -1]] = True
    np.testing.assert_allclose(rts_smooth(np.where(is_seen[:, None], course, np.nan)), course, atol=1e-3)


def test_one_frame_is_a_course_too():
    np.testing.assert_array_equal(rts_smooth(np.array([[3.0, 4.0]])), [[3.0, 4.0]])


# ---- alignments -----------------------------------------------------------------------------------------------------------


def turning_face(num_frames=150, noise=1.0, seed=3):
    """`face_from_frame` of a face 200 px wide, far from the frame's origin, true and as measured."""
    random = np.random.default_rng(seed)
    true, measured = [], []
    for frame in range(num_frames):
        swing = np.sin(2 * np.pi * frame / 75)
        parameters = np.array([np.log(200), 0.4 * swing, 1500 + 60 * swing, 900 + 20 * np.cos(2 * np.pi * frame / 60)])
        true.append(invert(similarity_from_parameters(*parameters)))
        parameters += random.normal(0, noise, 4) * [0.01, 0.01, 1, 1]
        measured.append(invert(similarity_from_parameters(*parameters)))
    return np.stack(true), np.stack(measured)


def corners(face_from_frame):
    return np.stack([apply(invert(matrix), FACE_POINTS) for matrix in face_from_frame])


def test_a_steadied_face_is_nearer_to_where_it_really_is():
    true, measured = turning_face()
    is_seen = np.ones(len(true), bool)
    is_seen[[20, 21, 22, 70, 90, 91, 92, 93, 94, 95]] = False
    measured[~is_seen] = np.nan
    steady = smooth_similarities(measured, is_seen)
    raw_error = root_mean_square(corners(measured[is_seen]) - corners(true[is_seen]))
    assert root_mean_square(corners(steady) - corners(true)) < 0.6 * raw_error


def test_jitter_in_pixels_falls_to_a_third():
    _, measured = turning_face()
    is_seen = np.ones(len(measured), bool)
    (before, count), (after, same) = (
        squared_jitter_px(matrices, is_seen) for matrices in (measured, smooth_similarities(measured, is_seen))
    )
    assert count == same == len(measured) - 4
    assert np.sqrt(after / count) < np.sqrt(before / count) / 3


def shifting_face(shifts):
    return np.stack([invert(similarity_from_parameters(np.log(100), 0, 50 + shift, 50)) for shift in shifts])


def test_jitter_is_the_size_of_the_tremble_that_causes_it():
    shifts = np.random.default_rng(6).normal(0, 0.8, 4000)
    total, count = squared_jitter_px(shifting_face(shifts), np.ones(4000, bool))
    assert np.sqrt(total / count) == pytest.approx(0.8, rel=0.05)


def test_a_smooth_motion_has_no_jitter():
    total, count = squared_jitter_px(shifting_face(40 * np.sin(np.arange(100) / 8)), np.ones(100, bool))
    assert count == 96
    assert np.sqrt(total / count) < 0.01


def test_jitter_is_measured_only_where_five_frames_in_a_row_are_seen():
    matrices = shifting_face([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert squared_jitter_px(matrices, np.array([1, 1, 1, 1, 1, 0], bool)) == (pytest.approx(64 / 70), 1)
    assert squared_jitter_px(matrices, np.array([1, 1, 0, 1, 1, 1], bool)) == (0.0, 0)
    assert squared_jitter_px(matrices[:4], np.ones(4, bool)) == (0.0, 0)


def test_a_face_that_turns_through_the_half_circle_is_not_turned_the_long_way_round():
    angles = np.linspace(np.pi - 0.3, np.pi + 0.3, 40)
    matrices = np.stack([invert(similarity_from_parameters(5.0, angle, 0, 0)) for angle in angles])
    steady = smooth_similarities(matrices, np.ones(40, bool))
    np.testing.assert_allclose(corners(steady), corners(matrices), atol=0.5)


def test_the_scale_is_averaged_longer_than_the_place():
    random = np.random.default_rng(4)
    parameters = np.column_stack([5 + 0.01 * random.normal(size=200), *np.zeros((1, 200)), *random.normal(0, 1, (2, 200))])
    matrices = np.stack([invert(similarity_from_parameters(*row)) for row in parameters])
    steady = smooth_similarities(matrices, np.ones(200, bool))
    scales = np.array([similarity_parameters(invert(matrix))[0] for matrix in steady])
    assert np.diff(scales).std() / 0.01 < 0.5 * np.diff(corners(steady)[:, 4, 0]).std()


def test_landmarks_move_with_the_steadied_alignment_and_a_blink_survives():
    true, measured = turning_face(noise=0.5)
    is_seen = np.ones(len(true), bool)
    lid = np.full(len(true), 0.30)
    lid[70:77] += [0.02, 0.05, 0.06, 0.06, 0.05, 0.03, 0.01]
    lid += np.random.default_rng(5).normal(0, 0.002, len(lid))
    shape = np.stack([np.column_stack([[0.2, 0.5], [height, 0.6]]) for height in lid])
    landmarks = np.stack([apply(invert(matrix), points) for matrix, points in zip(measured, shape, strict=True)])
    steady = smooth_similarities(measured, is_seen)
    smooth = smooth_landmarks(landmarks, measured, steady, is_seen)
    in_face = np.stack([apply(matrix, points) for matrix, points in zip(steady, smooth, strict=True)])
    assert in_face[70:77, 0, 1].max() - 0.30 > 0.05
    assert in_face[:60, 0, 1].std() < 0.0015
    np.testing.assert_allclose(in_face[:, 1], np.tile([0.5, 0.6], (len(true), 1)), atol=1e-6)


def test_lids_and_lips_of_a_mesh_follow_what_is_fast_and_other_points_are_kept_still():
    random, num_frames = np.random.default_rng(6), 120
    course = np.zeros(num_frames)
    course[60:65] = [0.5, 1.0, 1.0, 0.6, 0.2]
    moved = [159, 13, 50]  # a lid, a lip, a cheek
    points = np.repeat(mean_face()[None, :, :2], num_frames, axis=0) + random.normal(0, 0.001, (num_frames, 468, 2))
    points[:, moved, 1] += 0.006 * course[:, None]
    still = np.repeat(np.array([[[1.0, 0, 0], [0, 1.0, 0]]]), num_frames, axis=0)
    smooth = smooth_landmarks(points, still, still, np.ones(num_frames, bool))
    depth = (smooth[60:65, moved, 1].max(0) - np.median(smooth[:, moved, 1], axis=0)) / 0.006
    assert depth[0] > 0.65
    assert depth[1] > 0.65
    assert depth[2] < 0.85 * depth[0]
    assert smooth[:50, 50, 1].std() < smooth[:50, 159, 1].std() < 0.001


# ---- many channels --------------------------------------------------------------------------------------------------------


def test_each_of_many_channels_comes_out_as_it_would_alone():
    observed, agility = many_channels(60), np.linspace(0.1, 2.0, 940)
    stiffness = np.linspace(1.0, 3.0, 940)
    together = rts_smooth(observed, stiffness=stiffness, least_agility=agility)
    for channel in (0, 187, 188, 500, 939):
        one = slice(channel, channel + 1)
        alone = rts_smooth(observed[:, one], stiffness=stiffness[one], least_agility=agility[one])
        assert np.array_equal(together[:, one], alone)


def test_the_memory_for_many_channels_is_a_few_times_that_of_what_is_smoothed():
    observed = many_channels(200)
    tracemalloc.start()
    try:
        rts_smooth(observed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * observed.nbytes


# ---- meshes that locked on wrongly ----------------------------------------------------------------------------------------


def turning_head(num_frames, degrees_a_frame=0.0, zoom_a_frame=1.0):
    """Alignments of a head that turns and comes nearer evenly."""
    return np.stack(
        [
            similarity_from_parameters(-4 + frame * np.log(zoom_a_frame), np.radians(frame * degrees_a_frame), 3, 2)
            for frame in range(num_frames)
        ]
    )


@given(degrees=st.floats(-40, 40), zoom=st.floats(0.9, 1.1), num_frames=st.integers(1, 25))
def test_an_even_turn_and_approach_of_any_speed_is_on_course(degrees, zoom, num_frames):
    assert not out_of_course(turning_head(num_frames, degrees, zoom)).any()


@given(
    degrees=st.floats(-10, 10),
    zoom=st.floats(0.95, 1.05),
    first=st.integers(4, 17),
    length=st.integers(1, 3),
    turned=st.booleans(),
)
def test_what_is_upside_down_or_too_large_for_a_few_frames_is_out_of_course(degrees, zoom, first, length, turned):
    course = turning_head(25, degrees, zoom)
    odd = similarity_from_parameters(0.0 if turned else np.log(2.5), np.pi if turned else 0.0, 0.0, 0.0)
    for row in range(first, first + length):
        course[row] = compose(odd, course[row])
    assert list(out_of_course(course)) == [first <= row < first + length for row in range(25)]


def test_a_lasting_change_and_short_tracks_are_not_out_of_course():
    lasting = np.concatenate(
        [turning_head(10), [compose(similarity_from_parameters(0, np.pi, 0, 0), m) for m in turning_head(10)]]
    )
    assert not out_of_course(lasting).any()
    for length in (1, 2):
        assert not out_of_course(turning_head(length, 180.0)).any()


def test_a_head_may_turn_and_grow_a_little_between_two_frames():
    at_rest = similarity_from_parameters(-4, 0.2, 30, 10)
    for log_zoom, turn_degrees, is_jump in ((0, 40, False), (0.3, 0, False), (0, 90, True), (0, -180, True), (-0.6, 0, True)):
        change = similarity_from_parameters(log_zoom, np.radians(turn_degrees), 1, 1)
        assert has_jumped(compose(change, at_rest), at_rest) == is_jump


def test_a_face_that_moves_evenly_is_on_its_course_also_across_a_gap_and_one_beside_it_is_off_by_so_much():
    frames = [0, 1, 2, 7, 8]

    def seen(beside_px):
        places = [(10.0 * frame + (beside_px if frame == 2 else 0), 50.0) for frame in frames]
        return np.stack([invert(similarity_from_parameters(np.log(80), 0.2, *place)) for place in places])

    np.testing.assert_allclose(strides_off_course(seen(0), frames), [0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(strides_off_course(seen(24), frames), [0.15, 0.3, 0.05], atol=1e-9)
