"""A training so small that a test can run it whole, what such a run left behind, and a model that was never trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from understudy.imaging.expression import ExpressionStandard
from understudy.model.colour import ColourStandard
from understudy.model.networks import FaceSwapNetwork
from understudy.model.swapper import Swapper
from understudy.settings import TrainRecipe
from understudy.store.checkpoints import latest_valid

TINY = TrainRecipe(
    resolution_px=32,
    width=0.25,
    code_size=16,
    is_expression_measured=True,
    batch_size=2,
    warmup_steps=5,
    checkpoint_seconds=0.0,
    preview_seconds=1e9,
    keep_checkpoints=2,
    num_exemplars=4,
    exemplar_px=64,
)
# No human skin: a flat oval in its colour looks like bare skin to the content gate.
LIGHT_SKIN, DARK_SKIN = (150, 200, 235), (50, 95, 110)


def weights(model: Path, file: str = "weights") -> dict[str, torch.Tensor]:
    checkpoint = latest_valid(model)
    assert checkpoint is not None
    return load_file(checkpoint.path / f"{file}.safetensors")


def assert_same_weights(one: Path, other: Path, files: tuple[str, ...] = ("weights", "ema", "optimizer")) -> None:
    for file in files:
        first, second = weights(one, file), weights(other, file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), f"{file} differ"


def untrained_swapper(
    network: FaceSwapNetwork,
    recipe: TrainRecipe,
    standards: Mapping[str, ColourStandard],
    expressions: Mapping[str, ExpressionStandard] | None = None,
) -> Swapper:
    """A network put to use as it is, without anything that a training leaves beside it."""
    return Swapper(
        network,
        recipe,
        standards=standards,
        expressions=expressions or {},
        galleries={},
        checkpoint=Path("000001"),
        skin_offsets={},
        exemplars={},
    )
