"""A run that several processes share ends as one alone; one may begin from a model, with the consent of all in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

import killing
from drawn_faces import draw_face_set
from tiny_training import TINY, weights
from understudy.imaging.expression import FORMER_PARTS, READINGS, UNITS, Drive, Told, read_expressions
from understudy.model.folder import ANCESTORS_FILE, GALLERIES_FILE, people_in, read_ancestors
from understudy.model.memory import plan_memory
from understudy.model.swapper import load_swapper
from understudy.model.trainer import StepResult, Trainer
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid
from understudy.store.faceset import FaceSet
from understudy.store.manifest import read_manifest
from understudy.trust.consent import create_record
from understudy.types import BadInput, Event, Refused

SHARED = replace(TINY, batch_size=4, code_size=256, starter="rendered", precision="float32")


def _train_as_rank(rank: int, port: int, face_sets: list[Path], out: Path, consent: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    result = train(face_sets, out, recipe=SHARED, steps=6, consent=consent)
    assert result.figures["step"] == 6


def _refused_as_rank(rank: int, port: int, face_sets: list[Path], out: Path, consent: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        _train_as_rank(rank, port, face_sets[:: 1 - 2 * rank], out, consent)
    out.with_name(f"rank{rank}.txt").write_text(str(refusal.value))


def test_processes_that_were_given_the_face_sets_in_another_order_all_refuse(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    port = killing.free_port()
    ranks = [killing.start(_refused_as_rank, rank, port, face_sets, tmp_path / "shared", consented) for rank in range(2)]
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    for rank in range(2):
        words = (tmp_path / f"rank{rank}.txt").read_text()
        assert words.startswith(
            "process 1 of this run was given other faces than process 0, or in another order; start all with"
        )
    assert latest_valid(tmp_path / "shared") is None


@pytest.mark.slow
def test_a_run_that_two_processes_share_ends_as_one_alone(face_sets: list[Path], consented: Path, tmp_path: Path) -> None:
    port = killing.free_port()
    ranks = [killing.start(_train_as_rank, rank, port, face_sets, tmp_path / "shared", consented) for rank in range(2)]
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    train(face_sets, tmp_path / "alone", recipe=SHARED, steps=6)
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


@pytest.mark.parametrize("change", [{"width": 0.5}, {"architecture": "deep", "resolution_px": 64}])
def test_a_model_of_which_only_biases_fit_is_not_begun_from(
    face_sets: list[Path], tmp_path: Path, change: dict[str, object]
) -> None:
    train(face_sets, tmp_path / "old", recipe=TINY, steps=1)
    with pytest.raises(BadInput, match=r"--from .*old: none of its layers fits this recipe"):
        train(face_sets, tmp_path / "new", recipe=replace(TINY, **change), steps=1, start_from=tmp_path / "old")


def layers_of(model: Path) -> set[str]:
    """The layers of its network: whatever has a weight, with or without a bias."""
    return {name.removesuffix(".weight") for name in weights(model) if name.endswith(".weight")}


def test_a_run_says_how_much_of_a_model_it_began_with(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path / "old", recipe=TINY, steps=1)
    heard: list[Event] = []
    train(face_sets, tmp_path / "new", recipe=TINY, steps=1, start_from=tmp_path / "old", take="encoder", report=heard.append)
    layers = layers_of(tmp_path / "new")
    encoder = sum(name.startswith("encoder.") for name in layers)
    words = f"beginning with {encoder} of {len(layers)} layers of {tmp_path / 'old'}"
    assert any(words in event.message for event in heard)


def test_a_run_goes_on_in_smaller_pieces_where_less_memory_is_free_by_now(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, pieces = replace(TINY, batch_size=4), []
    step = Trainer.step

    def watched(trainer: Trainer, progress: float) -> StepResult:
        pieces.append(trainer.micro_batch)
        return step(trainer, progress)

    monkeypatch.setattr(Trainer, "step", watched)
    heard: list[Event] = []
    train(face_sets, tmp_path, recipe=recipe, steps=1, report=heard.append)
    assert not any("GB" in event.message for event in heard), "nobody need know of memory that is plenty"
    plan = plan_memory(recipe, num_faces=64)
    little = (plan.fixed_gb + 2.5 * plan.face_gb) / 0.85
    monkeypatch.setattr("understudy.model.memory.free_memory_gb", lambda: little)
    train(face_sets, tmp_path, recipe=recipe, steps=2, report=heard.append)
    assert pieces == [4, 2]
    assert any("fits in pieces of 2 of 4 faces" in event.message for event in heard)


def test_what_to_take_of_a_model_that_is_not_named_is_refused(face_sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--take encoder was given without --from"):
        train(face_sets, tmp_path / "new", recipe=TINY, steps=1, take="encoder")
    assert not (tmp_path / "new").exists()


def test_a_model_of_before_the_gaze_was_told_swaps_goes_on_and_can_be_begun_from(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with monkeypatch.context() as former_version:
        former_version.setattr("understudy.stages.train.Told", lambda: Told(FORMER_PARTS[1], is_in_units=False))
        train(face_sets, old, recipe=TINY, steps=2)
    assert len(weights(old)["encoder.to_code.bias"]) == TINY.code_size - 8
    with FaceSet.open(face_sets[0]) as faces:
        readings = read_expressions(faces.faces()[:2])
    crops = np.full((2, 32, 32, 3), 128, np.uint8)
    gaze = 0.02 * (np.array(READINGS) == "gaze")
    drawn = [load_swapper(old).swap(crops, "abel", "bea", Drive(told)) for told in (readings, readings + gaze)]
    np.testing.assert_array_equal(*drawn)
    assert train(face_sets, old, recipe=TINY, steps=4).figures["step"] == 4
    train(face_sets, new, recipe=TINY, steps=1, start_from=old)
    assert len(weights(new)["encoder.to_code.bias"]) == TINY.code_size - 9
    assert latest_valid(new).state["lineage"][0]["layers_taken"] == f"{len(layers_of(new))} of {len(layers_of(new))}"


def test_a_model_that_was_told_by_each_ones_own_spread_goes_on_so_and_a_new_one_is_told_in_units_that_all_share(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with monkeypatch.context() as former_version:
        former_version.setattr("understudy.stages.train.Told", lambda: Told(is_in_units=False))
        train(face_sets, old, recipe=TINY, steps=2)
    before = latest_valid(old).state["expressions"]
    train(face_sets, old, recipe=TINY, steps=4)
    assert latest_valid(old).state["expressions"] == before
    train(face_sets, new, recipe=TINY, steps=1, start_from=old)
    after = latest_valid(new).state["expressions"]
    assert all(each["spread"][0] == UNITS["mouth opening"] for each in after.values())
    assert not any(each["spread"][0] == UNITS["mouth opening"] for each in before.values())


def test_a_face_set_without_irises_is_trained_on_and_said_to_be_older(face_sets: list[Path], tmp_path: Path) -> None:
    older = shutil.copytree(face_sets[0], tmp_path / "abel")
    connection = sqlite3.connect(older / "faces.sqlite")
    connection.execute("UPDATE faces SET irises = NULL")
    connection.commit()
    connection.close()
    events: list[Event] = []
    train([older, face_sets[1]], tmp_path / "model", recipe=TINY, steps=1, report=events.append)
    assert [event.message[:27] for event in events if event.kind == "warning"] == ["abel's face set is older th"]
    state = latest_valid(tmp_path / "model").state["expressions"]
    assert state["abel"]["neutral"][-1] == pytest.approx(state["bea"]["neutral"][-1], abs=1e-9)


def test_everybody_in_the_weights_that_a_run_begins_from_must_have_consented(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    few = draw_face_set(tmp_path / "few", "few", (120, 120, 180))
    train([few, face_sets[0]], tmp_path / "old", recipe=TINY, steps=1)
    train(face_sets, tmp_path / "middle", recipe=TINY, steps=1, start_from=tmp_path / "old", take="encoder")
    assert set(read_ancestors(tmp_path / "middle", {})) == {"few"}
    for record in consented.glob("few*"):
        record.rename(tmp_path / record.name)
    try:
        with pytest.raises(Refused, match="few"):
            train(face_sets, tmp_path / "new", recipe=TINY, steps=1, start_from=tmp_path / "middle")
    finally:
        for record in tmp_path.glob("few.*"):
            record.rename(consented / record.name)


@pytest.mark.parametrize("file", [GALLERIES_FILE, ANCESTORS_FILE])
def test_who_is_in_a_models_weights_cannot_be_exchanged_unseen_and_the_same_command_brings_it_back(
    file: str, face_sets: list[Path], tmp_path: Path
) -> None:
    few = draw_face_set(tmp_path / "few", "few", (120, 120, 180))
    train([few, face_sets[0]], tmp_path / "old", recipe=TINY, steps=1)
    model = tmp_path / "model"

    def train_it() -> None:
        train(face_sets, model, recipe=TINY, steps=1, start_from=tmp_path / "old", take="encoder")

    train_it()
    state, whole = latest_valid(model).state, (model / file).read_bytes()
    assert set(people_in(model, state)) == {"abel", "bea", "few"}
    (model / file).write_bytes(save({name: np.zeros((1, 128), np.float32) for name in load(whole)}))
    with pytest.raises(BadInput, match=rf"{file} was changed since its checkpoint was saved: .*; restore it, or train again"):
        people_in(model, state)
    assert set(people_in(model, {key: each for key, each in state.items() if key != "beside"})) == {"abel", "bea", "few"}
    train_it()
    assert (model / file).read_bytes() == whole
    (model / file).unlink()
    with pytest.raises(BadInput, match=f"lacks {file}"):
        people_in(model, state)


def test_a_model_that_fits_nothing_and_a_folder_without_one_are_refused(face_sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no checkpoint"):
        train(face_sets, tmp_path / "new", recipe=TINY, steps=1, start_from=tmp_path / "nothing")
