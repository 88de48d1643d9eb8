"""The detectors that may be asked for by name: each finds the actor where he is, and says clearly what it lacks."""

import importlib
import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest

from understudy.imaging.facemeasures import eye_openness
from understudy.imaging.meanface import align_mesh
from understudy.imaging.similarity import apply, invert
from understudy.media.reader import read_frames
from understudy.perception import weights
from understudy.perception.detect import mediapipe_detector
from understudy.perception.detect_dlib import dlib_aligner, dlib_detector
from understudy.perception.landmarks import mesh_landmarker
from understudy.perception.mtcnn import mtcnn_detector, suppress_overlaps
from understudy.perception.plausible import believable_mesh
from understudy.perception.survey import WEIGHTS_OF_DETECTOR, WEIGHTS_OF_LANDMARKS, aligned_by_mesh, load_networks
from understudy.perception.torch_file import read_torch_file
from understudy.types import BadInput

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def actor():
    return np.ascontiguousarray(cv2.imread(str(GOLDEN / "actor.png"))[:, :, ::-1])


@pytest.fixture(scope="module")
def true_points():
    return np.load(GOLDEN / "original_outputs.npz")["true_points"]


@pytest.fixture(scope="module")
def mtcnn():
    return mtcnn_detector()


def test_mtcnn_finds_the_face_its_eyes_and_its_mouth(mtcnn, actor, true_points):
    (found,) = mtcnn(actor)
    expected = np.stack([true_points[36:42].mean(axis=0), true_points[42:48].mean(axis=0), true_points[30]])
    assert np.linalg.norm(found.keypoints[:3] - expected, axis=1).max() < 0.12 * np.linalg.norm(
        true_points[45] - true_points[36]
    )
    assert found.score > 0.9


def test_mtcnn_finds_small_faces_and_nothing_in_noise(mtcnn, actor):
    small = cv2.resize(actor, (56, 56), interpolation=cv2.INTER_AREA)
    canvas = np.full((270, 480, 3), 110, np.uint8)
    canvas[100:156, 60:116] = canvas[140:196, 360:416] = small
    found = sorted(mtcnn(canvas), key=lambda each: each.box.left)
    assert [(each.box.left + each.box.right) / 2 for each in found] == pytest.approx([88, 388], abs=6)
    assert mtcnn(np.full((16, 400, 3), 90, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert mtcnn(cv2.GaussianBlur(noise, (0, 0), 6)) == []


@pytest.mark.parametrize("detect", [mtcnn_detector, dlib_detector])
def test_the_mesh_lands_in_the_same_place_from_each_detector(detect, actor, true_points):
    if detect is dlib_detector:
        pytest.importorskip("dlib", exc_type=ImportError)
    canvas = np.full((300, 300, 3), 110, np.uint8)
    canvas[50:242, 60:252] = actor
    (found,) = detect()(canvas)
    landmarker = mesh_landmarker()
    mesh = believable_mesh(canvas, found, landmarker(canvas, found), landmarker, landmarker.presences)
    assert mesh is not None
    eyes = mesh.points[[33, 263], :2] - (60, 50)
    np.testing.assert_allclose(eyes, true_points[[36, 45]], atol=4)


def test_pictures_looked_at_together_give_what_each_gives_alone(actor):
    """A wide one among them takes more looks, one shows nobody, and six are more than go through the network at once."""
    detect = mediapipe_detector()
    wide, empty = np.full((192, 400, 3), 110, np.uint8), np.full((192, 192, 3), 110, np.uint8)
    wide[:, 180:372] = actor
    pictures = [actor, wide, empty, actor[:, ::-1], wide, actor]
    together = detect.glance(pictures)
    assert [len(found) for found in together] == [1, 1, 0, 1, 1, 1]
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = detect.glance([picture])
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.05)


def test_a_missing_dlib_is_one_line_with_the_remedy(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BadInput, match=r"not installed .* pip install dlib-bin") as failure:
        load_networks("dlib")
    assert "\n" not in str(failure.value)


def test_the_surest_of_overlapping_boxes_is_kept():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [2, 2, 5, 5]], float)
    assert suppress_overlaps(boxes, np.array([0.8, 0.9, 0.7, 0.6]), 0.5) == [1, 2, 3]
    assert suppress_overlaps(boxes, np.array([0.8, 0.9, 0.7, 0.6]), 0.5, of_smaller=True) == [1, 2]


def test_an_iris_network_follows_a_blink_that_the_mesh_misses(sample):
    detect, landmarks = mediapipe_detector(), mesh_landmarker()
    pictures = [next(read_frames(sample / "abel_test.mp4", frame)).image for frame in (10, 19)]
    awake, blinking = (landmarks(picture, detect(picture)[0]) for picture in pictures)
    assert eye_openness(blinking.refined) < 0.6 * eye_openness(awake.refined)
    nose_mouth_chin = [1, 61, 291, 152]
    np.testing.assert_array_equal(awake.refined[nose_mouth_chin], awake.points[nose_mouth_chin])


def test_irises_lie_between_the_lids_and_in_the_mirrored_picture_where_their_mirror_images_are(sample):
    detect, landmarks = mediapipe_detector(), mesh_landmarker()
    picture = next(read_frames(sample / "bea_test.mp4", 10)).image
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    seen, reflected = (landmarks(each, detect(each)[0]) for each in (picture, mirrored))
    eyes = np.stack([seen.refined[[33, 133], :2], seen.refined[[362, 263], :2]])
    widths = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
    assert (np.linalg.norm(seen.irises - eyes.mean(axis=1), axis=1) < 0.15 * widths).all()
    back = (reflected.irises * [-1, 1] + [picture.shape[1], 0])[::-1]
    assert (np.linalg.norm(back - seen.irises, axis=1) < 0.04 * widths).all()
    assert np.isnan(landmarks.mesh(picture, detect(picture)[0]).irises).all(), "nobody asked the iris network"


def test_what_is_optional_says_so_and_no_detector_uses_a_non_commercial_model():
    optional = {each.name for each in weights.WEIGHTS if each.is_optional}
    used = {name for names in WEIGHTS_OF_DETECTOR.values() for name in names}
    assert used < optional
    restricted = {each.name for each in weights.WEIGHTS if not each.is_commercial_use_ok}
    assert "dlib_68_landmarks" in restricted
    assert restricted <= optional - used
    assert set(weights.licences("mtcnn_output")) & optional == {"mtcnn_output"}


@pytest.mark.parametrize("turn_degrees", [0, 120])
def test_dlibs_68_landmarks_align_the_face_as_its_mesh_does_whichever_way_up(actor, turn_degrees):
    pytest.importorskip("dlib", exc_type=ImportError)
    if not weights.cached_path(weights.weight("dlib_68_landmarks")).is_file():
        pytest.skip("its landmarks were never asked for here: understudy extract ... --landmarks dlib-68 fetches them")
    turn = cv2.getRotationMatrix2D((96, 96), turn_degrees, 0.8)
    picture = cv2.warpAffine(actor, turn, (192, 192), borderValue=(110, 110, 110))
    (upright,) = mediapipe_detector()(actor)
    points = mesh_landmarker()(actor, upright).points[:, :2] @ turn[:, :2].T + turn[:, 2]
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    by_mesh, by_dlib = (
        apply(align(picture, points), apply(invert(align_mesh(points)), corners)) for align in (aligned_by_mesh, dlib_aligner())
    )
    assert 0 < np.abs(by_dlib - by_mesh).max() < 0.06


def test_landmarks_for_non_commercial_use_are_never_a_default():
    restricted = {each.name for each in weights.WEIGHTS if not each.is_commercial_use_ok}
    assert not restricted & set(WEIGHTS_OF_LANDMARKS[inspect.signature(load_networks).parameters["landmarks"].default])
    assert "non-commercial" in weights.licences(*WEIGHTS_OF_LANDMARKS["dlib-68"])["dlib_68_landmarks"]


def test_a_file_that_is_no_torch_file_is_refused():
    with pytest.raises(ValueError, match="early PyTorch"):
        read_torch_file(b"not a network at all")
