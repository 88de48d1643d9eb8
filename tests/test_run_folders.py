"""The folder of a stage as one run: fresh, gone on with, finished, refused, in use, left free."""

from __future__ import annotations

import json
import math
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from killing import kill, start
from understudy.settings import ConvertRecipe, TrainRecipe
from understudy.store import runs
from understudy.store.atomic import atomic_write_text
from understudy.store.events import event_log
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import read_json
from understudy.store.manifest import describe_input, read_manifest
from understudy.store.runs import locked, open_run, recipe_differences
from understudy.types import BadInput, Event


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "plate.mp4"
    path.write_text("a clip")
    return path


def test_a_run_is_fresh_then_resumed_then_finished(tmp_path: Path, plate: Path):
    folder, inputs = tmp_path / "swap", {"plate": describe_input(plate)}
    with open_run(folder, "convert", ConvertRecipe(), inputs) as run:
        assert run.state == "fresh"
    with open_run(folder, "convert", ConvertRecipe(), inputs) as run:
        assert run.state == "resume"
        result = run.finish({"num_frames": np.int64(3), "score": math.nan}, {"swap": folder / "swap.mp4"}, seed=7)
    moved = folder.rename(tmp_path / "moved")
    with open_run(moved, "convert", ConvertRecipe(), inputs) as run:
        assert run.state == "finished"
        assert run.result().figures == result.figures == {"num_frames": 3, "score": None}
        assert run.result().outputs == {"swap": moved / "swap.mp4"}
    manifest = read_manifest(moved)
    assert manifest.seed == 7
    assert manifest.inputs == inputs


def test_a_finished_run_can_be_reopened_for_more(tmp_path: Path):
    with open_run(tmp_path, "train", TrainRecipe(), {}) as run:
        run.finish({"step": 10}, {})
        run.reopen()
        assert run.state == "resume"
    assert read_manifest(tmp_path) is None
    with open_run(tmp_path, "train", TrainRecipe(), {}) as run:
        assert run.state == "resume"


def test_another_recipe_is_refused_with_each_difference(tmp_path: Path):
    with open_run(tmp_path / "model", "train", TrainRecipe(), {}):
        atomic_write_text(tmp_path / "model/checkpoints/000010/state.json", "{}")
    with pytest.raises(BadInput) as caught:
        open_run(tmp_path / "model", "train", TrainRecipe(resolution_px=128, seed=3), {})
    message = str(caught.value)
    assert str(tmp_path / "model") in message
    assert "resolution_px: 96 there, 128 now; seed: 0 there, 3 now" in message
    assert "another --out" in message
    assert "\n" not in message


def test_the_same_contents_in_another_place_are_the_same_input_and_other_contents_are_not(tmp_path: Path, plate: Path):
    with open_run(tmp_path / "swap", "convert", {}, {"plate": describe_input(plate)}):
        atomic_write_text(tmp_path / "swap/ledger.jsonl", "{}")
    moved = plate.rename(tmp_path / "moved.mp4")
    open_run(tmp_path / "swap", "convert", {}, {"plate": describe_input(moved)}).close()
    moved.write_text("another clip")
    with pytest.raises(BadInput, match=r"input plate: sha256 .* there, sha256 .* now"):
        open_run(tmp_path / "swap", "convert", {}, {"plate": describe_input(moved)})


@pytest.mark.parametrize("off", ["none", None, 0, 0.0, False, ""])
def test_a_setting_that_is_newer_than_the_folder_and_off_is_no_difference(tmp_path: Path, off: object):
    recipe = {"seed": 3}
    open_run(tmp_path, "train", recipe, {}).close()
    with open_run(tmp_path, "train", {**recipe, "starter": off}, {}) as run:
        run.finish({}, {})
    written = read_json(tmp_path / "recipe.json")
    assert written["recipe"] == recipe
    assert read_manifest(tmp_path).recipe_sha256 == sha256_of_json(recipe)
    with pytest.raises(BadInput, match="starter: none there, rendered now"):
        open_run(tmp_path, "train", {**recipe, "starter": "rendered"}, {})


def test_another_default_of_how_long_it_goes_on_is_no_difference():
    there, now = ({"recipe": {"default_minutes": minutes, "seed": 0}} for minutes in (9.0, 5.0))
    assert recipe_differences(there, now) == []


def test_a_size_of_what_there_is_none_of_is_no_difference():
    there, without = {"recipe": {"seed": 0}}, {"recipe": {"seed": 0, "num_exemplars": 0, "exemplar_px": 256}}
    with_some = {"recipe": {"seed": 0, "num_exemplars": 9, "exemplar_px": 256}}
    assert recipe_differences(there, without) == []
    larger = {"recipe": {"seed": 0, "num_exemplars": 9, "exemplar_px": 512}}
    assert recipe_differences(with_some, larger) == ["exemplar_px: 256 there, 512 now"]


def test_differences_name_nested_and_absent_fields():
    there = {"recipe": {"warp": {"size": 5}, "old": 2}}
    now = {"recipe": {"warp": {"size": 6}, "new": 1}}
    assert recipe_differences(there, now) == [
        "warp.size: 5 there, 6 now",
        "old: 2 there, none now",
        "new: none there, 1 now",
    ]


def test_another_stage_or_a_strangers_folder_is_refused(tmp_path: Path):
    open_run(tmp_path / "a", "extract", {}, {}).close()
    with pytest.raises(BadInput, match="holds the work of extract, not of train"):
        open_run(tmp_path / "a", "train", {}, {})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(BadInput, match=r"not a stage's folder \(it has letters.txt\)"):
        open_run(tmp_path / "home", "train", {}, {})
    assert not (tmp_path / "home" / "recipe.json").exists()
    with pytest.raises(BadInput, match=r"letters\.txt"):
        open_run(tmp_path / "home" / "letters.txt", "train", {}, {})


def fail_in_a_run(folder: Path, made: str = "") -> None:
    with suppress(ZeroDivisionError), open_run(folder, "train", {"seed": 0}, {}) as run:
        event_log(folder)(Event("train", "started"))
        if made == "manifest.json":
            run.finish({}, {})
        elif made:
            atomic_write_text(folder / made, "{}")
        raise ZeroDivisionError


def test_a_run_that_fails_before_it_has_made_anything_leaves_the_folder_to_other_work(tmp_path: Path):
    open_run(tmp_path, "train", {"seed": 0}, {}).close()  # killed at once, say
    fail_in_a_run(tmp_path)
    with open_run(tmp_path, "train", {"seed": 1}, {}) as run:
        assert run.state == "fresh"


@pytest.mark.parametrize(("others", "is_free"), [((), True), (("plate/looks",), False), (("swap.mp4",), False)])
def test_what_serves_other_work_too_stays_where_a_run_fails_and_binds_nobody(tmp_path: Path, others: tuple, is_free: bool):
    faces = tmp_path / "plate/faces"
    with suppress(ZeroDivisionError), open_run(tmp_path, "convert", {"crf": 14}, {}, serves_others=faces):
        for name in ("plate/faces", *others):
            atomic_write_text(tmp_path / name, "here")
        raise ZeroDivisionError
    if is_free:
        assert open_run(tmp_path, "convert", {"crf": 20}, {}, serves_others=faces).state == "fresh"
    else:
        with pytest.raises(BadInput, match="crf: 14 there, 20 now"):
            open_run(tmp_path, "convert", {"crf": 20}, {}, serves_others=faces)
    assert faces.exists()


def test_what_is_no_loss_goes_where_a_run_fails_with_nothing_else_made(tmp_path: Path):
    for other, is_there in (("", False), ("checkpoints/000010/state.json", True)):
        with suppress(ZeroDivisionError), open_run(tmp_path, "train", {"seed": 0}, {}, disposable=["gate.json"]):
            for name in ("gate.json", *([other] if other else [])):
                atomic_write_text(tmp_path / name, "{}")
            raise ZeroDivisionError
        assert (tmp_path / "gate.json").exists() == is_there


@pytest.mark.parametrize("is_there", [False, True])
def test_a_run_that_fails_with_nothing_made_leaves_no_folder_where_there_was_none(tmp_path: Path, is_there: bool):
    folder = tmp_path / "model"
    if is_there:
        folder.mkdir()
    fail_in_a_run(folder)
    assert folder.exists() == is_there


KILLED_EARLY = ("plate/faces", "plate/faces-wal", "plate/looks", "plate/usual/000001", "segments/.000000.partial/swap", "gate")


@pytest.mark.parametrize(("others", "is_free"), [((), True), (("segments/000000/notes",), False), (("swap.mp4",), False)])
def test_a_run_killed_before_there_is_work_leaves_the_folder_to_other_settings(tmp_path: Path, others: tuple, is_free: bool):
    faces = tmp_path / "plate/faces"
    no_work = {"preliminary": ("plate/looks", "plate/usual/*", "segments/.*"), "disposable": ["gate"]}
    open_run(tmp_path, "convert", {"crf": 14}, {}, serves_others=faces, **no_work).close()
    for name in (*KILLED_EARLY, *others):
        atomic_write_text(tmp_path / name, "here")
    with open_run(tmp_path, "convert", {"crf": 14}, {}, serves_others=faces, **no_work) as run:
        assert run.state == "resume"
    assert all((tmp_path / name).exists() for name in KILLED_EARLY)
    if is_free:
        with open_run(tmp_path, "convert", {"crf": 20}, {}, serves_others=faces, **no_work) as run:
            assert run.state == "fresh"
        assert [name for name in KILLED_EARLY if (tmp_path / name).exists()] == ["plate/faces", "plate/faces-wal"]
    else:
        with pytest.raises(BadInput, match="crf: 14 there, 20 now"):
            open_run(tmp_path, "convert", {"crf": 20}, {}, serves_others=faces, **no_work)
        assert all((tmp_path / name).exists() for name in KILLED_EARLY)


@pytest.mark.parametrize("made", ["checkpoints/000010/state.json", "manifest.json", ".tmp-1/half"])
def test_a_run_that_fails_after_it_has_made_something_is_resumed_by_the_same_command_only(tmp_path: Path, made: str):
    fail_in_a_run(tmp_path, made)
    with pytest.raises(BadInput, match="seed: 0 there, 1 now"):
        open_run(tmp_path, "train", {"seed": 1}, {})
    with open_run(tmp_path, "train", {"seed": 0}, {}) as run:
        assert run.state == ("finished" if made == "manifest.json" else "resume")


def test_a_manifest_of_the_future_and_a_damaged_one_are_named(tmp_path: Path):
    with open_run(tmp_path, "train", {}, {}) as run:
        run.finish({}, {})
    path = tmp_path / "manifest.json"
    values = read_json(path)
    path.write_text(json.dumps({**values, "schema": 99}))
    with pytest.raises(BadInput, match=r"schema 99.*update understudy"):
        read_manifest(tmp_path)
    path.write_text(json.dumps({"schema": 1, "stage": "train"}))
    with pytest.raises(BadInput, match=r"manifest\.json is not a manifest"):
        read_manifest(tmp_path)


def hold_a_run(folder: Path) -> None:
    with open_run(folder, "train", {}, {}):
        (folder / ".held").touch()
        signal.pause()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    take, moments = runs._take_lock, iter([True])

    def take_too_late(descriptor: int) -> None:
        if next(moments, False):
            shutil.rmtree(tmp_path / "stage")
        take(descriptor)

    monkeypatch.setattr(runs, "_take_lock", take_too_late)
    with locked(tmp_path / "stage"), pytest.raises(BadInput, match="in use by process"):
        open_run(tmp_path / "stage", "extract", {}, {})


def test_a_folder_in_use_is_refused_until_its_process_is_killed(tmp_path: Path):
    process = start(hold_a_run, tmp_path)
    while not (tmp_path / ".held").exists():
        assert process.is_alive()
    with pytest.raises(BadInput, match=f"in use by process {process.pid}"):
        open_run(tmp_path, "train", {}, {})
    kill(process)
    with open_run(tmp_path, "train", {}, {}) as run:
        assert run.state == "resume"
        with pytest.raises(BadInput, match="in use"):
            open_run(tmp_path, "train", {}, {})
