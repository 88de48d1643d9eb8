"""Refines the lids of a mesh with MediaPipe's iris network, which sees each eye alone and so follows a blink and a look.

Squares and indices as in mediapipe/modules/iris_landmark (Apache-2.0); Ablavatski et al. 2020, "Real-time pupil tracking from
monocular video for digital puppetry". The network knows eyes at image left; the other one is shown to it in a mirror.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.meanface import mirrored_index
from understudy.imaging.similarity import Matrix, apply, compose, invert, similarity_from_parameters, translation
from understudy.imaging.warp import warp_image
from understudy.perception.weights import load_network
from understudy.types import FloatArray, Image

INPUT_SIZE_PX = 64
_MARGIN = 2.3
"""The square's side over the distance between the eye's corners (iris_landmark_landmarks_to_roi.pbtxt)."""

LEFT_CONTOUR = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
"""The mesh points that the network's first 16 points are, for the eye at image left."""
_CORNERS = (33, 133)


class RefinedEyes(NamedTuple):
    """A mesh (468, 3) with the lids where the iris network sees them, and the irises' centres (2, 2) in the same pixels.

    The eye at image left is the first.
    """

    mesh: NDArray[np.float64]
    irises: NDArray[np.float64]


class EyeRefiner:
    """Calling it with frames and their meshes (468, 3) gives what the iris network sees of the eyes of each."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._network = load_network("iris", device)

    def __call__(self, images: Sequence[Image], meshes: Sequence[FloatArray]) -> list[RefinedEyes]:
        contours, irises = self._look(images, meshes)
        refined = [np.array(mesh, np.float64) for mesh in meshes]
        for mesh, eyes in zip(refined, contours, strict=True):
            for indices, contour in zip((LEFT_CONTOUR, mirrored_index(LEFT_CONTOUR)), eyes, strict=True):
                mesh[list(indices), :2] = contour
        return [RefinedEyes(*each) for each in zip(refined, irises, strict=True)]

    @torch.inference_mode()
    def _look(self, images: Sequence[Image], meshes: Sequence[FloatArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For N meshes the contours (N, 2, 16, 2) and iris centres (N, 2, 2), frame pixels, the eye at image left first."""
        if not meshes:
            return np.empty((0, 2, 16, 2)), np.empty((0, 2, 2))
        sides = [(False, _CORNERS), (True, mirrored_index(_CORNERS))]
        squares, pictures = [], []
        for image, mesh in zip(images, meshes, strict=True):
            for is_mirrored, corners in sides:
                square = _input_from_frame(mesh[list(corners), :2], is_mirrored)
                picture = warp_image(image, square, (INPUT_SIZE_PX, INPUT_SIZE_PX))
                squares.append(square)
                pictures.append(picture[:, ::-1] if is_mirrored else picture)
        batch = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 255  # B C H W, 0..1
        answers = [each.flatten(1).cpu().double().numpy().reshape(len(squares), -1, 3) for each in self._network(batch)]
        points = np.concatenate([answers[0][:, :16, :2], answers[1][:, :1, :2]], axis=1)  # contour, then the iris's centre
        points[1::2, :, 0] = INPUT_SIZE_PX - points[1::2, :, 0]
        in_frame = np.stack([apply(invert(square), seen) for square, seen in zip(squares, points, strict=True)])
        in_frame = in_frame.reshape(len(meshes), 2, 17, 2)
        return in_frame[:, :, :16], in_frame[:, :, 16]


def eye_refiner(device: torch.device | str = "cpu") -> EyeRefiner:
    """The refiner of the default landmarker. Weights are fetched when they are missing (BadInput when they cannot be had)."""
    return EyeRefiner(device)


def _input_from_frame(corners: FloatArray, is_mirrored: bool) -> Matrix:
    """The square around an eye with its outer and inner corner (2, 2), turned level, onto the network's input."""
    x, y = (corners[0] - corners[1]) if is_mirrored else (corners[1] - corners[0])
    side_px = _MARGIN * max(float(np.hypot(x, y)), 1.0)
    half, centre = INPUT_SIZE_PX / 2, corners.mean(axis=0)
    turn = similarity_from_parameters(float(np.log(INPUT_SIZE_PX / side_px)), -float(np.arctan2(y, x)), half, half)
    return compose(turn, translation(-float(centre[0]), -float(centre[1])))
