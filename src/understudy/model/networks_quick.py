"""Our own networks of any size: `quick`, `deep` and `pyramid`.

Nothing is computed at full size: the picture enters by a space-to-depth and leaves by a pixel shuffle (of 4; in deep of 2),
where a convolution costs a sixteenth or a quarter. No normalisation layer (it shifts skin colour), no skip from encoder to
decoder and no spatial code (both let the plate's identity through).

Shapes: B batch, C channels, H = W = the recipe's resolution. Pictures are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.model.colour import COMMON_MEAN, COMMON_SPREAD
from understudy.model.layers import (
    CodingEncoder,
    Residual,
    SmoothDownscale,
    Upscale,
    activate,
    initialise_as_resize,
    keep_spread,
    laid_out,
    scaled,
)
from understudy.settings import TrainRecipe
from understudy.types import BadInput


@dataclass(frozen=True)
class Shape:
    """How deep and wide a modern network is.

    stem: the factor between the picture and the outermost features. side: pixels of the innermost features. channels,
    encoder_residuals, decoder_residuals: at each size, from the outside in, each half of the one before. finer: channels of the
    sizes beyond, each double the one before, at which the decoder adds detail; the encoder reads the picture so often halved.
    """

    stem: int
    side: int
    channels: tuple[int, ...]
    encoder_residuals: tuple[int, ...]
    decoder_residuals: tuple[int, ...]
    finer: tuple[int, ...] = ()


def shape_of(recipe: TrainRecipe) -> Shape:
    """The shape of the recipe's architecture at its resolution and width."""
    if recipe.architecture == "deep":
        return _deep_shape(recipe)
    return _pyramid_shape(recipe) if recipe.architecture == "pyramid" else _quick_shape(recipe.resolution_px, recipe.width)


def _quick_shape(resolution_px: int, width: float, finer: tuple[int, ...] = ()) -> Shape:
    """Channels at a quarter, an eighth and a sixteenth of the size."""
    if resolution_px % 16:
        raise BadInput(f"expected resolution_px to be a multiple of 16, got {resolution_px}")
    channels = tuple(scaled(num, width) for num in (64, 128, 192))
    return Shape(4, resolution_px // 16, channels, encoder_residuals=(0, 1, 0), decoder_residuals=(1, 1, 0), finer=finer)


PYRAMID_CORE_PX = 96
"""The innermost picture of a pyramid is at least this wide, and less than twice as wide."""

FINER_CHANNELS = (32, 16)
"""Channels of a pyramid's first size beyond its innermost picture's, and of all further ones."""


def _pyramid_shape(recipe: TrainRecipe) -> Shape:
    """The quick network at 96 to 191 px, and a finer size for every doubling beyond."""
    num_finer = max(0, (recipe.resolution_px // PYRAMID_CORE_PX).bit_length() - 1)
    if recipe.resolution_px % (16 << num_finer):
        raise BadInput(f"expected resolution_px to be a multiple of {16 << num_finer}, got {recipe.resolution_px}")
    finer = tuple(scaled(FINER_CHANNELS[min(depth, len(FINER_CHANNELS) - 1)], recipe.width) for depth in range(num_finer))
    return _quick_shape(recipe.resolution_px >> num_finer, recipe.width, finer)


DEEP_CHANNELS = (512, 384, 256, 128, 64, 32)
"""Channels of the deep architecture from the inside out, where each size is double the one before."""

DEEP_INNER_PX = 6
"""The innermost features of the deep architecture are at least this wide, and less than twice as wide."""


def _deep_shape(recipe: TrainRecipe) -> Shape:
    """From half the size down to 6 to 11 px, however large the picture: what lies inside is the same at 128, 256 and 512 px.

    So a larger network can begin with the inner layers of a smaller one (see `begin_from`).
    """
    num_halvings = max(1, (recipe.resolution_px // (2 * DEEP_INNER_PX)).bit_length() - 1)
    if recipe.resolution_px % 2 ** (num_halvings + 1):
        raise BadInput(
            f"expected resolution_px to be a multiple of {2 ** (num_halvings + 1)} near that size, got {recipe.resolution_px}"
        )
    inside_out = [DEEP_CHANNELS[min(depth, len(DEEP_CHANNELS) - 1)] for depth in range(num_halvings + 1)]
    channels = tuple(scaled(num, recipe.width) for num in reversed(inside_out))
    side = recipe.resolution_px // 2 ** (num_halvings + 1)
    # A residual block of the encoder at its two outer sizes would cost as much as all that lie further in.
    encoder_residuals = tuple(int(depth >= 2) for depth in range(num_halvings + 1))
    return Shape(2, side, channels, encoder_residuals, decoder_residuals=(1,) * num_halvings + (0,))


class QuickEncoder(CodingEncoder):
    """(B, 3, H, W) -> (B, C, side, side), through a code of `code_size` numbers that has no place in the picture.

    num_told: how many numbers of the code are not read from the picture: the expression as measured on it. With code_size 0 the
    features come out as they are, for an `Inter` to code them.
    """

    def __init__(self, shape: Shape, code_size: int, num_told: int = 0) -> None:
        super().__init__()
        self.num_told = num_told
        self.stem_factor, self.side, self.shrink = shape.stem, shape.side, 2 ** len(shape.finer)
        outermost, *inner = shape.channels
        self.stem = nn.Conv2d(3 * shape.stem**2, outermost, 3, padding=1)
        layers: list[nn.Module] = [Residual(outermost) for _ in range(shape.encoder_residuals[0])]
        num_before = outermost
        for num_channels, num_residuals in zip(inner, shape.encoder_residuals[1:], strict=True):
            layers += [SmoothDownscale(num_before, num_channels), *(Residual(num_channels) for _ in range(num_residuals))]
            num_before = num_channels
        self.down = nn.Sequential(*layers)
        self.to_code = nn.Linear(num_before * self.side**2, code_size - num_told) if code_size else None
        self.from_code = nn.Linear(code_size, num_before * self.side**2) if code_size else None
        keep_spread(self)

    def read(self, faces: Tensor) -> Tensor:
        """What of the code is read from the picture, (B, code_size - num_told); with code_size 0 the features themselves."""
        small = functional.avg_pool2d(faces, self.shrink) if self.shrink > 1 else faces
        centred = (small - COMMON_MEAN) / COMMON_SPREAD
        features: Tensor = self.down(activate(self.stem(laid_out(functional.pixel_unshuffle(centred, self.stem_factor)))))
        return self.to_code(features.flatten(1)) if self.to_code is not None else features

    def expand(self, code: Tensor, expressions: Tensor | None = None) -> Tensor:
        """What `read` gave, and the expressions (B, num_told) -> features (B, C, side, side)."""
        if self.from_code is None:
            return code
        return laid_out(activate(self.from_code(self.with_told(code, expressions))).unflatten(1, (-1, self.side, self.side)))


class Inter(nn.Module):
    """(B, C, side, side) -> the same, through a code of `code_size` numbers."""

    def __init__(self, shape: Shape, code_size: int) -> None:
        super().__init__()
        self.to_code = nn.Linear(shape.channels[-1] * shape.side**2, code_size)
        self.from_code = nn.Linear(code_size, shape.channels[-1] * shape.side**2)
        keep_spread(self)

    def forward(self, features: Tensor) -> Tensor:
        return activate(self.from_code(self.to_code(features.flatten(1)))).view_as(features)


class QuickDecoder(nn.Module):
    """(B, C, side, side) -> (B, 4, H, W): the picture and its mask, out of one trunk.

    In a pyramid it draws a small picture, and at each finer size adds what that lacks there (after Burt and Adelson 1983, "The
    Laplacian pyramid as a compact image code"); it begins by adding nothing. num_codes: how many times as many channels come
    in. num_channels: those after each enlargement, from the inside out.
    """

    def __init__(self, shape: Shape, num_codes: int = 1) -> None:
        super().__init__()
        self.stem_factor = shape.stem
        innermost, *outer = reversed(shape.channels)
        self.num_channels = tuple(outer)
        layers: list[nn.Module] = []
        num_before = innermost * num_codes
        for num_channels, num_residuals in zip(outer, tuple(reversed(shape.decoder_residuals))[1:], strict=True):
            layers += [Upscale(num_before, num_channels), *(Residual(num_channels) for _ in range(num_residuals))]
            num_before = num_channels
        self.up = nn.Sequential(*layers)
        self.to_picture = nn.Conv2d(num_before, 4 * self.stem_factor**2, 3, padding=1)
        keep_spread(self)
        for layer in self.up:
            if isinstance(layer, Upscale):
                initialise_as_resize(layer.convolution, 2)
        initialise_as_resize(self.to_picture, self.stem_factor, gain=0.3)  # a sigmoid follows: start in its steep part
        self.finer = nn.ModuleList(Finer(*both, self.stem_factor) for both in pairwise((num_before, *shape.finer)))

    def forward(self, features: Tensor, identity: Sequence[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """identity: a scale and a shift (C, 1, 1) for the features after each enlargement."""
        if identity is None:
            features = self.up(features)
        else:
            remaining = iter(identity)
            for layer in self.up:
                features = layer(features)
                if isinstance(layer, Upscale):
                    scale, shift = next(remaining)
                    features = features * scale + shift
        picture = functional.pixel_shuffle(_whole(self.to_picture(features)), self.stem_factor)
        for finer in self.finer:
            features, detail = finer(features)
            larger = functional.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
            picture = larger + functional.pixel_shuffle(_whole(detail), self.stem_factor)
        return torch.sigmoid(picture)


def _whole(drawn: Tensor) -> Tensor:
    """What becomes a picture, in float32: half precision has no more steps between two greys than a screen."""
    return drawn.to(torch.float32, memory_format=torch.contiguous_format)


class Finer(nn.Module):
    """(B, C, h, w) -> (B, num_out, 2h, 2w), and what the picture lacks there, (B, 4 stem^2, 2h, 2w) before its shuffle."""

    def __init__(self, num_in: int, num_out: int, stem: int) -> None:
        super().__init__()
        self.up, self.residual = Upscale(num_in, num_out), Residual(num_out)
        self.to_detail = nn.Conv2d(num_out, 4 * stem**2, 3, padding=1)
        keep_spread(self)
        initialise_as_resize(self.up.convolution, 2)
        nn.init.zeros_(self.to_detail.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        finer: Tensor = self.residual(self.up(features))
        return finer, self.to_detail(finer)


class IdentityCode(nn.Module):
    """A performer as numbers alone: a scale and a shift for each channel of a shared decoder, at every size."""

    def __init__(self, num_channels: Sequence[int]) -> None:
        super().__init__()
        # Not all alike, or the shared decoder would first have to tell the performers apart by rounding errors.
        self.log_scales = nn.ParameterList(0.1 * torch.randn(num) for num in num_channels)
        self.shifts = nn.ParameterList(0.1 * torch.randn(num) for num in num_channels)

    def forward(self) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(self.log_scales, self.shifts, strict=True)
        return [(torch.exp(scale)[:, None, None], shift[:, None, None]) for scale, shift in pairs]
