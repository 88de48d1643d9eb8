"""A run may be drawn back to what it began with: only where something was taken over, and the same after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawn_faces import draw_face_set
from tiny_training import TINY, assert_same_weights, weights
from understudy.model.memory import plan_memory
from understudy.model.trainer import StepResult, Trainer
from understudy.recipes import train_recipe
from understudy.stages.train import train
from understudy.trust.consent import create_record
from understudy.types import BadInput, Event

BEGUN = replace(TINY, code_size=256, width=1.0, starter="rendered")
STEADY = replace(BEGUN, warmup_steps=0, decay_fraction=0.0)
"""Each step by the whole learning rate, and so all the way back by `decay_to_start=1`."""


def test_a_run_that_is_drawn_back_stays_nearer_to_its_start(face_sets: list[Path], consented: Path, tmp_path: Path) -> None:
    free, held = tmp_path / "free", tmp_path / "held"
    train(face_sets, free, recipe=STEADY, steps=4, consent=consented)
    train(face_sets, held, recipe=replace(STEADY, decay_to_start=0.1), steps=4, consent=consented)
    start = weights(held, "start")
    gone = [sum(float((weights(out)[name] - each).square().sum()) for name, each in start.items()) for out in (free, held)]
    assert 0 < gone[1] < 0.9 * gone[0]


def test_only_what_was_taken_over_is_drawn_back(face_sets: list[Path], consented: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    train(face_sets, old, recipe=replace(TINY, warmup_steps=0), steps=2, consent=consented)
    create_record(consented, "carol", "synthetic")
    carol = draw_face_set(tmp_path / "carol", "carol", (120, 120, 180))
    recipe = replace(TINY, warmup_steps=0, decay_fraction=0.0, decay_to_start=1.0)
    train([*face_sets, carol], new, recipe=recipe, steps=1, start_from=old, consent=consented)
    before, begun, after = weights(old, "ema"), weights(new, "start"), weights(new)
    assert begun.keys() == before.keys()
    assert all(torch.equal(after[name], each) for name, each in before.items())
    train([*face_sets, carol], new, recipe=recipe, steps=2, start_from=old, consent=consented)
    assert all(torch.equal(weights(new)[name], each) for name, each in before.items())
    assert any(not torch.equal(weights(new)[name], each) for name, each in after.items() if "carol" in name)


def test_a_run_that_is_drawn_back_goes_on_bit_for_bit(
    face_sets: list[Path], consented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(BEGUN, decay_to_start=0.1)
    train(face_sets, tmp_path / "unbroken", recipe=recipe, steps=4, consent=consented)

    def stop_at_two(trainer: Trainer, progress: float) -> StepResult:
        if trainer.num_steps == 2:
            raise KeyboardInterrupt
        return step(trainer, progress)

    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        train(face_sets, tmp_path / "stopped", recipe=recipe, steps=4, consent=consented)
    monkeypatch.undo()
    train(face_sets, tmp_path / "stopped", recipe=recipe, steps=4, consent=consented)
    assert_same_weights(tmp_path / "unbroken", tmp_path / "stopped", ("weights", "ema", "optimizer", "start"))


def test_a_run_that_began_at_random_says_that_there_is_nothing_to_be_drawn_back_to(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    recipe = replace(STEADY, starter="none")
    for decay in (0.0, 0.5):
        out, asked = tmp_path / f"{decay}", replace(recipe, decay_to_start=decay)
        train(face_sets, out, recipe=asked, steps=2, consent=consented, report=heard.append)
    assert [event.message for event in heard if event.kind == "warning"] == [
        "decay_to_start does nothing: what learns began with no starter and no model"
    ]
    assert_same_weights(tmp_path / "0.0", tmp_path / "0.5")
    train(face_sets, tmp_path / "0.5", recipe=replace(recipe, decay_to_start=0.5), steps=3, consent=consented)
    with pytest.raises(BadInput, match="setting decay_to_start: expected 0 to 1, got 2"):
        train_recipe("quick", {"decay_to_start": 2.0})


def test_the_memory_of_the_start_is_planned() -> None:
    plain, begun = (plan_memory(replace(BEGUN, decay_to_start=decay), free_gb=4.0) for decay in (0.0, 0.001))
    assert begun.fixed_gb > plain.fixed_gb
