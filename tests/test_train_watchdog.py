"""A run that collapses is noticed, taken back and sent another way, and what is bad is never saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_training import TINY, weights
from understudy.model.augment import Batch
from understudy.model.schedule import Moment
from understudy.model.trainer import StepResult, Trainer
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid
from understudy.types import Event, TrainingDiverged


def test_a_batch_that_is_no_number_is_left_out_and_the_run_goes_on(face_sets: list[Path], tmp_path: Path) -> None:
    events: list[Event] = []
    with _poisoned_batches(steps={3}):
        result = train(face_sets, tmp_path, recipe=TINY, steps=6, report=events.append)
    assert result.figures["step"] == 6
    assert result.figures["num_incidents"] == 1
    (incident,) = latest_valid(tmp_path).state["incidents"]
    assert incident["step"] == 4
    assert "bea" in incident["what"]
    assert [event for event in events if event.kind == "warning" and "incident at step 4" in event.message]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(tmp_path).values())


def test_a_run_that_only_gives_no_numbers_goes_back_and_on_by_another_way(face_sets: list[Path], tmp_path: Path) -> None:
    with _poisoned_batches(steps=set(range(4, 100)), only_attempt=0):
        result = train(face_sets, tmp_path, recipe=replace(TINY, checkpoint_seconds=1e9), steps=12)
    assert result.figures["step"] == 12
    state = latest_valid(tmp_path).state
    assert state["random"]["attempt"] == 1
    assert "went back to step 0" in state["incidents"][-1]["remedy"], "nothing was saved yet: it began anew"


@pytest.mark.parametrize(("checkpoint_seconds", "back_at"), [(1e9, 0), (0.0, 8)])
def test_a_run_killed_right_after_going_back_remembers_it(
    face_sets: list[Path], tmp_path: Path, checkpoint_seconds: float, back_at: int
) -> None:
    recipe = replace(TINY, checkpoint_seconds=checkpoint_seconds)
    with _poisoned_batches(steps=set(range(4, 100)), only_attempt=0):
        with _killed_on_attempt(1), pytest.raises(Killed):
            train(face_sets, tmp_path, recipe=recipe, steps=12)
        checkpoint = latest_valid(tmp_path)
        assert (checkpoint.step, checkpoint.state["random"]["attempt"]) == (back_at, 1)
        result = train(face_sets, tmp_path, recipe=recipe, steps=12)
    assert result.figures["step"] == 12
    went_back = [each for each in latest_valid(tmp_path).state["incidents"] if "went back" in each["remedy"]]
    assert len(went_back) == 1, "it did not have to go back again"


class Killed(BaseException):
    """Stands for a kill: nothing in the run expects it."""


@contextmanager
def _killed_on_attempt(attempt: int) -> Iterator[None]:
    step = Trainer.step

    def killed(trainer: Trainer, progress: float) -> StepResult:
        if trainer.attempt == attempt:
            raise Killed
        return step(trainer, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        yield


def test_a_run_that_never_gives_numbers_ends_in_words(face_sets: list[Path], tmp_path: Path) -> None:
    with _poisoned_batches(steps=set(range(1000))), pytest.raises(TrainingDiverged, match="going back 5 times has not helped"):
        train(face_sets, tmp_path, recipe=TINY, steps=40)


def test_spoiled_weights_are_passed_over_for_an_older_checkpoint(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path, recipe=TINY, steps=2)
    _poison_next_start(latest_valid(tmp_path).path)
    result = train(face_sets, tmp_path, recipe=TINY, steps=4)
    assert result.figures["step"] == 4
    assert "went back to step 1" in latest_valid(tmp_path).state["incidents"][-1]["remedy"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(tmp_path).values())


@contextmanager
def _poisoned_batches(steps: set[int], only_attempt: int | None = None) -> Iterator[None]:
    """Within it, bea's batch of those steps holds a NaN, as a broken picture or an overflow would make it."""
    draw = Trainer._draw

    def poisoned(trainer: Trainer, performer: str, now: Moment) -> Batch:
        batch = draw(trainer, performer, now)
        if performer == "bea" and now.step in steps and only_attempt in (None, now.attempt):
            batch.target[0, 0, 0, 0] = torch.nan
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_draw", poisoned)
        yield


def _poison_next_start(checkpoint: Path) -> None:
    """Put a NaN into saved weights, and the right hash beside it, as if training itself had made it."""
    import hashlib

    path = checkpoint / "weights.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    state = json.loads((checkpoint / "state.json").read_text())
    state["files"][path.name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
    (checkpoint / "state.json").write_text(json.dumps(state))
