"""Notices when a run has collapsed, and takes it back to its last good state with another draw and a smaller step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import cast

from understudy import parallel
from understudy.model.trainer import StepResult, Trainer
from understudy.stages._training_state import Judgement, Progress, save, take_up
from understudy.store.checkpoints import discard_newer, valid_checkpoints
from understudy.types import Event, Reporter, TrainingDiverged

MOST_BAD_STEPS = 5
"""So many steps in a row that are no numbers are more than a bad batch: the weights are spoiled."""

NUM_RECENT, NUM_BEFORE = 20, 200
LOSS_FACTOR, GRADIENT_FACTOR = 4.0, 100.0
"""A run has collapsed when its last 20 steps are so much worse than the 200 before; a bad start never rises so far."""

NUM_DOUBTFUL = 2 * NUM_RECENT
"""So many of the last steps may belong to the collapse when it is noticed: its median needs half of the recent ones."""

LEAST_VARIATION = 0.1
"""Restored faces that differ among themselves less than this share of what true faces do are all one face."""

MOST_ATTEMPTS = 5


class Watchdog:
    """Looks at every step; says in words what is wrong, or nothing.

    sound_until: the last step up to which all was certainly well.
    """

    def __init__(self) -> None:
        self.sound_until = 0
        self._losses: deque[float] = deque(maxlen=NUM_BEFORE + NUM_RECENT)
        self._norms: deque[float] = deque(maxlen=NUM_BEFORE + NUM_RECENT)
        self._num_bad = 0
        self._varied_at: int | None = None

    def look(self, step: StepResult, number: int) -> str:
        """What is wrong with the run as of step `number`; "" where nothing is. A single bad one, left out, is no collapse."""
        self.sound_until = number
        if not step.is_applied:
            self._num_bad += 1
            return f"{self._num_bad} steps in a row gave no numbers" if self._num_bad >= MOST_BAD_STEPS else ""
        self._num_bad = 0
        self._losses.append(max(step.losses.values()))
        self._norms.append(step.gradient_norm)
        words = ""
        if self._rise(self._losses) > LOSS_FACTOR:
            words = f"the loss rose to {self._rise(self._losses):.1f} times what it was"
        elif self._rise(self._norms) > GRADIENT_FACTOR:
            words = f"the gradient grew to {self._rise(self._norms):.0f} times what it was"
        if words:
            self.sound_until = number - NUM_DOUBTFUL
        return words

    def look_at(self, judgement: Judgement) -> str:
        """What is wrong with what the network draws; "" where nothing is."""
        variation = judgement.figures.get("variation", math.nan)
        if variation > 3 * LEAST_VARIATION:
            self._varied_at = judgement.step
        if self._varied_at is not None and variation < LEAST_VARIATION:
            # What is judged is the average, which lags behind: the weights that were saved with it may have collapsed already.
            self.sound_until = self._varied_at - NUM_DOUBTFUL
            return f"all faces are drawn alike: they vary {variation:.2f} times as much as true faces"
        return ""

    def forget_collapse(self) -> None:
        """After going back: what it was like before the collapse stays known, or the next one would pass for ordinary."""
        self._num_bad = 0
        for values in (self._losses, self._norms):
            for _ in range(min(NUM_DOUBTFUL, len(values))):
                values.pop()

    @staticmethod
    def _rise(values: deque[float]) -> float:
        """How many times the recent values exceed those before them; 1 until there are enough."""
        if len(values) < NUM_RECENT + NUM_BEFORE // 2:
            return 1.0
        before, recent = list(values)[:-NUM_RECENT], list(values)[-NUM_RECENT:]
        return median(recent) / max(median(before), 1e-12)


def note_incident(progress: Progress, step: int, what: str, remedy: str, report: Reporter) -> None:
    """Write down, in the events and for the next checkpoint's state, that something went wrong and what was done."""
    progress.incidents.append({"step": step, "what": what, "remedy": remedy})
    report(Event("train", "warning", message=f"incident at step {step}: {what}; {remedy}", figures={"step": step}))


def roll_back(
    trainer: Trainer,
    progress: Progress,
    out: Path,
    why: str,
    sound_until: int,
    begin: Callable[[], Progress],
    report: Reporter,
) -> Progress:
    """Take the run back to its newest checkpoint from before the trouble, and go on from there by another way.

    sound_until: the last step up to which all was well; where every checkpoint is newer, the oldest has to do. Draws change,
    or the same batch would spoil it again, and the learning rate is halved. Newer checkpoints are deleted, and the one gone
    back to is saved anew, so that a run killed before its next checkpoint remembers all that. begin: starts the run anew, where
    nothing was saved yet. Returns where the run stands then. Raises TrainingDiverged where no checkpoint is good, or this is
    the sixth time.
    """
    failed_at, attempt = progress.num_steps, trainer.attempt + 1
    if attempt > MOST_ATTEMPTS:
        raise TrainingDiverged(
            f"{why} at step {failed_at}, and going back {MOST_ATTEMPTS} times has not helped; the last checkpoint in {out} "
            "is kept: train again with a lower learning_rate into another --out"
        )
    restored = _last_good_state(trainer, out, min(sound_until, _before_last_time(progress)), begin, report)
    if restored is None:
        raise TrainingDiverged(
            f"{why} at step {failed_at}, and no checkpoint in {out} has weights that are numbers; train again with a lower "
            "learning_rate into another --out"
        )
    parallel.barrier()  # all have read it
    if not parallel.rank():
        discard_newer(out, restored.num_steps)
    trainer.attempt = attempt
    # What went before stays known, and the time that was spent stays spent.
    restored.incidents, restored.seconds = list(progress.incidents), progress.seconds
    restored.num_faces_undone = progress.num_faces_undone + progress.num_faces_seen - restored.num_faces_seen
    remedy = f"went back to step {restored.num_steps}, with other draws and {0.5**attempt:g} of the learning rate"
    note_incident(restored, failed_at, why, remedy, report)
    restored.incidents[-1]["back_to"] = restored.num_steps
    if not parallel.rank():
        save(trainer, restored, out)
    return restored


def _before_last_time(progress: Progress) -> float:
    """The last step that is not in doubt because going back to it, or to a little before it, did not help for long."""
    went_back = [cast(int, each["back_to"]) for each in progress.incidents if "back_to" in each]
    if not went_back or progress.num_steps >= went_back[-1] + NUM_BEFORE:
        return math.inf
    return went_back[-1] - NUM_DOUBTFUL


def _last_good_state(
    trainer: Trainer, out: Path, sound_until: float, begin: Callable[[], Progress], report: Reporter
) -> Progress | None:
    """Load the newest sound checkpoint whose weights are numbers; begin anew where there is no checkpoint at all."""
    checkpoints = list(valid_checkpoints(out, report))
    sound = [each for each in checkpoints if each.step <= sound_until]
    doubtful = [each for each in checkpoints if each.step > sound_until]
    for checkpoint in (*sound, *reversed(doubtful)):
        restored = take_up(trainer, checkpoint)
        if trainer.is_finite():
            return restored
    return None if checkpoints else begin()
