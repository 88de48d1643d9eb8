"""How long a run goes on, where it stands, and how that is saved and taken up again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from understudy.imaging.expression import Told
from understudy.model.folder import EXEMPLARS_FILE, PEOPLE_FILES, expressions_from_json, recipe_as_json, told_by
from understudy.model.skin import skin_offsets
from understudy.model.trainer import StepResult, Trainer
from understudy.store.checkpoints import Checkpoint, load_tensors, mark_best, prune, save_checkpoint
from understudy.types import Json

LOSS_HISTORY = 240
SAME_ERROR = 1.005
"""Held-out errors within half a per cent count as equal: the newer checkpoint is then the better one."""

Until = Literal["spent", "plateau"]


@dataclass(frozen=True)
class Judgement:
    """How good the run was at one step. error: the loss on faces held out of training, undisturbed; train_error: the same on
    as many faces of the training. figures: what else was measured, by name. is_saved: whether a checkpoint holds that state;
    is_cooling: whether the last part of the run had begun, in which the learning rate falls."""

    step: int
    error: float
    train_error: float
    figures: Mapping[str, float] = field(default_factory=dict)
    is_saved: bool = True
    is_cooling: bool = False


@dataclass
class Progress:
    """Where the run stands: what a checkpoint remembers besides the tensors."""

    num_steps: int = 0
    num_faces_seen: int = 0
    num_faces_undone: int = 0
    """Seen in steps that the run went back from."""
    seconds: float = 0.0
    smooth_loss: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    steps_between_losses: int = 1
    lineage: list[Json] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    incidents: list[Json] = field(default_factory=list)
    plateau_at: float | None = None
    """Where in the budget, in its own unit, a run that trains until a plateau began to cool down."""

    def count(self, trainer: Trainer, step: StepResult) -> None:
        """Add a step that was applied."""
        self.num_steps = trainer.num_steps
        self.num_faces_seen += trainer.recipe.batch_size * len(trainer.performers)
        mean_loss = float(np.mean(list(step.losses.values())))
        self.smooth_loss = 0.98 * self.smooth_loss + 0.02 * mean_loss if self.losses else mean_loss
        if self.losses and self.num_steps - self.losses[-1][0] < self.steps_between_losses:
            return
        self.losses.append((self.num_steps, self.smooth_loss))
        if len(self.losses) > 2 * LOSS_HISTORY:  # an even history of the whole run, never longer than this
            del self.losses[1::2]
            self.steps_between_losses *= 2

    @property
    def faces_per_second(self) -> float:
        return (self.num_faces_seen + self.num_faces_undone) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Budget:
    """How long to train: until `steps` are done, or for `seconds` of training, resumed sessions counted together.

    until: with "plateau" the run cools down (the last `cool_fraction` of a run) as soon as it no longer gets better.
    """

    steps: int | None
    seconds: float | None
    until: Until = "spent"
    cool_fraction: float = 0.0

    def done(self, progress: Progress) -> float:
        """What is spent of it, in steps or seconds."""
        return float(progress.num_steps if self.steps is not None else progress.seconds)

    def total(self, progress: Progress) -> float:
        """All of it, in steps or seconds; less than was asked for once a plateau was reached."""
        asked = float(self.steps if self.steps is not None else self.seconds or 0.0)
        if self.until == "plateau" and progress.plateau_at is not None:
            return min(asked, progress.plateau_at / max(1 - self.cool_fraction, 1e-6))
        return asked

    def progress(self, progress: Progress) -> float:
        """0..1; 1 means that the budget is spent."""
        total = self.total(progress)
        return min(1.0, self.done(progress) / total) if total > 0 else 1.0

    def is_cooling(self, progress: Progress) -> bool:
        """Whether the last part of the run has begun, in which it gets better because the learning rate falls."""
        return self.cool_fraction > 0 and self.progress(progress) >= 1 - self.cool_fraction


def save(trainer: Trainer, progress: Progress, out: Path) -> None:
    """Write a checkpoint of where the run stands, let `best` name the best one, and delete old ones."""
    state: Json = {
        "recipe": recipe_as_json(trainer.recipe),
        "performers": list(trainer.performers),
        "colour": {name: standard.as_json() for name, standard in trainer.standards.items()},
        "expressions": {name: standard.as_json() for name, standard in trainer.expression_standards.items()},
        "skin_offsets": skin_offsets(trainer) if trainer.recipe.standardise_colour else {},
        "random": {
            "scheme": "one generator for each (seed, attempt, step, performer)",
            "seed": trainer.recipe.seed,
            "attempt": trainer.attempt,
        },
        "micro_batch": trainer.micro_batch,
        "num_faces_seen": progress.num_faces_seen,
        "num_faces_undone": progress.num_faces_undone,
        "seconds": progress.seconds,
        "smooth_loss": progress.smooth_loss,
        "losses": [list(pair) for pair in progress.losses],
        "steps_between_losses": progress.steps_between_losses,
        "lineage": progress.lineage,
        "judgements": [asdict(each) for each in progress.judgements],
        "incidents": progress.incidents,
        "plateau_at": progress.plateau_at,
    }
    save_checkpoint(out, progress.num_steps, trainer.tensors(), state, beside=(*PEOPLE_FILES, EXEMPLARS_FILE))
    _mark_if_best(progress, out)
    prune(out, trainer.recipe.keep_checkpoints)


def _mark_if_best(progress: Progress, out: Path) -> None:
    """Let `best` name the checkpoint of this step, if it was judged and none was judged better."""
    best = best_of(progress.judgements)
    if best is not None and best.step == progress.num_steps:
        mark_best(out, progress.num_steps)


def best_of(judgements: Iterable[Judgement]) -> Judgement | None:
    """The judgement of the checkpoint that conversion uses; None where no checkpoint was judged."""
    best, least_error = None, math.inf
    for each in judgements:
        if each.is_saved:
            least_error = min(least_error, each.error)
            best = each if each.error <= SAME_ERROR * least_error else best
    return best


def told_in(checkpoint: Checkpoint) -> Told:
    """How the network of a checkpoint is told expressions."""
    return told_by(expressions_from_json(cast(Json, checkpoint.state.get("expressions", {}))), checkpoint.path)


def take_up(trainer: Trainer, checkpoint: Checkpoint) -> Progress:
    """Load a checkpoint into the trainer and return where its run stood.

    It goes on in the checkpoint's pieces of a batch, so that it goes on to the bit; in smaller ones where less fits by now.
    """
    trainer.load({name: load_tensors(checkpoint, name) for name in trainer.tensors()}, checkpoint.step)
    state = cast(dict[str, Any], checkpoint.state)
    trainer.attempt = int(state["random"].get("attempt", 0))
    trainer.micro_batch = min(trainer.micro_batch, int(state.get("micro_batch", trainer.recipe.batch_size)))
    plateau_at = state.get("plateau_at")
    return Progress(
        num_steps=checkpoint.step,
        num_faces_seen=int(state["num_faces_seen"]),
        num_faces_undone=int(state.get("num_faces_undone", 0)),
        seconds=float(state["seconds"]),
        smooth_loss=float(state["smooth_loss"]),
        steps_between_losses=int(state["steps_between_losses"]),
        losses=[(int(step), float(loss)) for step, loss in state["losses"]],
        lineage=list(state["lineage"]),
        judgements=[Judgement(**each) for each in state.get("judgements", [])],
        incidents=list(state.get("incidents", [])),
        plateau_at=None if plateau_at is None else float(plateau_at),
    )
