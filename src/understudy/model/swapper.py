"""A trained model put to use: numpy faces in, numpy faces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from understudy.imaging.exemplars import Exemplars
from understudy.imaging.expression import Drive, ExpressionStandard, Told
from understudy.imaging.framing import framing
from understudy.imaging.light import in_the_light_of, light_on, shading_on
from understudy.model.colour import UNCHANGED, ColourStandard
from understudy.model.folder import (
    GALLERIES_FILE,
    expressions_from_json,
    offsets_from_json,
    one_line,
    read_exemplars,
    read_galleries,
    recipe_from_json,
    standards_from_json,
    told_by,
)
from understudy.model.identity import KIND, IdentitySwapper, read_identity_model
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.settings import TrainRecipe
from understudy.store.checkpoints import best_valid, load_tensors
from understudy.types import BadInput, FloatArray, Framing, Json

Crops = NDArray[np.uint8] | NDArray[np.float32]

EMPHASIS = {
    "mouth opening": 1.6, "played mouth width": 1.8, "played mouth corners": 2.4, "played image-left brow": 2.8,
    "played image-right brow": 2.8, "image-left eye": 1.65, "image-right eye": 1.65, "gaze": 1.0,
}  # fmt: skip
"""By reading: how much more of it is told than was measured.

Measuring errors teach the decoders to answer with less than all (regression dilution), the more the worse a part is measured:
so brows are told loudest, and gains on the truth pair come to some 0.9 (docs/log.md). The gaze, whose measure is half noise, is
told as it was measured."""

FORMER_EMPHASIS = EMPHASIS | {
    "mouth opening": 1.5, "played image-left brow": 2.0, "played image-right brow": 2.0,
    "played mouth corners": 1.75, "image-left eye": 1.55, "image-right eye": 1.55,
    "mouth width": 2.05, "mouth corners": 1.75, "image-left brow": 2.5, "image-right brow": 2.5,
}  # fmt: skip
"""The same for models that were told by each performer's own spread."""


def emphasis_of(told: Told) -> NDArray[np.float32]:
    """By part that is told, how much more of it than was measured."""
    factors = EMPHASIS if told.is_in_units else FORMER_EMPHASIS
    return np.array([factors[part] for part in told.parts], np.float32)


class Swapper:
    """Draws performers with the expressions of others.

    performers: whom the model knows. resolution_px, framing: what crops it takes. galleries: by performer, (N, 128) identity
    embeddings of faces it was trained on. skins: the mean colour (3,) of each face there, R G B in 0..1, where it was measured.
    exemplars: pictures that their fine detail is taken from, where the model has them.
    reads_expressions: whether the codes hold the expression, which is told otherwise. checkpoint: the folder of the weights in
    use.
    """

    def __init__(
        self,
        network: FaceSwapNetwork,
        recipe: TrainRecipe,
        *,
        standards: Mapping[str, ColourStandard],
        expressions: Mapping[str, ExpressionStandard],
        galleries: Mapping[str, FloatArray],
        checkpoint: Path,
        skin_offsets: Mapping[str, Mapping[str, Sequence[float]]],
        exemplars: Mapping[str, Exemplars],
    ) -> None:
        self._network, self._standards, self._expressions, self._skin_offsets = network, standards, expressions, skin_offsets
        self.recipe, self.galleries, self.checkpoint, self.exemplars = recipe, galleries, checkpoint, exemplars
        self.performers: tuple[str, ...] = tuple(standards)
        self.skins = {name: np.array(each.skin or each.mean) for name, each in standards.items() if each != UNCHANGED}
        self.reads_expressions = not recipe.is_expression_measured
        self.resolution_px: int = recipe.resolution_px
        self.framing: Framing = framing(recipe.framing)
        self._px_per_unit = self.resolution_px / self.framing.side

    def swap(
        self,
        crops: Crops,
        from_performer: str,
        to_performer: str,
        drive: Drive | None = None,
        codes: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Faces of one performer, drawn as another.

        crops: (N, R, R, 3) RGB in this model's framing, uint8 or (of deeper footage) float32 0..1. drive: of the same N faces,
        for a model that is told their expressions or draws in ordinary light. codes: (N, K), drawn instead of what `read` says
        of the crops. Returns (N, R, R, 4) in 0..1: RGB, not multiplied by the mask, and the mask (all ones where the model has
        learned none). Raises BadInput for a performer the model does not know, ValueError where `drive` lacks what it needs.
        """
        self._check_known(from_performer, to_performer)
        faces = drive.faces if drive is not None else None
        if codes is None:
            codes = self.read(crops, from_performer, faces)
        device = self._device()
        with torch.inference_mode():
            told = self._told(from_performer, drive, device)
            seen = torch.from_numpy(codes).to(device)
            drawn = self._network.draw(seen, to_performer, told)
            if offset := self._skin_offsets.get(from_performer, {}).get(to_performer):
                shifted = drawn[:, :3] + torch.tensor(offset, device=device)[:, None, None]
                drawn = torch.cat([shifted.clamp(0, 1), drawn[:, 3:]], dim=1)
            if drawn.shape[1] == 3:
                drawn = torch.cat([drawn, torch.ones_like(drawn[:, :1])], dim=1)
            answers = np.ascontiguousarray(drawn.permute(0, 2, 3, 1).cpu().numpy())
        answers = self._lit(answers, crops, from_performer, to_performer, faces)
        return self._shaded(answers, seen, crops, from_performer, to_performer, drive)

    def read(
        self,
        crops: Crops,
        performer: str,
        faces: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The codes (N, K) of a performer's crops (N, R, R, 3); of a model that is told, they hold all but the expression.

        faces: (N, R, R), where the faces lie in the crops, as in a `Drive`.
        """
        self._check_known(performer)
        lights = self._lights(crops, performer, faces)
        with torch.inference_mode():
            pictures = torch.from_numpy(crops).to(self._device()).permute(0, 3, 1, 2).float()
            pictures = pictures / 255 if crops.dtype == np.uint8 else pictures
            if lights is not None:
                pictures = (pictures / torch.from_numpy(lights).to(pictures.device)[:, :, None, None]).clamp(0, 1)
            codes: NDArray[np.float32] = self._network.read(self._standards[performer].apply(pictures)).cpu().numpy()
            return codes

    def _lit(
        self,
        answers: NDArray[np.float32],
        crops: Crops,
        from_performer: str,
        to_performer: str,
        faces: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """What was drawn in ordinary light (N, R, R, 4), in the light of the crops; as it is, where it was not."""
        plate_skin, drawn_skin = (self._standards[name].skin for name in (from_performer, to_performer))
        if plate_skin is None or drawn_skin is None:
            return answers
        skins = np.array(plate_skin), np.array(drawn_skin)
        for answer, crop, face in zip(answers, crops, _told_where(faces), strict=True):
            answer[..., :3] = in_the_light_of(answer[..., :3], crop, face, *skins, self._px_per_unit)
        return answers

    def _shaded(
        self,
        answers: NDArray[np.float32],
        codes: torch.Tensor,
        crops: Crops,
        from_performer: str,
        to_performer: str,
        drive: Drive | None,
    ) -> NDArray[np.float32]:
        """What was drawn (N, R, R, 4), with the shadows and lights on the crops that drawing their own performer leaves out."""
        skin = self._standards[from_performer].skin
        if skin is None or drive is None or from_performer == to_performer or not np.any(drive.shading):
            return answers
        faces = _told_where(drive.faces)
        with torch.inference_mode():
            told = self._told(from_performer, Drive(drive.readings), codes.device, is_emphasised=False)
            own = self._network.draw(codes, from_performer, told)[:, :3].permute(0, 2, 3, 1).cpu().numpy()
        own = self._lit(np.ascontiguousarray(own), crops, from_performer, from_performer, faces)
        strengths = np.broadcast_to(np.asarray(drive.shading, np.float32), len(answers))
        for answer, crop, drawn, face, strength in zip(answers, crops, own, faces, strengths, strict=True):
            shading = strength * shading_on(crop, drawn, face, np.array(skin), self._px_per_unit)
            answer[..., :3] = np.clip(answer[..., :3] * np.exp(shading)[..., None], 0, 1)
        return answers

    def _lights(self, crops: Crops, performer: str, faces: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """(N, 3): the light on each crop's face; None for a model that has learned faces as they were lit."""
        skin = self._standards[performer].skin
        if skin is None:
            return None
        pairs = zip(crops, _told_where(faces), strict=True)
        return np.asarray([light_on(crop, face, np.array(skin), self._px_per_unit) for crop, face in pairs], np.float32)

    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _check_known(self, *performers: str) -> None:
        for performer in performers:
            if performer not in self.performers:
                raise BadInput(f"the model knows {', '.join(self.performers)}, not {performer!r}")

    def _told(
        self, performer: str, drive: Drive | None, device: torch.device, is_emphasised: bool = True
    ) -> torch.Tensor | None:
        if not self.recipe.is_expression_measured:
            return None
        if drive is None:
            raise ValueError("this model is told the faces' expressions: give `swap` what drives it")
        told = self._expressions[performer].apply(drive.readings, drive.strength)
        if is_emphasised:
            told[:, 1:] *= emphasis_of(self._expressions[performer].told)
        return torch.from_numpy(told).to(device)


def _told_where(faces: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if faces is None:
        raise ValueError("this model draws in ordinary light: tell where the faces lie, by which the plate's is measured")
    return faces


def load_swapper(model: Path, weights: Literal["ema", "raw"] = "ema", device: str | None = None) -> Swapper | IdentitySwapper:
    """The best checkpoint of a model folder, ready to swap. Raises BadInput where there is none or it is damaged."""
    checkpoint = best_valid(model) if model.is_dir() else None
    if checkpoint is None:
        raise BadInput(f"{model} has no checkpoint; train a model there first (understudy train FACES FACES --out {model})")
    if checkpoint.state.get("kind") == KIND:
        return read_identity_model(checkpoint, read_galleries(model, checkpoint.state))
    recipe = recipe_from_json(cast(Json, checkpoint.state.get("recipe")))
    standards = standards_from_json(cast(Json, checkpoint.state.get("colour")))
    galleries = read_galleries(model, checkpoint.state)
    if lacking := set(standards) - set(galleries):
        raise BadInput(f"{model / GALLERIES_FILE} lacks {', '.join(sorted(lacking))}; train again with the same command")
    expressions = expressions_from_json(cast(Json, checkpoint.state.get("expressions", {})))
    if recipe.is_expression_measured and set(expressions) != set(standards):
        raise BadInput(f"{checkpoint.path}: it lacks what its performers' expressions are measured by; restore it from a copy")
    file = "ema" if weights == "ema" and recipe.ema_decay else "weights"
    num_told = 1 + len(told_by(expressions, checkpoint.path).parts)
    network = _network_with(recipe, list(standards), num_told, load_tensors(checkpoint, file), checkpoint.path)
    offsets = offsets_from_json(checkpoint.state.get("skin_offsets", {}), checkpoint.path)
    network = network.to(device or best_device()).eval()
    exemplars = read_exemplars(model, checkpoint.state, framing(recipe.framing).side, recipe.resolution_px)
    return Swapper(
        network,
        recipe,
        standards=standards,
        expressions=expressions,
        galleries=galleries,
        checkpoint=checkpoint.path,
        skin_offsets=offsets,
        exemplars=exemplars,
    )


def _network_with(
    recipe: TrainRecipe, performers: list[str], num_told: int, tensors: dict[str, torch.Tensor], path: Path
) -> FaceSwapNetwork:
    """The network with these weights. Raises BadInput where they do not fit together."""
    drawn = {name.split(".")[1] for name in tensors if name.startswith("decoders.")}
    if drawn != set(performers):
        raise BadInput(f"{path}: its weights are not of the performers that it names; restore it from a copy")
    try:
        network = build_network(recipe, performers, num_told)
        network.load_state_dict(tensors)
    except (ValueError, RuntimeError, OverflowError, ZeroDivisionError, KeyError) as error:
        raise BadInput(f"{path}: its weights do not fit its recipe ({one_line(error)}); restore it from a copy") from error
    return network


def best_device() -> str:
    """The device that networks run on: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
