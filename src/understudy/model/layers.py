"""The layers that the modern networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CodingEncoder(nn.Module):
    """An encoder with a code in its middle: its first `num_told` numbers are told, the others read from the picture."""

    num_told: int = 0

    def forward(self, faces: Tensor, expressions: Tensor | None = None) -> Tensor:
        """faces (B, 3, H, W), expressions (B, num_told) -> features; without expressions every face has an ordinary one."""
        return self.expand(self.read(faces), expressions)

    def read(self, faces: Tensor) -> Tensor:
        """What of the code is read from the picture."""
        raise NotImplementedError

    def expand(self, code: Tensor, expressions: Tensor | None = None) -> Tensor:
        """What `read` gave, and the expressions (B, num_told) -> features."""
        raise NotImplementedError

    def with_told(self, code: Tensor, expressions: Tensor | None) -> Tensor:
        """The whole code (B, K)."""
        if not self.num_told:
            return code
        told = expressions if expressions is not None else code.new_zeros(len(code), self.num_told)
        return torch.cat([told.to(code.dtype), code], dim=1)


class SmoothDownscale(nn.Module):
    """Halves the size by averaging before the convolution, so that a small shift of the face shifts the features smoothly."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return activate(self.convolution(functional.avg_pool2d(features, 2)))


class Upscale(nn.Module):
    """Doubles the size by a pixel shuffle."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out * 4, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return laid_out(functional.pixel_shuffle(activate(self.convolution(features)), 2))


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return activate(features + 0.5 * self.second(activate(self.first(features))))


def scaled(num_channels: int, width: float) -> int:
    """A layer's channels at that width: a multiple of 8."""
    return max(8, round(num_channels * width / 8) * 8)


def activate(features: Tensor) -> Tensor:
    """The leaky ReLU of every layer."""
    return functional.leaky_relu(features, 0.1)


def laid_out(features: Tensor) -> Tensor:
    """Features (B, C, H, W) as convolutions take them soonest: each pixel's channels side by side on a GPU, and in bfloat16."""
    is_so = features.is_cuda or torch.is_autocast_enabled("cpu")
    return features.contiguous(memory_format=torch.channels_last) if is_so else features


def keep_spread(module: nn.Module) -> None:
    """Start all convolutions and linear layers so that what goes through them keeps its spread.

    By torch's own start each layer shrinks it; after ten of them the picture hardly depends on the face, and the first hundreds
    of steps only make up for that. Source: He et al. 2015, "Delving deep into rectifiers", eq. 10.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_as_resize(convolution: nn.Conv2d, factor: int, gain: float = 1.0) -> None:
    """Start a convolution before a pixel shuffle as a plain enlargement, so that it starts without a checkerboard.

    gain: the spread that comes out for what goes in. Source: Aitken et al. 2017, "Checkerboard artifact free sub-pixel
    convolution" (ICNR).
    """
    with torch.no_grad():
        num_out = convolution.out_channels // factor**2
        kernel = torch.empty(num_out, *convolution.weight.shape[1:])
        nn.init.kaiming_normal_(kernel, a=0.1)
        convolution.weight.copy_(gain * kernel.repeat_interleave(factor**2, dim=0))
        assert convolution.bias is not None
        convolution.bias.zero_()
