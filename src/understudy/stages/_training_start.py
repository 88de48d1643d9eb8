"""Where a run begins: at random, with the starter, or from a trained model, with everything that this inherits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from understudy.model.folder import ANCESTORS_FILE, GALLERIES_FILE, people_in
from understudy.model.starter import starter_sha256, starter_tensors
from understudy.model.trainer import Trainer
from understudy.stages._training_faces import PerformerFaces
from understudy.stages._training_state import Progress
from understudy.store.atomic import atomic_write_bytes
from understudy.store.checkpoints import Checkpoint, checkpoint_to_begin_from, load_tensors, stated_beside
from understudy.store.hashing import sha256_of_file
from understudy.store.manifest import InputFile, describe_input
from understudy.trust.consent import ConsentReference
from understudy.trust.lineage import START_MODEL
from understudy.trust.permission import may_train_from
from understudy.types import BadInput, FloatArray, Json

Take = Literal["all", "encoder"]
STARTER = "the rendered starter"


@dataclass(frozen=True)
class Start:
    """A model to begin from, the checkpoint of it that is taken, and what of that: all that fits, or the encoder alone."""

    model: Path
    checkpoint: Checkpoint
    take: Take

    @classmethod
    def of(cls, model: Path, take: Take) -> Start:
        """Raises BadInput where the model has no whole checkpoint."""
        return cls(model, checkpoint_to_begin_from(model), take)

    def inputs(self) -> dict[str, InputFile]:
        """The checkpoint as an input of the run."""
        return {START_MODEL: describe_input(self.checkpoint.path / "state.json")}

    def people(self) -> dict[str, FloatArray]:
        """Everybody whose face is in its weights, by name: embeddings."""
        return people_in(self.model, self.checkpoint.state)

    def may_train(self, consent: Path, out: Path) -> tuple[ConsentReference, ...]:
        """Consent of everybody in its weights; raises Refused."""
        return may_train_from(self.model, self.people(), consent, out)


def check_take(take: Take, start_from: Path | None) -> None:
    """Raises BadInput where it is said what to take of a model, and no model is named."""
    if take != "all" and start_from is None:
        raise BadInput(f"--take {take} was given without --from; it says what to take of that model")


def begin(trainer: Trainer, start: Start | None) -> Progress:
    """Start a run anew, from the start model if there is one, at random if not.

    Where the recipe asks for the starter, it takes the place of chance: all over, or for performers whom the start model cannot
    draw. Raises BadInput where the start model's network has nothing in common with this one.
    """
    starter = starter_tensors(trainer.performers) if trainer.recipe.starter == "rendered" else {}
    if start is None:
        taken = trainer.begin(starter)
        return Progress(lineage=[_starter_entry(trainer, taken)] if starter else [])
    file = "ema" if (start.checkpoint.path / "ema.safetensors").is_file() else "weights"
    tensors = load_tensors(start.checkpoint, file)
    if start.take == "encoder":
        tensors = {name: each for name, each in tensors.items() if name.startswith("encoder.")}
    known = _whose_decoders(_fitting(trainer, tensors))
    new = {name: each for name, each in starter.items() if _whose_decoders([name]) - known}
    all_taken = trainer.begin({**new, **tensors})
    taken = [name for name in all_taken if name not in new]
    own = trainer.network.state_dict()
    if all(own[name].ndim < 2 for name in taken):  # a bias that fits by its length alone is nothing to begin with
        raise BadInput(
            f"--from {start.model}: none of its layers fits this recipe; take the same architecture, or leave --from out"
        )
    entry: Json = {
        "began_from": start.model.as_posix(),
        "at_step": start.checkpoint.step,
        "took": start.take,
        "layers_taken": _layers_taken(trainer, taken),
        "performers": sorted(start.people()),
    }
    from_starter = [name for name in all_taken if name in new]
    return Progress(lineage=[entry, *([_starter_entry(trainer, from_starter)] if from_starter else [])])


def _fitting(trainer: Trainer, tensors: Mapping[str, Tensor]) -> list[str]:
    """The weights among a model's tensors that this network has in the same place and shape."""
    own = trainer.network.state_dict()
    return [name for name, each in tensors.items() if each.ndim > 1 and name in own and own[name].shape == each.shape]


def _whose_decoders(names: Iterable[str]) -> set[str]:
    """The performers whose decoders are among these tensors."""
    return {name.split(".")[1] for name in names if name.startswith("decoders.")}


def _starter_entry(trainer: Trainer, taken: Sequence[str]) -> Json:
    """What a run's lineage says of the starter that comes with the package."""
    return {"began_from": STARTER, "sha256": starter_sha256(), "layers_taken": _layers_taken(trainer, taken)}


def _layers_taken(trainer: Trainer, taken: Sequence[str]) -> str:
    """How many of the network's layers began with all of another's weights, taken by these names: `21 of 28`.

    A layer's weight and bias are one layer, and a bias that fits by its length alone makes none.
    """
    own = trainer.network.state_dict().keys()
    layers, not_whole = ({name.rpartition(".")[0] for name in names} for names in (own, own - set(taken)))
    return f"{len(layers - not_whole)} of {len(layers)}"


def write_galleries(out: Path, performers: list[PerformerFaces], start: Start | None, state: Json) -> None:
    """Who this model's performers are, and whose faces its weights have seen besides.

    state: of the checkpoint that the run goes on from. What its checkpoints are bound to stays as it is, whatever this version
    would take for the same people; what was changed or lost since is written anew.
    """
    galleries = {each.performer: each.gallery for each in performers}
    _write_people(out, GALLERIES_FILE, galleries, state)
    if start is not None:
        others = {name: each for name, each in start.people().items() if name not in galleries}
        _write_people(out, ANCESTORS_FILE, others, state)


def _write_people(out: Path, file: str, people: Mapping[str, FloatArray], state: Json) -> None:
    from safetensors.numpy import save

    path = out / file
    if path.is_file() and sha256_of_file(path) == stated_beside(state).get(file):
        return
    atomic_write_bytes(path, save({name: np.ascontiguousarray(each, np.float32) for name, each in people.items()}))
