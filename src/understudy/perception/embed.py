"""Describes whose face it is in 128 numbers: dlib's recognition network on a crop aligned the way it was trained.

Convention: embeddings are compared by Euclidean distance; under 0.6 is usually the same person (dlib's own threshold).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.similarity import Matrix, fit_similarity
from understudy.imaging.warp import warp_image
from understudy.perception.weights import load_network
from understudy.types import FloatArray, Image

CHIP_SIZE_PX = 150

_MESH_POINTS = (263, 362, 33, 133, 2)
"""Mesh indices of dlib's five points: outer and inner corner of the image-right eye, of the image-left eye, nose base."""
_CHIP_PADDING = 0.25
_CHIP_POINTS = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
"""Where they lie in the unpadded crop (dlib/image_transforms/interpolation.h, get_face_chip_details)."""


class Embedder:
    """Calling it with a frame and landmarks gives the face's embedding; made by `dlib_embedder`."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._network = load_network("face_identity", device)

    def __call__(self, image: Image, landmarks: FloatArray) -> NDArray[np.float32]:
        return self.batch([image], [landmarks])[0]

    @torch.inference_mode()
    def batch(self, images: Sequence[Image], landmarks: Sequence[FloatArray]) -> NDArray[np.float32]:
        """Embeddings (N, 128) of the faces with `landmarks[i]` (468, 2 or 3) in `images[i]`."""
        if not landmarks:
            return np.zeros((0, 128), np.float32)
        chips = [warp_image(i, chip_from_frame(p), (CHIP_SIZE_PX,) * 2) for i, p in zip(images, landmarks, strict=True)]
        batch = torch.from_numpy(np.stack(chips)).to(self.device).permute(0, 3, 1, 2).float()  # B C H W, 0..255
        embeddings: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return embeddings


def dlib_embedder(device: torch.device | str = "cpu") -> Embedder:
    """The default embedder. Weights are fetched when they are missing (BadInput when they cannot be had)."""
    return Embedder(device)


def chip_from_frame(landmarks: FloatArray) -> Matrix:
    """The similarity that takes the frame to the 150 x 150 crop the network wants; landmarks (468, 2 or 3) in frame pixels."""
    chip_points = (_CHIP_POINTS + _CHIP_PADDING) / (1 + 2 * _CHIP_PADDING) * CHIP_SIZE_PX
    return fit_similarity(np.asarray(landmarks, np.float64)[list(_MESH_POINTS), :2], chip_points)
