"""Train: two or more face sets in, a model that draws each performer with the expressions of the others out."""

from __future__ import annotations

import ctypes
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from understudy.media import write_jpeg
from understudy.model.augment import make_batch
from understudy.model.colour import UNCHANGED, measure_standard
from understudy.model.schedule import step_generator
from understudy.model.swapper import GALLERIES_FILE, best_device, recipe_as_json
from understudy.model.trainer import StepResult, Trainer
from understudy.stages._training_faces import MARGIN, PerformerFaces, load_performers
from understudy.store.atomic import atomic_write_bytes
from understudy.store.checkpoints import latest_valid, load_tensors, prune, save_checkpoint
from understudy.store.events import combine, event_log
from understudy.store.faceset import FaceSet
from understudy.store.manifest import InputFile
from understudy.store.runs import Run, open_run
from understudy.trust import gate
from understudy.trust.consent import consent_folder
from understudy.trust.permission import gate_face_sets, may_train
from understudy.types import BadInput, Event, Image, Json, Reporter, StageResult, TrainingDiverged, TrainRecipe, silent

STAGE = "train"
REPORT_SECONDS = 1.0
LOSS_HISTORY = 240
PREVIEW_FACES = 4
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # mallopt(3)


@dataclass(frozen=True)
class Budget:
    """How long to train: until `steps` are done, or for `seconds` of training, resumed sessions counted together."""

    steps: int | None
    seconds: float | None

    def progress(self, progress: Progress) -> float:
        """0..1; 1 means that the budget is spent."""
        done, total = (progress.num_steps, self.steps) if self.steps is not None else (progress.seconds, self.seconds)
        assert total is not None
        return min(1.0, done / total) if total > 0 else 1.0


@dataclass
class Progress:
    """Where the run stands: what a checkpoint remembers besides the tensors."""

    num_steps: int = 0
    num_faces_seen: int = 0
    seconds: float = 0.0
    smooth_loss: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    steps_between_losses: int = 1
    lineage: list[Json] = field(default_factory=list)


def train(
    face_sets: Sequence[Path],
    out: Path,
    *,
    recipe: TrainRecipe,
    minutes: float | None = None,
    steps: int | None = None,
    consent: Path | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Train on the kept faces of `face_sets` into the model folder `out`; the same call again goes on where it was.

    minutes, steps: how long, counted over all sessions (the recipe's minutes where neither is given); more may be asked for
    later. consent: the folder of the performers' consent records (see trust/consent.py for where it is looked for). Returns
    step, num_faces_seen, faces_per_second, loss and verdict. Raises Refused without consent for each performer or where the
    content gate says so, BadInput for unusable face sets or a folder that holds another recipe's work, TrainingDiverged where a
    loss stops being a number: the last good checkpoint is kept.
    """
    budget = _budget(recipe, minutes, steps)
    inputs = _describe(face_sets)
    with open_run(out, STAGE, {**asdict(recipe), "performers": list(inputs)}, inputs) as run:
        report = combine(event_log(out), report)
        references = may_train(face_sets, consent_folder(consent))
        gate_face_sets(face_sets, out)
        keep_freed_memory()
        performers = load_performers(face_sets, recipe)
        trainer = build_trainer(performers, recipe)
        progress = _resume(trainer, out, report)
        if run.state == "finished":
            if budget.progress(progress) >= 1:
                return run.result()
            run.reopen()
        _write_galleries(out, performers)
        report(Event(STAGE, "started", message=_opening_words(performers, progress)))
        _train_until_spent(trainer, progress, budget, out, report)
        return _finish(run, trainer, progress, {each.performer: each.record_sha256 for each in references}, report)


def build_trainer(performers: Sequence[PerformerFaces], recipe: TrainRecipe) -> Trainer:
    """A trainer with the faces on the device that it runs on."""
    device = best_device()
    crops = {each.performer: each.crops.to(device) for each in performers}
    if recipe.is_first_shifted_to_second:
        first, second = list(crops)[:2]
        shift = crops[second][:, :3].float().mean((0, 2, 3)) - crops[first][:, :3].float().mean((0, 2, 3))
        shifted = crops[first][:, :3].float() + shift[:, None, None]
        crops[first][:, :3] = shifted.round().clamp(0, 255).to(crops[first].dtype)
    standards = {name: measure_standard(faces) if recipe.standardise_colour else UNCHANGED for name, faces in crops.items()}
    return Trainer(crops, standards, recipe, MARGIN)


def _train_until_spent(trainer: Trainer, progress: Progress, budget: Budget, out: Path, report: Reporter) -> None:
    """The loop: step, count, and once in a while report, preview and save. Stopped by the user, it saves first."""
    recipe = trainer.recipe
    clock = _Clock(recipe)
    with _interrupts_between_steps() as was_interrupted:
        while (share := budget.progress(progress)) < 1 and not was_interrupted():
            step = trainer.step(share)
            _stop_unless_finite(step, progress, out)
            progress.seconds += clock.tick()
            _count(trainer, progress, step)
            if clock.is_due("report", REPORT_SECONDS):
                report(_progress_event(trainer, progress, budget, step))
            if clock.is_due("preview", recipe.preview_seconds):
                write_preview(trainer, out)
            if clock.is_due("checkpoint", recipe.checkpoint_seconds):
                _save(trainer, progress, out)
            clock.leave_out()
        _save(trainer, progress, out)
        if was_interrupted():
            raise KeyboardInterrupt
        write_preview(trainer, out)


@contextmanager
def _interrupts_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM wait until a step is whole, so that what is saved is a state that an unbroken run had too."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield lambda: False
        return
    before = {number: signal.signal(number, lambda which, _: seen.append(which)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Clock:
    """Measures steps and says when something is due; time spent on saving and previews does not count as training."""

    def __init__(self, recipe: TrainRecipe) -> None:
        now = time.monotonic()
        self._last_tick = now
        # The first preview comes early, so that a wrong start is seen at once.
        first_preview = now + min(15.0, recipe.preview_seconds) - recipe.preview_seconds
        self._last = {"report": now, "preview": first_preview, "checkpoint": now}

    def tick(self) -> float:
        now = time.monotonic()
        seconds, self._last_tick = now - self._last_tick, now
        return seconds

    def leave_out(self) -> None:
        """What was done since the last tick does not count."""
        self._last_tick = time.monotonic()

    def is_due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last[what] < every_seconds:
            return False
        self._last[what] = now
        return True


def _count(trainer: Trainer, progress: Progress, step: StepResult) -> None:
    progress.num_steps = trainer.num_steps
    progress.num_faces_seen += trainer.recipe.batch_size * len(trainer.performers)
    mean_loss = float(np.mean(list(step.losses.values())))
    progress.smooth_loss = 0.98 * progress.smooth_loss + 0.02 * mean_loss if progress.losses else mean_loss
    if progress.losses and progress.num_steps - progress.losses[-1][0] < progress.steps_between_losses:
        return
    progress.losses.append((progress.num_steps, progress.smooth_loss))
    if len(progress.losses) > 2 * LOSS_HISTORY:  # an even history of the whole run, never longer than this
        del progress.losses[1::2]
        progress.steps_between_losses *= 2


def _stop_unless_finite(step: StepResult, progress: Progress, out: Path) -> None:
    if not step.is_applied:
        bad = [name for name, loss in step.losses.items() if not np.isfinite(loss)] or list(step.losses)
        raise TrainingDiverged(
            f"the loss of {', '.join(bad)} is no longer a number at step {progress.num_steps + 1}; the last good checkpoint in "
            f"{out} is kept: train on from it with a lower learning_rate into another --out"
        )


def _progress_event(trainer: Trainer, progress: Progress, budget: Budget, step: StepResult) -> Event:
    in_steps, in_seconds = (progress.num_steps, budget.steps, "steps"), (progress.seconds, budget.seconds, "seconds")
    done, total, unit = in_seconds if budget.steps is None else in_steps
    figures: dict[str, float | int | str] = {
        "step": progress.num_steps,
        "faces_per_second": round(progress.num_faces_seen / max(progress.seconds, 1e-9), 1),
        "loss": round(progress.smooth_loss, 4),
    }
    figures |= {f"loss_{name}": round(loss, 4) for name, loss in step.losses.items()}
    figures |= {name: round(value, 4) for name, value in step.adversary.items()}
    return Event(STAGE, "progress", done=float(done), total=float(total or 0), unit=unit, figures=figures)


# ---- saving ---------------------------------------------------------------------------------------------------------------


def _save(trainer: Trainer, progress: Progress, out: Path) -> None:
    if not progress.num_steps:
        return
    if not trainer.is_finite():
        raise TrainingDiverged(
            f"the weights are no longer numbers at step {progress.num_steps}; the last good checkpoint in {out} is kept: "
            "train again with a lower learning_rate into another --out"
        )
    state: Json = {
        "recipe": recipe_as_json(trainer.recipe),
        "performers": list(trainer.performers),
        "colour": {name: standard.as_json() for name, standard in trainer.standards.items()},
        "skin_offsets": trainer.skin_offsets() if trainer.recipe.standardise_colour else {},
        "random": {"scheme": "one generator for each (seed, step, performer)", "seed": trainer.recipe.seed},
        "num_faces_seen": progress.num_faces_seen,
        "seconds": progress.seconds,
        "smooth_loss": progress.smooth_loss,
        "losses": [list(pair) for pair in progress.losses],
        "steps_between_losses": progress.steps_between_losses,
        "lineage": progress.lineage,
    }
    save_checkpoint(out, progress.num_steps, trainer.tensors(), state)
    prune(out, trainer.recipe.keep_checkpoints)


def _resume(trainer: Trainer, out: Path, report: Reporter) -> Progress:
    """Load the newest whole checkpoint into the trainer, where there is one."""
    checkpoint = latest_valid(out, report)
    if checkpoint is None:
        return Progress()
    trainer.load({name: load_tensors(checkpoint, name) for name in trainer.tensors()}, checkpoint.step)
    state = checkpoint.state
    return Progress(
        num_steps=checkpoint.step,
        num_faces_seen=int(cast(int, state["num_faces_seen"])),
        seconds=float(cast(float, state["seconds"])),
        smooth_loss=float(cast(float, state["smooth_loss"])),
        steps_between_losses=int(cast(int, state["steps_between_losses"])),
        losses=[(int(step), float(loss)) for step, loss in cast(list[list[float]], state["losses"])],
        lineage=[*cast(list[Json], state["lineage"]), {"resumed_at_step": checkpoint.step}],
    )


def _write_galleries(out: Path, performers: Sequence[PerformerFaces]) -> None:
    from safetensors.numpy import save

    galleries = {each.performer: np.ascontiguousarray(each.gallery, np.float32) for each in performers}
    atomic_write_bytes(out / GALLERIES_FILE, save(galleries))


def _finish(run: Run, trainer: Trainer, progress: Progress, consent: Mapping[str, str], report: Reporter) -> StageResult:
    figures = {
        "step": progress.num_steps,
        "num_faces_seen": progress.num_faces_seen,
        "faces_per_second": round(progress.num_faces_seen / max(progress.seconds, 1e-9), 2),
        "training_seconds": round(progress.seconds, 1),
        "loss": round(progress.smooth_loss, 5),
        "performers": list(trainer.performers),
        "verdict": verdict(progress.losses),
    }
    report(Event(STAGE, "finished", message=str(figures["verdict"])))
    outputs = {"model": run.folder, "previews": run.folder / "previews"}
    licences = {"content_gate": gate.LICENCE}
    return run.finish(figures, outputs, seed=trainer.recipe.seed, licences=licences, consent=consent)


def verdict(losses: Sequence[tuple[int, float]]) -> str:
    """In words, whether the training loss still falls: the last fifth of (step, smoothed loss) against the fifth before it."""
    if len(losses) < 20:
        return "too short to judge"
    fifth = len(losses) // 5
    before, last = (float(np.median([loss for _, loss in part])) for part in (losses[-2 * fifth : -fifth], losses[-fifth:]))
    fall_percent = 100 * (before - last) / before
    if fall_percent > 1:
        return f"still improving: the training loss fell by {fall_percent:.0f} % over the last fifth of the run"
    return f"plateau since about step {losses[-2 * fifth][0]}: the training loss no longer falls"


# ---- seeing it ------------------------------------------------------------------------------------------------------------


def write_preview(trainer: Trainer, out: Path) -> Path:
    """A sheet in `out/previews`: for some faces of each performer the face, its restoration, the next performer, the mask."""
    rows = [row for performer in trainer.performers for row in _preview_rows(trainer, performer)]
    path = out / "previews" / f"{trainer.num_steps:06d}.jpg"
    path.parent.mkdir(exist_ok=True)
    write_jpeg(path, np.concatenate(rows, axis=0))
    return path


def _preview_rows(trainer: Trainer, performer: str) -> list[Image]:
    import torch

    names = trainer.performers
    other = names[(names.index(performer) + 1) % len(names)]
    crops = trainer.crops[performer]
    chosen = torch.linspace(0, len(crops) - 1, PREVIEW_FACES + 2).round().long()[1:-1].to(crops.device)
    plain = trainer.still_recipe()
    batch = make_batch(crops[chosen], plain, trainer.margin, 0.0, step_generator(0, 0, 0))
    network = trainer.averaged if trainer.recipe.ema_decay else trainer.network
    with torch.inference_mode():
        codes = network.encode(trainer.standards[performer].apply(batch.warped))
        restored, swapped = network.decode(codes, performer), network.decode(codes, other)
    mask = (swapped[:, 3:4] if swapped.shape[1] == 4 else batch.face).expand(-1, 3, -1, -1)
    columns = torch.cat([batch.target, restored[:, :3], swapped[:, :3], mask], dim=3)  # N 3 R 4R
    pictures = (columns.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return list(pictures)


# ---- small matters --------------------------------------------------------------------------------------------------------


def keep_freed_memory() -> None:
    """Let this process keep the memory that a step frees, where the C library allows it.

    glibc returns large blocks to the system, so each step would fault its activations in again: a tenth of the time and more.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
            mallopt(parameter, value)


def _budget(recipe: TrainRecipe, minutes: float | None, steps: int | None) -> Budget:
    if minutes is not None and steps is not None:
        raise BadInput("expected --minutes or --steps, got both")
    if (minutes is not None and not 0 < minutes < math.inf) or (steps is not None and steps <= 0):
        raise BadInput(f"expected a training time above 0, got {minutes if minutes is not None else steps}")
    if steps is not None:
        return Budget(steps, None)
    return Budget(None, 60 * (recipe.default_minutes if minutes is None else minutes))


def _describe(face_sets: Sequence[Path]) -> dict[str, InputFile]:
    described = {}
    for folder in face_sets:
        with FaceSet.open(folder) as face_set:
            described[face_set.performer] = InputFile(folder.as_posix(), face_set.sha256())
    return described


def _opening_words(performers: Sequence[PerformerFaces], progress: Progress) -> str:
    counts = ", ".join(f"{len(each.crops)} faces of {each.performer}" for each in performers)
    return f"training on {counts}" + (f", going on at step {progress.num_steps}" if progress.num_steps else "")
