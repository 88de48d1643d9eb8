"""The 16-layer network of the Visual Geometry Group, as a frozen judge of likeness: its layers, and its weights as they come.

Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image recognition", configuration D; VGGFace
(Parkhi et al. 2015, "Deep face recognition") has the same layers, trained on faces.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3x3 convolutions between the poolings."""

Training = Literal["pictures", "faces"]

_MEANS = {"pictures": (0.485, 0.456, 0.406), "faces": (129.1863 / 255, 104.7624 / 255, 93.5940 / 255)}
_SPREADS = {"pictures": (0.229, 0.224, 0.225), "faces": (1 / 255,) * 3}


class Vgg16(nn.Module):
    """(B, 3, H, W) RGB in 0..1 -> the features before each of the five poolings; weights are buffers and stay fixed.

    trained_on: `pictures` for weights of torchvision's kind (RGB, scaled to unit spread), `faces` for VGGFace's (channels in
    the order B G R, in levels of 255).
    """

    def __init__(self, tensors: Mapping[str, Tensor], trained_on: Training = "pictures") -> None:
        super().__init__()
        self.trained_on = trained_on
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.register_buffer("mean", torch.tensor(_MEANS[trained_on]).view(3, 1, 1))
        self.register_buffer("spread", torch.tensor(_SPREADS[trained_on]).view(3, 1, 1))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        buffers = dict(self.named_buffers())
        features = (pictures - buffers["mean"]) / buffers["spread"]
        if self.trained_on == "faces":
            features = features.flip(1)
        outputs: list[Tensor] = []
        index = 0
        for block in BLOCKS:
            if outputs:
                features = functional.max_pool2d(features, 2)
            for _ in block:
                features = functional.relu(
                    functional.conv2d(features, buffers[f"kernel_{index}"], buffers[f"bias_{index}"], padding=1)
                )
                index += 1
            outputs.append(features)
        return outputs


def layer_shapes() -> list[tuple[int, int, int, int]]:
    """The shapes of the 13 kernels: (out, in, 3, 3)."""
    channels = [num for block in BLOCKS for num in block]
    return [(after, before, 3, 3) for before, after in zip([3, *channels], channels, strict=False)]


def named_layers(kernels: Sequence[Tensor], biases: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of a `Vgg16`; raises ValueError where they are not its 13 layers."""
    found, wanted = [tuple(each.shape) for each in kernels], layer_shapes()
    if found != wanted or [tuple(each.shape) for each in biases] != [shape[:1] for shape in wanted]:
        raise ValueError(f"expected the 13 convolutions of VGG16 in order, with biases, got kernels of {found}")
    kernel_names = {f"kernel_{n}": each.float() for n, each in enumerate(kernels)}
    return kernel_names | {f"bias_{n}": each.float() for n, each in enumerate(biases)}


def read_pickled_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The layers out of a file of pickled numpy arrays, without unpickling it: its operations are read as data, none is run.

    The blocks of bytes in it are, in order, each convolution's kernel (height, width, in, out) and bias, then LPIPS's weights,
    which are not needed. Raises ValueError where they are not.
    """
    blocks = (arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, bytes) and len(arg) > 8)
    arrays: dict[str, NDArray[Any]] = {}
    for number, (num_out, num_in, height, width) in enumerate(layer_shapes()):
        kernel, bias = (np.frombuffer(next(blocks, b""), "<f4") for _ in range(2))
        if kernel.size != num_out * num_in * height * width or bias.size != num_out:
            raise ValueError(f"expected layer {number} of VGG16, got {kernel.size} and {bias.size} numbers")
        arrays[f"kernel_{number}"] = np.ascontiguousarray(kernel.reshape(height, width, num_in, num_out).transpose(3, 2, 0, 1))
        arrays[f"bias_{number}"] = bias
    return arrays
