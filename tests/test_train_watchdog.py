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
from understudy.stages._training_state import Judgement
from understudy.stages._training_watchdog import Watchdog
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid
from understudy.types import BadInput, Event, TrainingDiverged


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


def test_a_run_killed_before_anything_is_saved_binds_its_folder_to_nothing(face_sets: list[Path], tmp_path: Path) -> None:
    with _killed_on_attempt(0), pytest.raises(Killed):
        train(face_sets, tmp_path, recipe=TINY, steps=2)
    assert (tmp_path / "galleries.safetensors").is_file()
    assert train(face_sets, tmp_path, recipe=replace(TINY, code_size=17), steps=1).figures["step"] == 1
    with pytest.raises(BadInput, match="code_size: 17 there, 16 now"):
        train(face_sets, tmp_path, recipe=TINY, steps=1)


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


def test_a_run_that_collapses_goes_back_to_before_the_collapse_and_a_second_collapse_is_noticed_too(
    face_sets: list[Path], tmp_path: Path
) -> None:
    recipe = replace(TINY, keep_checkpoints=60)
    with _ruined_after({160, 300}):
        train(face_sets, tmp_path, recipe=recipe, steps=340)
    state = latest_valid(tmp_path).state
    went_back = [(each["step"], each["back_to"]) for each in state["incidents"]]
    assert min(back_to for step, back_to in went_back if step < 300) < 160, went_back
    assert min(back_to for step, back_to in went_back if step > 300) < 300, went_back
    assert state["losses"][-1][1] < 2 * state["losses"][100][1]
    assert state["num_faces_undone"] > 0


@contextmanager
def _ruined_after(steps: set[int]) -> Iterator[None]:
    """Within it, the decoders draw black from each of these steps on, once: weights that are numbers, and good for nothing."""
    step, left = Trainer.step, set(steps)

    def ruined(trainer: Trainer, progress: float) -> StepResult:
        result = step(trainer, progress)
        if trainer.num_steps in left:
            left.remove(trainer.num_steps)
            with torch.no_grad():
                for decoder in trainer.network.decoders.values():
                    decoder.to_picture.bias.fill_(-1000.0)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", ruined)
        yield


def _step(loss: float, norm: float = 1.0, is_applied: bool = True) -> StepResult:
    return StepResult({"abel": loss, "bea": loss / 2}, norm, is_applied)


@pytest.mark.parametrize(
    ("bad", "words"),
    [(_step(0.41), "the loss rose to 4.1 times what it was"), (_step(0.1, norm=101.0), "the gradient grew to 101 times")],
)
def test_a_rise_that_lasts_is_a_collapse_and_what_was_before_it_is_sound(bad: StepResult, words: str) -> None:
    watchdog = Watchdog()
    assert not any(watchdog.look(_step(0.1), number) for number in range(200))
    said = [watchdog.look(bad, number) for number in range(200, 220)]
    assert not any(said[:10]), "a few bad steps are no collapse"
    assert said[-1].startswith(words)
    assert 150 < watchdog.sound_until < 200
    watchdog.forget_collapse()
    assert not any(watchdog.look(_step(0.1), number) for number in range(180, 200))
    assert [watchdog.look(bad, number) for number in range(200, 220)][-1].startswith(words), "the next one is noticed too"


@pytest.mark.parametrize("bad", [_step(0.39), _step(0.1, norm=99.0)])
def test_less_of_a_rise_is_none(bad: StepResult) -> None:
    watchdog = Watchdog()
    assert not any(watchdog.look(_step(0.1), number) for number in range(200))
    assert not any(watchdog.look(bad, number) for number in range(200, 240))


def test_faces_that_are_all_alike_are_a_collapse_once_they_have_differed() -> None:
    watchdog = Watchdog()
    judged = [
        Judgement(step, 0.1, 0.1, {"variation": varies}) for step, varies in ((100, 0.02), (200, 0.5), (300, 0.2), (400, 0.05))
    ]
    assert [watchdog.look_at(each) for each in judged[:3]] == ["", "", ""]
    assert watchdog.look_at(judged[3]) == "all faces are drawn alike: they vary 0.05 times as much as true faces"
    assert 100 < watchdog.sound_until < 200


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
