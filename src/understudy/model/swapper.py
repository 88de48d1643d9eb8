"""A trained model put to use: numpy faces in, numpy faces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.framing import framing
from understudy.model.colour import ColourStandard
from understudy.model.identity import KIND, IdentitySwapper, read_identity_model
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.store.checkpoints import best_valid, load_tensors
from understudy.types import BadInput, FloatArray, Framing, Json, TrainRecipe

GALLERIES_FILE = "galleries.safetensors"


class Swapper:
    """Draws performers with the expressions of others.

    performers: whom the model knows. resolution_px, framing: what crops it takes. galleries: by performer, (N, 128) identity
    embeddings of faces it was trained on. checkpoint: the folder of the weights in use.
    """

    def __init__(
        self,
        network: FaceSwapNetwork,
        recipe: TrainRecipe,
        standards: Mapping[str, ColourStandard],
        galleries: Mapping[str, FloatArray],
        checkpoint: Path,
        skin_offsets: Mapping[str, Mapping[str, Sequence[float]]],
    ) -> None:
        self._network, self._standards, self._skin_offsets = network, standards, skin_offsets
        self.recipe, self.galleries, self.checkpoint = recipe, galleries, checkpoint
        self.performers: tuple[str, ...] = tuple(standards)
        self.resolution_px: int = recipe.resolution_px
        self.framing: Framing = framing(recipe.framing)

    def swap(
        self, crops: NDArray[np.uint8] | NDArray[np.float32], from_performer: str, to_performer: str
    ) -> NDArray[np.float32]:
        """Faces of one performer, drawn as another.

        crops: (N, R, R, 3) RGB in this model's framing, uint8 or (of deeper footage) float32 0..1. Returns (N, R, R, 4) in
        0..1: RGB, not multiplied by the mask, and the mask (all ones where the model has learned none). Raises BadInput for a
        performer the model does not know.
        """
        for performer in (from_performer, to_performer):
            if performer not in self.performers:
                raise BadInput(f"the model knows {', '.join(self.performers)}, not {performer!r}")
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            faces = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
            faces = faces / 255 if crops.dtype == np.uint8 else faces
            drawn = self._network(self._standards[from_performer].apply(faces), to_performer)
            if offset := self._skin_offsets.get(from_performer, {}).get(to_performer):
                shifted = drawn[:, :3] + torch.tensor(offset, device=device)[:, None, None]
                drawn = torch.cat([shifted.clamp(0, 1), drawn[:, 3:]], dim=1)
            if drawn.shape[1] == 3:
                drawn = torch.cat([drawn, torch.ones_like(drawn[:, :1])], dim=1)
            return np.ascontiguousarray(drawn.permute(0, 2, 3, 1).cpu().numpy())


def load_swapper(model: Path, weights: Literal["ema", "raw"] = "ema", device: str | None = None) -> Swapper | IdentitySwapper:
    """The best checkpoint of a model folder, ready to swap. Raises BadInput where there is none or it is damaged."""
    checkpoint = best_valid(model) if model.is_dir() else None
    if checkpoint is None:
        raise BadInput(f"{model} has no checkpoint; train a model there first (understudy train FACES FACES --out {model})")
    if checkpoint.state.get("kind") == KIND:
        return read_identity_model(checkpoint, read_galleries(model))
    recipe = recipe_from_json(cast(Json, checkpoint.state["recipe"]))
    standards = standards_from_json(cast(Json, checkpoint.state["colour"]))
    file = "ema" if weights == "ema" and recipe.ema_decay else "weights"
    device = device or best_device()
    network = build_network(recipe, list(standards))
    network.load_state_dict(load_tensors(checkpoint, file))
    offsets = cast(Mapping[str, Mapping[str, Sequence[float]]], checkpoint.state.get("skin_offsets", {}))
    return Swapper(network.to(device).eval(), recipe, standards, read_galleries(model), checkpoint.path, offsets)


def best_device() -> str:
    """The device that networks run on: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def recipe_from_json(values: Json) -> TrainRecipe:
    """The recipe that a checkpoint was trained with. Raises BadInput naming fields that this version does not know."""
    known = {field.name for field in fields(TrainRecipe)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadInput(f"the checkpoint's recipe has settings that this version does not know ({', '.join(unknown)}); update")
    return TrainRecipe(**cast(dict[str, Any], values))


def recipe_as_json(recipe: TrainRecipe) -> Json:
    """The recipe as it stands in a checkpoint."""
    return dict(asdict(recipe))


def standards_from_json(values: Json) -> dict[str, ColourStandard]:
    """The performers' colour standards as they stand in a checkpoint."""
    return {name: ColourStandard.from_json(cast(Mapping[str, Sequence[float]], each)) for name, each in values.items()}


def read_galleries(model: Path) -> dict[str, FloatArray]:
    """The performers' identity embeddings that lie beside the checkpoints."""
    from safetensors.numpy import load_file

    path = model / GALLERIES_FILE
    if not path.is_file():
        raise BadInput(f"{model} lacks {GALLERIES_FILE}, which says who its performers are; train again with the same command")
    return dict(load_file(path))
