"""Reads dlib's 128-D face recognition network from its .dat file and runs it as a torch module.

The file holds each layer's numbers as raw float32 behind a header of five packed integers (version 2 and the tensor's four
sizes), from the input to the output. Layers: dlib's examples/dnn_face_recognition_ex.cpp (Boost Software License), after
He et al. 2015, "Deep residual learning for image recognition"; batch normalisation is an affine step, folded in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

NUM_COMPONENTS = 128

_BLOCKS = [*[(32, 32)] * 3, (32, 64), *[(64, 64)] * 3, (64, 128), *[(128, 128)] * 2, (128, 256), *[(256, 256)] * 2, (256, 256)]
"""(channels in, channels out) of the residual blocks in order; the first of each group after the first halves the picture."""
_HALVING = (3, 7, 10, 13)
_MEAN_RGB = (122.782, 117.001, 104.298)
"""dlib's input_rgb_image_sized: subtract this, divide by 256."""


class DlibResNet(nn.Module):
    """`B 3 150 150` float32 RGB, 0..255 -> `B 128`; differentiable, weights are buffers and stay fixed."""

    mean: Tensor
    final: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN_RGB).view(1, 3, 1, 1))
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, picture: Tensor) -> Tensor:
        x = F.relu(self._convolve((picture - self.mean) / 256, 0, stride=2, padding=0))
        x = F.max_pool2d(x, 3, 2)
        for block in range(len(_BLOCKS)):
            x = self._residual(x, block)
        return x.mean(dim=(2, 3)) @ self.final

    def _convolve(self, x: Tensor, number: int, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, self.get_buffer(f"weight_{number}"), self.get_buffer(f"bias_{number}"), stride, padding)

    def _residual(self, x: Tensor, block: int) -> Tensor:
        is_halving = block in _HALVING
        stride, padding = (2, 0) if is_halving else (1, 1)
        y = self._convolve(F.relu(self._convolve(x, 1 + 2 * block, stride, padding)), 2 + 2 * block)
        shortcut = F.avg_pool2d(x, 2, 2) if is_halving else x
        # dlib adds tensors of different sizes by padding the smaller one with zeros at its end.
        channels, height, width = (max(a, b) for a, b in zip(y.shape[1:], shortcut.shape[1:], strict=True))
        return F.relu(_grow(y, channels, height, width) + _grow(shortcut, channels, height, width))


def _grow(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    missing = (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1])
    return F.pad(x, missing) if any(missing) else x


def read_dlib_resnet(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors that `DlibResNet` wants; raises ValueError when the file is not that network."""
    tensors: dict[str, NDArray[Any]] = {}
    shapes = [(32, 3, 7), *[shape for a, b in _BLOCKS for shape in ((b, a, 3), (b, b, 3))]]
    position = 0
    for number, (num_filters, num_inputs, size) in enumerate(shapes):
        values, position = _next_tensor(data, position, (num_filters * num_inputs * size**2 + num_filters, 1, 1, 1))
        kernel, bias = values[:-num_filters].reshape(num_filters, num_inputs, size, size), values[-num_filters:]
        affine, position = _next_tensor(data, position, (2 * num_filters, 1, 1, 1))
        gamma, beta = affine[:num_filters], affine[num_filters:]
        tensors[f"weight_{number}"] = kernel * gamma[:, None, None, None]
        tensors[f"bias_{number}"] = bias * gamma + beta
    final, _ = _next_tensor(data, position, (256, NUM_COMPONENTS, 1, 1))
    return tensors | {"final": final.reshape(256, NUM_COMPONENTS).copy()}


def _next_tensor(data: bytes, start: int, shape: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], int]:
    """The next tensor of exactly this shape behind `start`, and the position after it."""
    header = b"".join(map(_packed, (2, *shape)))
    found = data.find(header, start)
    count = int(np.prod(shape))
    if found < 0 or found + len(header) + 4 * count > len(data):
        raise ValueError(f"expected dlib's face recognition network, found no layer of shape {shape} behind byte {start}")
    return np.frombuffer(data, "<f4", count, found + len(header)), found + len(header) + 4 * count


def _packed(number: int) -> bytes:
    """A non-negative integer as dlib writes it: how many bytes, then those bytes, lowest first."""
    size = max((number.bit_length() + 7) // 8, 1)
    return bytes([size]) + number.to_bytes(size, "little")
