"""Where `quick` begins instead of at random: an encoder and a decoder that have learned faces from many rendered performers.

None of them exists, so no real person's face is in these weights (docs/starter.md). Tensors are named as in a network, with
`decoder.` for the decoder that every performer's own begins as; matrices are stored as whole numbers of 8 bits with a factor
for each row, which is as good to begin with and a quarter of the size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from understudy.store.atomic import atomic_write_bytes
from understudy.types import BadInput

FILE = "starter_quick.safetensors"
ROWS = ".rows"
"""Ends the name of a stored matrix's factors."""


def starter_bytes() -> bytes:
    """The file as it comes with the package."""
    return resources.files("understudy.model").joinpath(FILE).read_bytes()


def starter_sha256() -> str:
    """Which starter it is."""
    return hashlib.sha256(starter_bytes()).hexdigest()


def starter_tensors(performers: Sequence[str]) -> dict[str, Tensor]:
    """The starter as the weights of a network of `performers`: they all begin with the same decoder.

    Raises BadInput where the file is missing or damaged.
    """
    try:
        stored = load(starter_bytes())
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"{FILE}, with which training begins, is missing or damaged ({error}); install Understudy again"
        ) from error
    tensors: dict[str, Tensor] = {}
    for name, tensor in unpacked(stored).items():
        part, _, rest = name.partition(".")
        names = [f"decoders.{each}.{rest}" for each in performers] if part == "decoder" else [name]
        tensors |= dict.fromkeys(names, tensor)
    return tensors


def write_starter(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Pack `encoder.` and `decoder.` tensors into a file; notes: how they were made."""
    atomic_write_bytes(path, save(packed(tensors), dict(notes)))


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with a factor a row (float32), everything else as float16."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.half()
            continue
        factors = tensor.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        stored[name] = (tensor / _along_rows(factors, tensor)).round().to(torch.int8)
        stored[name + ROWS] = factors.float()
    return {name: tensor.contiguous() for name, tensor in stored.items()}


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` was given, nearly, in float32."""
    return {
        name: tensor.float() * _along_rows(stored[name + ROWS], tensor) if tensor.dtype is torch.int8 else tensor.float()
        for name, tensor in stored.items()
        if not name.endswith(ROWS)
    }


def _along_rows(factors: Tensor, tensor: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (tensor.ndim - 1))
