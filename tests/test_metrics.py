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

from understudy.imaging import metrics, metrics_colour, metrics_statistics, metrics_temporal
from understudy.imaging.colour import rgb_to_lab
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
@settings(max_examples=20)
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
@settings(max_examples=20)
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


def test_an_error_pulses_only_where_it_leaves_its_own_course() -> None:
    flows = (np.zeros((SIZE, SIZE, 2), np.float32),) * 2
    level = [np.full_like(TRUTH, levels / 255) for levels in (2, 4, 6)]
    assert metrics_temporal.pulsing(level[1], (level[0], level[2]), flows, MASK) == pytest.approx(0, abs=1e-3), "it drifts"
    assert metrics_temporal.pulsing(level[2], (level[0], level[0]), flows, MASK) == pytest.approx(4, abs=1e-3), "it jumps"


def test_an_error_that_moves_with_the_face_does_not_pulse_and_neither_does_fine_texture() -> None:
    flows = tuple(np.zeros((SIZE, SIZE, 2), np.float32) for _ in range(2))
    flows[0][..., 0], flows[1][..., 0] = -1, 1
    residual = 0.1 * (PLATE - 0.5)
    beside = np.roll(residual, -1, axis=1), np.roll(residual, 1, axis=1)
    assert metrics_temporal.pulsing(residual, beside, flows, MASK) == pytest.approx(0, abs=1e-3)
    grain = (10 / 255) * np.sign(np.random.default_rng(0).standard_normal(TRUTH.shape)).astype(np.float32)
    still = (np.zeros((SIZE, SIZE, 2), np.float32),) * 2
    assert (
        metrics_temporal.pulsing(grain, (-grain, -grain), still, MASK)
        < 1.5
        < metrics_temporal.flicker(grain, -grain, still[0], MASK)
    )


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
