"""Colour: transfer curves against their definitions, statistics, and maps that match one cloud of colours to another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from understudy.imaging.colour import (
    MAX_GAIN,
    ColourStatistics,
    apply_colour,
    colour_matcher,
    luma,
    match_gain,
    match_mean,
    match_mkl,
    measure_colour,
    pool_colours,
    rgb_to_lab,
)


def a_skin(seed: int, size: int = 64) -> np.ndarray:
    """Correlated colours around a skin tone, (size, size, 3) in 0..1."""
    random = np.random.default_rng(seed)
    mixing = 0.08 * random.normal(size=(3, 3)) + 0.05
    return np.clip(random.normal(size=(size, size, 3)) @ mixing.T + [0.6, 0.45, 0.4], 0, 1)


def whole(picture: np.ndarray) -> np.ndarray:
    return np.ones(picture.shape[:2])


def test_luma_of_white_is_one_and_of_pure_colours_is_their_weight():
    assert luma(np.eye(3)) == pytest.approx([0.2126, 0.7152, 0.0722])
    assert luma(np.ones(3)) == pytest.approx(1)


def test_lab_agrees_with_an_independent_implementation():
    skin = a_skin(0)
    assert np.abs(rgb_to_lab(skin) - rgb2lab(skin)).max() < 0.35


def test_statistics_look_only_under_the_mask():
    skin, mask = a_skin(1), np.zeros((64, 64))
    mask[10:40, 10:40] = 1
    spoiled = np.where(mask[..., None] > 0, skin, 99.0)
    measured = measure_colour(spoiled, mask)
    inside = skin[10:40, 10:40].reshape(-1, 3)
    assert measured.weight == 900
    assert np.allclose(measured.mean, inside.mean(axis=0))
    assert np.allclose(measured.covariance, np.cov(inside.T, bias=True))


def test_pooling_weighs_frames_by_area_and_share_and_ignores_a_change_of_light():
    dark, bright = measure_colour(a_skin(2), whole(a_skin(2))), measure_colour(a_skin(2) + 0.2, whole(a_skin(2)))
    pooled = pool_colours([dark, bright], np.array([3.0, 1.0]))
    assert np.allclose(pooled.mean, dark.mean + 0.05)
    assert np.allclose(pooled.covariance, dark.covariance)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_the_optimal_transport_gives_the_plates_mean_and_covariance(seed):
    source = measure_colour(a_skin(seed), whole(a_skin(seed)))
    cast = np.diag([1.2, 0.9, 0.85]) + 0.05
    target = ColourStatistics(source.weight, source.mean + np.array([0.05, -0.03, 0.1]), cast @ source.covariance @ cast.T)
    mapped = measure_colour(apply_colour(a_skin(seed), match_mkl(source, target)), whole(a_skin(seed)))
    assert np.allclose(mapped.mean, target.mean, atol=1e-5)
    scale = np.sqrt(np.outer(np.diag(target.covariance), np.diag(target.covariance)))
    assert (
        np.abs((mapped.covariance - target.covariance) / scale).max() < 0.25
    )  # what the shrinkage may cost; the worst of 2,000 skins


def test_the_optimal_transport_is_the_least_change_so_it_is_symmetric_and_keeps_hues_in_order():
    source, target = measure_colour(a_skin(3), whole(a_skin(3))), measure_colour(a_skin(4), whole(a_skin(4)))
    linear = match_mkl(source, target)[:, :3]
    assert np.allclose(linear, linear.T)
    assert np.linalg.eigvalsh(linear).min() > 0


@pytest.mark.parametrize("name", ["gain", "mkl", "reinhard", "mean"])
def test_every_method_matches_the_mean_and_leaves_equal_skins_alone(name):
    source, target = measure_colour(a_skin(5), whole(a_skin(5))), measure_colour(a_skin(6), whole(a_skin(6)))
    mapped = apply_colour(a_skin(5), colour_matcher(name)(source, target))
    assert np.allclose(mapped.mean(axis=(0, 1)), target.mean, atol=1e-5)
    assert np.allclose(colour_matcher(name)(source, source), np.eye(3, 4), atol=1e-9)


def test_reinhard_matches_the_spread_along_each_opponent_axis():
    source, target = measure_colour(a_skin(7), whole(a_skin(7))), measure_colour(0.5 * a_skin(7), whole(a_skin(7)))
    mapped = apply_colour(a_skin(7), colour_matcher("reinhard")(source, target))
    assert mapped.std(axis=(0, 1)) == pytest.approx((0.5 * a_skin(7)).std(axis=(0, 1)), rel=0.03)


@pytest.mark.parametrize("name", ["mkl", "reinhard"])
def test_a_blurred_face_is_not_stretched_without_limit(name):
    flat = ColourStatistics(100.0, np.full(3, 0.5), np.eye(3) * 1e-9)
    lively = ColourStatistics(100.0, np.full(3, 0.5), np.eye(3) * 0.04)
    assert np.linalg.norm(colour_matcher(name)(flat, lively)[:, :3], 2) <= MAX_GAIN + 1e-9


def test_a_gain_gives_a_darker_skin_the_brighter_ones_colour_and_its_own_contrast():
    skin = a_skin(7)
    mapped = apply_colour(0.5 * skin, match_gain(measure_colour(0.5 * skin, whole(skin)), measure_colour(skin, whole(skin))))
    assert np.allclose(mapped, skin, atol=1e-5)


def test_an_empty_mask_changes_nothing():
    nothing, skin = measure_colour(a_skin(8), np.zeros((64, 64))), measure_colour(a_skin(8), whole(a_skin(8)))
    for matcher in (match_mkl, match_mean, match_gain):
        assert np.array_equal(matcher(nothing, skin), np.eye(3, 4))
        assert np.array_equal(matcher(skin, nothing), np.eye(3, 4))
