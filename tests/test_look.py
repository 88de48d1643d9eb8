"""Look: a new face takes on the plate's colours, sharpness and grain, steadily over time."""

import cv2
import numpy as np
import pytest

from understudy.imaging.blend import feather
from understudy.imaging.look import (
    UNCHANGED,
    LookSample,
    TrackLook,
    apply_colours,
    apply_detail,
    detail_of_model,
    level_gain,
    look_at,
    measure_appearance,
    with_grain,
)

SIZE = 256


def a_face(sigma: float = 1.0, seed: int = 0) -> np.ndarray:
    """Texture with detail down to `sigma` px, (SIZE, SIZE, 3) float32."""
    random = np.random.default_rng(seed)
    texture = sum(cv2.GaussianBlur(random.normal(size=(SIZE, SIZE, 3)), (0, 0), s) * s * 0.06 for s in (2, 6, 16))
    return cv2.GaussianBlur((0.5 + texture).astype(np.float32), (0, 0), sigma)


def appearance(picture: np.ndarray):
    whole = np.ones(picture.shape[:2], np.float32)
    return measure_appearance(picture, whole, picture, whole)


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    noise = sigma * np.random.default_rng(1).normal(size=picture.shape[:2])
    return (picture + noise[..., None]).astype(np.float32)


@pytest.mark.parametrize("sigma", [1 / 255, 2 / 255, 5 / 255])
def test_grain_is_measured_through_texture(sigma):
    assert np.sqrt(appearance(noisy(a_face(3), sigma)).grain) == pytest.approx(sigma, rel=0.25)


def test_a_clean_face_has_no_grain():
    assert np.sqrt(appearance(a_face(3)).grain) < 0.4 / 255


def test_a_clean_face_is_given_the_plates_grain():
    plate, face = noisy(a_face(3), 3 / 255), a_face(3)
    look = look_at(TrackLook.of([LookSample(0, appearance(plate), appearance(face))]), 0, 10, "mkl")
    matte = np.ones((SIZE, SIZE), np.float32)
    grained = with_grain(feather, look.grain, seed=3)(plate, face, matte, SIZE)
    assert np.sqrt(appearance(grained).grain) == pytest.approx(np.sqrt(appearance(plate).grain), rel=0.1)


def test_grain_moves_from_frame_to_frame_but_a_frame_is_always_the_same():
    face, matte = a_face(), np.ones((SIZE, SIZE), np.float32)
    first, again, other = (with_grain(feather, 1e-4, seed)(face, face, matte, SIZE) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert with_grain(feather, 0.0, 1) is feather


def test_a_soft_face_is_sharpened_and_a_sharp_one_softened_towards_the_plate():
    soft, crisp = a_face(2.0), a_face(0.7)
    for face, plate in ((soft, crisp), (crisp, soft)):
        look = look_at(TrackLook.of([LookSample(0, appearance(plate), appearance(face))]), 0, 10, "mean")
        before, after = (
            np.abs(np.log(_energy(each) / _energy(plate))) for each in (face, apply_detail(face, look.detail_gains))
        )
        assert after < 0.6 * before


def _energy(picture: np.ndarray) -> float:
    return float(np.var(picture - cv2.GaussianBlur(picture, (0, 0), 2)))


def test_an_equal_face_is_left_as_it_is():
    face = a_face()
    look = look_at(TrackLook.of([LookSample(0, appearance(face), appearance(face))]), 0, 10, "mkl")
    assert np.allclose(look.colour, np.eye(3, 4), atol=1e-6)
    assert np.allclose(look.detail_gains, 1, atol=1e-6)
    assert np.allclose(apply_detail(face, look.detail_gains), face, atol=1e-6)
    assert look_at(None, 0, 10, "mkl") is UNCHANGED


def test_colours_follow_a_change_of_light_smoothly():
    face = a_face()
    samples = [LookSample(k, appearance(face * (1.0 if k < 50 else 0.8)), appearance(face)) for k in range(0, 100, 4)]
    track = TrackLook.of(samples)
    brightness = np.array([look_at(track, frame, 6, "mean").colour[:, 3].mean() for frame in range(100)])
    assert brightness[[0, 99]] == pytest.approx([0, -0.1], abs=0.01)
    assert np.abs(np.diff(brightness)).max() < 0.015
    noisy_samples = [
        LookSample(k, appearance(face * (1 + 0.02 * (-1) ** (k // 4))), appearance(face)) for k in range(0, 100, 4)
    ]
    track = TrackLook.of(noisy_samples)
    flicker = np.diff([look_at(track, frame, 6, "mean").colour[:, 3].mean() for frame in range(20, 80)])
    assert np.abs(flicker).max() < 0.001


def test_a_darker_skin_is_not_sharpened_for_having_fainter_relief():
    plate = a_face(4)
    track = TrackLook.of([LookSample(frame, appearance(plate), appearance(plate / 2)) for frame in range(3)])
    np.testing.assert_allclose(look_at(track, 1, 6, "gain", "performer").detail_gains, 1, atol=0.02)
    np.testing.assert_allclose(look_at(track, 1, 6, "gain", "plate").detail_gains, 1, atol=0.02)


def test_a_performers_own_skin_takes_on_the_plates_change_of_light_and_nothing_else():
    plate, face = a_face(seed=1) * 0.8, a_face(seed=2)
    light = [1.0 if frame < 50 else 0.7 for frame in range(100)]
    track = TrackLook.of([LookSample(k, appearance(plate * light[k]), appearance(face)) for k in range(0, 100, 4)])
    bright, dark = (look_at(track, frame, 6, "mkl", "performer").colour for frame in (10, 90))
    assert np.allclose(bright[:, :3] / bright[0, 0], np.eye(3), atol=0.01)
    assert dark[0, 0] / bright[0, 0] == pytest.approx(0.7, abs=0.02)
    follows = TrackLook.of([LookSample(k, appearance(plate * light[k]), appearance(face * light[k])) for k in range(0, 100, 4)])
    assert np.allclose(look_at(follows, 90, 6, "mkl", "performer").colour, np.eye(3, 4), atol=0.02)


def test_a_look_depends_on_the_samples_around_it_only():
    samples = [LookSample(k, appearance(a_face(seed=k)), appearance(a_face(seed=k + 1))) for k in range(0, 200, 20)]
    whole, near = (look_at(TrackLook.of(each), 60, 6, "mean").colour for each in (samples, samples[1:6]))
    assert np.allclose(whole, near, atol=1e-9)


def test_a_blurred_model_is_told_from_a_sharp_one():
    plate = a_face(1.0)
    sharp, blurred = (
        detail_of_model(TrackLook.of([LookSample(0, appearance(plate), appearance(each))]))
        for each in (a_face(1.0, seed=5), cv2.GaussianBlur(plate, (0, 0), 12))
    )
    assert sharp == pytest.approx(1, abs=0.3)
    assert blurred < 0.4


def test_the_level_of_one_frame_is_the_plates_wherever_there_is_skin_enough_to_see_it():
    plate, skin = a_face(), np.zeros((SIZE, SIZE), np.float32)
    skin[60:200, 60:200] = 1
    assert level_gain(plate, 0.8 * plate, skin) == pytest.approx(1.25, abs=0.03)
    assert level_gain(plate, plate, skin) == pytest.approx(1.0)
    assert level_gain(plate, 0.8 * plate, np.zeros_like(skin)) == 1


def test_a_sliver_of_skin_or_a_black_face_does_not_make_a_frame_flash():
    plate, sliver, whole = a_face(), np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)
    sliver[100:104, 100:130] = 1
    assert level_gain(plate, np.zeros_like(plate), sliver) < 1.2
    assert level_gain(plate, np.zeros_like(plate), whole) == 2


BROWN, PALE, WHITE, LIP = (0.50, 0.36, 0.30), (0.80, 0.62, 0.54), (0.70, 0.70, 0.70), (0.55, 0.25, 0.24)


def brown_face_with_teeth() -> np.ndarray:
    face = np.tile(np.float32(BROWN), (SIZE, SIZE, 1))
    face[100:110, 100:150], face[110:120, 100:150] = WHITE, LIP
    return face


@pytest.mark.parametrize("is_lit", [False, True], ids=["drawn in ordinary light", "drawn in the plate's"])
@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), (1.1, 1.0, 0.8), (0.7, 0.8, 1.0)])
def test_a_brown_skin_becomes_pale_and_the_teeth_take_the_light_once(light, is_lit):
    face, skin = brown_face_with_teeth() * np.float32(light if is_lit else 1), np.ones((SIZE, SIZE), np.float32)
    skin[95:125, 95:155] = 0
    plate = np.tile(np.float32(PALE) * np.float32(light), (SIZE, SIZE, 1))
    samples = [LookSample(0, *(measure_appearance(each, skin, each, skin) for each in (plate, face)))]
    look = look_at(TrackLook.of(samples), 0, 10, "gain", usual_skins=(np.array(PALE), np.array(BROWN)))
    mapped = apply_colours(face, look)
    assert np.allclose(mapped[0, 0], plate[0, 0], atol=0.01)
    assert np.allclose(mapped[105, 120], np.float32(WHITE) * np.float32(light), atol=0.01)
    assert np.allclose(mapped[115, 120], np.float32(LIP) / np.float32(BROWN) * plate[0, 0], atol=0.01)


def test_teeth_stay_white_where_nobody_knows_the_plates_usual_skin():
    face, plate = brown_face_with_teeth(), np.tile(np.float32(PALE), (SIZE, SIZE, 1))
    look = look_at(TrackLook.of([LookSample(0, appearance(plate), appearance(face))]), 0, 10, "gain")
    teeth = apply_colours(face, look)[105, 120]
    assert np.ptp(teeth) < 0.01


def test_grey_pictures_are_mapped_as_a_whole():
    face, plate = np.full((SIZE, SIZE, 3), 0.3, np.float32), np.full((SIZE, SIZE, 3), 0.5, np.float32)
    look = look_at(
        TrackLook.of([LookSample(0, appearance(plate), appearance(face))]), 0, 10, "gain", usual_skins=(np.ones(3), np.ones(3))
    )
    assert np.allclose(apply_colours(face, look), plate, atol=0.01)
