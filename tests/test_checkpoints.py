"""Checkpoints: whole or not there, whatever is killed, damaged or full."""

import os
import random
import resource
from pathlib import Path

import pytest

from killing import NUM_KILLS, kill, start, wait_for_changes
from understudy.settings import TrainRecipe
from understudy.store.checkpoints import best_valid, latest_valid, load_tensors, mark_best, prune, save_checkpoint
from understudy.types import BadInput, Event


def save(folder: Path, step: int, value: float | None = None) -> Path:
    import torch

    weights = {"layer": torch.full((100,), float(step if value is None else value))}
    return save_checkpoint(folder, step, {"weights": weights, "ema": weights}, {"figures": {"loss": 1 / (step + 1)}})


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def steps(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "checkpoints"))


def test_a_checkpoint_comes_back_with_its_tensors_and_state(tmp_path: Path):
    import torch

    assert latest_valid(tmp_path) is None
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"weights": {"a": shared, "b": shared.T, "c": shared[1]}, "optimizer": {"step": torch.tensor(7)}}
    path = save_checkpoint(tmp_path, 500, tensors, {"recipe": TrainRecipe(resolution_px=64), "lineage": ["first"]})
    assert path == tmp_path / "checkpoints" / "000500"
    checkpoint = latest_valid(tmp_path)
    assert checkpoint.step == 500
    assert checkpoint.state["recipe"]["resolution_px"] == 64
    assert checkpoint.state["lineage"] == ["first"]
    for name, group in tensors.items():
        loaded = load_tensors(checkpoint, name)
        assert loaded.keys() == group.keys()
        assert all(torch.equal(loaded[key], group[key]) for key in group)
    with pytest.raises(BadInput, match="no 'ema'; it has: optimizer, weights"):
        load_tensors(checkpoint, "ema")


def test_the_newest_is_found_beyond_six_digits(tmp_path: Path):
    for step in (999_999, 1_000_000, 20):
        save(tmp_path, step)
    assert latest_valid(tmp_path).step == 1_000_000


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "state.json"])
@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: os.truncate(path, 10)])
def test_a_broken_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, name: str, harm):
    save(tmp_path, 1)
    harm(save(tmp_path, 2) / name)
    heard: list[Event] = []
    assert latest_valid(tmp_path, heard.append).step == 1
    assert [event.kind for event in heard] == ["warning"]
    assert "000002" in heard[0].message


def test_where_no_checkpoint_is_whole_it_says_so(tmp_path: Path):
    for step in (1, 2):
        damage(save(tmp_path, step) / "weights.safetensors")
    with pytest.raises(BadInput, match=r"none of the 2 checkpoints .* is whole .*000002"):
        latest_valid(tmp_path)


def test_the_same_step_saved_again_replaces_it(tmp_path: Path):
    save(tmp_path, 1, value=3)
    save(tmp_path, 1, value=4)
    assert load_tensors(latest_valid(tmp_path), "weights")["layer"][0] == 4
    assert steps(tmp_path) == ["000001"]


def test_a_kill_while_a_step_is_replaced_leaves_the_old_one_readable(tmp_path: Path):
    place = save(tmp_path, 1, value=3)
    place.rename(place.with_name(".old-000001"))
    assert load_tensors(latest_valid(tmp_path), "weights")["layer"][0] == 3
    save(tmp_path, 1, value=4)
    assert load_tensors(latest_valid(tmp_path), "weights")["layer"][0] == 4
    assert steps(tmp_path) == ["000001"]


def test_a_full_disk_leaves_the_checkpoints_that_were_there(tmp_path: Path):
    import torch

    save(tmp_path, 1, value=3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        for step in (1, 2):
            with pytest.raises(BadInput, match="no space left"):
                save_checkpoint(tmp_path, step, {"weights": {"big": torch.zeros(100_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert steps(tmp_path) == ["000001"]
    assert load_tensors(latest_valid(tmp_path), "weights")["layer"][0] == 3


def test_the_best_is_remembered_kept_and_replaced_by_the_newest_when_broken(tmp_path: Path):
    for step in range(1, 6):
        save(tmp_path, step)
    assert best_valid(tmp_path).step == 5
    mark_best(tmp_path, 2)
    (tmp_path / "checkpoints" / ".tmp-killed").mkdir()
    prune(tmp_path, keep=2)
    assert steps(tmp_path) == ["000002", "000004", "000005", "best"]
    assert best_valid(tmp_path).step == 2
    damage(tmp_path / "checkpoints" / "000002" / "ema.safetensors")
    heard: list[Event] = []
    assert best_valid(tmp_path, heard.append).step == 5
    assert "000002" in heard[0].message


def test_pruning_counts_whole_checkpoints_only(tmp_path: Path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    os.truncate(tmp_path / "checkpoints" / "000003" / "weights.safetensors", 5)
    prune(tmp_path, keep=1)
    assert steps(tmp_path) == ["000002"]


def test_a_pointer_that_leads_elsewhere_is_not_followed(tmp_path: Path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "best").write_text("../../elsewhere")
    assert best_valid(tmp_path).step == 1


def write_checkpoints(folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    last = latest_valid(folder)
    step = last.step if last else 0
    while True:
        weights = {"layer": torch.full((50_000,), float(step))}
        save_checkpoint(folder, step, {"weights": weights, "ema": weights}, {"value": step})
        mark_best(folder, step - step % 5)
        prune(folder, 2)
        step += 1


def test_a_killed_trainer_always_leaves_a_whole_checkpoint(tmp_path: Path):
    import torch

    moments, previous = random.Random(1), -1
    save_checkpoint(
        tmp_path, 0, {"weights": {"layer": torch.zeros(50_000)}, "ema": {"layer": torch.zeros(50_000)}}, {"value": 0}
    )
    for _ in range(NUM_KILLS):
        process = start(write_checkpoints, tmp_path)
        wait_for_changes(tmp_path / "checkpoints", moments.randrange(1, 12), process)
        kill(process)
        heard: list[Event] = []
        checkpoint = latest_valid(tmp_path, heard.append)
        assert heard == []
        assert checkpoint.step >= previous
        assert torch.equal(load_tensors(checkpoint, "ema")["layer"], torch.full((50_000,), float(checkpoint.step)))
        assert checkpoint.state == {"value": checkpoint.step}
        assert best_valid(tmp_path).step <= checkpoint.step
        previous = checkpoint.step
    assert previous > 0
