"""Blending: alpha applied once, nothing moves, nothing outside the matte changes, whatever the method."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.imaging import blend
from understudy.imaging.blend import composite, feather, hard, lay_over, multiband, poisson, relief
from understudy.imaging.masks import erode, polygon_mask
from understudy.imaging.masks import feather as feathered
from understudy.imaging.similarity import invert, similarity_from_parameters
from understudy.imaging.warp import warp_image

METHODS = [hard, feather, poisson, multiband, relief]


def a_picture(width: int = 160, height: int = 120, seed: int = 0, grain: float = 3.0) -> np.ndarray:
    """Soft random texture, uint8: like a photograph, little energy in the last octave."""
    random = np.random.default_rng(seed)
    broad, middle, fine = (random.normal(size=(height, width, 3)) for _ in range(3))
    texture = sum(
        g * cv2.GaussianBlur(n, (0, 0), s) * s * 3.5 for n, s, g in ((broad, 12, 40), (middle, 4, 18), (fine, 1.5, grain))
    )
    return np.clip(128 + texture, 0, 255).astype(np.uint8)


def an_ellipse(width: int, height: int, scale: float = 1.0) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.column_stack([np.cos(angles) * 0.38 * width, np.sin(angles) * 0.42 * height]) * scale + [width / 2, height / 2]
    return polygon_mask(points, (width, height))


def unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / np.float32(255)


def paste_back(plate: np.ndarray, *layer: object) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the plate with a crop laid where it was taken from, and the matte (H, W)."""
    result, matte = plate.copy(), np.zeros(plate.shape[:2], np.float32)
    laid = lay_over(plate, *layer)
    laid.over(result)
    matte[laid.inside] = laid.matte
    return result, matte


def shift_between(first: np.ndarray, second: np.ndarray, window: np.ndarray) -> np.ndarray:
    """How far `second` lies from `first`, (x, y) px, by least squares on the gradient under a window (Lucas and Kanade)."""
    first, second = (cv2.GaussianBlur(p.astype(np.float64).mean(axis=2), (0, 0), 1.5) for p in (first, second))
    down, right = np.gradient((first + second) / 2)
    gradient = np.stack([right[window > 0.5], down[window > 0.5]], axis=1)
    return np.linalg.lstsq(gradient, (first - second)[window > 0.5], rcond=None)[0]


def test_the_shift_meter_itself_sees_half_a_pixel():
    picture = a_picture()
    moved = warp_image(picture, np.array([[1.0, 0, 0.5], [0, 1, -0.25]]), (160, 120))
    assert shift_between(picture, moved, an_ellipse(160, 120)) == pytest.approx([0.5, -0.25], abs=0.03)


def test_a_fully_opaque_face_is_reproduced_exactly():
    plate, face = a_picture(seed=1), a_picture(96, 96, seed=2)
    frame, matte = paste_back(plate, unit(face), np.ones((96, 96), np.float32), np.array([[1.0, 0, -20], [0, 1, -10]]))
    assert np.array_equal(frame[10:106, 20:116], face)
    assert np.all(matte[10:106, 20:116] == 1)
    frame[10:106, 20:116] = plate[10:106, 20:116]
    assert np.array_equal(frame, plate)


@given(alpha=st.floats(0, 1), above=st.integers(0, 255), below=st.integers(0, 255))
def test_alpha_is_applied_exactly_once(alpha, above, below):
    plate, face = np.full((16, 16, 3), below, np.uint8), np.full((16, 16, 3), above / 255, np.float32)
    frame, _ = paste_back(plate, face, np.full((16, 16), alpha, np.float32), np.eye(2, 3))
    assert abs(float(frame[8, 8, 0]) - (alpha * above + (1 - alpha) * below)) <= 0.51


def test_a_composite_of_alpha_zero_or_one_is_one_of_its_two_pictures_to_the_bit():
    plate, face = unit(a_picture(seed=3)), unit(a_picture(seed=4))
    alpha = (np.random.default_rng(0).random((120, 160)) > 0.5).astype(np.float32)
    assert np.array_equal(composite(plate, face, alpha), np.where(alpha[..., None] == 1, face, plate))


@settings(max_examples=20)
@given(zoom=st.floats(0.7, 1.6), angle=st.floats(-0.6, 0.6), x=st.floats(60, 100), y=st.floats(45, 75))
def test_a_crop_of_the_frame_pasted_back_changes_it_by_less_than_a_level_and_moves_nothing(zoom, angle, x, y):
    plate = a_picture(seed=5)
    frame_from_centre = similarity_from_parameters(0, angle, x, y)
    crop_from_centre = np.array([[zoom, 0, 40], [0, zoom, 40]])
    crop_from_frame = np.column_stack([crop_from_centre[:, :2] @ invert(frame_from_centre)[:, :2], np.zeros(2)])
    crop_from_frame[:, 2] = crop_from_centre[:, :2] @ invert(frame_from_centre)[:, 2] + 40
    crop = warp_image(plate, crop_from_frame, (80, 80))
    frame, matte = paste_back(plate, unit(crop), feathered(np.ones((80, 80), np.float32), 6), crop_from_frame)
    assert np.abs(frame.astype(float) - plate)[matte > 0].mean() < 1
    assert np.abs(shift_between(plate, frame, matte > 0.9)).max() < 0.05


def test_a_small_crop_enlarged_into_the_frame_stays_in_place():
    plate = cv2.GaussianBlur(a_picture(400, 300, seed=6, grain=0), (0, 0), 5)
    crop_from_frame = np.array([[0.25, 0, -20.3], [0, 0.25, -12.1]])
    crop = warp_image(plate, crop_from_frame, (64, 64))
    frame, matte = paste_back(plate, unit(crop), erode(np.ones((64, 64), np.float32), 2), crop_from_frame)
    assert matte.sum() > 40_000
    assert np.abs(shift_between(plate, frame, matte > 0.9)).max() < 0.1
    assert np.abs(frame.astype(float) - plate)[matte > 0].mean() < 1


def test_a_matte_at_another_resolution_covers_the_same_square():
    plate, face = np.zeros((100, 100, 3), np.uint8), np.ones((32, 32, 3), np.float32)
    crop_from_frame = np.array([[0.5, 0, -6.0], [0, 0.5, -10.0]])
    _, coarse = paste_back(plate, face, an_ellipse(32, 32), crop_from_frame)
    _, fine = paste_back(plate, face, an_ellipse(128, 128), crop_from_frame)
    assert coarse.sum() == pytest.approx(fine.sum(), rel=0.02)
    ys, xs = np.mgrid[:100, :100] + 0.5
    assert (fine * xs).sum() / fine.sum() == pytest.approx(12 + 32, abs=0.02)
    assert (fine * ys).sum() / fine.sum() == pytest.approx(20 + 32, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nothing_outside_the_matte_changes(method, dtype):
    random, top = np.random.default_rng(7), {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    plate = (random.random((90, 120, 3)) * top).astype(dtype)
    face, matte = unit(a_picture(64, 64, seed=8)), feathered(an_ellipse(64, 64), 5)
    frame, in_frame = paste_back(plate, face, matte, np.array([[1.1, 0.2, -30], [-0.2, 1.1, -5]]), method)
    assert frame.dtype == dtype
    assert np.array_equal(frame[in_frame == 0], plate[in_frame == 0])
    assert not np.array_equal(frame, plate)


@pytest.mark.parametrize("method", METHODS)
def test_the_plate_pasted_on_itself_is_the_plate(method):
    plate = unit(a_picture(seed=9))
    result = method(plate, plate, feathered(an_ellipse(160, 120), 9), 120.0)
    assert np.abs(result - plate).max() * 255 < 1.01


def test_a_face_outside_the_picture_changes_nothing_and_one_across_its_edge_is_cut():
    plate, face, matte = a_picture(seed=10), np.ones((32, 32, 3), np.float32), np.ones((32, 32), np.float32)
    gone, _ = paste_back(plate, face, matte, np.array([[1.0, 0, 500], [0, 1, 0]]))
    assert np.array_equal(gone, plate)
    cut, _ = paste_back(plate, face, matte, np.array([[1.0, 0, 16], [0, 1, 16]]))
    assert np.all(cut[:16, :16] == 255)
    assert np.array_equal(cut[16:], plate[16:])


def test_sixteen_bit_plates_keep_more_than_256_levels():
    ramp = np.tile(np.linspace(0, 65535, 1024).astype(np.uint16)[None, :, None], (32, 1, 3))
    frame, _ = paste_back(ramp, ramp.astype(np.float32) / 65535, np.ones((32, 1024), np.float32), np.eye(2, 3), multiband)
    assert len(np.unique(frame[16])) > 1000


# ---- methods --------------------------------------------------------------------------------------------------------------


def random_blob(random: np.random.Generator) -> np.ndarray:
    """A star-shaped mask of any size and place, touching the border now and then."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = random.uniform(8, 45) * (1 + 0.3 * random.uniform(-1, 1, 24))
    points = np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None] + random.uniform(20, 80, 2)
    return polygon_mask(points, (101, 97))


def test_poisson_cloning_shifts_by_no_pixel_over_200_random_masks():
    random, plate = np.random.default_rng(0), 0.2 + np.float32(0.6) * unit(a_picture(101, 97, seed=11))
    brighter = plate + np.float32(0.08)
    for _ in range(200):
        matte = random_blob(random)
        assert np.abs(poisson(plate, brighter, matte, 100.0) - plate).max() * 255 <= 2.01


def test_a_clone_about_the_masks_middle_would_shift(monkeypatch):
    def naive(mask):
        rows, columns = np.nonzero(mask)
        return int(columns.min() + columns.max()) // 2, int(rows.min() + rows.max()) // 2

    monkeypatch.setattr(blend, "clone_centre", naive)
    random, plate = np.random.default_rng(0), unit(a_picture(101, 97, seed=11))
    worst = [np.abs(poisson(plate, plate, random_blob(random), 100.0) - plate).max() * 255 for _ in range(20)]
    assert max(worst) > 5


def test_poisson_and_multiband_take_a_colour_cast_away_and_a_feather_does_not():
    plate, matte = unit(a_picture(seed=12)), feathered(an_ellipse(160, 120), 8)
    cast = np.clip(plate * np.float32(0.9) + np.array([0.06, 0.0, -0.03], np.float32), 0, 1)
    error = {m.__name__: np.abs(m(plate, cast, matte, 160.0) - plate)[matte > 0.5].mean() * 255 for m in METHODS}
    assert error["poisson"] < error["feather"] / 2
    assert error["multiband"] < error["feather"] / 2


def test_multiband_keeps_the_new_faces_detail_and_the_plates_light():
    plate, detail, matte = unit(a_picture(seed=13, grain=0)), unit(a_picture(seed=14, grain=9)), an_ellipse(160, 120)
    result, deep = multiband(plate, detail, matte, 160.0), erode(matte, 20) > 0.5
    fine = [p - blend.blur(p, 2.0) for p in (detail, result)]
    broad = [blend.blur(p, 16.0) for p in (plate, result)]
    assert np.corrcoef(fine[0][deep].ravel(), fine[1][deep].ravel())[0, 1] > 0.98
    assert np.abs(broad[0] - broad[1])[deep].mean() < 0.3 * np.abs(broad[0] - blend.blur(detail, 16.0))[deep].mean()


def test_relief_keeps_the_new_faces_shading_where_multiband_takes_the_plates_and_meets_the_plate_as_softly():
    plate, face, matte = unit(a_picture(seed=13, grain=0)), unit(a_picture(seed=14, grain=0)), an_ellipse(160, 120)
    results, deep = {m.__name__: m(plate, face, matte, 160.0) for m in (feather, multiband, relief)}, erode(matte, 20) > 0.5
    lost = {name: np.abs(blend.blur(result - face, 8.0))[deep].mean() for name, result in results.items()}
    rim = (matte > 0.5) & (erode(matte, 2) <= 0.5)
    step = {name: np.abs(result - plate)[rim].mean() for name, result in results.items()}
    assert lost["relief"] < 0.25 * lost["multiband"]
    assert step["relief"] < 0.7 * step["feather"]


@pytest.mark.parametrize("method", [multiband, relief])
def test_bands_do_not_pop_when_the_face_moves_by_a_fraction_of_a_pixel_or_grows(method):
    scene, other = a_picture(360, 260, seed=15), unit(a_picture(64, 64, seed=16))
    matte, frames = feathered(an_ellipse(64, 64), 4), []
    for step in range(12):
        zoom = 0.31 + 0.002 * step
        frame, _ = paste_back(scene, other, matte, np.array([[zoom, 0, -24 - 0.03 * step], [0, zoom, -8.0]]), method)
        frames.append(frame.astype(float).mean())
    assert np.abs(np.diff(frames, 2)).max() < 0.05
