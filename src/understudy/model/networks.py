"""The networks: one shared encoder and what each performer has of its own; tensors in, tensors out.

Shapes: B batch, C channels, H = W = the recipe's resolution. Pictures are RGB in 0..1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from understudy.imaging.expression import MEASURES
from understudy.model.layers import CodingEncoder, scaled
from understudy.model.networks_2017 import OriginalDecoder, OriginalEncoder, start_as_ours_do
from understudy.model.networks_quick import IdentityCode, Inter, QuickDecoder, QuickEncoder, shape_of
from understudy.settings import TrainRecipe
from understudy.types import BadInput


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
        if isinstance(self.encoder, CodingEncoder) and self.encoder.num_told:
            return self.encoder.read(faces)
        return self.encode(faces)

    def draw(self, codes: Tensor, performer: str, expressions: Tensor | None = None) -> Tensor:
        """What `read` gave -> that performer, (B, 3 or 4, H, W)."""
        if isinstance(self.encoder, CodingEncoder) and self.encoder.num_told:
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
    num_told = num_told if recipe.is_expression_measured else 0
    if recipe.architecture in ("original", "original-mask"):
        return _original_network(recipe, performers, num_told)
    shape = shape_of(recipe)
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


def _original_network(recipe: TrainRecipe, performers: Sequence[str], num_told: int) -> FaceSwapNetwork:
    if recipe.resolution_px % 16:
        raise BadInput(f"expected resolution_px to be a multiple of 16, got {recipe.resolution_px}")
    if recipe.sharing != "separate":
        raise BadInput(
            f"sharing={recipe.sharing} needs architecture=quick, pyramid or deep; the original has separate decoders"
        )
    if num_told and recipe.architecture == "original":
        raise BadInput("is_expression_measured needs another architecture; the original reads all from the picture")
    if scaled(recipe.code_size, recipe.width) <= num_told:
        wanted = f"expected code_size and width to leave more than the {num_told} told numbers"
        raise BadInput(f"{wanted}, got {recipe.code_size} and {recipe.width:g}")
    is_second = recipe.architecture == "original-mask"
    encoder = OriginalEncoder(recipe.resolution_px, recipe.width, num_told, recipe.code_size)
    decoders: dict[str, nn.Module] = {name: OriginalDecoder(recipe.width, num_out=4 if is_second else 3) for name in performers}
    network = FaceSwapNetwork(encoder, decoders)
    if is_second:
        start_as_ours_do(network)
    return network


def begin_from(network: FaceSwapNetwork, tensors: Mapping[str, Tensor]) -> list[str]:
    """Give a network the weights of a trained one where they agree in place and shape; returns the names of these.

    Layers are counted from the inside, so a deep network for larger pictures takes over all that lies inside its new outer
    layers; where the innermost features have another size, what codes them is resampled. Performers that the trained one did
    not know keep their fresh weights.
    """
    own = network.state_dict()
    tensors = _as_if_of_size(network, _as_if_told(network, tensors))
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


def check_freeze(parts: Iterable[str], performers: Sequence[str], recipe: TrainRecipe) -> None:
    """Raises BadInput for a part to freeze that the network of these performers lacks, or that has no weights of its own."""
    for part in parts:
        if part == "encoder":
            continue
        if part not in performers:
            raise BadInput(f"--freeze {part}: expected encoder or a performer who is trained on: {', '.join(performers)}")
        if recipe.sharing != "separate":
            raise BadInput(
                f"--freeze {part}: with sharing={recipe.sharing} one decoder draws all performers; freeze encoder alone"
            )


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


def _as_if_of_size(network: FaceSwapNetwork, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Trained weights as they would be were the innermost features as many pixels wide as those of `network`."""
    own, side, (to_code, _, from_code) = network.state_dict(), getattr(network.encoder, "side", 0), _CODE
    to_code, from_code, bias = (f"encoder.{name}" for name in (to_code, from_code, "from_code.bias"))
    if not all(name in own and name in tensors for name in (to_code, from_code, bias)):
        return tensors
    num_channels = len(own[bias]) // side**2
    former = math.isqrt(len(tensors[bias]) // num_channels)
    has_as_many = any(
        each.ndim == 4 and len(each) == num_channels for name, each in tensors.items() if name.startswith("encoder.")
    )
    if former == side or num_channels * former**2 != len(tensors[bias]) or not has_as_many:
        return tensors

    def resampled(maps: Tensor) -> Tensor:
        """(N, C x former x former) -> (N, C x side x side)."""
        pictures = maps.unflatten(1, (num_channels, former, former))
        return functional.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False).flatten(1)

    return {
        **tensors,
        to_code: resampled(tensors[to_code]) * (former / side) ** 2,  # a sum over so many more or fewer places
        from_code: resampled(tensors[from_code].T).T,
        bias: resampled(tensors[bias][None])[0],
    }


_CODE = ("to_code.weight", "to_code.bias", "from_code.weight")


def _num_layers_down(names: Iterable[str]) -> int:
    return len({name.split(".")[2] for name in names if name.startswith("encoder.down.")})


def num_parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
