"""Steadiness: trembling averages out between frames and crops, and what truly moves is left alone."""

import cv2
import numpy as np
import pytest

from understudy.imaging.motion_blur import blur_along, pool_shutter, sample_shutter
from understudy.imaging.similarity import invert
from understudy.imaging.steadiness import average_crops, blend_along_flow, jittered_from_crop, steady_code, steady_mask
from understudy.imaging.warp import warp_image

SIZE = 128


def a_texture(seed: int = 0, sigma: float = 3.0, size: int = SIZE) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    return np.clip(0.5 + 0.12 * 2 * sigma * cv2.GaussianBlur(noise, (0, 0), sigma), 0, 1).astype(np.float32)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture * 255).astype(np.uint8)


def test_a_trembling_mask_is_steadied():
    random = np.random.default_rng(0)
    masks = [np.clip(0.6 + 0.05 * random.normal(size=(32, 32)), 0, 1).astype(np.float32) for _ in range(9)]
    assert steady_mask(masks, 4, 1.5).std() < 0.6 * masks[4].std()


def test_a_hand_that_passes_is_not_smeared():
    masks = [np.ones((32, 32), np.float32) for _ in range(5)]
    masks[2][:, :16] = 0
    assert steady_mask(masks, 2, 1.0)[:, :15].max() < 0.01
    assert steady_mask(masks, 1, 1.0).min() > 0.99


def test_a_trembling_code_is_steadied_and_a_moving_one_neither_lags_nor_leads():
    random = np.random.default_rng(0)
    ramp = np.arange(9, dtype=np.float32)[:, None] * np.ones(64, np.float32)
    assert np.allclose(steady_code(list(ramp), 4, 1.2), ramp[4], atol=1e-6)
    trembling = ramp + random.normal(size=(9, 64)).astype(np.float32)
    assert np.std(steady_code(list(trembling), 4, 1.2) - 4) < 0.65 * np.std(trembling[4] - 4)


def test_codes_that_are_no_numbers_spoil_no_other():
    codes = [np.full(4, value, np.float32) for value in (1, np.nan, 1, 1)]
    assert np.array_equal(steady_code(codes, 2, 1.2), codes[2])
    assert np.isnan(steady_code(codes, 1, 1.2)).all()


def test_one_frame_alone_keeps_its_code():
    codes = [np.array([float(k)], np.float32) for k in range(3)]
    assert steady_code(codes, 1, 0.0) is codes[1]
    assert np.array_equal(steady_code(codes[:1], 0, 1.2), codes[0])


def test_one_frame_alone_keeps_its_mask():
    mask = np.random.default_rng(0).random((16, 16), np.float32)
    assert np.array_equal(steady_mask([mask], 0, 1.0), mask)


def test_shifted_crops_come_back_into_register():
    picture = a_texture(sigma=6)
    answers = [picture] + [warp_image(picture, jittered_from_crop(number, SIZE), (SIZE, SIZE)) for number in (1, 2, 3)]
    inner = (slice(16, -16),) * 2
    in_register, naive = average_crops(answers), np.mean(answers, axis=0)
    assert np.abs(in_register - picture)[inner].max() < 0.2 * np.abs(naive - picture)[inner].max()


def test_the_average_of_shifted_crops_trembles_less():
    random, picture = np.random.default_rng(1), a_texture(sigma=6)
    drawn = []
    for number in range(4):
        from_crop = jittered_from_crop(number, SIZE)
        answer = warp_image(picture, from_crop, (SIZE, SIZE)) if number else picture
        drawn.append((answer + 0.05 * random.normal(size=answer.shape)).astype(np.float32))
    inner = (slice(16, -16),) * 2
    assert (average_crops(drawn) - picture)[inner].std() < 0.75 * (drawn[0] - picture)[inner].std()


def test_flicker_is_halved_along_the_flow_and_moving_features_stay_where_they_are():
    scene = a_texture(sigma=5, size=SIZE + 40)
    crops = [scene[20:-20, 20 + 3 * k : 20 + 3 * k + SIZE] for k in (-1, 0, 1)]
    flicker = [0.06, -0.06, 0.06]
    answers = [np.clip(crop + change, 0, 1).astype(np.float32) for crop, change in zip(crops, flicker, strict=True)]
    steadied = blend_along_flow(answers, [as_bytes(crop) for crop in crops], 1, 0.5)
    inner = (slice(16, -16),) * 2
    error = (steadied - crops[1])[inner]
    assert abs(error.mean()) < 0.3 * 0.06
    assert error.std() < 0.012


def test_nothing_is_blended_where_the_flow_cannot_be_trusted():
    crops = [a_texture(seed=k, sigma=3) for k in (1, 2, 3)]
    steadied = blend_along_flow(crops, [as_bytes(crop) for crop in crops], 1, 0.3)
    assert np.abs(steadied - crops[1]).mean() < 0.02


def test_a_crop_shifted_and_back_is_at_its_place():
    for number in range(4):
        place = jittered_from_crop(number, 64) @ [20, 30, 1]
        assert np.allclose(invert(jittered_from_crop(number, 64)) @ [*place, 1], [20, 30])


# ---- motion blur ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("velocity", [(12.0, 0.0), (6.0, -8.0), (0.0, 15.0)])
@pytest.mark.parametrize("shutter", [0.0, 0.5, 1.0])
def test_the_plates_shutter_is_found_on_another_face(velocity, shutter):
    everywhere = np.ones((SIZE, SIZE), np.float32)
    samples = [
        sample_shutter(blur_along(a_texture(k), np.array(velocity), shutter), a_texture(k + 50), everywhere, np.array(velocity))
        for k in range(9)
    ]
    assert pool_shutter(samples) == pytest.approx(shutter, abs=0.26)


def test_a_face_that_hardly_moves_tells_nothing_of_the_shutter():
    picture = a_texture()
    assert sample_shutter(picture, picture, np.ones((SIZE, SIZE), np.float32), np.array([0.5, 0.5])) is None
    assert pool_shutter([None] * 10) == 0


def test_motion_blur_moves_nothing_and_keeps_the_light():
    picture = a_texture(sigma=6)
    blurred = blur_along(picture, np.array([9.0, 4.0]), 0.5)
    assert blurred.mean() == pytest.approx(picture.mean(), abs=1e-3)
    spot = np.zeros((41, 41, 3), np.float32)
    spot[20, 20] = 1
    smeared = blur_along(spot, np.array([9.0, 4.0]), 1.0)[..., 0]
    rows, columns = np.indices(smeared.shape)
    assert (smeared * columns).sum() == pytest.approx(20, abs=0.05)
    assert (smeared * rows).sum() == pytest.approx(20, abs=0.05)
