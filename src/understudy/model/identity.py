"""A model that returns its input: every loss along the way from plate to swap shows as a difference, and nothing else does.

For tests and for measuring round trips. `write_identity_model` makes a real model folder, so that all of `convert` runs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.exemplars import Exemplars
from understudy.imaging.expression import Drive
from understudy.imaging.framing import framing
from understudy.model.colour import UNCHANGED
from understudy.model.folder import GALLERIES_FILE, PEOPLE_FILES, recipe_as_json
from understudy.settings import TrainRecipe
from understudy.store.atomic import make_folder
from understudy.store.checkpoints import Checkpoint, save_checkpoint
from understudy.types import BadInput, FloatArray, Framing, Json

KIND = "identity"
"""What `kind` says in the state of such a checkpoint."""


class IdentitySwapper:
    """Gives back the faces that it is given, fully opaque, at the depth at which they come.

    The same members as `model.swapper.Swapper`. alpha: what its mask says everywhere.
    """

    def __init__(
        self,
        galleries: Mapping[str, FloatArray],
        *,
        resolution_px: int = 256,
        framing_name: str = "full",
        checkpoint: Path = Path(),
        alpha: float = 1.0,
    ) -> None:
        self.galleries, self.resolution_px, self.checkpoint, self.alpha = galleries, resolution_px, checkpoint, alpha
        self.performers: tuple[str, ...] = tuple(galleries)
        self.framing: Framing = framing(framing_name)
        self.skins: Mapping[str, FloatArray] = {}
        self.exemplars: Mapping[str, Exemplars] = {}
        self.reads_expressions = True
        self.recipe = TrainRecipe(name=KIND, resolution_px=resolution_px, num_exemplars=0)

    def read(
        self,
        crops: NDArray[np.uint8] | NDArray[np.float32],
        performer: str,
        faces: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The crops, as what `Swapper.read` gives: nothing else is known of them."""
        return _in_unit(crops)

    def swap(
        self,
        crops: NDArray[np.uint8] | NDArray[np.float32],
        from_performer: str,
        to_performer: str,
        drive: Drive | None = None,
        codes: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Crops (N, R, R, 3), uint8 or float32 0..1, as (N, R, R, 4) float32 in 0..1."""
        opaque = np.full((*crops.shape[:3], 1), self.alpha, np.float32)
        return np.concatenate([_in_unit(crops), opaque], axis=3)


def _in_unit(crops: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    return crops.astype(np.float32) / np.float32(255) if crops.dtype == np.uint8 else np.asarray(crops, np.float32)


def write_identity_model(folder: Path, galleries: Mapping[str, FloatArray], resolution_px: int = 256) -> Path:
    """A model folder for `understudy convert` whose faces are the plate's own. galleries: (N, 128) embeddings by performer.

    Consent is asked for as with any model. Returns the folder.
    """
    from safetensors.numpy import save_file

    state: Json = {
        "kind": KIND,
        "recipe": recipe_as_json(TrainRecipe(name=KIND, resolution_px=resolution_px)),
        "colour": {name: UNCHANGED.as_json() for name in galleries},
    }
    make_folder(folder)
    save_file({name: np.asarray(rows, np.float32) for name, rows in galleries.items()}, folder / GALLERIES_FILE)
    save_checkpoint(folder, 1, {}, state, beside=PEOPLE_FILES)
    return folder


def read_identity_model(checkpoint: Checkpoint, galleries: Mapping[str, FloatArray]) -> IdentitySwapper:
    """The swapper of a checkpoint that `write_identity_model` made."""
    recipe = checkpoint.state.get("recipe")
    size_px, framing_name = (
        (recipe.get(key) for key in ("resolution_px", "framing")) if isinstance(recipe, dict) else (None, None)
    )
    if not isinstance(size_px, int) or not 1 <= size_px <= 4096 or not isinstance(framing_name, str):
        raise BadInput(f"{checkpoint.path} is damaged: its recipe lacks resolution_px or framing; write the model again")
    return IdentitySwapper(galleries, resolution_px=size_px, framing_name=framing_name, checkpoint=checkpoint.path)
