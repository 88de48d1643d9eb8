"""The mean face: symmetric, in face units, and what alignment and head pose rest on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.imaging import meanface
from understudy.imaging.meanface import (
    FACE_OVAL,
    IBUG_FROM_MESH,
    IBUG_RIGID,
    INNER_LIPS,
    LEFT_EYE,
    OUTER_LIPS,
    RIGHT_EYE,
    RIGID_POINTS,
    align_ibug,
    align_mesh,
    head_pose,
    mean_face,
    mean_face_ibug,
    mirror_points,
)
from understudy.imaging.similarity import apply, compose, similarity_from_parameters

CONTOURS = [LEFT_EYE, RIGHT_EYE, OUTER_LIPS, INNER_LIPS, FACE_OVAL]

similarities = st.builds(
    similarity_from_parameters, st.floats(1, 7), st.floats(-3.1, 3.1), st.floats(-2000, 2000), st.floats(-2000, 2000)
)


def mirrored_index(index):
    """The mesh index on the other side of the face."""
    marks = np.zeros((468, 2))
    marks[:, 1] = np.arange(468)
    return int(mirror_points(marks, 1)[index, 1])


def turned(yaw, pitch, roll):
    """The mean head turned by known angles, as a mesh in pixels."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(-pitch), -np.sin(-pitch)], [0, np.sin(-pitch), np.cos(-pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    y_up = np.array([1, -1, 1])
    return (mean_face() * y_up) @ (about_y @ about_x @ about_z).T * y_up * 150 + 300


def test_the_mean_face_is_exactly_symmetric():
    np.testing.assert_allclose(mirror_points(mean_face(), 1), mean_face(), atol=1e-12)
    nose, eyes = mean_face_ibug()[27:31], mean_face_ibug()[[36, 45]]
    np.testing.assert_allclose(nose[:, 0], 0.5, atol=1e-12)
    np.testing.assert_allclose(eyes[0] + eyes[1], [1, 2 * eyes[0, 1]], atol=1e-12)


def test_face_units_span_the_brows_and_are_centred():
    inner = mean_face_ibug()[17:]
    np.testing.assert_allclose([inner[:, 0].min(), inner[:, 0].max()], [0, 1], atol=1e-4)
    assert inner[:, 1].min() > 0
    assert inner[:, 1].min() + inner[:, 1].max() == pytest.approx(1, abs=1e-4)


def test_mesh_and_ibug_mean_faces_lie_on_each_other():
    apart = np.linalg.norm(mean_face()[list(IBUG_FROM_MESH), :2] - mean_face_ibug(), axis=1)
    assert apart[17:].mean() < 0.03
    assert apart.max() < 0.12


@given(similarities)
def test_a_moved_mean_face_is_aligned_back(frame_from_face):
    mesh = apply(frame_from_face, mean_face()[:, :2])
    ibug = apply(frame_from_face, mean_face_ibug())
    for face_from_frame in (align_mesh(mesh), align_ibug(ibug)):
        np.testing.assert_allclose(compose(face_from_frame, frame_from_face), np.eye(2, 3), atol=1e-6)


def test_a_mirrored_face_is_aligned_upright():
    frame_from_face = similarity_from_parameters(5, 0.2, 300, 200)
    mesh = np.column_stack([apply(frame_from_face, mean_face()[:, :2]), mean_face()[:, 2]])
    face_from_mirrored_frame = align_mesh(mirror_points(mesh, 640))
    assert np.linalg.det(face_from_mirrored_frame[:, :2]) > 0
    restored = apply(face_from_mirrored_frame, mirror_points(mesh, 640)[:, :2])
    np.testing.assert_allclose(restored, mean_face()[:, :2], atol=1e-9)


def test_mouth_and_jaw_do_not_move_the_alignment():
    talking = mean_face()
    for contour in (OUTER_LIPS, INNER_LIPS, FACE_OVAL):
        talking[list(contour), 1] += 0.2
    np.testing.assert_allclose(align_mesh(talking), np.eye(2, 3), atol=1e-9)
    talking = mean_face_ibug()
    talking[[*range(17), *range(48, 68)]] += 0.2
    np.testing.assert_allclose(align_ibug(talking), np.eye(2, 3), atol=1e-9)


def test_there_are_enough_rigid_points_and_they_are_balanced():
    assert len(set(RIGID_POINTS)) == len(RIGID_POINTS) >= 33
    assert {mirrored_index(i) for i in RIGID_POINTS} == set(RIGID_POINTS)
    assert set(IBUG_RIGID) == set(range(17, 48))


def test_contours_are_closed_curves_and_mirror_each_other():
    for contour in CONTOURS:
        points = mean_face()[list(contour), :2].astype(np.float32)
        assert len(set(contour)) == len(contour)
        assert cv2.contourArea(points) > 0.6 * cv2.contourArea(cv2.convexHull(points))
    assert {mirrored_index(i) for i in LEFT_EYE} == set(RIGHT_EYE)
    assert {mirrored_index(i) for i in FACE_OVAL} == set(FACE_OVAL)
    assert mean_face()[list(LEFT_EYE), 0].max() < 0.5 < mean_face()[list(RIGHT_EYE), 0].min()


def test_the_oval_reaches_from_mid_forehead_to_the_chin():
    oval = mean_face()[list(FACE_OVAL), :2]
    assert oval[:, 1].min() < -0.2
    assert oval[:, 1].max() > 1.2
    inside = [cv2.pointPolygonTest(oval.astype(np.float32), point, False) > 0 for point in mean_face_ibug()[17:].tolist()]
    assert all(inside)


@given(st.floats(-70, 70), st.floats(-40, 40), st.floats(-60, 60))
def test_head_pose_recovers_known_angles(yaw, pitch, roll):
    np.testing.assert_allclose(head_pose(turned(yaw, pitch, roll)), (yaw, pitch, roll), atol=1e-6)


def test_signs_of_the_head_pose_are_those_of_the_picture():
    nose_to_image_right, nose_up, crown_to_image_left = turned(30, 0, 0), turned(0, 20, 0), turned(0, 0, 15)
    assert nose_to_image_right[4, 0] > nose_to_image_right[[33, 263], 0].mean() + 10
    assert nose_up[4, 1] < turned(0, 0, 0)[4, 1]
    assert crown_to_image_left[10, 0] < crown_to_image_left[152, 0]


def test_what_is_handed_out_can_be_changed_without_harm():
    meanface.mean_face()[:] = 0
    assert mean_face().any()
