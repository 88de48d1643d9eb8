"""Finds faces with MTCNN: three small networks, each of which looks more closely at what the one before it proposes.

After Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional networks"; the weights are
those of facenet-pytorch (MIT). Thresholds follow the paper's own release; the code is ours.

Convention: boxes are rows (left, top, right, bottom) in frame pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.imaging.similarity import translation
from understudy.imaging.warp import warp_image
from understudy.perception.weights import load_network
from understudy.types import Box, Detection, FloatArray, Image

SCALE_STEP = 0.709
"""From one picture of the pyramid to the next: the area halves."""

LEAST_SCORES = (0.6, 0.7, 0.7)
"""What the proposals of each network must reach."""

LEAST_FACE_PX, LEAST_FACE_SHARE = 20, 1 / 24
"""The smallest faces looked for: in pixels, and as a share of the frame's shorter side (which sets the speed)."""

MOST_PROPOSALS = 400
"""As many of the first network's proposals are looked at; a frame of leaves or bricks makes thousands."""

_FIRST_CELL_PX, _FIRST_STRIDE_PX = 12, 2


class MtcnnDetector:
    """Calling it with a frame gives its faces, the surest first; made by `mtcnn_detector`."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._networks = [load_network(f"mtcnn_{name}", device) for name in ("proposal", "refinement", "output")]

    @torch.inference_mode()
    def __call__(self, image: Image) -> list[Detection]:
        boxes = self._propose(image)
        if not len(boxes):
            return []
        scores, offsets = self._look(image, boxes, 24, 1)
        boxes, scores = _moved(boxes, offsets)[scores > LEAST_SCORES[1]], scores[scores > LEAST_SCORES[1]]
        boxes = _square(boxes[suppress_overlaps(boxes, scores, 0.7)])
        if not len(boxes):
            return []
        scores, offsets, points = self._look(image, boxes, 48, 2)
        size = (boxes[:, 2:] - boxes[:, :2])[:, :, None]
        places = boxes[:, :2, None] + size * points.reshape(-1, 2, 5)
        is_sure = scores > LEAST_SCORES[2]
        boxes, scores, places = _moved(boxes, offsets)[is_sure], scores[is_sure], places[is_sure]
        kept = suppress_overlaps(boxes, scores, 0.5, of_smaller=True)
        return [_detection(boxes[row], float(scores[row]), places[row].T) for row in kept]

    def _propose(self, image: Image) -> FloatArray:
        """Squares that the first network takes for faces, over a pyramid of pictures."""
        height, width = image.shape[:2]
        scale = _FIRST_CELL_PX / max(LEAST_FACE_PX, LEAST_FACE_SHARE * min(height, width))
        boxes: list[FloatArray] = [np.empty((0, 4))]
        scores: list[FloatArray] = [np.empty(0)]
        while min(height, width) * scale >= _FIRST_CELL_PX:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            score_map, offset_map = (output[0].cpu().numpy() for output in self._networks[0](self._tensor(small[None])))
            rows, columns = np.nonzero(score_map > LEAST_SCORES[0])
            corner = np.column_stack([columns, rows]) * _FIRST_STRIDE_PX
            found = np.column_stack([corner, corner + _FIRST_CELL_PX]) / scale
            moved, sure = _moved(found, offset_map[:, rows, columns].T), score_map[rows, columns]
            kept = suppress_overlaps(found, sure, 0.5)
            boxes.append(moved[kept])
            scores.append(sure[kept])
            scale *= SCALE_STEP
        every, sure = np.concatenate(boxes), np.concatenate(scores)
        return _square(every[suppress_overlaps(every, sure, 0.7)[:MOST_PROPOSALS]])

    def _look(self, image: Image, boxes: FloatArray, size_px: int, network: int) -> list[NDArray[np.float64]]:
        """What a network says of each box of the frame, seen at its size; black beyond the frame."""
        crops = np.stack([_crop(image, box, size_px) for box in boxes])
        return [output.cpu().double().numpy() for output in self._networks[network](self._tensor(crops))]

    def _tensor(self, pictures: NDArray[np.uint8]) -> Tensor:
        return (torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() - 127.5) / 128  # B C H W, -1..1


def mtcnn_detector(device: torch.device | str = "cpu") -> MtcnnDetector:
    """MTCNN: image (H, W, 3) uint8 RGB -> detections, sorted by score. Weights are fetched as for the others.

    Good at small and crowded faces, blind to faces on their side; three to six times as slow as `mediapipe`.
    """
    return MtcnnDetector(device)


def suppress_overlaps(boxes: FloatArray, scores: FloatArray, most_overlap: float, of_smaller: bool = False) -> list[int]:
    """The rows to keep, the surest first: each drops what shares more than `most_overlap` with it.

    The share is of the two boxes' union or, if told, of the smaller one.
    """
    remaining = np.argsort(-np.asarray(scores), kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while len(remaining):
        best, others = remaining[0], remaining[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[others, :2]), np.minimum(boxes[best, 2:], boxes[others, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        whole = np.minimum(areas[best], areas[others]) if of_smaller else areas[best] + areas[others] - shared
        remaining = others[shared <= most_overlap * whole]
    return kept


def _moved(boxes: FloatArray, offsets: FloatArray) -> FloatArray:
    """Boxes whose corners are moved by offsets in shares of their size."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _square(boxes: FloatArray) -> FloatArray:
    """Squares around the same centres, as large as the longer sides."""
    centres, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0) / 2
    return np.column_stack([centres - half, centres + half])


def _crop(image: Image, box: FloatArray, size_px: int) -> Image:
    scale = size_px / max(box[2] - box[0], 1e-6)
    input_from_frame = translation(-box[0] * scale, -box[1] * scale)
    input_from_frame[:, :2] *= scale
    return warp_image(image, input_from_frame, (size_px, size_px), border="black")


def _detection(box: FloatArray, score: float, points: FloatArray) -> Detection:
    """points: (5, 2) eye, eye, nose, mouth corner, mouth corner; the ears are guessed beside the eyes."""
    left_eye, right_eye, nose, *mouth = points
    outward = 0.45 * (right_eye - left_eye)
    keypoints = np.stack([left_eye, right_eye, nose, np.mean(mouth, axis=0), left_eye - outward, right_eye + outward])
    return Detection(Box(*(float(value) for value in box)), score, keypoints)
