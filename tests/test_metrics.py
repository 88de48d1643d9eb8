"""Each metric on cases whose answer is known, and against scikit-image where it has the same figure."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from understudy.imaging import metrics, metrics_colour, metrics_geometry, metrics_statistics, metrics_temporal
from understudy.imaging.colour import rgb_to_lab
from understudy.imaging.meanface import IBUG_FROM_MESH, RIGID_POINTS, mean_face
from understudy.types import FloatArray

SIZE = 128


def textured(seed: int, sigma_px: float = 3.0, size: int = SIZE) -> FloatArray:
    """A random smooth colour picture, 0 to 1."""
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma_px)
    return np.clip(0.5 + 0.15 * smooth / smooth.std(), 0, 1)


def disc(radius_px: float = 50, size: int = SIZE) -> FloatArray:
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    return np.clip(radius_px - np.hypot(rows, columns), 0, 1)


def detail_and_contrast(picture: FloatArray, truth: FloatArray, mask: FloatArray) -> tuple[float, float]:
    return metrics.compare_bands(metrics.band_pass(picture), metrics.band_pass(truth), mask)


PLATE, TRUTH, MASK = textured(1), textured(2), disc()


# ---- fidelity -------------------------------------------------------------------------------------------------------------


def test_the_truth_scores_perfectly() -> None:
    assert metrics.psnr_db(TRUTH, TRUTH, MASK) == math.inf
    assert metrics.ssim(TRUTH, TRUTH, MASK) == pytest.approx(1)
    assert metrics.leak(TRUTH, PLATE, TRUTH, MASK) == 0
    assert metrics.leak_after_colour_match(TRUTH, PLATE, TRUTH, MASK) == pytest.approx(0, abs=1e-6)
    assert detail_and_contrast(TRUTH, TRUTH, MASK) == pytest.approx((1, 1))
    assert metrics.gradient_similarity(TRUTH, TRUTH, MASK) == pytest.approx((1, 0))


def test_the_plate_leaks_itself_entirely() -> None:
    assert metrics.leak(PLATE, PLATE, TRUTH, MASK) == pytest.approx(1)
    assert metrics.leak_after_colour_match(PLATE, PLATE, TRUTH, MASK) == pytest.approx(1)


@given(share=st.floats(-0.5, 1.5))
@settings(max_examples=20, deadline=None)
def test_a_mixture_leaks_its_share_of_the_plate(share: float) -> None:
    assert metrics.leak(share * PLATE + (1 - share) * TRUTH, PLATE, TRUTH, MASK) == pytest.approx(share, abs=1e-9)


def test_a_known_error_has_its_psnr() -> None:
    assert metrics.psnr_db(TRUTH + 0.1, TRUTH, MASK) == pytest.approx(20)


def test_what_lies_outside_the_mask_does_not_count() -> None:
    spoilt = np.where((disc(70) > 0)[..., None], TRUTH, 0)
    assert metrics.psnr_db(spoilt, TRUTH, MASK) == math.inf
    assert metrics.leak(spoilt, PLATE, TRUTH, MASK) == 0


def test_a_blur_loses_contrast_as_computed_while_the_leak_hardly_moves() -> None:
    """As with real faces, what tells the two people apart is mostly coarser than what the blur takes away."""
    sigma_px = 4.0
    plate = np.clip(TRUTH + 2 * (textured(7, sigma_px=25) - 0.5), 0, 1)
    blurred = cv2.GaussianBlur(TRUTH, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
    _, contrast = detail_and_contrast(blurred, TRUTH, MASK)
    assert contrast == pytest.approx(_contrast_by_spectrum(sigma_px), abs=0.04)
    assert contrast < 0.6
    assert abs(metrics.leak(blurred, plate, TRUTH, MASK)) < 0.05


def _contrast_by_spectrum(sigma_px: float) -> float:
    """The ratio of spread in the band by the filters' frequency responses, of noise that was smoothed with sigma 3."""
    frequency = 2 * np.pi * np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024)))

    def response(sigma: float) -> FloatArray:
        return np.exp(-0.5 * (sigma * frequency) ** 2)

    band = response(3.0) * (response(metrics.FINE_SIGMA_PX) - response(metrics.COARSE_SIGMA_PX))
    return float(np.sqrt(np.sum((band * response(sigma_px)) ** 2) / np.sum(band**2)))


def test_edges_fall_with_a_blur_and_neither_blotches_nor_grain_bring_them_back() -> None:
    assert metrics.edge_gain(TRUTH, TRUTH, MASK) == pytest.approx(1)
    assert metrics.edge_gain(0.2 + 0.5 * TRUTH, TRUTH, MASK) == pytest.approx(0.5)
    blurred = cv2.GaussianBlur(TRUTH, (0, 0), 4.0, borderType=cv2.BORDER_REPLICATE)
    edges = metrics.edge_gain(blurred, TRUTH, MASK)
    assert edges == pytest.approx(_edge_gain_by_spectrum(4.0), abs=0.04)
    assert edges < 0.5
    blotches, grain = textured(11, sigma_px=8) - 0.5, 0.03 * np.random.default_rng(5).normal(size=TRUTH.shape)
    assert detail_and_contrast(blurred + blotches, TRUTH, MASK)[1] > detail_and_contrast(blurred, TRUTH, MASK)[1] + 0.2
    assert metrics.edge_gain(blurred + blotches + grain, TRUTH, MASK) == pytest.approx(edges, abs=0.1)


def _edge_gain_by_spectrum(sigma_px: float) -> float:
    """What is left of the band of edges, by the filters' frequency responses, of noise that was smoothed with sigma 3."""
    frequency = 2 * np.pi * np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024)))

    def response(sigma: float) -> FloatArray:
        return np.exp(-0.5 * (sigma * frequency) ** 2)

    energy = (response(3.0) * (response(1.5) - response(4.0))) ** 2
    return float(np.sum(energy * response(sigma_px)) / np.sum(energy))


def test_detail_ignores_brightness_and_gain_and_contrast_reports_the_gain() -> None:
    assert detail_and_contrast(0.3 + 0.5 * TRUTH, TRUTH, MASK) == pytest.approx((1, 0.5))


def test_another_picture_has_contrast_but_no_detail() -> None:
    detail, contrast = detail_and_contrast(PLATE, TRUTH, MASK)
    assert abs(detail) < 0.35
    assert contrast == pytest.approx(1, abs=0.3)


def test_a_flat_picture_shows_nothing() -> None:
    assert detail_and_contrast(np.full_like(TRUTH, 0.5), TRUTH, MASK) == (0, 0)


def test_an_empty_mask_gives_no_figure() -> None:
    nothing = np.zeros_like(MASK)
    assert math.isnan(metrics.psnr_db(PLATE, TRUTH, nothing))
    assert math.isnan(metrics.leak(PLATE, PLATE, TRUTH, nothing))
    assert math.isnan(detail_and_contrast(PLATE, TRUTH, nothing)[0])


def test_a_colour_cast_is_a_leak_only_before_colours_are_matched() -> None:
    pale_plate = TRUTH + 0.2 + 0.02 * (PLATE - 0.5)
    swap = TRUTH + 0.1
    assert metrics.leak(swap, pale_plate, TRUTH, MASK) == pytest.approx(0.5, abs=0.02)
    plate = PLATE + 0.2
    assert metrics.leak_after_colour_match(TRUTH + 0.1, plate, TRUTH, MASK) == pytest.approx(0, abs=0.01)


def test_sharpness_falls_with_blur() -> None:
    sharp = textured(3, sigma_px=0.8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    assert metrics.sharpness(blurred, MASK) < 0.5 * metrics.sharpness(sharp, MASK)


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    whole = np.ones_like(MASK)
    assert metrics.psnr_db(PLATE, TRUTH, whole) == pytest.approx(peak_signal_noise_ratio(TRUTH, PLATE, data_range=1))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 2}
    similar = 0.7 * TRUTH + 0.3 * PLATE
    _, similarity = structural_similarity(TRUTH, similar, full=True, **options)
    assert metrics.ssim(similar, TRUTH, whole) == pytest.approx(float(similarity.mean()), abs=1e-6)
    in_mask = float((similarity.mean(axis=2) * MASK).sum() / MASK.sum())
    assert metrics.ssim(similar, TRUTH, MASK) == pytest.approx(in_mask, abs=1e-6)


# ---- colour and seams -----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_colour_difference_agrees_with_scikit_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.uniform((0, -80, -80), (100, 80, 80), (50, 3)) for _ in range(2))
    one[0, 1:] = other[1, 1:] = 0  # greys have no hue
    assert metrics_colour.delta_e_2000(one, other) == pytest.approx(deltaE_ciede2000(one, other), abs=1e-6)


def test_the_same_skin_has_no_colour_difference_and_a_cast_has_its_own() -> None:
    skin, cast = np.full((8, 8, 3), (0.6, 0.4, 0.3)), np.full((8, 8, 3), (0.65, 0.4, 0.3))
    assert metrics_colour.skin_delta_e(skin, skin, np.ones((8, 8))) == 0
    lab, other = (rgb_to_lab(each)[0, 0] for each in (skin, cast))
    expected = float(deltaE_ciede2000(lab, other))
    assert metrics_colour.skin_delta_e(cast, skin, np.ones((8, 8))) == pytest.approx(expected, abs=1e-3)


def test_a_pasted_patch_shows_its_step_and_a_feathered_one_less() -> None:
    plate = np.full((SIZE, SIZE, 3), 0.5)
    hard = plate + 0.1 * disc(35)[..., None]
    soft = plate + 0.1 * cv2.GaussianBlur(disc(35), (0, 0), 6)[..., None]
    region = metrics_colour.changed_region(hard, plate)
    assert region.sum() == pytest.approx((disc(35) > 0.3).sum(), rel=0.15)
    lab = [rgb_to_lab(np.full((1, 1, 3), v))[0, 0] for v in (0.5, 0.6)]
    assert metrics_colour.seam_step(hard, plate, disc(35)) == pytest.approx(float(np.linalg.norm(lab[1] - lab[0])), abs=0.05)
    assert metrics_colour.seam_step(soft, plate, disc(35)) < 0.6 * metrics_colour.seam_step(hard, plate, disc(35))


def test_an_edge_of_the_plate_itself_is_no_seam() -> None:
    plate = 0.3 + 0.4 * disc(35)[..., None] * np.ones(3)
    assert metrics_colour.seam_step(plate, plate, disc(35)) == 0


def test_an_unchanged_picture_has_no_seam_at_all() -> None:
    region = metrics_colour.changed_region(PLATE, PLATE)
    assert region.sum() == 0
    assert math.isnan(metrics_colour.seam_step(PLATE, PLATE, region))


def test_an_occluder_that_was_painted_over_is_an_error_in_levels() -> None:
    assert metrics_colour.occluder_error(PLATE, PLATE, MASK) == 0
    assert metrics_colour.occluder_error(PLATE + 10 / 255, PLATE, MASK) == pytest.approx(10)


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


# ---- time -----------------------------------------------------------------------------------------------------------------


def test_a_swap_that_comes_two_frames_late_has_lag_two() -> None:
    series = np.random.default_rng(0).normal(size=(90, 3)).cumsum(axis=0)
    truth = metrics_temporal.lagged(series)
    for lag in (-3, 0, 2, 5):
        late = np.roll(series, lag, axis=0)
        late[: max(lag, 0)] = np.nan
        assert metrics_temporal.lag_frames(late, truth) == lag


def test_nothing_that_moves_has_no_lag() -> None:
    assert math.isnan(metrics_temporal.lag_frames(np.ones((30, 2)), metrics_temporal.lagged(np.ones((30, 2)))))


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


def test_acceleration_spans_three_frames_and_a_gap_spoils_them_all() -> None:
    points = np.zeros((8, 4, 2))
    points[5] = np.nan
    accelerations = metrics_temporal.accelerations_percent(points)
    assert np.isnan(accelerations).tolist() == [True, True, False, False, False, True, True, True]


def test_flow_error_is_the_difference_of_two_motions() -> None:
    now, before = TRUTH, np.roll(TRUTH, -1, axis=1)
    moving = metrics_temporal.optical_flow(now, before)
    still = metrics_temporal.optical_flow(now, now)
    assert metrics_temporal.flow_error_px(moving, moving, MASK) == 0
    assert metrics_temporal.flow_error_px(moving, still, MASK) == pytest.approx(1, abs=0.3)


def test_an_error_that_moves_with_the_face_does_not_flicker() -> None:
    now, before = TRUTH, np.roll(TRUTH, -1, axis=1)
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[..., 0] = -1
    residual = 0.1 * (PLATE - 0.5)
    earlier = np.roll(residual, -1, axis=1)
    assert metrics_temporal.flicker(residual, earlier, flow, MASK) == pytest.approx(0, abs=1e-4)
    assert metrics_temporal.flicker(residual, np.zeros_like(residual), flow, MASK) > 2
    measured = metrics_temporal.optical_flow(now, before)
    assert np.median(measured[40:90, 40:90, 0]) < -0.5, "the flow points to where a pixel came from"


def test_a_brightness_that_alternates_flickers_by_its_step() -> None:
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    bright, dark = np.full_like(TRUTH, 2 / 255), np.full_like(TRUTH, -2 / 255)
    assert metrics_temporal.flicker(bright, dark, flow, MASK) == pytest.approx(4, abs=1e-3)


# ---- intervals ------------------------------------------------------------------------------------------------------------


def test_an_interval_covers_the_mean_of_correlated_frames_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    num_hits, num_trials = 0, 40
    for trial in range(num_trials):
        noise = random.normal(size=205)
        rows = np.convolve(noise, np.ones(5) / 5, "same")[2:-3]
        found = metrics_statistics.interval(rows, metrics_statistics.mean_known, seed=trial)
        num_hits += found.low <= 0 <= found.high
    assert num_hits >= 0.8 * num_trials


def test_an_interval_is_the_same_each_time_and_a_short_clip_has_none() -> None:
    rows = np.random.default_rng(0).normal(size=100)
    mean = metrics_statistics.mean_known
    assert metrics_statistics.interval(rows, mean) == metrics_statistics.interval(rows, mean)
    assert math.isnan(metrics_statistics.interval(rows[:15], mean).low)


def test_frames_without_a_figure_do_not_count() -> None:
    assert metrics_statistics.mean_known(np.array([1.0, np.nan, 3.0])) == 2
    assert math.isnan(metrics_statistics.mean_known(np.array([np.nan])))
    assert metrics_statistics.root_mean_square(np.array([3.0, np.nan, -3.0])) == 3
