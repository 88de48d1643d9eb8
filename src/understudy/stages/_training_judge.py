"""Judges a run while it trains, on faces that it never learns from: how far off, how sharp, whose face, how alive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from understudy.imaging.framing import crop_from_face, framing
from understudy.imaging.meanface import mean_face
from understudy.imaging.metrics_geometry import (
    expression_measures,
    frontal,
    identity_scores,
    mean_gain,
    pose_errors_degrees,
)
from understudy.imaging.similarity import apply
from understudy.model.augment import Batch
from understudy.model.losses import reconstruction_loss
from understudy.model.trainer import Trainer
from understudy.perception.embed import Embedder, dlib_embedder
from understudy.perception.landmarks import UPRIGHT, MeshLandmarker, mesh_landmarker, where_the_mean_face_lies
from understudy.stages._training_faces import PerformerFaces
from understudy.stages._training_state import Judgement
from understudy.types import BadInput, FloatArray, Image, Reporter

MOST_FACES = 16
NUM_SEEN_FACES = 8
"""Faces of each performer that the two face networks look at: one judgement is then about a second on one core."""

PERCEPTION_AFTER_SECONDS = 30.0
"""Shorter runs are not worth loading the face networks for."""

FEWEST_JUDGEMENTS, FEWEST_TO_STOP, FEWEST_SINCE = 4, 10, 3
"""Before the learning rate falls: for a verdict, for ending a run by it; and of a stretch of the run that is judged."""

FEWEST_STEPS = 100
"""Before that the smoothed training loss has hardly begun to follow."""

STRETCH, LEAST_FALL = 1 / 2, 0.03
"""A plateau: over the last half of the steps the error surely fell by less than that."""


def _only(performer: PerformerFaces, chosen: Tensor) -> PerformerFaces:
    """Those faces alone (by number, or as a mask), with all that is known of each."""
    by_face = {
        field.name: getattr(performer, field.name)[chosen]
        for field in fields(performer)
        if isinstance(getattr(performer, field.name), Tensor) and len(getattr(performer, field.name)) == len(performer.crops)
    }
    return replace(performer, **by_face)


class Judge:
    """Scores a trainer on the held-out faces; there must be some of each performer."""

    def __init__(self, held_out: Sequence[PerformerFaces]) -> None:
        self._held_out = {each.performer: _only(each, _evenly_spread(len(each.crops), MOST_FACES)) for each in held_out}
        self._people = {each.performer: np.nanmean(np.asarray(each.gallery, np.float64), axis=0) for each in held_out}
        self._viewer: _Viewer | None = None

    def judge(self, trainer: Trainer, seconds: float, report: Reporter) -> Judgement:
        """Errors and figures of the network in use, after `seconds` of training."""
        held = {name: _drawn_as(trainer, name, _undisturbed(trainer, faces)) for name, faces in self._held_out.items()}
        glance = self._glance(trainer, {name: (batch, drawn[name]) for name, (batch, drawn) in held.items()})
        glance = replace(glance, figures={**glance.figures, "leak": round(leak_of_means(trainer.performers, held), 4)})
        if seconds < PERCEPTION_AFTER_SECONDS:
            return glance
        seen = {name: round(value, 4) for name, value in self._seen(trainer, held).items() if np.isfinite(value)}
        return replace(glance, figures={**glance.figures, **seen})

    def glance(self, trainer: Trainer) -> Judgement:
        """What of a judgement needs neither a swap nor a face network, and so takes a fraction of its time."""
        batches = {name: _undisturbed(trainer, faces) for name, faces in self._held_out.items()}
        return self._glance(trainer, {name: (batch, _restored(trainer, name, batch)) for name, batch in batches.items()})

    def _glance(self, trainer: Trainer, held: Mapping[str, tuple[Batch, Tensor]]) -> Judgement:
        batches = {
            name: trainer.still_batch(name, _evenly_spread(len(trainer.crops[name]), MOST_FACES)) for name in self._held_out
        }
        learned = {name: (batch, _restored(trainer, name, batch)) for name, batch in batches.items()}
        figures = {
            "sharpness": _mean(_sharpness_ratio(*each) for each in held.values()),
            "variation": _mean(_variation(*each) for each in held.values()),
        }
        known = {name: round(value, 4) for name, value in figures.items() if np.isfinite(value)}
        return Judgement(trainer.num_steps, _error(trainer, held), _error(trainer, learned), known)

    def _seen(self, trainer: Trainer, held: Mapping[str, tuple[Batch, Mapping[str, Tensor]]]) -> dict[str, float]:
        """What a face network makes of the swaps: nearer to the performer or to the plate, and as lively as the plate?

        The network that judges identity is never part of a loss. Nothing is told where its weights are not on this machine.
        """
        if self._viewer is None:
            try:
                self._viewer = _Viewer(trainer.recipe.framing, trainer.recipe.resolution_px)
            except BadInput:
                return {}
        identity, expression, pose = [], [], []
        for name, (batch, drawn) in held.items():
            for other in _others(trainer.performers, name):
                plates, swaps = (as_pictures(evenly(each, NUM_SEEN_FACES)) for each in (batch.target, drawn[other][:, :3]))
                identity.append(self._viewer.identity(swaps, self._people[name], self._people[other]))
                gain, degrees = self._viewer.expression_and_pose(swaps, plates)
                expression.append(gain)
                pose.append(degrees)
        return {"identity": _mean(identity), "expression": _mean(expression), "pose": _mean(pose)}


def _others(performers: Sequence[str], name: str) -> list[str]:
    """Whom a performer is drawn as when it is judged: the next one, so that the time grows with their number only."""
    return [performers[(performers.index(name) + 1) % len(performers)]]


class _Viewer:
    """The two face networks, told where the face lies in the network's pictures: where the mean face does."""

    def __init__(self, region: str, size_px: int) -> None:
        self._embedder: Embedder = dlib_embedder()
        self._landmarker: MeshLandmarker = mesh_landmarker(UPRIGHT)
        self._where = where_the_mean_face_lies(framing(region), size_px)
        self._points = apply(crop_from_face(framing(region), size_px), mean_face()[:, :2])

    def identity(self, swaps: Sequence[Image], plate: FloatArray, performer: FloatArray) -> float:
        """+1 is the performer, -1 the plate's own."""
        embeddings = self._embedder.batch(swaps, [self._points] * len(swaps))
        return float(np.mean(identity_scores(embeddings, plate, performer)))

    def expression_and_pose(self, swaps: Sequence[Image], plates: Sequence[Image]) -> tuple[float, float]:
        """How much of the plate's play of mouth, smile, brows and eyes the swaps have, 1 all of it; and by how many degrees
        their heads are turned otherwise."""
        (swap_play, swap_heads), (plate_play, plate_heads) = (self._play_and_heads(faces) for faces in (swaps, plates))
        gain = mean_gain(np.stack([swap_play, plate_play], axis=1))
        return gain, float(np.nanmean(pose_errors_degrees(swap_heads, plate_heads)))

    def _play_and_heads(self, faces: Sequence[Image]) -> tuple[FloatArray, FloatArray]:
        """(N, 4): mouth, smile, brows and eyes of each face; (N, 3, 3): how its head is turned."""
        found = self._landmarker.batch(faces, [self._where] * len(faces))
        meshes, rotations = frontal(np.stack([each.points for each in found]))
        return expression_measures(meshes), rotations


def evenly(values: Tensor, most: int) -> Tensor:
    """At most so many rows, spread evenly over all."""
    return values[_evenly_spread(len(values), most).to(values.device)]


def _evenly_spread(num: int, most: int) -> Tensor:
    """Which of `num` rows to take so that they are at most so many, spread evenly over all."""
    return torch.linspace(0, num - 1, min(num, most)).round().long()


def as_pictures(pictures: Tensor) -> list[Image]:
    """(N, 3, R, R) in 0..1 -> N pictures (R, R, 3) uint8."""
    return list((pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy())


@torch.inference_mode()
def _drawn_as(trainer: Trainer, name: str, batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
    """A performer's faces, and the same drawn as itself and as the next one."""
    codes = trainer.read(trainer.shown, name, batch)
    return batch, {other: trainer.shown.decode(codes, other) for other in (name, *_others(trainer.performers, name))}


@torch.inference_mode()
def _restored(trainer: Trainer, name: str, batch: Batch) -> Tensor:
    """A performer's faces drawn as itself."""
    return trainer.shown.decode(trainer.read(trainer.shown, name, batch), name)


def _undisturbed(trainer: Trainer, faces: PerformerFaces) -> Batch:
    """Held-out faces as the network is shown them in use."""
    name = faces.performer
    told = trainer.expressions_of(name, faces.readings) if trainer.expressions else None
    return trainer.undisturbed(faces.crops.to(trainer.crops[name].device), told)


def leak_of_means(performers: Sequence[str], held: Mapping[str, tuple[Batch, Mapping[str, Tensor]]]) -> float:
    """How far swaps lie on the way from the performer's own faces (0) to the plate's (1), on average over the faces of each.

    What `evaluate` measures face by face where the truth is known (docs/conventions.md), of mean faces, since here none is:
    pose and play, in which the faces held out of two performers differ, are in it too.
    """
    leaks = []
    for name, (batch, drawn) in held.items():
        for other in _others(performers, name):
            theirs = held[other][0]
            within = batch.face.mean(0) * theirs.face.mean(0)
            swap, plate, truth = (each.mean(0) for each in (drawn[other][:, :3], batch.target, theirs.target))
            apart = (within * (plate - truth) ** 2).sum()
            leaks.append(float((within * (swap - truth) * (plate - truth)).sum() / apart.clamp_min(1e-9)))
    return _mean(leaks)


def _error(trainer: Trainer, faces: Mapping[str, tuple[Batch, Tensor]]) -> float:
    return _mean(float(reconstruction_loss(drawn, batch, trainer.recipe)) for batch, drawn in faces.values())


def _sharpness_ratio(batch: Batch, drawn: Tensor) -> float:
    """Spread of the finest detail within the face, restored over true."""

    def fine(pictures: Tensor) -> Tensor:
        grey = pictures.mean(1, keepdim=True)
        detail = grey - torch.nn.functional.avg_pool2d(grey, 3, stride=1, padding=1, count_include_pad=False)
        return (detail**2 * batch.face).sum().sqrt()

    return float(fine(drawn[:, :3]) / fine(batch.target).clamp_min(1e-6))


def _variation(batch: Batch, drawn: Tensor) -> float:
    """How much restored faces differ from each other, over how much true ones do."""
    within = (drawn[:, :3] * batch.face, batch.target * batch.face)
    of_drawn, of_true = ((pictures.var(0, unbiased=False).sum() + 1e-9).sqrt() for pictures in within)
    return float(of_drawn / of_true)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


# ---- in words -------------------------------------------------------------------------------------------------------------


def has_stopped_improving(judgements: Sequence[Judgement]) -> bool:
    """Whether more of the same would not help: a plateau, or over-fitting."""
    return len(judgements) >= FEWEST_TO_STOP and verdict(judgements, []).startswith(("plateau", "over-fitting"))


def verdict(judgements: Sequence[Judgement], losses: Sequence[tuple[int, float]]) -> str:
    """In words, whether more training would help, by faces held out; without any, whether the training loss still falls.

    At the end of a run the error falls because the learning rate does, whatever was still to be learned: what was judged then
    says nothing of a longer run, and only what was judged before counts.
    """
    judgements = [each for each in judgements if np.isfinite(each.error)]  # a network that has gone wrong draws no numbers
    before = [each for each in judgements if not each.is_cooling]
    if len(before) < FEWEST_JUDGEMENTS or before[-1].step < FEWEST_STEPS:
        return _verdict_of_losses(losses) if not judgements else "too short to judge"
    if by_heart := _learned_by_heart_since(judgements):
        return by_heart
    until = "" if before[-1] is judgements[-1] else f" when the learning rate began to fall, at step {before[-1].step}"
    latest = [each for each in before if each.step > (1 - STRETCH) * before[-1].step]
    latest = latest if len(latest) >= FEWEST_SINCE else before[-FEWEST_SINCE:]
    fall, doubt = _fall(latest)
    if fall + doubt < LEAST_FALL:
        level = (1 + LEAST_FALL) * float(np.mean([each.error for each in latest]))
        since = next(each.step for each in before if each.error <= level)
        return f"plateau since step {since}: the error on held-out faces no longer fell{until or ' since'}"
    stretch = f"over the last half of the {'steps before' if until else 'run'}"
    if fall < doubt:
        return f"not clear yet{until}: the error on held-out faces scatters more than it falls {stretch}"
    return f"still improving{until}: the error on held-out faces fell by {100 * fall:.0f} % {stretch}"


def _fall(judgements: Sequence[Judgement]) -> tuple[float, float]:
    """By which share the error fell over these three or more judgements, and twice its standard error.

    A line through the error's logarithm, since from one judgement to the next it goes up and down by some per cent.
    """
    steps = np.array([each.step for each in judgements], np.float64)
    errors = np.log(np.maximum([each.error for each in judgements], 1e-12))
    length, steps, errors = steps[-1] - steps[0], steps - steps.mean(), errors - errors.mean()
    spread = max(1.0, float((steps**2).sum()))  # a last state is judged anew each time that a finished run is asked for again
    slope = float((steps * errors).sum()) / spread
    variance = float(((errors - slope * steps) ** 2).sum()) / (len(steps) - 2) / spread
    return float(1 - np.exp(slope * length)), float(2 * length * np.sqrt(variance))


def _learned_by_heart_since(judgements: Sequence[Judgement]) -> str:
    """In words, since when held-out faces have been restored worse and those learned from better; "" where they were not."""
    errors = [each.error for each in judgements]
    best = int(np.argmin(errors))
    last = float(np.median(errors[-FEWEST_SINCE:]))
    is_learning_by_heart = judgements[-1].train_error < judgements[best].train_error
    if best >= len(errors) - FEWEST_SINCE or last <= 1.02 * errors[best] or not is_learning_by_heart:
        return ""
    percent = 100 * (last / errors[best] - 1)
    since = f"the error on held-out faces rose by {percent:.0f} % since, on training faces it fell"
    return f"over-fitting since step {judgements[best].step}: {since}"


def _verdict_of_losses(losses: Sequence[tuple[int, float]]) -> str:
    """The last fifth of (step, smoothed loss) against the fifth before it."""
    if len(losses) < 20 or losses[-1][0] < FEWEST_STEPS:
        return "too short to judge"
    fifth = len(losses) // 5
    before, last = (float(np.median([loss for _, loss in part])) for part in (losses[-2 * fifth : -fifth], losses[-fifth:]))
    fall_percent = 100 * (before - last) / before
    if fall_percent > 1:
        return f"still improving: the training loss fell by {fall_percent:.0f} % over the last fifth of the run"
    return f"plateau since about step {losses[-2 * fifth][0]}: the training loss no longer falls"
