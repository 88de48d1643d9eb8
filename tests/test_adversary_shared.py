"""The discriminators of a run that two processes share learn what those of one process learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import killing
from understudy.imaging.expression import READINGS
from understudy.model.adversary import Discriminators
from understudy.model.colour import UNCHANGED
from understudy.model.trainer import Trainer
from understudy.recipes import original_gan

PERFORMERS = ("abel", "bea")
# The recipe itself, narrow, without the frozen network and from the first step on at its full learning rate; 5 faces are an
# uneven share: three for one process, two for the other. Both terms that ask a discriminator are on.
RECIPE = replace(
    original_gan(),
    width=0.0625,
    batch_size=5,
    learning_rate=1e-3,
    warmup_steps=0,
    perceptual_weight=0.0,
    adversarial_from=0.0,
    adversarial_swap_weight=0.1,
    gradient_penalty=0.01,
)
NUM_STEPS = 3


def learned() -> dict[str, Tensor]:
    """Network and discriminators after a few steps, and what the last step told of the discriminators."""
    random = torch.Generator().manual_seed(4)
    crops = {name: torch.randint(0, 256, (12, 5, 108, 108), generator=random, dtype=torch.uint8) for name in PERFORMERS}
    readings = {name: torch.randn(12, len(READINGS), generator=random) for name in PERFORMERS}
    adversary = Discriminators(RECIPE, PERFORMERS)
    trainer = Trainer(crops, dict.fromkeys(PERFORMERS, UNCHANGED), RECIPE, 1.35, adversary, readings=readings)
    before = {name: weight.clone() for name, weight in adversary.networks.state_dict().items()}
    steps = [trainer.step(number / NUM_STEPS) for number in range(NUM_STEPS)]
    assert all(step.is_applied and set(step.adversary) == {"loss", "real", "drawn"} for step in steps)
    assert any(not torch.equal(weight, before[name]) for name, weight in adversary.networks.state_dict().items())
    told = {f"told/{name}": torch.tensor([step.adversary[name] for step in steps]) for name in ("loss", "real", "drawn")}
    return {**trainer.network.state_dict(), **{f"judge/{name}": each for name, each in adversary.tensors().items()}, **told}


def _learn_as_rank(rank: int, folder: Path) -> None:
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    save_file({name: each.contiguous() for name, each in learned().items()}, folder / f"rank{rank}.safetensors")
    distributed.destroy_process_group()


def test_discriminators_of_two_processes_learn_the_same_as_those_of_one(tmp_path: Path) -> None:
    processes = [killing.start(_learn_as_rank, rank, tmp_path) for rank in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    one, other = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one), "the processes stay together to the bit"
    for name, expected in learned().items():
        # Sums in another order: the judges differ by a twentieth of a step of the learning rate (1e-3) at the most. In the
        # network Adam enlarges rounding where a gradient is next to nothing (see test_trainer.py): a step, of three.
        tolerance = 5e-5 if name.startswith(("judge/", "told/")) else 1e-3
        torch.testing.assert_close(one[name], expected, rtol=1e-4, atol=tolerance, msg=lambda text, name=name: name + text)
