"""Trains the network of an arm, for as many faces as its scale says, on the face sets that the truth benchmark extracts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from torch import Tensor

from benchmarks.truth.footage import Footage, code_sha256
from benchmarks.truth.run import _face_sets
from experiments.networks import Wiring, build
from understudy.model.augment import Batch
from understudy.model.colour import UNCHANGED, measure_standard
from understudy.model.losses import weighted_mean
from understudy.model.networks import FaceSwapNetwork
from understudy.model.optimisers import make_optimizer
from understudy.model.precision import compiled
from understudy.model.schedule import Moment
from understudy.model.swapper import best_device
from understudy.model.trainer import Trainer
from understudy.recipes import train_recipe
from understudy.settings import TrainRecipe
from understudy.stages._training_faces import MARGIN, PerformerFaces, load_performers
from understudy.stages._training_process import keep_freed_memory
from understudy.stages._training_terms import make_adversary, make_features
from understudy.store.atomic import atomic_write_bytes
from understudy.store.faceset import FaceSet
from understudy.store.hashing import sha256_of_json
from understudy.types import Reporter

Setting = str | int | float | bool


@dataclass(frozen=True)
class Scale:
    """How large a question is asked. settings: changes to every recipe; faces: how many an arm of budget 1 sees."""

    name: str
    settings: Mapping[str, Setting]
    faces: int
    is_spread_kept: bool


SMALL = Scale(
    "small",
    {
        "width": 0.125, "resolution_px": 48, "batch_size": 8, "learning_rate": 2e-3, "adam_beta1": 0.9, "adam_beta2": 0.99,
        "warmup_steps": 50, "decay_fraction": 0.3, "ema_decay": 0.99, "gradient_clip": 1.0, "alternate_performers": False,
        "standardise_colour": True, "is_first_shifted_to_second": False, "flip_probability": 0.0,
    },
    faces=9600,
    is_spread_kept=True,
)  # fmt: skip
"""Two cores: 48 px, an eighth of the width, and an optimiser with which 600 steps of 16 faces show what 2017's need 50,000 for.

By 2017's start and learning rate so few steps learn next to nothing, and each performer's own colour (which 2017 left to a
shift of the first's training faces) would hide what the networks differ in.
"""

FULL = Scale("full", {}, faces=6_400_000, is_spread_kept=False)
"""A GPU: the recipes as they are, for the article's 50,000 steps of 128 faces."""

SCALES = {scale.name: scale for scale in (SMALL, FULL)}


@dataclass(frozen=True)
class Training:
    """What an arm trains. settings: changes to the recipe `base` over those of the scale; budget: in the scale's faces.

    objective: `recipe` or, in place of the recipe's reconstruction loss, `l2`. performers: both, or the one that is put in
    alone. without_open_mouths: leaves the laughs of the performer who is put in out of the training faces.
    """

    base: str = "original"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    wiring: Wiring = field(default_factory=Wiring)
    budget: float = 1.0
    objective: Literal["recipe", "l2"] = "recipe"
    performers: Literal["both", "second"] = "both"
    without_open_mouths: bool = False

    def recipe(self, scale: Scale, seed: int) -> TrainRecipe:
        """The full recipe at that scale."""
        return replace(train_recipe(self.base, {**scale.settings, **self.settings}), seed=seed)


OPEN_MOUTH = 0.05
"""Face units between the lips above which a mouth is open: two fifths of the bundled training faces."""


@dataclass(frozen=True)
class Trained:
    """A trained network and what there is to say of how it came about. test_faces see nothing of it."""

    trainer: Trainer
    recipe: TrainRecipe
    target: str
    source: str
    galleries: Mapping[str, Tensor]

    @property
    def network(self) -> FaceSwapNetwork:
        """The one to look at: the averaged one, where the recipe keeps one."""
        return self.trainer.shown.eval()


def train(asked: Training, scale: Scale, seed: int, footage: Footage, work: Path, report: Reporter) -> Trained:
    """Train the arm's network, or find it where it was trained before; on one machine always the same to the bit.

    Nobody has to be asked: `find_footage` gives rendered performers alone, whose true landmarks only a renderer knows.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    recipe = asked.recipe(scale, seed)
    performers = _faces(asked, recipe, footage, work, report)
    trainer = _trainer(asked, scale, recipe, performers)
    path = work / "experiments" / f"{_weights_key(asked, scale, footage)}-{seed}.safetensors"
    if path.is_file():
        trainer.network.load_state_dict(load_file(path))
        trainer.averaged.load_state_dict(trainer.network.state_dict())
    else:
        num_steps = max(1, round(asked.budget * scale.faces / (2 * recipe.batch_size)))
        for step in range(num_steps):
            trainer.step(step / num_steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: each.detach().cpu().contiguous().clone() for name, each in trainer.shown.state_dict().items()}
        atomic_write_bytes(path, as_safetensors(weights))
    galleries = {each.performer: torch.from_numpy(each.gallery) for each in performers}
    return Trained(trainer, recipe, footage.with_, footage.replace, galleries)


def _weights_key(asked: Training, scale: Scale, footage: Footage) -> str:
    """All that decides the weights but the seed."""
    code = code_sha256("understudy.model.trainer", "understudy.stages._training_faces")
    told = [asdict(asked), dict(scale.settings), scale.faces, scale.is_spread_kept, footage.sha256(), code, torch.__version__]
    return sha256_of_json([*told, best_device()])[:16]


def _faces(asked: Training, recipe: TrainRecipe, footage: Footage, work: Path, report: Reporter) -> list[PerformerFaces]:
    """Both performers' faces, as far as the arm is to see them."""
    folders = _face_sets(footage, work, report)
    performers = load_performers(folders, recipe)
    if asked.without_open_mouths:
        folder = next(each for each, faces in zip(folders, performers, strict=True) if faces.performer == footage.with_)
        with FaceSet.open(folder) as face_set:
            usable = [face for face in face_set.faces(kept_only=True) if face.crop]
        is_shut = torch.tensor([not face.mouth_openness > OPEN_MOUTH for face in usable])
        performers = [
            replace(each, crops=each.crops[is_shut], shares=each.shares[is_shut]) if each.performer == footage.with_ else each
            for each in performers
        ]
    return performers


def _trainer(asked: Training, scale: Scale, recipe: TrainRecipe, performers: Sequence[PerformerFaces]) -> Trainer:
    """As `stages.train.build_trainer`, with what only experiments need."""
    device = best_device()
    crops: dict[str, Tensor] = {each.performer: each.crops.to(device) for each in performers}
    if recipe.is_first_shifted_to_second:
        first, second = list(crops)[:2]
        shift = crops[second][:, :3].float().mean((0, 2, 3)) - crops[first][:, :3].float().mean((0, 2, 3))
        crops[first][:, :3] = (crops[first][:, :3].float() + shift[:, None, None]).round().clamp(0, 255).to(torch.uint8)
    if asked.performers == "second":
        crops = dict(list(crops.items())[1:])
    standards = {name: measure_standard(faces) if recipe.standardise_colour else UNCHANGED for name, faces in crops.items()}
    adversary, features = make_adversary(recipe, list(crops), device), make_features(recipe, device)
    trainer = ExperimentTrainer(crops, standards, recipe, MARGIN, adversary, features=features)
    trainer.rewire(asked, scale.is_spread_kept)
    return trainer


class ExperimentTrainer(Trainer):
    """A trainer whose network and loss can be others than a recipe can ask for."""

    is_squared = False

    def rewire(self, asked: Training, is_spread_kept: bool) -> None:
        """Take the arm's network in the place of the recipe's, and its objective."""
        self.is_squared = asked.objective == "l2"
        if asked.wiring == Wiring() and not is_spread_kept:
            return
        device = next(self.network.parameters()).device
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            self.network = build(self.recipe, self.performers, asked.wiring, is_spread_kept).to(device)
        self.averaged = copy.deepcopy(self.network) if self.recipe.ema_decay else self.network
        self._encode, self._decode = compiled(self.network, self.recipe, device)
        self.optimizers = [make_optimizer(self._learning(performers), self.recipe) for performers in self._turns()]

    def _loss(self, performer: str, drawn: Tensor, batch: Batch, now: Moment) -> Tensor:
        if self.is_squared:
            return weighted_mean((drawn[:, :3] - batch.target).square(), torch.ones_like(batch.face))
        return super()._loss(performer, drawn, batch, now)
