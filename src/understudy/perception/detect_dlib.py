"""Finds faces with dlib: its classic detector (HOG, King 2015), its network (max-margin, King 2015), and its 68 landmarks.

dlib is an optional package; its models come out of `face_recognition_models` (perception/weights.py). The landmark model was
trained on a data set whose terms allow no commercial use, so nothing uses it unless it is asked for by name.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.meanface import align_ibug, align_mesh
from understudy.imaging.similarity import Matrix, apply, compose
from understudy.imaging.warp import warp_image
from understudy.perception.weights import ensure
from understudy.types import BadInput, Box, Detection, FloatArray, Image

BOX_CENTRE, BOX_SIDE = (0.47, 0.46), 1.46
"""Where dlib's square lies on an upright face, in face units: means over the virtual actors."""

KEYPOINTS_OF_FACE = np.array([[0.229, 0.199], [0.771, 0.199], [0.5, 0.51], [0.5, 0.827], [-0.11, 0.361], [1.11, 0.361]])
"""The keypoints of the mean face (eyes, nose, mouth, ears), which dlib does not give."""

CALM_SIDE_PX = 80
"""HOG sees faces from this size on; where it finds none, the picture is looked at in double size."""

UPRIGHT_PX = 256
"""Side of the upright picture of a face (framing `full`) in which its 68 landmarks are sought."""


class DlibDetector:
    """Calling it with a frame gives its faces, the surest first; made by `dlib_detector`."""

    def __init__(self, kind: Literal["hog", "network"]) -> None:
        dlib = _dlib()
        self._hog = dlib.get_frontal_face_detector() if kind == "hog" else None
        self._network = dlib.cnn_face_detection_model_v1(str(ensure("dlib_cnn_detector"))) if kind == "network" else None

    def __call__(self, image: Image) -> list[Detection]:
        image = np.ascontiguousarray(image)
        if min(image.shape[:2]) < CALM_SIDE_PX // 2:
            return []
        found = self._look(image, 0) or self._look(image, 1)
        return sorted(found, key=lambda detection: -detection.score)

    def _look(self, image: Image, num_doublings: int) -> list[Detection]:
        if self._hog is not None:
            rectangles, scores, _ = self._hog.run(image, num_doublings, 0.0)
            return [_detection(r, 1 / (1 + np.exp(-2 * score))) for r, score in zip(rectangles, scores, strict=True)]
        assert self._network is not None
        return [_detection(found.rect, min(found.confidence, 1.0)) for found in self._network(image, num_doublings)]


class DlibLandmarker:
    """Calling it with a frame and a detection gives the 68 iBUG points (68, 2) in frame pixels; made by `dlib_landmarker`."""

    def __init__(self) -> None:
        self._dlib = _dlib()
        self._predictor = self._dlib.shape_predictor(str(ensure("dlib_68_landmarks")))

    def __call__(self, image: Image, detection: Detection) -> NDArray[np.float64]:
        left, top, right, bottom = (round(side) for side in vars(detection.box).values())
        points = self._predictor(np.ascontiguousarray(image), self._dlib.rectangle(left, top, right - 1, bottom - 1)).parts()
        return np.array([(point.x + 0.5, point.y + 0.5) for point in points])


class DlibAligner:
    """Calling it with a frame and a mesh (468, 2 or 3) gives `face_from_frame` by dlib's 68 landmarks; see `dlib_aligner`."""

    def __init__(self) -> None:
        self._landmarks = dlib_landmarker()

    def __call__(self, image: Image, mesh: FloatArray) -> Matrix:
        crop_from_face_units = crop_from_face(FULL, UPRIGHT_PX)
        crop_from_frame = compose(crop_from_face_units, align_mesh(mesh))
        upright = warp_image(image, crop_from_frame, (UPRIGHT_PX, UPRIGHT_PX))
        corners = np.array([BOX_CENTRE]) + np.array([[-0.5], [0.5]]) * BOX_SIDE
        square = Box(*apply(crop_from_face_units, corners).ravel().tolist())
        points = self._landmarks(upright, Detection(square, 1.0, apply(crop_from_face_units, KEYPOINTS_OF_FACE)))
        return compose(align_ibug(points), crop_from_frame)


def dlib_detector() -> DlibDetector:
    """dlib's classic detector: frontal, upright faces of 40 pixels and more. Raises BadInput where dlib is not installed."""
    return DlibDetector("hog")


def dlib_cnn_detector() -> DlibDetector:
    """dlib's network: surer of turned and half hidden faces, far slower on a CPU. Raises like `dlib_detector`."""
    return DlibDetector("network")


def dlib_landmarker() -> DlibLandmarker:
    """dlib's 68 landmarks, **for non-commercial use only**, for comparison. Raises like `dlib_detector`."""
    return DlibLandmarker()


def dlib_aligner() -> DlibAligner:
    """Aligns faces as the programs of 2017 did, by dlib's 68 landmarks, **for non-commercial use only**.

    They are sought where the mesh says that the face is, turned upright, because dlib knows upright faces only. Both have the
    same mean face, so that face sets aligned in either way go together. Raises like `dlib_detector`.
    """
    return DlibAligner()


def _dlib() -> Any:
    try:
        return importlib.import_module("dlib")
    except ImportError as error:
        remedy = "pip install dlib-bin (or: pip install -c constraints.txt -e '.[dlib]')"
        raise BadInput(f"dlib needs a package that is not installed ({error}); get it by: {remedy}") from error


def _detection(rectangle: Any, score: float) -> Detection:
    """dlib's square (inclusive pixels) with the keypoints that an upright mean face in it would have."""
    box = Box(float(rectangle.left()), float(rectangle.top()), float(rectangle.right() + 1), float(rectangle.bottom() + 1))
    centre = np.array([box.left + box.right, box.top + box.bottom]) / 2
    keypoints = centre + (KEYPOINTS_OF_FACE - BOX_CENTRE) * box.width / BOX_SIDE
    return Detection(box, float(score), keypoints)
