"""Training learns, stops, goes on after any kill exactly where it was, and never leaves a broken checkpoint."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import killing
from drawn_faces import draw_face, draw_face_set
from understudy.imaging.framing import STORED, crop_from_face, framing
from understudy.imaging.similarity import compose, invert
from understudy.imaging.warp import warp_image
from understudy.model.augment import Batch
from understudy.model.schedule import Moment
from understudy.model.swapper import load_swapper, read_ancestors
from understudy.model.trainer import StepResult, Trainer
from understudy.stages._training_judge import has_stopped_improving, is_held_out, verdict
from understudy.stages._training_state import Judgement
from understudy.stages.train import train
from understudy.store.checkpoints import best_valid, latest_valid
from understudy.store.manifest import read_manifest
from understudy.trust.consent import create_record
from understudy.types import BadInput, Event, Refused, TrainingDiverged, TrainRecipe

TINY = TrainRecipe(
    resolution_px=32,
    width=0.25,
    code_size=16,
    batch_size=2,
    warmup_steps=5,
    checkpoint_seconds=0.0,
    preview_seconds=1e9,
    keep_checkpoints=2,
)
# No human skin: a flat oval in its colour looks like bare skin to the content gate.
LIGHT_SKIN, DARK_SKIN = (150, 200, 235), (50, 95, 110)


@pytest.fixture(scope="module")
def face_sets(consented: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("faces")
    return [draw_face_set(folder / "abel", "abel", LIGHT_SKIN), draw_face_set(folder / "bea", "bea", DARK_SKIN)]


def weights(model: Path, file: str = "weights") -> dict[str, torch.Tensor]:
    checkpoint = latest_valid(model)
    assert checkpoint is not None
    return load_file(checkpoint.path / f"{file}.safetensors")


def assert_same_weights(one: Path, other: Path, files: tuple[str, ...] = ("weights", "ema", "optimizer")) -> None:
    for file in files:
        first, second = weights(one, file), weights(other, file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), f"{file} differ"


def test_training_puts_the_other_performers_skin_on_a_face_and_keeps_its_mouth(face_sets: list[Path], tmp_path: Path) -> None:
    undisturbed = {"warp_fraction": 0.0, "rotation_degrees": 0.0, "scale_fraction": 0.0, "shift_fraction": 0.0}
    lively = {"batch_size": 4, "learning_rate": 3e-3, "ema_decay": 0.95, "dssim_weight": 0.0, "feature_emphasis": 10.0}
    recipe = replace(TINY, framing="face", checkpoint_seconds=1e9, brightness_fraction=0.05, **undisturbed, **lively)
    result = train(face_sets, tmp_path / "model", recipe=recipe, steps=250)
    assert result.figures["step"] == 250
    shut, agape = load_swapper(tmp_path / "model").swap(_crops(LIGHT_SKIN, recipe), "abel", "bea")
    cheek = shut[16, 10, :3] * 255
    assert np.abs(cheek - DARK_SKIN).mean() < 25, "bea's skin"
    true_shut, true_agape = _crops(DARK_SKIN, recipe) / 255.0
    true_opening, opening = true_agape - true_shut, (agape - shut)[..., :3]
    expression_gain = (opening * true_opening).sum() / (true_opening**2).sum()
    assert 0.5 < expression_gain < 1.5, "bea's mouth opens as far as abel's"
    assert shut[16, 16, 3] > 0.7, "the mask covers the middle"
    assert shut[0, 0, 3] < 0.3, "and not the corner"


def _crops(skin: tuple[int, int, int], recipe: TrainRecipe) -> np.ndarray:
    """A shut and an open mouth as the network takes them: (2, 32, 32, 3) uint8."""
    crop_from_stored = compose(crop_from_face(framing(recipe.framing), 32), invert(crop_from_face(STORED, 192)))
    return np.stack([warp_image(draw_face(skin, openness), crop_from_stored, (32, 32)) for openness in (0.0, 1.0)])


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


def test_taking_turns_gives_each_performer_moments_of_its_own_for_the_encoder(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path / "turns", recipe=replace(TINY, alternate_performers=True), steps=2)
    owners = {name.split("/")[0] for name in weights(tmp_path / "turns", "optimizer")}
    assert owners == {"0", "1"}
    train(face_sets, tmp_path / "together", recipe=TINY, steps=2)
    assert {name.split("/")[0] for name in weights(tmp_path / "together", "optimizer")} == {"0"}


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
    assert sheet.shape == (2 * 4 * 32, 6 * 32, 3), "averaged: face, restored, swapped, mask; raw: restored, swapped"


def test_a_run_leaves_a_report_with_its_curves_and_a_film_of_its_previews(face_sets: list[Path], tmp_path: Path) -> None:
    from understudy.media import probe

    result = train(face_sets, tmp_path, recipe=replace(TINY, preview_seconds=0.0), steps=8)
    page = result.outputs["report"].read_text(encoding="utf-8")
    assert "training loss by step" in page
    assert "error on undisturbed faces by step" in page
    assert str(result.figures["verdict"]) in page
    num_sheets = len(list((tmp_path / "previews").glob("*.jpg")))
    film = probe(tmp_path / "previews" / "training.mp4")
    assert film.num_frames_estimate == 8 * num_sheets


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


# ---- judgement ------------------------------------------------------------------------------------------------------------


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


# ---- several processes, and beginning from a model -------------------------------------------------------------------------


def _train_as_rank(rank: int, port: int, face_sets: list[Path], out: Path, consent: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    result = train(face_sets, out, recipe=replace(TINY, batch_size=4), steps=6, consent=consent)
    assert result.figures["step"] == 6


@pytest.mark.slow
def test_a_run_that_two_processes_share_ends_as_one_alone(face_sets: list[Path], consented: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [killing.start(_train_as_rank, rank, port, face_sets, tmp_path / "shared", consented) for rank in range(2)]
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    train(face_sets, tmp_path / "alone", recipe=replace(TINY, batch_size=4), steps=6)
    for file in ("weights", "ema"):
        shared, alone = weights(tmp_path / "shared", file), weights(tmp_path / "alone", file)
        for name in alone:
            torch.testing.assert_close(shared[name], alone[name], rtol=0, atol=1e-4)  # a tenth of a step of the learning rate


def test_a_run_may_begin_from_a_model_and_add_a_performer(face_sets: list[Path], consented: Path, tmp_path: Path) -> None:
    train(face_sets, tmp_path / "old", recipe=TINY, steps=3)
    create_record(consented, "carol", "synthetic")
    carol = draw_face_set(tmp_path / "carol", "carol", (120, 120, 180))
    train([*face_sets, carol], tmp_path / "new", recipe=TINY, steps=2, start_from=tmp_path / "old", freeze=["encoder"])
    old, new = weights(tmp_path / "old", "ema"), weights(tmp_path / "new")
    encoder = [name for name in new if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(new[name], old[name]) for name in encoder), "begun from the old one, and frozen"
    assert set(load_swapper(tmp_path / "new").performers) == {"abel", "bea", "carol"}
    (began, *_) = latest_valid(tmp_path / "new").state["lineage"]
    assert (began["at_step"], began["took"], began["performers"]) == (3, "all", ["abel", "bea"])
    assert read_manifest(tmp_path / "new").consent.keys() == {"abel", "bea", "carol"}


def test_everybody_in_the_weights_that_a_run_begins_from_must_have_consented(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    few = draw_face_set(tmp_path / "few", "few", (120, 120, 180))
    train([few, face_sets[0]], tmp_path / "old", recipe=TINY, steps=1)
    train(face_sets, tmp_path / "middle", recipe=TINY, steps=1, start_from=tmp_path / "old", take="encoder")
    assert set(read_ancestors(tmp_path / "middle")) == {"few"}
    for record in consented.glob("few*"):
        record.rename(tmp_path / record.name)
    try:
        with pytest.raises(Refused, match="few"):
            train(face_sets, tmp_path / "new", recipe=TINY, steps=1, start_from=tmp_path / "middle")
    finally:
        for record in tmp_path.glob("few.*"):
            record.rename(consented / record.name)


def test_a_model_that_fits_nothing_and_a_folder_without_one_are_refused(face_sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no checkpoint"):
        train(face_sets, tmp_path / "new", recipe=TINY, steps=1, start_from=tmp_path / "nothing")


def test_unusable_face_sets_are_refused_in_one_line(face_sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="different performers"):
        train([face_sets[0], face_sets[0]], tmp_path / "a", recipe=TINY, steps=1)
    with pytest.raises(BadInput, match="two or more"):
        train(face_sets[:1], tmp_path / "b", recipe=TINY, steps=1)
    few = draw_face_set(tmp_path / "few", "few", LIGHT_SKIN, num_faces=5)
    with pytest.raises(BadInput, match="5 usable faces"):
        train([face_sets[0], few], tmp_path / "c", recipe=TINY, steps=1)
