"""The networks: one shared encoder and what each performer has of its own; tensors in, tensors out.

Shapes: B batch, C channels, H = W = the recipe's resolution. Pictures are RGB in 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.imaging.expression import MEASURES
from understudy.model.colour import COMMON_MEAN, COMMON_SPREAD
from understudy.model.layers import (
    Residual,
    SmoothDownscale,
    Upscale,
    activate,
    initialise_as_resize,
    keep_spread,
    laid_out,
    scaled,
)
from understudy.model.networks_2017 import OriginalDecoder, OriginalEncoder
from understudy.types import BadInput, TrainRecipe


class FaceSwapNetwork(nn.Module):
    """One encoder that reads anybody's expression, and a decoder per performer that draws that performer making it."""

    def __init__(self, encoder: nn.Module, decoders: dict[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, faces: Tensor, performer: str, expressions: Tensor | None = None) -> Tensor:
        """faces (B, 3, H, W) -> that performer with the same expression: (B, 3 or 4, H, W); a fourth channel is the mask.

        expressions: (B, 9) as measured on the faces (imaging/expression.py), for networks that are told; (B, 8) for those of
        before the gaze was told.
        """
        return self.decode(self.encode(faces, expressions), performer)

    def encode(self, faces: Tensor, expressions: Tensor | None = None) -> Tensor:
        """faces (B, 3, H, W) of anybody, expressions (B, 9) -> features that any performer can be drawn from."""
        features: Tensor = self.encoder(faces) if expressions is None else self.encoder(faces, expressions)
        return features

    def read(self, faces: Tensor) -> Tensor:
        """faces (B, 3, H, W) -> their codes, (B, K), of which a network that is told holds all but the expression."""
        if isinstance(self.encoder, QuickEncoder) and self.encoder.num_told:
            return self.encoder.read(faces)
        return self.encode(faces)

    def draw(self, codes: Tensor, performer: str, expressions: Tensor | None = None) -> Tensor:
        """What `read` gave -> that performer, (B, 3 or 4, H, W)."""
        if isinstance(self.encoder, QuickEncoder) and self.encoder.num_told:
            codes = self.encoder.expand(codes, expressions)
        return self.decode(codes, performer)

    def decode(self, features: Tensor, performer: str) -> Tensor:
        """What `encode` gave -> that performer, (B, 3 or 4, H, W)."""
        drawn: Tensor = self.decoders[performer](features)
        return drawn

    def parts_for(self, performer: str) -> list[nn.Module]:
        """The modules that take part in drawing that performer."""
        return [self.encoder, self.decoders[performer]]


class IdentityCodeNetwork(FaceSwapNetwork):
    """One decoder for all; a performer is a code that scales and shifts its channels at every size.

    `decoders` holds the performers' codes.
    """

    def __init__(self, encoder: nn.Module, decoder: QuickDecoder, performers: Sequence[str]) -> None:
        super().__init__(encoder, {name: IdentityCode(decoder.num_channels) for name in performers})
        self.shared = decoder

    def decode(self, features: Tensor, performer: str) -> Tensor:
        drawn: Tensor = self.shared(features, self.decoders[performer]())
        return drawn

    def parts_for(self, performer: str) -> list[nn.Module]:
        return [self.encoder, self.shared, self.decoders[performer]]


class TwoIntersNetwork(FaceSwapNetwork):
    """One decoder for all, which sees two codes of a face: one read by all performers' reader, one by the performer's own.

    `decoders` holds the performers' own readers. After DeepFaceLab's LIAE (Perov et al. 2020, arXiv 2005.05535), where one of
    two performers has no reader of its own and is drawn from the common one twice; here all have, so that any can be drawn
    from any other and two performers are no special case.
    """

    def __init__(self, encoder: nn.Module, inters: Sequence[Inter], decoder: nn.Module, performers: Sequence[str]) -> None:
        common, *own = inters
        super().__init__(encoder, dict(zip(performers, own, strict=True)))
        self.common, self.shared = common, decoder

    def decode(self, features: Tensor, performer: str) -> Tensor:
        both = torch.cat([self.decoders[performer](features), self.common(features)], dim=1)  # B 2C H/16 W/16
        drawn: Tensor = self.shared(both)
        return drawn

    def parts_for(self, performer: str) -> list[nn.Module]:
        return [self.encoder, self.common, self.shared, self.decoders[performer]]


def build_network(recipe: TrainRecipe, performers: Sequence[str], num_told: int = len(MEASURES)) -> FaceSwapNetwork:
    """A freshly initialised network for `performers`; takes its randomness from torch's global generator.

    num_told: how many numbers of the expression it is told, where the recipe says that it is.
    """
    if recipe.architecture in ("original", "original-mask"):
        return _original_network(recipe, performers)
    shape = _shape(recipe)
    num_told = num_told if recipe.is_expression_measured else 0
    if recipe.code_size <= num_told:
        raise BadInput(f"expected code_size above {num_told}, which the measured expression takes, got {recipe.code_size}")
    if recipe.sharing == "identity-code":
        return IdentityCodeNetwork(QuickEncoder(shape, recipe.code_size, num_told), QuickDecoder(shape), performers)
    if recipe.sharing == "two-inters":
        if num_told:
            raise BadInput("sharing=two-inters codes a face for each performer anew; set is_expression_measured=false too")
        inters = [Inter(shape, recipe.code_size) for _ in ("common", *performers)]
        return TwoIntersNetwork(QuickEncoder(shape, 0), inters, QuickDecoder(shape, num_codes=2), performers)
    encoder = QuickEncoder(shape, recipe.code_size, num_told)
    return FaceSwapNetwork(encoder, {name: QuickDecoder(shape) for name in performers})


def _original_network(recipe: TrainRecipe, performers: Sequence[str]) -> FaceSwapNetwork:
    if recipe.resolution_px % 16:
        raise BadInput(f"expected resolution_px to be a multiple of 16, got {recipe.resolution_px}")
    if recipe.sharing != "separate":
        raise BadInput(f"sharing={recipe.sharing} needs architecture=quick or deep; the original has separate decoders")
    if recipe.is_expression_measured:
        raise BadInput("is_expression_measured needs architecture=quick or deep; the original reads all from the picture")
    num_out = 4 if recipe.architecture == "original-mask" else 3
    encoder = OriginalEncoder(recipe.resolution_px, recipe.width)
    return FaceSwapNetwork(encoder, {name: OriginalDecoder(recipe.width, num_out) for name in performers})


def begin_from(network: FaceSwapNetwork, tensors: Mapping[str, Tensor]) -> list[str]:
    """Give a network the weights of a trained one where layers agree in place and shape; returns their names.

    Layers are counted from the inside, so a deep network for larger pictures takes over all that lies inside its new outer
    layers. Performers that the trained one did not know keep their fresh weights.
    """
    own = network.state_dict()
    tensors = _as_if_told(network, tensors)
    more = _num_layers_down(own) - _num_layers_down(tensors)
    taken = []
    with torch.no_grad():
        for name, tensor in tensors.items():
            here = name
            if match := re.fullmatch(r"encoder\.down\.(\d+)\.(.+)", name):
                here = f"encoder.down.{int(match[1]) + more}.{match[2]}"
            if here in own and own[here].shape == tensor.shape:
                own[here].copy_(tensor)
                taken.append(here)
    return taken


def _as_if_told(network: FaceSwapNetwork, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Trained weights as they would be were they told as many numbers as `network`, where they are told fewer.

    What is told besides changes nothing at first; it takes the place in the code of the first that was read from the picture.
    """
    num_told, own, names = getattr(network.encoder, "num_told", 0), network.state_dict(), [f"encoder.{n}" for n in _CODE]
    if not all(name in own and name in tensors for name in names):
        return tensors
    weight, bias, from_code = (tensors[name] for name in names)
    more = len(bias) - len(own[names[1]])
    if not 0 < more <= num_told or from_code.shape != own[names[2]].shape:
        return tensors
    from_code = from_code.clone()
    from_code[:, num_told - more : num_told] = 0
    return {**tensors, **dict(zip(names, (weight[more:], bias[more:], from_code), strict=True))}


_CODE = ("to_code.weight", "to_code.bias", "from_code.weight")


def _num_layers_down(names: Iterable[str]) -> int:
    return len({name.split(".")[2] for name in names if name.startswith("encoder.down.")})


def num_parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


# ---- quick and deep: modern networks of any size --------------------------------------------------------------------------
# Nothing is computed at full size: the picture enters by a space-to-depth and leaves by a pixel shuffle (of 4 in quick, of 2 in
# deep), where a convolution costs a sixteenth or a quarter. No normalisation layer (it shifts skin colour), no skip from
# encoder to decoder and no spatial code (both let the plate's identity through).


@dataclass(frozen=True)
class Shape:
    """How deep and wide a modern network is.

    stem: the factor between the picture and the outermost features. side: pixels of the innermost features. channels,
    encoder_residuals, decoder_residuals: at each size, from the outside in, each half of the one before.
    """

    stem: int
    side: int
    channels: tuple[int, ...]
    encoder_residuals: tuple[int, ...]
    decoder_residuals: tuple[int, ...]


def _shape(recipe: TrainRecipe) -> Shape:
    """The shape of the recipe's architecture at its resolution and width."""
    return _deep_shape(recipe) if recipe.architecture == "deep" else _quick_shape(recipe)


def _quick_shape(recipe: TrainRecipe) -> Shape:
    """Channels at a quarter, an eighth and a sixteenth of the size."""
    if recipe.resolution_px % 16:
        raise BadInput(f"expected resolution_px to be a multiple of 16, got {recipe.resolution_px}")
    channels = tuple(scaled(num, recipe.width) for num in (64, 128, 192))
    return Shape(4, recipe.resolution_px // 16, channels, encoder_residuals=(0, 1, 0), decoder_residuals=(1, 1, 0))


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


class QuickEncoder(nn.Module):
    """(B, 3, H, W) -> (B, C, side, side), through a code of `code_size` numbers that has no place in the picture.

    num_told: how many numbers of the code are not read from the picture: the expression as measured on it. With code_size 0 the
    features come out as they are, for an `Inter` to code them.
    """

    def __init__(self, shape: Shape, code_size: int, num_told: int = 0) -> None:
        super().__init__()
        self.num_told = num_told
        self.stem_factor, self.side = shape.stem, shape.side
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

    def forward(self, faces: Tensor, expressions: Tensor | None = None) -> Tensor:
        """expressions: (B, num_told); without them every face is taken to have an ordinary one."""
        return self.expand(self.read(faces), expressions)

    def read(self, faces: Tensor) -> Tensor:
        """What of the code is read from the picture, (B, code_size - num_told); with code_size 0 the features themselves."""
        centred = (faces - COMMON_MEAN) / COMMON_SPREAD
        features: Tensor = self.down(activate(self.stem(laid_out(functional.pixel_unshuffle(centred, self.stem_factor)))))
        return self.to_code(features.flatten(1)) if self.to_code is not None else features

    def expand(self, code: Tensor, expressions: Tensor | None = None) -> Tensor:
        """What `read` gave, and the expressions (B, num_told) -> features (B, C, side, side)."""
        if self.from_code is None:
            return code
        if self.num_told:
            told = expressions if expressions is not None else code.new_zeros(len(code), self.num_told)
            code = torch.cat([told.to(code.dtype), code], dim=1)
        return laid_out(activate(self.from_code(code)).unflatten(1, (-1, self.side, self.side)))


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

    num_codes: how many times as many channels come in. num_channels: those after each enlargement, from the inside out.
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
        return torch.sigmoid(functional.pixel_shuffle(self.to_picture(features), self.stem_factor))


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
