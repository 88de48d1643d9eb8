"""The networks: one shared encoder and one decoder per performer; tensors in, tensors out.

Shapes: B batch, C channels, H = W = the recipe's resolution. Pictures are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.types import BadInput, TrainRecipe


class FaceSwapNetwork(nn.Module):
    """One encoder that reads anybody's expression, and a decoder per performer that draws that performer making it."""

    def __init__(self, encoder: nn.Module, decoders: dict[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, faces: Tensor, performer: str) -> Tensor:
        """faces (B, 3, H, W) -> that performer with the same expression: (B, 3 or 4, H, W); a fourth channel is the mask."""
        drawn: Tensor = self.decoders[performer](self.encoder(faces))
        return drawn


def build_network(recipe: TrainRecipe, performers: Sequence[str]) -> FaceSwapNetwork:
    """A freshly initialised network for `performers`; takes its randomness from torch's global generator."""
    if recipe.architecture == "original":
        if recipe.resolution_px != 64 or recipe.width != 1.0:
            raise BadInput("the original architecture has resolution_px=64 and width=1; use architecture=quick for other sizes")
        return FaceSwapNetwork(OriginalEncoder(), {name: OriginalDecoder() for name in performers})
    if recipe.resolution_px % 16:
        raise BadInput(f"expected resolution_px to be a multiple of 16, got {recipe.resolution_px}")
    encoder = QuickEncoder(recipe.resolution_px, recipe.width, recipe.code_size)
    return FaceSwapNetwork(encoder, {name: QuickDecoder(recipe.width) for name in performers})


def num_parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


# ---- the original of 2017 -------------------------------------------------------------------------------------------------
# Layer for layer github.com/deepfakes/faceswap at commit 22f22d9b (2017-12-15); see docs/architecture.md for the table.


class OriginalEncoder(nn.Module):
    """(B, 3, 64, 64) -> (B, 512, 8, 8): four strided convolutions, two linear layers, one upscale. 69,662,976 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            OriginalDownscale(3, 128), OriginalDownscale(128, 256), OriginalDownscale(256, 512), OriginalDownscale(512, 1024)
        )
        self.to_code = nn.Linear(1024 * 4 * 4, 1024)
        self.from_code = nn.Linear(1024, 1024 * 4 * 4)
        self.upscale = OriginalUpscale(1024, 512)
        _initialise_as_keras_did(self)

    def forward(self, faces: Tensor) -> Tensor:
        code = self.to_code(self.convolutions(faces).flatten(1))  # B 16384 -> B 1024
        upscaled: Tensor = self.upscale(self.from_code(code).view(-1, 1024, 4, 4))
        return upscaled


class OriginalDecoder(nn.Module):
    """(B, 512, 8, 8) -> (B, 3, 64, 64): three upscales and a convolution. 6,199,747 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.upscales = nn.Sequential(OriginalUpscale(512, 256), OriginalUpscale(256, 128), OriginalUpscale(128, 64))
        self.to_picture = nn.Conv2d(64, 3, 5, padding=2)
        _initialise_as_keras_did(self)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.to_picture(self.upscales(features)))


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


def _initialise_as_keras_did(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# ---- quick: a small modern network ----------------------------------------------------------------------------------------
# Nothing is computed at full size: the picture enters by a space-to-depth of 4 and leaves by a pixel shuffle of 4, where
# a convolution costs a sixteenth. No normalisation layer (it shifts skin colour), no skip from encoder to decoder and no
# spatial code (both let the plate's identity through).

STEM = 4


class QuickEncoder(nn.Module):
    """(B, 3, H, W) -> (B, 192 width, H/16, W/16), through a code of `code_size` numbers that has no place in the picture."""

    def __init__(self, resolution_px: int, width: float, code_size: int) -> None:
        super().__init__()
        small, middle, large = _channels(width)
        self.num_channels, self.side = large, resolution_px // 16
        self.stem = nn.Conv2d(3 * STEM**2, small, 3, padding=1)
        self.down = nn.Sequential(SmoothDownscale(small, middle), Residual(middle), SmoothDownscale(middle, large))
        self.to_code = nn.Linear(large * self.side**2, code_size)
        self.from_code = nn.Linear(code_size, large * self.side**2)

    def forward(self, faces: Tensor) -> Tensor:
        features = _activate(self.stem(functional.pixel_unshuffle(faces - 0.5, STEM)))
        code = self.to_code(self.down(features).flatten(1))
        return _activate(self.from_code(code)).view(-1, self.num_channels, self.side, self.side)


class QuickDecoder(nn.Module):
    """(B, 192 width, H/16, W/16) -> (B, 4, H, W): the picture and its mask, out of one trunk."""

    def __init__(self, width: float) -> None:
        super().__init__()
        small, middle, large = _channels(width)
        self.up = nn.Sequential(Upscale(large, middle), Residual(middle), Upscale(middle, small), Residual(small))
        self.to_picture = nn.Conv2d(small, 4 * STEM**2, 3, padding=1)
        _initialise_as_resize(self.to_picture, STEM)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(functional.pixel_shuffle(self.to_picture(self.up(features)), STEM))


class SmoothDownscale(nn.Module):
    """Halves the size by averaging before the convolution, so that a small shift of the face shifts the features smoothly."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return _activate(self.convolution(functional.avg_pool2d(features, 2)))


class Upscale(nn.Module):
    """Doubles the size by a pixel shuffle."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out * 4, 3, padding=1)
        _initialise_as_resize(self.convolution, 2)

    def forward(self, features: Tensor) -> Tensor:
        return functional.pixel_shuffle(_activate(self.convolution(features)), 2)


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return _activate(features + 0.5 * self.second(_activate(self.first(features))))


def _channels(width: float) -> tuple[int, int, int]:
    """Channels at a quarter, an eighth and a sixteenth of the size."""
    small, middle, large = (max(8, round(base * width / 8) * 8) for base in (64, 128, 192))
    return small, middle, large


def _activate(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, 0.1)


def _initialise_as_resize(convolution: nn.Conv2d, factor: int) -> None:
    """Start a convolution before a pixel shuffle as a plain enlargement, so that it starts without a checkerboard.

    Source: Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution" (ICNR).
    """
    with torch.no_grad():
        num_out = convolution.out_channels // factor**2
        kernel = torch.empty(num_out, *convolution.weight.shape[1:])
        nn.init.kaiming_normal_(kernel, a=0.1)
        convolution.weight.copy_(kernel.repeat_interleave(factor**2, dim=0))
        assert convolution.bias is not None
        convolution.bias.zero_()
