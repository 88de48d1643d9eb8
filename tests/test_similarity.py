"""Similarity transforms: found exactly, never mirrored, and what is composed can be undone."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from understudy.imaging import warp
from understudy.imaging.framing import FULL, crop_from_face, framing
from understudy.imaging.masks import dilate, erode, feather, hull_mask, polygon_mask
from understudy.imaging.similarity import (
    apply,
    compose,
    fit_similarity,
    invert,
    scale_of,
    similarity_from_parameters,
    similarity_parameters,
    translation,
)
from understudy.imaging.warp import resize, warp_image
from understudy.types import BadInput

similarities = st.builds(
    similarity_from_parameters,
    st.floats(-3, 3),
    st.floats(-3.1, 3.1),
    st.floats(-500, 500),
    st.floats(-500, 500),
)


def random_points(seed: int, num: int = 51) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 2)) * 40


@given(similarities)
def test_what_is_composed_with_its_inverse_is_nothing(matrix: np.ndarray) -> None:
    assert compose(matrix, invert(matrix)) == pytest.approx(translation(0, 0), abs=1e-8)


@given(similarities, st.integers(0, 1000))
def test_a_similarity_is_found_again_from_points(matrix: np.ndarray, seed: int) -> None:
    points = random_points(seed)
    assert fit_similarity(points, apply(matrix, points)) == pytest.approx(matrix, rel=1e-6, abs=1e-6)


@given(similarities)
def test_a_similarity_is_its_four_parameters(matrix: np.ndarray) -> None:
    assert similarity_from_parameters(*similarity_parameters(matrix)) == pytest.approx(matrix, rel=1e-9, abs=1e-9)


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.booleans())
def test_the_fit_agrees_with_an_independent_one_for_mirrored_sets_too(seed: int, is_mirrored: bool) -> None:
    source = random_points(seed, 20)
    target = source * ([-1, 1] if is_mirrored else [1, 1]) + random_points(seed + 1, 20) * 0.05
    expected = SimilarityTransform.from_estimate(source, target).params[:2]
    assert fit_similarity(source, target) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(0, 10**6))
def test_a_face_whose_points_arrive_mirrored_is_never_mirrored(seed: int) -> None:
    source = random_points(seed)
    matrix = fit_similarity(source, source * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0, "the slip of 2017 gives a reflection here"


def test_points_of_no_weight_do_not_count() -> None:
    points = random_points(0)
    shifted = apply(translation(3, 5), points)
    shifted[0] += 1000
    weights = np.ones(len(points))
    weights[0] = 0
    assert fit_similarity(points, shifted, weights) == pytest.approx(translation(3, 5), abs=1e-9)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(51, 2\) and \(50, 2\)"):
        fit_similarity(random_points(0), random_points(0, 50))
    with pytest.raises(ValueError, match="one point repeated"):
        fit_similarity(np.ones((5, 2)), random_points(0, 5))


# ---- crops and pictures ---------------------------------------------------------------------------------------------------


def test_a_crop_covers_its_region_from_edge_to_edge() -> None:
    matrix = crop_from_face(FULL, 100)
    corners = np.array(
        [[FULL.centre[0] + dx * FULL.side / 2, FULL.centre[1] + dy * FULL.side / 2] for dx in (-1, 1) for dy in (-1, 1)]
    )
    assert apply(matrix, corners).tolist() == [[0, 0], [0, 100], [100, 0], [100, 100]]
    with pytest.raises(BadInput, match="core, face, full, head"):
        framing("shoulders")


def test_a_picture_moved_by_whole_pixels_keeps_its_values() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    moved = warp_image(picture, translation(3, 2), (50, 40), border="black")
    assert np.array_equal(moved[2:, 3:], picture[:-2, :-3])
    assert not moved[:2].any()


@pytest.mark.parametrize("scale", [0.13, 0.4, 0.7, 1.0, 1.7, 3.0])
def test_a_spot_lands_where_the_matrix_says_at_any_scale(scale: float) -> None:
    rows, columns = np.mgrid[:120, :120] + 0.5
    spot = np.exp(-((columns - 63.2) ** 2 + (rows - 48.7) ** 2) / (2 * 8**2)).astype(np.float32)
    matrix = similarity_from_parameters(np.log(scale), 0.2, 30.0, 10.0)
    size = int(200 * max(scale, 0.5))
    seen = warp_image(spot, matrix, (size, size), border="black").astype(np.float64)
    rows, columns = np.mgrid[:size, :size] + 0.5
    centroid = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    assert centroid == pytest.approx(apply(matrix, np.array([63.2, 48.7])), abs=0.06)
    assert scale_of(matrix) == pytest.approx(scale)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((128, 128), np.float32)
    stripes[:, ::2] = 1
    small = warp_image(stripes, similarity_from_parameters(np.log(0.2), 0, 0, 0), (25, 25))
    assert small[3:-3, 3:-3] == pytest.approx(0.5, abs=0.02)
    assert resize((stripes[..., None].repeat(3, 2) * 255).astype(np.uint8), (32, 32)).std() < 1


# ---- masks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_points_that_are_not_finite_enclose_nothing(unknown):
    points = np.array([[10, 10], [30, 10], [unknown, 50], [10, 50]])
    for mask in (polygon_mask(points, (64, 32)), hull_mask(points, (64, 32))):
        assert mask.shape == (32, 64)
        assert not mask.any()


def test_a_polygon_covers_its_area_and_its_place() -> None:
    mask = polygon_mask(np.array([[10, 10], [30, 10], [30, 50], [10, 50]]), (64, 64))
    assert mask.sum() == pytest.approx(800, rel=0.03)
    rows, columns = np.nonzero(mask > 0.5)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((20, 30), abs=0.1)


def test_eroding_draws_in_and_feathering_rises_inward_only() -> None:
    mask = polygon_mask(np.array([[10, 10], [54, 10], [54, 54], [10, 54]]), (64, 64))
    drawn_in = erode(mask, 5)
    assert drawn_in[16:48, 16:48].min() == 1
    assert drawn_in[:13].max() == 0
    soft = feather(mask, 8)
    assert np.all(soft <= mask)
    middle = soft[32, 10:32]
    assert np.all(np.diff(middle) >= 0)
    assert middle[-1] == 1
    assert middle[0] < 0.1


def test_a_widened_mask_reaches_just_so_much_further() -> None:
    mask = polygon_mask(np.array([[20, 20], [40, 20], [40, 40], [20, 40]]), (64, 64))
    widened = dilate(mask, 5)
    assert widened[30].sum() == pytest.approx(mask[30].sum() + 10, abs=0.6)
    assert (widened >= mask).all()
    np.testing.assert_array_equal(dilate(mask, 0), mask)
    assert not dilate(np.zeros_like(mask), 5).any(), "nothing to widen"


@given(
    angle=st.floats(-np.pi, np.pi),
    log_scale=st.floats(np.log(0.06), np.log(0.79)),
    x=st.floats(-40, 300),
    y=st.floats(-40, 220),
    border=st.sampled_from(["replicate", "black", "reflect"]),
)
def test_a_reduced_part_of_a_picture_is_the_same_as_if_all_of_it_had_been_reduced(angle, log_scale, x, y, border):
    rng = np.random.default_rng(3)
    picture = 255 * rng.integers(0, 2, (192, 256, 3), np.uint8)
    target_from_source = compose(
        similarity_from_parameters(log_scale, angle, 16, 12), translation(-x, -y)
    )  # the point (x, y) in the target's middle
    part = warp_image(picture, target_from_source, (32, 24), border)
    with mock.patch.object(warp, "_part_seen", lambda image, matrix, *_: (image, matrix)):
        whole = warp_image(picture, target_from_source, (32, 24), border)
    assert np.abs(part.astype(int) - whole).max() <= 1


def test_only_what_is_seen_is_reduced():
    picture = np.zeros((1000, 2000, 3), np.uint8)
    part, _ = warp._part_seen(picture, similarity_from_parameters(np.log(0.5), 0.0, -400.0, -200.0), (100, 80), 0.5)
    assert part.shape[:2] == (192, 232)
