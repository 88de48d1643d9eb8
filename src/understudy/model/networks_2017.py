"""The network of 2017, layer for layer.

Source: github.com/deepfakes/faceswap at commit 22f22d9b (2017-12-15); see docs/architecture.md for the table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.model.layers import CodingEncoder, keep_spread, scaled


class OriginalEncoder(CodingEncoder):
    """(B, 3, 64, 64) -> (B, 512, 8, 8): four strided convolutions, two linear layers, one upscale. 69,662,976 parameters.

    width scales every layer, the code too, and other resolutions change the side of the map between the layers; 1, 1024 and 64
    are those of 2017, which was told nothing: num_told is of the second system alone, and leaves the code as large as it is.
    """

    def __init__(self, resolution_px: int = 64, width: float = 1.0, num_told: int = 0, code_size: int = 1024) -> None:
        super().__init__()
        self.num_told = num_told
        a, b, c, d, num_codes = (scaled(num, width) for num in (128, 256, 512, 1024, code_size))
        self.num_channels, self.side = d, resolution_px // 16
        self.convolutions = nn.Sequential(
            OriginalDownscale(3, a), OriginalDownscale(a, b), OriginalDownscale(b, c), OriginalDownscale(c, d)
        )
        self.to_code = nn.Linear(d * self.side**2, num_codes - num_told)
        self.from_code = nn.Linear(num_codes, d * self.side**2)
        self.upscale = OriginalUpscale(d, c)
        _initialise_as_keras_did(self)

    def read(self, faces: Tensor) -> Tensor:
        code: Tensor = self.to_code(self.convolutions(faces).flatten(1))  # B 16384 -> B 1024
        return code

    def expand(self, code: Tensor, expressions: Tensor | None = None) -> Tensor:
        features = self.from_code(self.with_told(code, expressions))
        upscaled: Tensor = self.upscale(features.view(-1, self.num_channels, self.side, self.side))
        return upscaled


class OriginalDecoder(nn.Module):
    """(B, 512, 8, 8) -> (B, 3, 64, 64): three upscales and a convolution. 6,199,747 parameters; with a mask 1,601 more."""

    def __init__(self, width: float = 1.0, num_out: int = 3) -> None:
        super().__init__()
        a, b, c, d = (scaled(num, width) for num in (512, 256, 128, 64))
        self.upscales = nn.Sequential(OriginalUpscale(a, b), OriginalUpscale(b, c), OriginalUpscale(c, d))
        self.to_picture = nn.Conv2d(d, num_out, 5, padding=2)
        _initialise_as_keras_did(self)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.to_picture(self.upscales(features)).float())


class OriginalDownscale(nn.Module):
    """5x5 convolution of stride 2, then a leaky ReLU."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out, 5, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        # Keras's "same" padding at stride 2 on an even size is one before, two after; torch's padding=2 would shift by a pixel.
        return functional.leaky_relu(self.convolution(functional.pad(features, (1, 2, 1, 2))), 0.1)


class OriginalUpscale(nn.Module):
    """3x3 convolution to four times the channels, a leaky ReLU, and only then the pixel shuffle to twice the size."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out * 4, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return depth_to_space(functional.leaky_relu(self.convolution(features), 0.1))


def depth_to_space(features: Tensor) -> Tensor:
    """(B, 4C, H, W) -> (B, C, 2H, 2W) in TensorFlow's channel order: the place within the 2x2 block is the major index.

    torch.nn.PixelShuffle has it minor. Either trains the same from scratch; weights of one are noise in the other.
    """
    batch, channels, height, width = features.shape
    blocks = features.view(batch, 2, 2, channels // 4, height, width)  # B dy dx C H W
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // 4, height * 2, width * 2)


def start_as_ours_do(network: nn.Module) -> None:
    """Start the second system's layers so that what goes through them keeps its spread, not as Keras did.

    By Keras's start what two faces differ by comes out of nine layers a hundred times smaller, and the first faces only make up
    for that (docs/log.md). faceswap-GAN began by He's rule too.
    """
    keep_spread(network)
    for layer in network.modules():
        if isinstance(layer, OriginalDecoder):
            with torch.no_grad():
                layer.to_picture.weight.mul_(0.3)  # a sigmoid follows: start in its steep part


def _initialise_as_keras_did(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
