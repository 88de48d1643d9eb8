"""A run is judged on faces it never learned from: in words, for the best checkpoint, and for when to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_training import TINY
from understudy.model.swapper import load_swapper
from understudy.model.trainer import StepResult, Trainer
from understudy.stages._training_faces import is_held_out
from understudy.stages._training_judge import has_stopped_improving, verdict
from understudy.stages._training_state import Judgement
from understudy.stages.train import train
from understudy.store.checkpoints import best_valid, latest_valid


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([(step, 1 / step) for step in range(1, 101)], "still improving"),
        ([(step, 0.5) for step in range(1, 101)], "plateau"),
        ([(1, 0.5)], "too short"),
    ],
)
def test_the_verdict_is_in_words(losses: list[tuple[int, float]], words: str) -> None:
    assert words in verdict([], losses)


def judged(errors: list[float], train_errors: list[float] | None = None) -> list[Judgement]:
    both = zip(errors, train_errors or errors, strict=True)
    return [Judgement(100 * (number + 1), error, train_error) for number, (error, train_error) in enumerate(both)]


@pytest.mark.parametrize(
    ("errors", "train_errors", "words"),
    [
        ([1 / step for step in range(1, 13)], None, "still improving: the error on held-out faces fell by"),
        ([1, 0.6, 0.5, 0.5, 0.501, 0.499, 0.5, 0.5, 0.5], None, "plateau since step 300"),
        ([1, 0.6, 0.5, 0.55, 0.6, 0.65, 0.7, 0.7], [1, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1], "over-fitting since step 300"),
    ],
)
def test_the_verdict_on_held_out_faces_is_in_words(errors: list[float], train_errors: list[float] | None, words: str) -> None:
    judgements = judged(errors, train_errors)
    assert words in verdict(judgements, [])
    assert has_stopped_improving(judgements) == (not words.startswith("still"))


def test_held_out_faces_are_stretches_of_time_and_always_the_same() -> None:
    held = is_held_out(300, 0.08)
    assert held.sum() == 24
    assert (np.diff(held.astype(int)) == 1).sum() == 4
    assert not held[:10].any()
    assert not held[-10:].any()
    assert (is_held_out(300, 0.08) == held).all()
    assert not is_held_out(300, 0.0).any()


def test_best_names_the_checkpoint_with_the_least_error_on_held_out_faces(face_sets: list[Path], tmp_path: Path) -> None:
    # The last steps ruin the model: a learning rate that grows as no schedule would.
    recipe = replace(TINY, learning_rate=3e-3, warmup_steps=0, decay_fraction=0.0, ema_decay=0.0, gradient_clip=0.0)
    train(face_sets, tmp_path, recipe=recipe, steps=20)
    step = Trainer.step

    def ruinous(trainer: Trainer, progress: float) -> StepResult:
        result = step(trainer, progress)
        with torch.no_grad():
            for weight in trainer.network.parameters():
                weight.mul_(0.5)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", ruinous)
        train(face_sets, tmp_path, recipe=recipe, steps=24)
    judgements = latest_valid(tmp_path).state["judgements"]
    assert judgements[-1]["step"] == 24
    assert best_valid(tmp_path).step <= 20
    best = min(judgements, key=lambda each: each["error"])
    assert best["error"] < judgements[-1]["error"]
    assert load_swapper(tmp_path).checkpoint == best_valid(tmp_path).path


def test_training_until_a_plateau_cools_down_and_stops_by_itself(face_sets: list[Path], tmp_path: Path) -> None:
    nothing_to_learn = replace(TINY, learning_rate=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("understudy.stages.train.JUDGE_SHARE", 1.0)
        result = train(face_sets, tmp_path, recipe=nothing_to_learn, steps=100_000, until="plateau")
    assert result.figures["step"] < 1000
    assert result.figures["verdict"].startswith("plateau since step")
    plateau_at = latest_valid(tmp_path).state["plateau_at"]
    assert result.figures["step"] == pytest.approx(plateau_at / (1 - TINY.decay_fraction), abs=1), "it cooled down first"
