"""Measures of where a face is and what it does: landmarks, pose, expression."""

from __future__ import annotations

import math

import numpy as np
import pytest

from understudy.imaging import metrics_geometry, metrics_temporal
from understudy.imaging.meanface import IBUG_FROM_MESH, RIGID_POINTS, mean_face
from understudy.types import FloatArray

# ---- geometry -------------------------------------------------------------------------------------------------------------


def performance(num_frames: int = 60, amplitude: float = 1.0) -> FloatArray:
    """Meshes (T, 468, 3) in face units whose lips part and close, each blink and brow with it, and whose head turns."""
    meshes = np.repeat(mean_face()[None].astype(np.float64), num_frames, axis=0)
    beat = amplitude * (0.5 - 0.5 * np.cos(np.arange(num_frames) / 6))
    meshes[:, [14, 178, 402], 1] += 0.2 * beat[:, None]
    meshes[:, [61], 0] -= 0.1 * beat[:, None]
    meshes[:, [70, 63, 105, 66, 107, 300, 293, 334, 296, 336], 1] -= 0.05 * beat[:, None]
    meshes[:, [144, 145, 153, 380, 374, 373], 1] += 0.03 * beat[:, None]
    return meshes


def gains(meshes: FloatArray, true_meshes: FloatArray) -> list[tuple[float, float]]:
    swap, truth = (metrics_geometry.expression_measures(metrics_geometry.frontal(each)[0]) for each in (meshes, true_meshes))
    return [metrics_geometry.gain_and_r2(np.stack([swap[:, k], truth[:, k]], axis=1)) for k in range(swap.shape[1])]


def turned(meshes: FloatArray, degrees: FloatArray) -> FloatArray:
    """Each mesh turned by its yaw about the vertical axis (z towards the camera: positive yaw brings the nose right)."""
    angles = np.deg2rad(degrees)
    x = np.cos(angles)[:, None] * meshes[..., 0] + np.sin(angles)[:, None] * meshes[..., 2]
    z = -np.sin(angles)[:, None] * meshes[..., 0] + np.cos(angles)[:, None] * meshes[..., 2]
    return np.stack([x, meshes[..., 1], z], axis=-1)


def test_the_same_performance_has_gain_one() -> None:
    for gain, r2 in gains(performance(), performance()):
        assert (gain, r2) == pytest.approx((1, 1))


def test_a_mouth_at_half_amplitude_has_gain_one_half() -> None:
    for gain, r2 in gains(performance(amplitude=0.5), performance()):
        assert gain == pytest.approx(0.5, abs=0.02)
        assert r2 > 0.99


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_gaze_that_goes_half_as_far_has_gain_one_half_however_the_head_turns(share: float) -> None:
    look = 0.05 * np.sin(np.arange(60) / 4)
    truth, true_irises = looking(look, np.zeros(60))
    swap, irises = looking(share * look, 25 * np.sin(np.arange(60) / 11))
    pairs = np.stack([metrics_geometry.gaze_measures(irises, swap), metrics_geometry.gaze_measures(true_irises, truth)], axis=1)
    assert pairs[:, 1] == pytest.approx(look, abs=0.002)
    assert metrics_geometry.gain_and_r2(pairs) == pytest.approx((share, 1), abs=0.05)


def looking(places: FloatArray, yaw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Still meshes (T, 468, 3) turned by `yaw`, and irises (T, 2, 2) `places` face units to the right of the eyes' middles."""
    still = performance(len(places), amplitude=0)
    middles = np.stack([(still[:, a] + still[:, b]) / 2 for a, b in ((33, 133), (362, 263))], axis=1)
    middles[..., 0] += places[:, None]
    both = turned(np.concatenate([still, middles], axis=1), yaw)
    return both[:, :468], both[:, 468:, :2]


def test_lids_that_close_do_not_turn_the_head() -> None:
    open_eyed, shut = performance(4, amplitude=0), performance(4, amplitude=0)
    shut[:, [145, 374], 1] -= 0.02
    frontal, rotations = metrics_geometry.frontal(open_eyed, shut)
    assert frontal == pytest.approx(shut)
    assert rotations == pytest.approx(metrics_geometry.frontal(open_eyed)[1])


def test_turning_the_head_is_no_expression() -> None:
    yaw = 40 * np.sin(np.arange(60) / 9)
    for gain, _ in gains(turned(1.7 * performance(amplitude=0.5), yaw), performance()):
        assert gain == pytest.approx(0.5, abs=0.02)


def test_a_turned_and_enlarged_head_is_brought_back_to_the_front() -> None:
    still = performance(8, amplitude=0)
    frontal, _ = metrics_geometry.frontal(3 * turned(still, np.linspace(-60, 60, 8)) + 40)
    assert frontal == pytest.approx(still, abs=1e-9)


def test_a_turned_head_is_off_by_its_angle() -> None:
    yaw = np.linspace(-50, 50, 60)
    _, rotations = metrics_geometry.frontal(turned(performance(), yaw))
    _, straight = metrics_geometry.frontal(performance())
    assert metrics_geometry.pose_errors_degrees(rotations, straight) == pytest.approx(np.abs(yaw), abs=0.01)
    assert metrics_geometry.pose_errors_degrees(rotations, rotations) == pytest.approx(0, abs=1e-3)


def test_a_still_face_has_no_gain_to_measure() -> None:
    assert all(math.isnan(gain) for gain, _ in gains(performance(), performance(amplitude=0)))


def test_a_shift_of_one_pixel_is_a_known_landmark_error_and_no_jitter() -> None:
    pixels_per_unit = 128.0
    truth = performance()[:, list(IBUG_FROM_MESH), :2]
    shifted = truth + np.array([1.0, 0.0]) / pixels_per_unit
    expected = 100 / pixels_per_unit / metrics_geometry.eye_distance()
    assert metrics_geometry.landmark_errors_percent(shifted, truth) == pytest.approx(expected)
    jitter = metrics_temporal.similarity_accelerations(shifted, truth)
    assert np.nanmax(np.abs(jitter)) < 1e-9
    excess = metrics_temporal.accelerations_percent(shifted - truth)
    assert np.nanmax(excess) < 1e-9


def test_identity_scores_run_from_the_plate_to_the_performer() -> None:
    plate, performer = np.zeros(128), np.eye(128)[0]
    embeddings = np.stack([plate, performer, (plate + performer) / 2])
    assert metrics_geometry.identity_scores(embeddings, plate, performer) == pytest.approx([-1, 1, 0])


def test_a_frame_without_a_face_stays_unknown() -> None:
    meshes = performance(10)
    meshes[4] = np.nan
    frontal, rotations = metrics_geometry.frontal(meshes)
    assert np.isnan(frontal[4]).all()
    assert np.isnan(rotations[4]).all()
    assert np.isfinite(frontal[5]).all()
    gain, _ = gains(meshes, performance(10))[0]
    assert gain == pytest.approx(1)


def test_pumping_shows_as_scale_and_shaking_as_shift() -> None:
    truth = performance()[:, list(RIGID_POINTS), :2]
    centre = truth.mean(axis=1, keepdims=True)
    sign = np.where(np.arange(len(truth)) % 2, 1.0, -1.0)[:, None, None]
    pumping = metrics_temporal.similarity_accelerations(centre + (truth - centre) * np.exp(0.01 * sign), truth)
    assert np.abs(pumping[2:, 0]) == pytest.approx(4.0)  # |Δ²| of ±1 % is 4 %
    assert np.abs(pumping[2:, 1:]).max() < 1e-6
    shift = np.array([0.01, 0.0]) * metrics_geometry.eye_distance()
    shaking = metrics_temporal.similarity_accelerations(truth + shift * sign, truth)
    assert np.abs(shaking[2:, 2]) == pytest.approx(4.0)
    assert np.abs(shaking[2:, [0, 1, 3]]).max() < 1e-6
