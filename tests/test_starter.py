"""What `quick` begins with: faces learned from rendered performers, in a file that comes with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_training import TINY
from understudy.model.networks import begin_from, build_network
from understudy.model.starter import FILE, packed, starter_bytes, starter_tensors, unpacked
from understudy.recipes import train_recipe
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid
from understudy.types import Event


def test_quick_takes_all_of_the_starter_and_every_performer_begins_with_the_same_decoder() -> None:
    network = build_network(train_recipe("quick"), ["abel", "bea"])
    taken = begin_from(network, starter_tensors(["abel", "bea"]))
    assert set(taken) == set(network.state_dict())
    weights = network.state_dict()
    assert torch.equal(weights["decoders.abel.to_picture.weight"], weights["decoders.bea.to_picture.weight"])


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
    [(1.0, "beginning with 39 of 42 layers of the rendered starter"), (0.25, "beginning with 3 of 42 layers")],
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
    assert FILE.endswith(".safetensors")
