"""Training learns, stops, goes on after any kill exactly where it was, and never leaves a broken checkpoint."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawn_faces import draw_face, draw_face_set, drawn_irises, drawn_landmarks
from tiny_training import DARK_SKIN, LIGHT_SKIN, TINY, assert_same_weights, weights
from understudy.imaging.expression import Drive, readings_of
from understudy.imaging.framing import STORED, crop_from_face, framing
from understudy.imaging.similarity import compose, invert
from understudy.imaging.warp import warp_image
from understudy.model.swapper import load_swapper
from understudy.model.trainer import Trainer
from understudy.settings import TrainRecipe
from understudy.stages._training_faces import load_performers
from understudy.stages._training_judge import Judge
from understudy.stages._training_process import Clock
from understudy.stages._training_state import Judgement
from understudy.stages.train import build_trainer, train
from understudy.store.checkpoints import latest_valid
from understudy.trust import label
from understudy.trust.verify import verify
from understudy.types import BadInput, Event


def test_training_puts_the_other_performers_skin_on_a_face_and_keeps_its_mouth(face_sets: list[Path], tmp_path: Path) -> None:
    undisturbed = {"warp_fraction": 0.0, "rotation_degrees": 0.0, "scale_fraction": 0.0, "shift_fraction": 0.0}
    lively = {"batch_size": 4, "learning_rate": 3e-3, "ema_decay": 0.95, "dssim_weight": 0.0, "feature_emphasis": 10.0}
    recipe = replace(TINY, framing="face", checkpoint_seconds=1e9, brightness_fraction=0.05, **undisturbed, **lively)
    result = train(face_sets, tmp_path / "model", recipe=recipe, steps=250)
    assert result.figures["step"] == 250
    swapper, crops = load_swapper(tmp_path / "model"), _crops(LIGHT_SKIN, recipe)
    shut, agape = swapper.swap(crops, "abel", "bea", Drive(_readings(0.0, 1.0)))
    cheek = shut[16, 10, :3] * 255
    assert np.abs(cheek - DARK_SKIN).mean() < 35, "bea's skin, from which abel's is 108 away"
    true_shut, true_agape = _crops(DARK_SKIN, recipe) / 255.0
    true_opening, opening = true_agape - true_shut, (agape - shut)[..., :3]
    expression_gain = (opening * true_opening).sum() / (true_opening**2).sum()
    assert 0.5 < expression_gain < 1.5, "bea's mouth opens as far as abel's"
    assert shut[16, 16, 3] > 0.7, "the mask covers the middle"
    assert shut[0, 0, 3] < 0.3, "and not the corner"
    told_otherwise = swapper.swap(crops, "abel", "bea", Drive(_readings(1.0, 0.0)))[..., :3]
    told_gain = ((told_otherwise[0] - shut[..., :3]) * true_opening).sum() / (true_opening**2).sum()
    assert 0.1 < told_gain < expression_gain, "what was measured of the mouth moves it too"
    with pytest.raises(ValueError, match="what drives it"):
        swapper.swap(crops, "abel", "bea")


def _crops(skin: tuple[int, int, int], recipe: TrainRecipe) -> np.ndarray:
    """A shut and an open mouth as the network takes them: (2, 32, 32, 3) uint8."""
    crop_from_stored = compose(crop_from_face(framing(recipe.framing), 32), invert(crop_from_face(STORED, 192)))
    return np.stack([warp_image(draw_face(skin, openness), crop_from_stored, (32, 32)) for openness in (0.0, 1.0)])


def _readings(*openness: float) -> np.ndarray:
    meshes, irises = (
        np.stack(each) for each in zip(*((drawn_landmarks(each), drawn_irises(0)) for each in openness), strict=True)
    )
    return readings_of(meshes, irises, np.zeros((len(openness), 3)))


def test_a_run_that_was_stopped_goes_on_to_the_same_weights_as_an_unbroken_one(face_sets: list[Path], tmp_path: Path) -> None:
    # The schedules follow the share of the run that is done, so both must be given the same number of steps.
    train(face_sets, tmp_path / "unbroken", recipe=TINY, steps=12)

    def stop_at_five(event: Event) -> None:
        if event.kind == "progress" and event.figures["step"] >= 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _train_with_every_step_reported(face_sets, tmp_path / "stopped", TINY, stop_at_five)
    assert 5 <= latest_valid(tmp_path / "stopped").step < 12
    train(face_sets, tmp_path / "stopped", recipe=TINY, steps=12)
    assert_same_weights(tmp_path / "unbroken", tmp_path / "stopped")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_a_run_with_discriminators_that_was_killed_goes_on_to_the_same_weights(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    terms = {"adversarial_weight": 0.1, "adversarial_swap_weight": 0.1, "cycle_weight": 0.1, "harmony_weight": 0.03}
    recipe, out = replace(TINY, perceptual_weight=0.1, perceptual_from=0.0, **terms), tmp_path / "killed"
    train(face_sets, tmp_path / "unbroken", recipe=recipe, steps=20)
    context = multiprocessing.get_context("forkserver")
    asked = {"recipe": recipe, "steps": 20, "consent": consented}
    process = context.Process(target=train, args=(face_sets, out), kwargs=asked)
    process.start()
    _wait_for_a_new_checkpoint(out, 0, process)
    assert process.is_alive(), "the run ended before it could be killed: give it more steps"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 1 <= latest_valid(out).step < 20
    train(face_sets, out, recipe=recipe, steps=20)
    assert_same_weights(tmp_path / "unbroken", out, ("weights", "ema", "optimizer", "adversary"))
    licences = json.loads((out / "manifest.json").read_text())["licences"]
    assert licences["face_mesh"] == "Apache-2.0"


def _train_with_every_step_reported(face_sets: list[Path], out: Path, recipe: TrainRecipe, report) -> None:
    import understudy.stages.train as stage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "REPORT_SECONDS", 0.0)
        train(face_sets, out, recipe=recipe, steps=12, report=report)


def test_something_is_saved_before_the_first_judgement_which_takes_long(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_at_judgements: list[int | None] = []
    judge = Judge.judge

    def look(*arguments) -> Judgement:
        checkpoint = latest_valid(tmp_path)
        saved_at_judgements.append(checkpoint and checkpoint.step)
        return judge(*arguments)

    monkeypatch.setattr(Judge, "judge", look)
    train(face_sets, tmp_path, recipe=TINY, steps=3)
    assert saved_at_judgements[0] == 1


def test_the_first_checkpoint_comes_early_and_saving_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(replace(TINY, checkpoint_seconds=5))
    due: list[int] = []
    for second in range(200):
        now[0] = max(now[0], second)
        if clock.is_checkpoint_due():
            due.append(second)
            with clock.saving():
                now[0] += 3
    assert due == [1, 64, 127, 190], "3 seconds of saving are 5 % of a minute"
    assert not Clock(replace(TINY, checkpoint_seconds=1e9)).is_checkpoint_due()
    assert Clock(replace(TINY, checkpoint_seconds=0)).is_checkpoint_due(), "0 saves after every step"


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_a_valid_checkpoint_each_and_the_same_weights_in_the_end(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    num_steps, often_saved = 400, replace(TINY, checkpoint_seconds=0.05)
    train(face_sets, tmp_path / "unbroken", recipe=often_saved, steps=num_steps)
    # The server of processes may be older than this module's environment: it is told where the consent is.
    asked = {"recipe": often_saved, "steps": num_steps, "consent": consented}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["understudy.stages.train", "torch._dynamo"])  # or each start imports them again
    chance, out, last_step, num_kills = random.Random(0), tmp_path / "killed", 0, 0
    while num_kills < 10:
        process = context.Process(target=train, args=(face_sets, out), kwargs=asked)
        process.start()
        _wait_for_a_new_checkpoint(out, last_step, process)
        process.join(chance.uniform(0, 0.15))
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        num_kills += 1
        checkpoint = latest_valid(out)
        assert checkpoint is not None
        assert checkpoint.step >= last_step
        last_step = checkpoint.step
    assert num_kills == 10, f"the run ended after {num_kills} kills: give it more steps"
    train(face_sets, out, recipe=often_saved, steps=num_steps)
    assert_same_weights(tmp_path / "unbroken", out)


def _wait_for_a_new_checkpoint(out: Path, last_step: int, process: multiprocessing.Process) -> None:
    while process.is_alive() and not any(
        int(folder.name) > last_step for folder in (out / "checkpoints").glob("[0-9]*") if folder.is_dir()
    ):
        process.join(0.01)


def test_asking_again_does_nothing_and_asking_for_more_goes_on(face_sets: list[Path], tmp_path: Path) -> None:
    first = train(face_sets, tmp_path, recipe=TINY, steps=3)
    assert train(face_sets, tmp_path, recipe=TINY, steps=3).figures == first.figures
    assert train(face_sets, tmp_path, recipe=TINY, steps=5).figures["step"] == 5


def test_minutes_are_kept_and_counted_over_sessions(face_sets: list[Path], tmp_path: Path) -> None:
    began = time.monotonic()
    result = train(face_sets, tmp_path, recipe=TINY, minutes=1 / 60)
    assert result.figures["training_seconds"] >= 1
    assert time.monotonic() - began < 60
    assert train(face_sets, tmp_path, recipe=TINY, minutes=1 / 60).figures["step"] == result.figures["step"]


def test_another_recipe_into_the_same_folder_is_refused_with_the_difference(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path, recipe=TINY, steps=1)
    with pytest.raises(BadInput, match="code_size: 16 there, 17 now"):
        train(face_sets, tmp_path, recipe=replace(TINY, code_size=17), steps=1)


def test_taking_turns_gives_each_performer_moments_of_its_own_for_the_encoder(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path / "turns", recipe=replace(TINY, alternate_performers=True), steps=2)
    owners = {name.split("/")[0] for name in weights(tmp_path / "turns", "optimizer")}
    assert owners == {"0", "1"}
    train(face_sets, tmp_path / "together", recipe=TINY, steps=2)
    assert {name.split("/")[0] for name in weights(tmp_path / "together", "optimizer")} == {"0"}


def test_the_first_performers_mean_colour_is_shifted_to_the_seconds_where_the_recipe_says_so(face_sets: list[Path]) -> None:
    abel, bea = load_performers(face_sets, TINY)
    plain, shifted = (
        build_trainer([replace(abel, crops=abel.crops // 2), bea], replace(TINY, is_first_shifted_to_second=is_on))
        for is_on in (False, True)
    )

    def mean(trainer: Trainer, name: str) -> torch.Tensor:
        return trainer.crops[name][:, :3].float().mean((0, 2, 3))

    assert float((mean(plain, "abel") - mean(plain, "bea")).abs().max()) > 20, "the two differ in their colours"
    assert torch.equal(shifted.crops["bea"], plain.crops["bea"])
    assert float((mean(shifted, "abel") - mean(shifted, "bea")).abs().max()) < 4, "but for what is cut off at black and white"


def test_progress_tells_the_step_the_losses_and_how_much_is_left(face_sets: list[Path], tmp_path: Path) -> None:
    events: list[Event] = []
    _train_with_every_step_reported(face_sets, tmp_path, TINY, events.append)
    progress = [event for event in events if event.kind == "progress"]
    assert [event.done for event in progress] == list(range(1, 13))
    assert {event.total for event in progress} == {12}
    assert {"loss_abel", "loss_bea", "faces_per_second"} <= set(progress[0].figures)


def test_previews_are_sheets_of_face_restoration_swap_and_mask(face_sets: list[Path], tmp_path: Path) -> None:
    from understudy.media import read_image

    train(face_sets, tmp_path, recipe=TINY, steps=1)
    sheet = read_image(tmp_path / "previews" / "000001.jpg")
    assert sheet.shape[1] == 6 * 32, "averaged: face, restored, swapped, mask; raw: restored, swapped"
    pictures, notice = sheet[: 2 * 4 * 32], sheet[2 * 4 * 32 :]
    assert 0.02 < (notice > 128).mean() < 0.3, "light words on a dark strip"
    assert (notice < 40).mean() > 0.5
    assert (pictures < 40).mean() < 0.5
    seen = verify(tmp_path / "previews" / "000001.jpg")
    assert (seen.labels, seen.made_by_understudy) == (("xmp",), "unknown")


def test_a_run_leaves_a_report_with_its_curves_and_a_film_of_its_previews(face_sets: list[Path], tmp_path: Path) -> None:
    from understudy.media import probe

    result = train(face_sets, tmp_path, recipe=replace(TINY, preview_seconds=0.0), steps=8)
    page = result.outputs["report"].read_text(encoding="utf-8")
    assert "training loss by step" in page
    assert "error on undisturbed faces by step" in page
    assert str(result.figures["verdict"])[1:] in page
    assert 'class="large sheet"' in page
    num_sheets = len(list((tmp_path / "previews").glob("*.jpg")))
    film = probe(tmp_path / "previews" / "training.mp4")
    assert film.num_frames_estimate == 8 * num_sheets
    seen = verify(tmp_path / "previews" / "training.mp4")
    assert seen.labels == ("xmp", "comment")
    assert any("says by itself that a computer changed it" in words for words in seen.words)
    (sheet,) = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert label.DIGITAL_SOURCE_TYPE.encode() in base64.b64decode(sheet)


@pytest.mark.parametrize("mistake", [{"freeze": ["bae"]}, {"recipe": replace(TINY, resolution_px=100)}])
def test_a_mistake_does_not_bind_the_folder_that_it_named(
    face_sets: list[Path], tmp_path: Path, mistake: dict[str, object]
) -> None:
    with pytest.raises(BadInput):
        train(face_sets, tmp_path / "model", **{"recipe": TINY, "steps": 1, **mistake})
    assert not (tmp_path / "model").exists()
    assert train(face_sets, tmp_path, recipe=TINY, steps=1).figures["step"] == 1


def test_unusable_face_sets_are_refused_in_one_line(face_sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="different performers"):
        train([face_sets[0], face_sets[0]], tmp_path / "a", recipe=TINY, steps=1)
    with pytest.raises(BadInput, match="two or more"):
        train(face_sets[:1], tmp_path / "b", recipe=TINY, steps=1)
    few = draw_face_set(tmp_path / "few", "few", LIGHT_SKIN, num_faces=5)
    with pytest.raises(BadInput, match="5 usable faces"):
        train([face_sets[0], few], tmp_path / "c", recipe=TINY, steps=1)


def test_a_face_set_whose_extraction_was_stopped_is_not_trained_on(face_sets: list[Path], tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(face_sets[1], half)
    (half / "recipe.json").write_text('{"stage": "extract"}')  # what an extraction leaves until its manifest is written
    with pytest.raises(BadInput, match="half: its extraction is not finished; give the same extract command again, then train"):
        train([face_sets[0], half], tmp_path / "model", recipe=TINY, steps=1)
    assert not (tmp_path / "model").exists()
