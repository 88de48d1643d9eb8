"""Mattes: the silhouette of the mesh at any pose, edges that only move inward, occluders that stay in front."""

import cv2
import numpy as np
import pytest

from understudy.imaging.matte import LEAST_SIZE_PX, enlarge, face_matte, fade, mesh_triangles, silhouette, skin_mask
from understudy.imaging.meanface import LEFT_EYE, face_outline, mean_face, raise_forehead


def landmarks(size_px: int, yaw_degrees: float = 0.0) -> np.ndarray:
    """The mean face turned about the vertical, its centre in the middle of a square of two face units."""
    angle, points = np.radians(yaw_degrees), mean_face() - [0.5, 0.5, 0.0]
    x = points[:, 0] * np.cos(angle) + points[:, 2] * np.sin(angle)
    return (np.column_stack([x, points[:, 1]]) / 2 + 0.5) * size_px


def test_the_silhouette_of_a_frontal_face_is_its_hull():
    points = landmarks(128)
    hull = cv2.fillConvexPoly(
        np.zeros((128, 128), np.uint8), np.round(cv2.convexHull(points.astype(np.float32)) - 0.5).astype(int), 1
    )
    assert silhouette(points, 128).sum() == pytest.approx(hull.sum(), rel=0.04)


@pytest.mark.parametrize("yaw", [-70, 70])
def test_in_profile_the_hollow_below_the_nose_is_outside(yaw):
    points = landmarks(256, yaw)
    mask = silhouette(points, 256)
    hull_area = cv2.contourArea(cv2.convexHull(face_outline(points).astype(np.float32)))
    assert mask.sum() < 0.97 * hull_area
    assert mask.sum() > 0.8 * hull_area
    assert mask[mask > 0].mean() > 0.95  # no holes where the far side folds over


@pytest.mark.parametrize("yaw", [-60, 60])
def test_in_profile_the_outline_reaches_down_to_the_jaw_and_in_front_it_stays(yaw):
    turned, front = landmarks(256, yaw), landmarks(256, 0)
    np.testing.assert_allclose(face_outline(front), raise_forehead(front))
    moved = face_outline(turned) - raise_forehead(turned)
    way = turned[152, 1] - turned[168, 1]
    assert 0.07 * way < moved[152, 1] < 0.11 * way
    assert np.all(moved[[33, 263, 1, 13, 234, 454]] == 0)


def test_the_triangles_use_every_landmark():
    assert set(mesh_triangles().ravel()) == set(range(468))


def test_eroding_and_feathering_never_grow_the_matte():
    points, learned = landmarks(64), np.ones((64, 64), np.float32)
    outline = silhouette(points * 4, 256)
    matte = face_matte(learned, points, "outline", 0.02, 0.05)
    assert matte.shape == (LEAST_SIZE_PX, LEAST_SIZE_PX)
    assert np.all(matte <= outline)
    assert 0.6 * outline.sum() < matte.sum() < 0.95 * outline.sum()
    assert np.abs(np.diff(matte, axis=1)).max() < 0.15  # a soft edge, however small the network


def test_the_new_face_goes_right_up_to_what_covers_it():
    points, learned = landmarks(256), np.ones((256, 256), np.float32)
    learned[:, 120:136] = 0  # a bar
    matte = face_matte(learned, points, "both", 0.02, 0.05)
    assert matte[128, 118] > 0.95
    assert np.all(matte[:, 122:134] < 0.02)
    assert matte[128, 138] > 0.95


def test_the_learned_mask_alone_knows_no_outline():
    matte = face_matte(np.ones((64, 64), np.float32), landmarks(64), "learned", 0.0, 0.0)
    assert np.all(matte == 1)


def test_skin_is_the_matte_without_eyes_and_mouth():
    points, matte = landmarks(256), np.ones((256, 256), np.float32)
    skin = skin_mask(matte, points)
    x, y = points[list(LEFT_EYE)].mean(axis=0).astype(int)
    assert skin[y, x] == 0
    assert skin[128, 128] == 1
    assert 0.9 < skin.mean() < 1


def test_enlarging_keeps_the_middle_in_the_middle():
    dot = np.zeros((65, 65), np.float32)
    dot[32, 32] = 1
    big = enlarge(dot)
    ys, xs = np.mgrid[: len(big), : len(big)] + 0.5
    assert (big * xs).sum() / big.sum() == pytest.approx(len(big) / 2, abs=0.02)
    assert (big * ys).sum() / big.sum() == pytest.approx(len(big) / 2, abs=0.02)


def test_a_fade_is_a_ramp_at_open_ends_only():
    assert [fade(k, 0, 9, 3, True, False) for k in range(10)] == pytest.approx([0.25, 0.5, 0.75] + [1] * 7)
    assert [fade(k, 0, 9, 3, False, True) for k in range(10)] == pytest.approx([1] * 7 + [0.75, 0.5, 0.25])
    assert [fade(k, 0, 0, 3, True, True) for k in range(1)] == pytest.approx([0.25])
    assert fade(5, 5, 9, 0, True, True) == 1
