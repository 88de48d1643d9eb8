"""The 2017 network rewired: what the article says of its parts can be tried by leaving one out or putting another in its place.

Only experiments need these; what a user would train with is in understudy/model. Shapes: B batch, C channels, H = W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.model.layers import keep_spread, scaled
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.model.networks_2017 import OriginalDecoder, OriginalDownscale, OriginalUpscale, _initialise_as_keras_did
from understudy.settings import TrainRecipe

Enlarging = Literal["shuffle", "transposed", "resize"]


@dataclass(frozen=True)
class Wiring:
    """How the network differs from that of 2017; as it stands here it does not.

    code: what lies between encoder and decoder: two linear layers (`dense`), the map of features as it is (`spatial`), the same
    with its places shuffled by one fixed permutation (`permuted`), or convolutions down to one place and up again
    (`convolved`). code_halvings: how often the picture is halved before it,
    4 or 3. code_channels: squeeze it to so many channels; 0: not at all.
    enlarge: how a layer doubles the size: convolution and pixel shuffle, a 3x3 transposed convolution of stride 2, or the
    nearest neighbour and a 3x3 convolution. encoders: one for all performers, or one for each.
    """

    code: Literal["dense", "spatial", "permuted", "convolved"] = "dense"
    code_halvings: int = 4
    code_channels: int = 0
    enlarge: Enlarging = "shuffle"
    encoders: Literal["shared", "separate"] = "shared"


def build(recipe: TrainRecipe, performers: Sequence[str], wiring: Wiring, is_spread_kept: bool = False) -> FaceSwapNetwork:
    """A freshly initialised network from torch's global generator; with the default wiring, that of the recipe to the bit.

    is_spread_kept: start as our own networks do, which learn in a tenth of the steps (docs/log.md), not as Keras did.
    """
    network = _network(recipe, performers, wiring)
    if is_spread_kept and recipe.architecture.startswith("original"):
        keep_spread(network)
        for decoder in network.decoders.values():
            own = decoder.decoder if isinstance(decoder, OneCodeOf) else decoder
            assert isinstance(own, OriginalDecoder)
            with torch.no_grad():
                own.to_picture.weight.mul_(0.3)  # a sigmoid follows: start in its steep part
    return network


def _network(recipe: TrainRecipe, performers: Sequence[str], wiring: Wiring) -> FaceSwapNetwork:
    if wiring == Wiring():
        return build_network(recipe, performers)
    num_out = 4 if recipe.architecture == "original-mask" else 3
    several = len(performers) if wiring.encoders == "separate" else 1
    encoders = [RewiredEncoder(recipe, wiring) for _ in range(several)]
    decoders: list[nn.Module] = [_decoder(recipe, wiring, num_out) for _ in performers]
    if several == 1:
        return FaceSwapNetwork(encoders[0], dict(zip(performers, decoders, strict=True)))
    parts: dict[str, nn.Module] = {
        name: OneCodeOf(decoder, index, several) for index, (name, decoder) in enumerate(zip(performers, decoders, strict=True))
    }
    return FaceSwapNetwork(AllEncoders(encoders), parts)


class RewiredEncoder(nn.Module):
    """(B, 3, H, W) -> (B, 512 x width, H/8, W/8), like the encoder of 2017."""

    def __init__(self, recipe: TrainRecipe, wiring: Wiring) -> None:
        super().__init__()
        is_deep = wiring.code_halvings == 4
        channels = [3, *(scaled(num, recipe.width) for num in (128, 256, 512, 1024)[: wiring.code_halvings])]
        side = recipe.resolution_px >> wiring.code_halvings
        layers = [OriginalDownscale(before, after) for before, after in pairwise(channels)]
        self.convolutions = nn.Sequential(*layers)
        self.code = _code(channels[-1], side, wiring, code_size=scaled(recipe.code_size, recipe.width))
        num_out = scaled(512, recipe.width)
        self.upscale = _enlarger(wiring.enlarge, channels[-1], num_out) if is_deep else nn.Identity()
        _initialise_as_keras_did(self)

    def forward(self, faces: Tensor) -> Tensor:
        features: Tensor = self.upscale(self.code(self.convolutions(faces)))
        return features


def _code(num_channels: int, side: int, wiring: Wiring, code_size: int) -> nn.Module:
    """What lies in the middle, (B, C, side, side) -> the same shape."""
    if wiring.code == "dense":
        return DenseCode(num_channels * side**2, code_size)
    if wiring.code == "convolved":
        return ConvolvedCode(num_channels, side)
    layers: list[nn.Module] = []
    if wiring.code_channels:
        layers.append(nn.Conv2d(num_channels, wiring.code_channels, 1))
    if wiring.code == "permuted":
        layers.append(Permutation(side**2))
    if wiring.code_channels:
        layers.append(nn.Conv2d(wiring.code_channels, num_channels, 1))
    return nn.Sequential(*layers)


class DenseCode(nn.Module):
    """The two linear layers of 2017."""

    def __init__(self, num_values: int, code_size: int) -> None:
        super().__init__()
        self.to_code, self.from_code = nn.Linear(num_values, code_size), nn.Linear(code_size, num_values)

    def forward(self, features: Tensor) -> Tensor:
        rebuilt: Tensor = self.from_code(self.to_code(features.flatten(1)))
        return rebuilt.view_as(features)


class ConvolvedCode(nn.Module):
    """Convolutions of stride 2 down to a single place, and pixel shuffles up again: no linear layer, and no place left."""

    def __init__(self, num_channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        num_down, num_up = side.bit_length() - 1, (side - 1).bit_length()
        self.down = nn.Sequential(*(OriginalDownscale(num_channels, num_channels) for _ in range(num_down)))
        self.up = nn.Sequential(*(OriginalUpscale(num_channels, num_channels) for _ in range(num_up)))

    def forward(self, features: Tensor) -> Tensor:
        rebuilt: Tensor = self.up(self.down(features))
        return rebuilt[:, :, : self.side, : self.side]


class Permutation(nn.Module):
    """(B, C, side, side) with its places shuffled, always in the same way, for all channels alike; learns nothing."""

    order: Tensor

    def __init__(self, num_places: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(num_places, generator=torch.Generator().manual_seed(0)))

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2)[:, :, self.order].view_as(features)


# ---- enlarging ------------------------------------------------------------------------------------------------------------


def _enlarger(kind: Enlarging, num_in: int, num_out: int) -> nn.Module:
    if kind == "shuffle":
        return OriginalUpscale(num_in, num_out)
    return TransposedUpscale(num_in, num_out) if kind == "transposed" else ResizedUpscale(num_in, num_out)


class TransposedUpscale(nn.Module):
    """3x3 transposed convolution of stride 2, then a leaky ReLU; a quarter of the pixel shuffle's weights and work."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(num_in, num_out, 3, stride=2, padding=1, output_padding=1)
        # Each pixel that comes out has seen a quarter of the nine places; fewer numbers add up than in a convolution.
        nn.init.normal_(self.convolution.weight, std=(2 / (1.01 * num_in * 9 / 4)) ** 0.5)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        return functional.leaky_relu(self.convolution(features), 0.1)


class ResizedUpscale(nn.Module):
    """Each pixel four times, a 3x3 convolution and a leaky ReLU; the shuffle's work with a quarter of its weights."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return functional.leaky_relu(self.convolution(functional.interpolate(features, scale_factor=2.0)), 0.1)


def _decoder(recipe: TrainRecipe, wiring: Wiring, num_out: int) -> nn.Module:
    decoder = OriginalDecoder(recipe.width, num_out)
    if wiring.enlarge != "shuffle":
        channels = [scaled(num, recipe.width) for num in (512, 256, 128, 64)]
        layers = [_enlarger(wiring.enlarge, before, after) for before, after in pairwise(channels)]
        decoder.upscales = nn.Sequential(*layers)
        _initialise_as_keras_did(decoder)
    return decoder


# ---- an encoder for each ----------------------------------------------------------------------------------------------------


class AllEncoders(nn.Module):
    """Every performer's encoder side by side: (B, 3, H, W) -> (B, N x C, H/8, W/8)."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, faces: Tensor) -> Tensor:
        return torch.cat([encoder(faces) for encoder in self.encoders], dim=1)


class OneCodeOf(nn.Module):
    """A decoder that reads what its own performer's encoder says; the other encoders get no gradient from it."""

    def __init__(self, decoder: nn.Module, index: int, num: int) -> None:
        super().__init__()
        self.decoder, self.index, self.num = decoder, index, num

    def forward(self, features: Tensor) -> Tensor:
        drawn: Tensor = self.decoder(features.chunk(self.num, dim=1)[self.index])
        return drawn
