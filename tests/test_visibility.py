"""What hides a face is told from the face, whatever the light, the pose and the size of the crop."""

import cv2
import numpy as np
import pytest

from understudy.imaging.masks import polygon_mask
from understudy.imaging.meanface import FACE_OVAL, mean_face
from understudy.imaging.similarity import apply, similarity_from_parameters
from understudy.imaging.visibility import _median_over_rows, hidden_share, usual_appearance, visibility
from understudy.imaging.warp import warp_image

SIZE_PX = 160
BLUE, SKIN = (60, 110, 180), np.array([200, 150, 120])


def a_face(seed, gain=(1.0, 1.0, 1.0)):
    """A blotched face at a random place, as a crop with its landmarks."""
    random = np.random.default_rng(seed)
    blotches = cv2.GaussianBlur(np.random.default_rng(99).normal(0, 1, (SIZE_PX, SIZE_PX)), (0, 0), 4)
    picture = SKIN * (1 + 1.5 * blotches[..., None]) + random.normal(0, 3, (SIZE_PX, SIZE_PX, 3))
    moved = similarity_from_parameters(random.normal(0, 0.05), random.normal(0, 0.1), *random.normal(0, 6, 2))
    crop = warp_image(np.clip(picture * gain, 0, 255).astype(np.uint8), moved, (SIZE_PX, SIZE_PX))
    face_to_crop = similarity_from_parameters(np.log(75), 0, 42, 40)
    return crop, apply(moved, apply(face_to_crop, mean_face()[:, :2]))


@pytest.fixture(scope="module")
def appearance():
    return usual_appearance(*zip(*(a_face(seed) for seed in range(20)), strict=True))


def outline(landmarks):
    return polygon_mask(landmarks[list(FACE_OVAL)], (SIZE_PX, SIZE_PX)) > 0.9


@pytest.mark.parametrize("left", [30, 70, 100])
def test_a_bar_before_the_face_is_told_from_it(appearance, left):
    crop, landmarks = a_face(50)
    crop[:, left : left + 30] = BLUE
    face = outline(landmarks)
    visible = visibility(crop, landmarks, appearance)
    bar = np.zeros_like(face)
    bar[:, left + 3 : left + 27] = True
    near = np.zeros_like(face)
    near[:, left - 6 : left + 36] = True
    assert visible.dtype == np.float32
    assert visible[face & bar].mean() < 0.1
    assert visible[face & ~near].mean() > 0.95
    expected = (face & bar).sum() / face.sum()
    assert hidden_share(crop, landmarks, appearance) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("gain", [(1, 1, 1), (0.6, 0.6, 0.6), (1.1, 1.0, 0.8)])
def test_a_change_of_light_hides_nothing(appearance, gain):
    crop, landmarks = a_face(51, gain)
    assert visibility(crop, landmarks, appearance)[outline(landmarks)].mean() > 0.97
    assert hidden_share(crop, landmarks, appearance) < 0.03


def test_light_from_one_side_hides_nothing(appearance):
    crop, landmarks = a_face(52)
    lit = np.clip(crop * np.linspace(0.6, 1.2, SIZE_PX)[None, :, None], 0, 255).astype(np.uint8)
    assert visibility(lit, landmarks, appearance)[outline(landmarks)].mean() > 0.97


def test_some_hidden_faces_among_those_learned_from_do_no_harm():
    faces = [a_face(seed) for seed in range(20)]
    for crop, _ in faces[:6]:
        crop[:, 60:100] = BLUE
    learned = usual_appearance(*zip(*faces, strict=True))
    assert hidden_share(*faces[0], learned) > 0.25
    assert hidden_share(*faces[10], learned) < 0.03


def test_a_crop_of_another_size_gives_the_same_answer(appearance):
    crop, landmarks = a_face(53)
    crop[:, 70:100] = BLUE
    double = cv2.resize(crop, (2 * SIZE_PX, 2 * SIZE_PX), interpolation=cv2.INTER_CUBIC)
    assert visibility(double, 2 * landmarks, appearance).shape == (2 * SIZE_PX, 2 * SIZE_PX)
    one, other = hidden_share(crop, landmarks, appearance), hidden_share(double, 2 * landmarks, appearance)
    assert one == pytest.approx(other, abs=0.03)


def test_few_faces_tell_nothing():
    crop, landmarks = a_face(0)
    for few in ([], [(crop, landmarks)] * 3):
        learned = usual_appearance([face for face, _ in few], [points for _, points in few])
        assert visibility(crop, landmarks, learned).min() == 1
        assert np.isnan(hidden_share(crop, landmarks, learned))


@pytest.mark.parametrize("count", [1, 2, 8, 14, 15])
def test_the_median_over_rows_is_numpys_to_the_last_bit(count):
    values = np.random.default_rng(count).normal(size=(count, 50, 3)).astype(np.float32)
    before = values.copy()
    np.testing.assert_array_equal(_median_over_rows(values), np.median(values, axis=0))
    np.testing.assert_array_equal(values, before)
