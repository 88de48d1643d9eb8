"""The measures of a face: they say what was done to it, whatever its size and turn."""

import cv2
import numpy as np
import pytest

from understudy.imaging.facemeasures import (
    LIP_PAIRS,
    RIGHT_LIDS,
    brightness,
    clipped_share,
    eye_openness,
    mouth_openness,
    share_outside,
    sharpness,
)
from understudy.imaging.meanface import mean_face


def turned(points, yaw_degrees=0.0, pitch_degrees=0.0):
    """The mesh with its nose moved to image right and up, as a camera sees it (y down)."""
    yaw, pitch = np.radians([yaw_degrees, -pitch_degrees])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    up = np.array([1, -1, 1])
    return ((points - points.mean(axis=0)) * up @ (about_y @ about_x).T) * up * 130 + 300


def with_the_jaw_dropped(gap):
    points = mean_face()
    lower = [pair[1] for pair in LIP_PAIRS]
    points[lower, 1] += gap
    return points


def test_a_dropped_jaw_opens_the_mouth_by_as_much():
    shut = mouth_openness(turned(mean_face()))
    assert mouth_openness(turned(with_the_jaw_dropped(0.2))) - shut == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("yaw", "pitch"), [(40, 0), (-40, 0), (0, 25), (0, -25)])
def test_a_turn_of_the_head_opens_neither_mouth_nor_eyes(yaw, pitch):
    straight, aside = turned(with_the_jaw_dropped(0.2)), turned(with_the_jaw_dropped(0.2), yaw, pitch)
    assert mouth_openness(aside) == pytest.approx(mouth_openness(straight), rel=0.25)
    assert eye_openness(aside) == pytest.approx(eye_openness(straight), rel=0.05)


def test_a_wink_counts_half_unless_the_other_eye_is_turned_away():
    winking = mean_face()
    for upper, lower in RIGHT_LIDS:
        winking[[upper, lower]] = winking[[upper, lower]].mean(axis=0)
    open_eyes = eye_openness(turned(mean_face()))
    assert eye_openness(turned(winking)) == pytest.approx(open_eyes / 2, rel=0.01)
    assert eye_openness(turned(winking, 45)) == pytest.approx(open_eyes, rel=0.02)
    assert eye_openness(turned(winking, -45)) == pytest.approx(0, abs=0.01)


def test_blur_lowers_the_sharpness():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert sharpness(cv2.GaussianBlur(picture, (0, 0), 2)) < sharpness(picture) / 10


def test_brightness_and_clipping_count_inside_the_face_only():
    picture = np.full((10, 10, 3), 102, np.uint8)
    picture[:, 5:] = 255
    picture[0, :5] = 0
    face = np.zeros((10, 10), np.float32)
    face[:, :5] = 1
    assert brightness(picture, face) == pytest.approx(0.36)
    assert clipped_share(picture, face) == pytest.approx(0.1)
    assert np.isnan(brightness(picture, 0 * face))
    assert np.isnan(clipped_share(picture, 0 * face))


@pytest.mark.parametrize(
    ("left", "top", "share"), [(0, 0, 0.0), (5, 0, 0.5), (-4, 0, 0.4), (0, 8, 0.8), (-3, -3, 0.51), (20, 0, 1.0), (0, -50, 1.0)]
)
def test_what_lies_beyond_the_picture_is_a_share_of_the_face(left: float, top: float, share: float) -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [5, 5]]) + np.array([left, top])
    for points in (square, np.column_stack([square, np.ones(5)])):
        assert share_outside(points, 10, 10) == pytest.approx(share, abs=1e-6)
