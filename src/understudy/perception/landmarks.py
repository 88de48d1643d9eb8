"""Finds 468 landmarks on a detected face with MediaPipe's face mesh.

The network sees a square turned upright. It is run twice: first in a square guessed from the detector's eyes, then in the one
that follows from its own first answer, which makes the result independent of the detector and exact for tilted heads. The
second time it looks at four views of the square, and its answers are averaged: that halves the jitter from frame to frame.
The lids are then refined by the iris network, because the mesh hardly follows a blink; it finds the irises too.
Squares as in mediapipe/modules/face_landmark (Apache-2.0); Kartynnik et al. 2019, "Real-time facial surface geometry from
monocular video on mobile GPUs".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.framing import crop_from_face
from understudy.imaging.meanface import mean_face, mirror_points
from understudy.imaging.similarity import Matrix, apply, compose, invert, scale_of, similarity_from_parameters, translation
from understudy.imaging.warp import warp_image
from understudy.perception.iris import eye_refiner
from understudy.perception.weights import load_network
from understudy.types import Box, Detection, FloatArray, Framing, Image

NUM_LANDMARKS = 468
INPUT_SIZE_PX = 192
MOST_AT_ONCE = 4
"""Pictures to one run of the network: on a CPU, sixteen take half as long again each, because they do not fit its cache."""
_MARGIN = 1.5
"""The square's side over the longer side of the face's box (face_landmark_landmarks_to_roi.pbtxt)."""
_LEFT_EYE, _RIGHT_EYE = 33, 263
"""Outer corners of the eyes at image left and right: the direction that is turned level."""


@dataclass(frozen=True)
class View:
    """One way of looking at a face's square: turned a little, or in a mirror."""

    turn_degrees: float
    is_mirrored: bool


UPRIGHT = (View(0, False),)
FOUR_VIEWS = (View(6, False), View(6, True), View(-6, False), View(-6, True))
"""On the virtual actors these bring jitter (second difference) from 0.0072 to 0.0038 face units; 2 views 0.0051, 16 0.0030."""
TWO_VIEWS = (View(0, False), View(0, True))
"""For faces that lie upright already: turned views see a face play less (docs/log.md)."""


@dataclass(frozen=True)
class Landmarks:
    """One face's mesh.

    points: (468, 3): x, y in frame pixels; z in pixels of the same size, positive towards the camera, 0 near the head's middle.
    presence: 0..1, how sure the network is that there is a face in its square; under 0.5 the points mean nothing.
    refined: the same points with the lids (x, y) where the iris network sees them. Alignment and pose rest on `points`, which
        a blink does not move.
    irises: (2, 2): their centres in frame pixels, of the eye at image left first; NaN where the iris network was not asked.
    """

    points: NDArray[np.float64]
    presence: float
    refined: NDArray[np.float64]
    irises: NDArray[np.float64] = field(default_factory=lambda: np.full((2, 2), np.nan))


class MeshLandmarker:
    """Calling it with a frame and a detection gives that face's landmarks; made by `mesh_landmarker`."""

    def __init__(self, views: Sequence[View], device: torch.device | str) -> None:
        self.views, self.device = tuple(views), torch.device(device)
        self._network = load_network("face_mesh", device)
        self.refine_eyes = eye_refiner(device)

    def __call__(self, image: Image, detection: Detection) -> Landmarks:
        return self.batch([image], [detection])[0]

    def batch(self, images: Sequence[Image], detections: Sequence[Detection]) -> list[Landmarks]:
        """The landmarks of `detections[i]` in `images[i]`."""
        if not detections:
            return []
        meshes = self.meshes(images, detections)
        seen = self.refine_eyes(images, [mesh.points for mesh in meshes])
        return [replace(mesh, refined=eyes.mesh, irises=eyes.irises) for mesh, eyes in zip(meshes, seen, strict=True)]

    def meshes(self, images: Sequence[Image], detections: Sequence[Detection]) -> list[Landmarks]:
        """The same without the iris network: `refined` is `points`, for `refine_eyes` to improve many at once."""
        first = self._look(images, [_square_of_detection(d) for d in detections], UPRIGHT)
        return self._look(images, [_square_of_landmarks(each.points) for each in first], self.views)

    def mesh(self, image: Image, detection: Detection) -> Landmarks:
        """`meshes` of one face."""
        return self.meshes([image], [detection])[0]

    def presences(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        """How sure a first look is of a face at each of these places: a fifth of the time of their meshes."""
        first = self._look([image] * len(detections), [_square_of_detection(d) for d in detections], UPRIGHT)
        return [each.presence for each in first]

    @torch.inference_mode()
    def _look(self, images: Sequence[Image], squares: Sequence[Matrix], views: Sequence[View]) -> list[Landmarks]:
        """The mean answer over `views` of the square `squares[i]` (network input from frame) of `images[i]`."""
        inputs_from_frames = [compose(_input_from_square(view), square) for square in squares for view in views]
        pictures = [
            _view_picture(image, inputs_from_frames[n * len(views) + v], view)
            for n, image in enumerate(images)
            for v, view in enumerate(views)
        ]
        batch = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2)  # B C H W
        answers = [self._network(part.float().div_(255)) for part in batch.split(MOST_AT_ONCE)]
        outputs, logits = (torch.cat(each).flatten(1).cpu().double().numpy() for each in zip(*answers, strict=True))
        points = [
            _in_frame(output.reshape(NUM_LANDMARKS, 3), frame_from_input, views[n % len(views)])
            for n, (output, frame_from_input) in enumerate(zip(outputs, map(invert, inputs_from_frames), strict=True))
        ]
        mean_points = np.stack(points).reshape(len(images), len(views), NUM_LANDMARKS, 3).mean(axis=1)
        presences = 1 / (1 + np.exp(-logits.reshape(len(images), len(views)).mean(axis=1)))
        return [Landmarks(each, float(presence), each) for each, presence in zip(mean_points, presences, strict=True)]


def mesh_landmarker(views: Sequence[View] = FOUR_VIEWS, device: torch.device | str = "cpu") -> MeshLandmarker:
    """The default landmarker. Weights are fetched when they are missing (BadInput when they cannot be had)."""
    return MeshLandmarker(views, device)


def where_the_mean_face_lies(region: Framing, size_px: int) -> Detection:
    """What a detector would say of an aligned face in a crop of `region`: it lies where the mean face does."""
    points = apply(crop_from_face(region, size_px), mean_face()[:, :2])
    low, high = points.min(axis=0), points.max(axis=0)
    keypoints = points[[33, 263, 1, 13, 234, 454]]  # eye corners, nose, mouth, ears, in the mesh's order
    return Detection(Box(*map(float, (*low, *high))), 1.0, keypoints)


def _view_picture(image: Image, input_from_frame: Matrix, view: View) -> Image:
    picture = warp_image(image, input_from_frame, (INPUT_SIZE_PX, INPUT_SIZE_PX))
    return picture[:, ::-1] if view.is_mirrored else picture


def _in_frame(points: FloatArray, frame_from_input: Matrix, view: View) -> NDArray[np.float64]:
    """The network's points (its z grows away from the camera) in frame pixels."""
    if view.is_mirrored:
        points = mirror_points(points, INPUT_SIZE_PX)
    return np.column_stack([apply(frame_from_input, points[:, :2]), -points[:, 2] * scale_of(frame_from_input)])


def _input_from_square(view: View) -> Matrix:
    """A turn about the middle of the network's input."""
    half = INPUT_SIZE_PX / 2
    turn = similarity_from_parameters(0.0, float(np.radians(view.turn_degrees)), half, half)
    return compose(turn, translation(-half, -half))


def _square_of_detection(detection: Detection) -> Matrix:
    box = detection.box
    centre = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
    return _input_from_frame(centre, _MARGIN * max(box.width, box.height), _angle(*detection.keypoints[:2]))


def _square_of_landmarks(points: FloatArray) -> Matrix:
    """Around the landmarks' box, measured along the face's own axes so that a tilt does not change it."""
    angle = _angle(points[_LEFT_EYE, :2], points[_RIGHT_EYE, :2])
    level_from_frame = similarity_from_parameters(0.0, -angle, 0.0, 0.0)
    level = apply(level_from_frame, points[:, :2])
    low, high = level.min(axis=0), level.max(axis=0)
    centre = apply(invert(level_from_frame), (low + high) / 2)
    return _input_from_frame(centre, _MARGIN * float((high - low).max()), angle)


def _angle(left_eye: FloatArray, right_eye: FloatArray) -> float:
    """How far the line from the image-left to the image-right eye is turned, in radians."""
    x, y = right_eye - left_eye
    return float(np.arctan2(y, x))


def _input_from_frame(centre: FloatArray, side_px: float, angle_radians: float) -> Matrix:
    """The square of `side_px` around `centre`, turned by the angle, onto the network's input."""
    half = INPUT_SIZE_PX / 2
    turn = similarity_from_parameters(float(np.log(INPUT_SIZE_PX / side_px)), -angle_radians, half, half)
    return compose(turn, translation(-float(centre[0]), -float(centre[1])))
