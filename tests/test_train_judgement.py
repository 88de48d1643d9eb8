"""A run is judged on faces it never learned from: in words, for the best checkpoint, and for when to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_training import TINY
from understudy.model.augment import Batch
from understudy.model.swapper import load_swapper
from understudy.model.trainer import StepResult, Trainer
from understudy.recipes import quick, train_recipe
from understudy.stages._training_faces import is_held_out
from understudy.stages._training_judge import FEWEST_JUDGEMENTS, FEWEST_TO_STOP, has_stopped_improving, leak_of_means, verdict
from understudy.stages._training_process import Clock
from understudy.stages._training_state import Budget, Judgement, Progress, best_of
from understudy.stages.train import train
from understudy.store.checkpoints import best_valid, latest_valid
from understudy.store.manifest import read_manifest
from understudy.types import BadInput


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
        ([1, 0.6, 0.5, 0.5, 0.501, 0.499, *[0.5] * 4], None, "plateau since step 300"),
        ([1, 0.6, 0.5, 0.55, 0.6, 0.65, *[0.7] * 4], [1, 0.6, 0.5, 0.4, 0.3, 0.2, *[0.1] * 4], "over-fitting since step 300"),
    ],
)
def test_the_verdict_on_held_out_faces_is_in_words(errors: list[float], train_errors: list[float] | None, words: str) -> None:
    judgements = judged(errors, train_errors)
    assert words in verdict(judgements, [])
    assert has_stopped_improving(judgements) == (not words.startswith("still"))


def test_the_fall_while_the_learning_rate_falls_says_nothing_of_a_longer_run() -> None:
    flat_then_cooled = judged([1, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.3])
    cooled = [replace(each, is_cooling=each.step > 900) for each in flat_then_cooled]
    assert verdict(flat_then_cooled, []).startswith("still improving")
    assert verdict(cooled, []).startswith("plateau since step 300")
    assert verdict(cooled, []).endswith("when the learning rate began to fall, at step 900")
    falling = [replace(each, is_cooling=each.step > 900) for each in judged([1 / step for step in range(1, 13)])]
    assert verdict(falling, []).startswith("still improving when the learning rate began to fall, at step 900")


def test_a_run_that_was_hardly_judged_before_it_cooled_down_is_too_short_to_judge() -> None:
    cooled = [replace(each, is_cooling=each.step > 300) for each in judged([1 / step for step in range(1, 13)])]
    assert verdict(cooled, [(step, 1 / step) for step in range(1, 101)]) == "too short to judge"


def test_a_few_judgements_give_a_verdict_but_end_no_run() -> None:
    falling = judged([0.48, 0.21, 0.19, 0.16])
    assert verdict(falling, []) == "still improving: the error on held-out faces fell by 24 % over the last half of the run"
    flat = judged([0.5] * FEWEST_TO_STOP)
    assert verdict(flat[:4], []).startswith("plateau")
    assert not has_stopped_improving(flat[:-1])
    assert has_stopped_improving(flat)


def test_a_learning_rate_that_stays_never_begins_to_fall() -> None:
    done = Progress(num_steps=100)
    assert not Budget(100, None, "spent", cool_fraction=0.0).is_cooling(done)
    assert Budget(100, None, "spent", cool_fraction=0.4).is_cooling(done)


def test_a_judgement_that_is_no_number_is_left_out_of_the_verdict() -> None:
    errors = [1 / step for step in range(1, 13)]
    assert verdict(judged([*errors, float("nan")]), []) == verdict(judged(errors), [])
    assert verdict(judged([float("nan")] * 9), []) == "too short to judge"


@pytest.mark.parametrize(("glance_seconds", "minutes"), [(0.3, 5), (0.6, 5), (0.3, 600)])
def test_a_run_is_judged_often_before_its_learning_rate_falls_and_not_without_end(
    glance_seconds: float, minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, num_glances = [0.0], 0
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock, recipe = Clock(quick()), quick()
    while now[0] < (1 - recipe.decay_fraction) * minutes * 60:
        now[0] += 0.2
        if clock.is_glance_due(now[0]):
            num_glances += 1
            with clock.judging("glance"):
                now[0] += glance_seconds
    assert FEWEST_JUDGEMENTS < num_glances < 150


def test_held_out_faces_are_stretches_of_time_and_always_the_same() -> None:
    held = is_held_out(300, 0.08)
    assert held.sum() == 24
    assert (np.diff(held.astype(int)) == 1).sum() == 4
    assert not held[:10].any()
    assert not held[-10:].any()
    assert (is_held_out(300, 0.08) == held).all()
    assert not is_held_out(300, 0.0).any()


def test_the_figures_of_a_run_are_those_of_the_checkpoint_that_best_names() -> None:
    errors = ((100, 0.2, True), (200, 0.1, True), (250, 0.09, False), (300, 0.1003, True), (400, 0.101, True))
    judgements = [Judgement(step, error, error, is_saved=is_saved) for step, error, is_saved in errors]
    assert best_of(judgements).step == 300, "half a per cent is the same, and the newer one is then the better one"
    assert best_of(judgements[:2]).step == 200
    assert best_of(judgements[2:3]) is None


def test_a_run_with_too_few_faces_to_hold_any_out_says_so_and_cannot_end_by_them(face_sets: list[Path], tmp_path: Path) -> None:
    recipe, events = replace(TINY, held_out_fraction=0.001), []
    with pytest.raises(BadInput, match=r"--until plateau is judged on faces held out, and held_out_fraction=0\.001 holds out"):
        train(face_sets, tmp_path, recipe=recipe, steps=2, until="plateau")
    train(face_sets, tmp_path, recipe=recipe, steps=2, report=events.append)
    assert any("judged by its training loss alone" in event.message for event in events if event.kind == "warning")


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
    assert read_manifest(tmp_path).figures["best_step"] == best_valid(tmp_path).step
    assert load_swapper(tmp_path).checkpoint == best_valid(tmp_path).path


FALLS_AND_SCATTERS = {
    21: 0.1299, 82: 0.1236, 155: 0.1361, 227: 0.1150, 277: 0.1139, 339: 0.1230, 409: 0.1094, 481: 0.1019, 524: 0.0998,
    586: 0.1052, 663: 0.1042, 734: 0.1033, 781: 0.1033, 841: 0.0994, 913: 0.0963, 985: 0.0942, 1037: 0.0881, 1097: 0.0868,
    1167: 0.0843, 1241: 0.0809, 1285: 0.0788, 1344: 0.0773,
}  # fmt: skip
"""`quick`, seed 1, on the bundled pair, until its learning rate fell."""
RESTED = {11: 0.1445, 55: 0.1141, 125: 0.1242, 143: 0.1207, 207: 0.1186, 274: 0.1115, 385: 0.115, 400: 0.1167, 473: 0.1126}
"""The same for fifty minutes, of which it rested in the first four."""


@pytest.mark.parametrize("curve", [FALLS_AND_SCATTERS, RESTED])
def test_a_run_that_only_rests_or_scatters_is_not_taken_for_one_that_is_done(curve: dict[int, float]) -> None:
    judgements = [Judgement(step, error, error) for step, error in curve.items()]
    for num in range(1, len(judgements) + 1):
        assert not has_stopped_improving(judgements[:num])
    assert verdict([Judgement(step, error, error) for step, error in RESTED.items()], []).startswith("not clear yet: the error")


def test_a_finished_run_that_is_asked_for_again_and_again_has_a_verdict() -> None:
    assert verdict(judged([0.5]) * 5, []).startswith("plateau since step 100")


def test_a_run_that_scatters_about_a_level_is_done() -> None:
    scatter = np.random.default_rng(0).normal(0, 0.02, 60)
    judgements = judged(list(0.05 * (1 + np.exp(-np.arange(60) / 4)) * np.exp(scatter)))
    stops = [num for num in range(1, 61) if has_stopped_improving(judgements[:num])]
    assert stops
    assert 12 < stops[0] < 50, "not before it is there, nor long after"
    assert verdict(judgements, []).startswith("plateau since step")


def test_training_until_a_plateau_cools_down_and_stops_by_itself(face_sets: list[Path], tmp_path: Path) -> None:
    nothing_to_learn = replace(TINY, learning_rate=1e-9)
    with pytest.MonkeyPatch.context() as patch:  # its steps take milliseconds, so let it look at itself as often
        patch.setattr("understudy.stages._training_process.JUDGE_SHARE", 1.0)
        result = train(face_sets, tmp_path, recipe=nothing_to_learn, steps=100_000, until="plateau")
    assert result.figures["step"] < 1000
    assert result.figures["verdict"].startswith("plateau since step")
    plateau_at = latest_valid(tmp_path).state["plateau_at"]
    assert result.figures["step"] == pytest.approx(plateau_at / (1 - TINY.decay_fraction), abs=1), "it cooled down first"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_leak_is_how_far_mean_swaps_are_on_the_way_to_the_plates_faces(share: float) -> None:
    faces = {name: torch.rand(4, 3, 8, 8) for name in ("abel", "bea")}
    mask = torch.ones(4, 1, 8, 8)
    swaps = {"abel": torch.lerp(faces["bea"], faces["abel"], share), "bea": torch.lerp(faces["abel"], faces["bea"], share)}
    partners = {"abel": "bea", "bea": "abel"}
    held = {name: (Batch(each, each, mask, mask), {partners[name]: swaps[name]}) for name, each in faces.items()}
    assert leak_of_means(tuple(faces), held) == pytest.approx(share, abs=1e-5)


def test_the_second_system_of_2017_is_judged_as_our_own_are(face_sets: list[Path], tmp_path: Path) -> None:
    recipe = train_recipe("original-gan", {"width": 1 / 32, "batch_size": 2, "num_exemplars": 0})
    train(face_sets, tmp_path, recipe=recipe, steps=2)
    (judgement,) = best_valid(tmp_path).state["judgements"]
    assert judgement["step"] == 2
    assert {"sharpness", "variation", "leak"} <= judgement["figures"].keys()
