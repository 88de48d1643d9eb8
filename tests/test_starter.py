"""What `quick` begins with: faces learned from rendered performers, in a file that comes with the package."""

from __future__ import annotations

import runpy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from drawn_faces import draw_face_set
from tiny_training import TINY, weights
from understudy import parallel
from understudy.model.networks import begin_from, build_network
from understudy.model.starter import packed, starter_bytes, starter_sha256, starter_tensors, unpacked
from understudy.recipes import train_recipe
from understudy.stages._training_asked import check_all_have_the_same
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid, save_checkpoint
from understudy.store.hashing import sha256_of_json
from understudy.trust.consent import create_record
from understudy.types import BadInput, Event

TOOLS = Path(__file__).parents[1] / "tools"
TOOL = runpy.run_path(str(TOOLS / "starter_performers.py"))
MAKER = runpy.run_path(str(TOOLS / "make_starter.py"))


def test_quick_takes_all_of_the_starter_and_every_performer_begins_with_the_same_decoder() -> None:
    network = build_network(train_recipe("quick"), ["abel", "bea"])
    taken = begin_from(network, starter_tensors(["abel", "bea"]))
    assert set(taken) == set(network.state_dict())
    weights = network.state_dict()
    assert torch.equal(weights["decoders.abel.to_picture.weight"], weights["decoders.bea.to_picture.weight"])


def test_laptop_takes_all_of_the_starter_too_and_begins_without_detail_of_its_own() -> None:
    network = build_network(train_recipe("laptop"), ["abel"])
    starter = starter_tensors(["abel"])
    assert set(begin_from(network, starter)) == set(starter)
    assert not any(bool(finer.to_detail.weight.any()) for finer in network.decoders["abel"].finer)


def test_the_starter_is_small_enough_to_come_with_the_package() -> None:
    assert len(starter_bytes()) < 10_000_000


def test_the_starter_draws_a_face_before_any_training() -> None:
    network = build_network(train_recipe("quick"), ["abel"])
    fresh = build_network(train_recipe("quick"), ["abel"])
    begin_from(network, starter_tensors(["abel"]))
    grey = torch.full((1, 3, 96, 96), 0.5)
    masks = [each(grey, "abel", torch.zeros(1, each.encoder.num_told))[0, 3] for each in (network, fresh)]
    middle, corner = slice(40, 56), slice(0, 6)
    assert float(masks[0][middle, middle].detach().mean()) > 0.9, "the face's middle is face"
    assert float(masks[0][corner, corner].detach().mean()) < 0.2, "the picture's corner is not"
    assert abs(float(masks[1][middle, middle].detach().mean() - masks[1][corner, corner].detach().mean())) < 0.5


@pytest.mark.parametrize("is_there", [True, False])
def test_a_damaged_or_missing_starter_is_said_in_one_line(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning = starter_bytes()[:1000]

    def read() -> bytes:
        if not is_there:
            raise FileNotFoundError("starter_quick.safetensors")
        return beginning

    monkeypatch.setattr("understudy.model.starter.starter_bytes", read)
    with pytest.raises(BadInput, match=r"missing or damaged .*install Understudy again"):
        starter_tensors(["abel"])


def test_packing_changes_a_weight_by_less_than_half_a_step_of_its_row() -> None:
    tensors = {
        "encoder.a.weight": torch.randn(5, 7),
        "decoder.b.weight": torch.randn(4, 3, 3, 3),
        "decoder.b.bias": torch.randn(4),
    }
    back = unpacked(packed(tensors))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        rows = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
        step = rows.abs().amax(1, keepdim=True) / 127 if tensor.ndim > 1 else rows.abs() / 500
        assert bool(((back[name].reshape(rows.shape) - rows).abs() <= 0.51 * step + 1e-6).all()), name


@pytest.mark.parametrize(
    ("width", "words"),
    [(1.0, "beginning with 21 of 21 layers of the rendered starter"), (0.25, "beginning with 0 of 21 layers")],
)
def test_a_run_says_how_much_of_the_starter_it_began_with(
    face_sets: list[Path], consented: Path, tmp_path: Path, width: float, words: str
) -> None:
    heard: list[Event] = []
    recipe = replace(TINY, starter="rendered", width=width, code_size=256)
    train(face_sets, tmp_path / "model", recipe=recipe, steps=1, consent=consented, report=heard.append)
    assert any(words in event.message for event in heard)
    checkpoint = latest_valid(tmp_path / "model")
    assert checkpoint is not None
    assert "rendered starter" in str(checkpoint.state["lineage"])


def test_a_performer_who_joins_a_trained_model_begins_with_the_starter_and_the_others_as_they_were(
    face_sets: list[Path], consented: Path, tmp_path: Path
) -> None:
    recipe = replace(TINY, starter="rendered", width=1.0, code_size=256, learning_rate=1e-9)
    train(face_sets, tmp_path / "old", recipe=replace(recipe, starter="none"), steps=1, consent=consented)
    create_record(consented, "carol", "synthetic")
    carol = draw_face_set(tmp_path / "carol", "carol", (120, 120, 180))
    new = tmp_path / "new"
    train([*face_sets, carol], new, recipe=recipe, steps=1, start_from=tmp_path / "old", consent=consented)
    there = {**starter_tensors(["carol"]), **weights(tmp_path / "old")}
    for name, tensor in weights(new).items():
        torch.testing.assert_close(tensor, there[name], rtol=0, atol=1e-5)
    (from_model, from_starter) = latest_valid(new).state["lineage"]
    assert (from_model["layers_taken"], from_starter["layers_taken"]) == ("21 of 28", "7 of 28")


def test_processes_that_hold_another_starter_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    held = sha256_of_json({"starter": starter_sha256()})
    monkeypatch.setattr(parallel, "ranks_that_differ", lambda sha256: [1] * (sha256 == held))
    check_all_have_the_same(asdict(TINY), {})
    with pytest.raises(BadInput, match="process 1 of this run was given another version's starter than process 0"):
        check_all_have_the_same(asdict(replace(TINY, starter="rendered")), {})


def test_a_rendered_performer_follows_from_its_number_has_two_like_sides_and_is_adult(tmp_path: Path) -> None:
    for group, (count, _) in TOOL["CHANGES"].items():
        (tmp_path / group).mkdir()
        for name in (f"{side}-{group}-{kind}" for side in "lr" for kind in range(2 * count)):
            (tmp_path / group / f"{name}.target").touch()
    several = [TOOL["performer"](number, tmp_path) for number in range(20)]
    assert several[3] == TOOL["performer"](3, tmp_path)
    assert len({str(each) for each in several}) == len(several)
    for each in several:
        shape = each["shape"]
        left = {name: weight for name, weight in shape.items() if "/l-" in name}
        assert left
        assert all(shape[name.replace("/l-", "/r-")] == weight for name, weight in left.items())
        build = {name: weight for name, weight in shape.items() if name.startswith("macrodetails/")}
        assert sum(weight for name, weight in build.items() if "universal" in name) == pytest.approx(1)
        assert all("-young" in name or "-old" in name for name in build), "25 years and more"


def test_a_starter_whose_making_was_stopped_goes_on_and_ends_the_same(face_sets: list[Path], tmp_path: Path) -> None:
    recipe = replace(train_recipe("quick"), resolution_px=32, width=0.125, batch_size=4, warmup_steps=2)
    faces = MAKER["load_faces"](face_sets, recipe)

    def learner() -> Any:
        return MAKER["Learner"](faces, recipe, num_steps=6)

    whole, stopped, resumed = learner(), learner(), learner()
    MAKER["learn"](whole, tmp_path / "whole", {"made_by": "a test"})
    for _ in range(3):
        stopped.step()
    save_checkpoint(tmp_path / "stopped", stopped.steps_done, stopped.tensors(), {"made_by": "a test"})
    MAKER["learn"](resumed, tmp_path / "stopped", {"made_by": "a test"})
    assert whole.steps_done == resumed.steps_done == 6
    at_first, at_the_end, again = (each.starter() for each in (learner(), whole, resumed))
    assert all(torch.equal(tensor, again[name]) for name, tensor in at_the_end.items())
    assert all(not torch.equal(tensor, at_the_end[name]) for name, tensor in at_first.items() if tensor.ndim > 1)


def test_a_starter_does_not_go_on_from_the_training_of_another_one(face_sets: list[Path], tmp_path: Path) -> None:
    recipe = replace(train_recipe("quick"), resolution_px=32, width=0.125, batch_size=4)
    learner = MAKER["Learner"](MAKER["load_faces"](face_sets, recipe), recipe, num_steps=1)
    MAKER["learn"](learner, tmp_path, {"made_by": "make_starter.py --seed 0"})
    with pytest.raises(BadInput, match=r"the training of another starter \(make_starter.py --seed 0\); name another WORK"):
        MAKER["learn"](learner, tmp_path, {"made_by": "make_starter.py --seed 1"})
