"""Finds faces in a frame with MediaPipe's two BlazeFace networks: one for near faces, one for smaller ones.

Decoding follows mediapipe/modules/face_detection (Apache-2.0) and Bazarevsky et al. 2019, "BlazeFace: sub-millisecond neural
face detection on mobile GPUs": anchors, a logistic score, overlapping answers averaged by their score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.similarity import Matrix, apply, compose, invert, scaling, translation
from understudy.imaging.tracking import intersection_over_union
from understudy.imaging.warp import warp_image
from understudy.perception.weights import load_network
from understudy.types import Box, Detection, FloatArray, Image

MAX_OVERLAP = 0.3
"""Answers that share more than this (intersection over union) with a better one are the same face."""


MOST_AT_ONCE = 4
"""Pictures to one run of a network: on a CPU, more do not fit its cache and take longer each."""

WIDE = 1.5
"""Frames whose sides differ by this factor or more lose too much detail when they are squeezed into a square."""


@dataclass(frozen=True)
class _Scale:
    """One network: its input size, its anchors' grids (cells a side, anchors a cell) and the score it must reach."""

    weight: str
    size_px: int
    grids: tuple[tuple[int, int], ...]
    min_score: float


_NEAR = _Scale("face_detector_short", 128, ((16, 2), (8, 6)), min_score=0.5)
_FAR = _Scale("face_detector_full", 192, ((48, 1),), min_score=0.6)


@dataclass(frozen=True)
class _Square:
    """A part of the frame to look at: its centre and side in frame pixels."""

    x: float
    y: float
    side: float

    def input_from_frame(self, size_px: int) -> Matrix:
        half = self.side / 2
        return compose(scaling(size_px / self.side), translation(half - self.x, half - self.y))


class FaceDetector:
    """Calling it with a frame gives its faces, the surest first; made by `mediapipe_detector`."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._networks = {scale.weight: load_network(scale.weight, device) for scale in (_NEAR, _FAR)}

    def __call__(self, image: Image) -> list[Detection]:
        return self.glance([image])[0] or self.search(image)

    def glance(self, images: Sequence[Image]) -> list[list[Detection]]:
        """The faces in each picture that are seen without looking at every part of it: all but the smallest.

        Four times as quick as `search`; of four pictures together, each takes three quarters of the time that one alone takes.
        """
        whole = [[_whole(image)] for image in images]
        parts = [[_whole(image), *_parts_if_wide(image)] for image in images]
        near, far = self._look(images, whole, _NEAR), self._look(images, parts, _FAR)
        return [merge_detections(one + other) for one, other in zip(near, far, strict=True)]

    def search(self, image: Image) -> list[Detection]:
        """The faces that are seen when every part of the picture is looked at for itself."""
        height, width = image.shape[:2]
        tiles = _tiles(width, height, max(min(height, width) / 2, max(height, width) / 8))
        return merge_detections(self._look([image], [tiles], _FAR)[0])

    @torch.inference_mode()
    def _look(self, images: Sequence[Image], squares: Sequence[Sequence[_Square]], scale: _Scale) -> list[list[Detection]]:
        """What one network sees in the squares `squares[i]` of `images[i]`."""
        looks = [
            (image, square.input_from_frame(scale.size_px))
            for image, several in zip(images, squares, strict=True)
            for square in several
        ]
        pictures = np.stack([warp_image(image, m, (scale.size_px, scale.size_px), border="black") for image, m in looks])
        batch = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2)  # B C H W
        outputs = [self._networks[scale.weight](part.float().div_(127.5).sub_(1)) for part in batch.split(MOST_AT_ONCE)]
        shapes, logits = (torch.cat(each).cpu().numpy().astype(np.float64) for each in zip(*outputs, strict=True))
        decoded = (
            _decode(shape, logit[:, 0], scale, invert(input_from_frame))
            for shape, logit, (_, input_from_frame) in zip(shapes, logits, looks, strict=True)
        )
        return [[detection for _ in several for detection in next(decoded)] for several in squares]


def mediapipe_detector(device: torch.device | str = "cpu") -> FaceDetector:
    """The default detector: image (H, W, 3) uint8 RGB -> detections, sorted by score.

    Both networks look at the whole frame; in a wide one, the one for smaller faces also looks at squares of its height. Where
    nothing is found, it looks at squares of half that: faces down to a thirtieth of the frame's height are found so.
    Weights are fetched when they are missing (BadInput when they cannot be had).
    """
    return FaceDetector(device)


def merge_detections(found: Sequence[Detection]) -> list[Detection]:
    """Answers for the same face averaged by their scores, sorted by the best score among them."""
    remaining = sorted(found, key=lambda detection: detection.score, reverse=True)
    merged: list[Detection] = []
    while remaining:
        best = _corners(remaining[0])
        overlaps = [intersection_over_union(best, _corners(detection)) for detection in remaining]
        same = [d for d, overlap in zip(remaining, overlaps, strict=True) if overlap > MAX_OVERLAP]
        remaining = [d for d, overlap in zip(remaining, overlaps, strict=True) if overlap <= MAX_OVERLAP]
        share = np.array([d.score for d in same]) / sum(d.score for d in same)
        box = share @ np.stack([_corners(d) for d in same])
        keypoints = np.einsum("n,nkc->kc", share, np.stack([d.keypoints for d in same]))
        merged.append(Detection(Box(*box.tolist()), same[0].score, keypoints))
    return merged


def _corners(detection: Detection) -> NDArray[np.float64]:
    box = detection.box
    return np.array([box.left, box.top, box.right, box.bottom])


def _whole(image: Image) -> _Square:
    height, width = image.shape[:2]
    return _Square(width / 2, height / 2, max(width, height))


def _parts_if_wide(image: Image) -> list[_Square]:
    """Squares of the shorter side, where the longer is so much longer that too little would be left of the detail."""
    height, width = image.shape[:2]
    shorter, longer = sorted((width, height))
    return _tiles(width, height, max(shorter, longer / 4)) if longer >= WIDE * shorter else []


def _tiles(width: int, height: int, side: float) -> list[_Square]:
    """Squares that cover the frame, neighbours overlapping by a fifth or more."""
    return [_Square(x, y, side) for y in _tile_centres(height, side) for x in _tile_centres(width, side)]


def _tile_centres(length: int, side: float) -> list[float]:
    if length <= side:
        return [length / 2]
    num_steps = int(np.ceil((length - side) / (0.8 * side) - 1e-6))
    return [float(centre) for centre in np.linspace(side / 2, length - side / 2, num_steps + 1)]


@cache
def _anchors(scale: _Scale) -> NDArray[np.float64]:
    """Centres (N, 2) in 0..1 of the anchors, in the order of the network's rows: by grid, row, column, anchor."""
    grids = []
    for cells, num_anchors in scale.grids:
        centre = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centre, centre, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), num_anchors, axis=0))
    return np.concatenate(grids)


def _decode(shapes: FloatArray, logits: FloatArray, scale: _Scale, frame_from_input: Matrix) -> list[Detection]:
    """Rows (N, 16) of centre, size and six points relative to their anchor, in input pixels, as detections in the frame."""
    scores = 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
    rows = np.flatnonzero((scores >= scale.min_score) & (shapes[:, 2:4].min(axis=1) > 0))
    found = []
    for row, anchor in zip(rows, _anchors(scale)[rows] * scale.size_px, strict=True):
        centre, size = shapes[row, :2] + anchor, shapes[row, 2:4]
        left_top, right_bottom = apply(frame_from_input, np.stack([centre - size / 2, centre + size / 2]))
        keypoints = apply(frame_from_input, shapes[row, 4:].reshape(6, 2) + anchor)
        found.append(Detection(Box(*left_top.tolist(), *right_bottom.tolist()), float(scores[row]), keypoints))
    return found
