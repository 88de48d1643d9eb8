"""Records what the first steps of the `original` recipe compute, for the tests: `python tools/record_original_training.py`.

Writes tests/golden/original_training.json: the losses of each step on made-up faces, and sums over the weights after the last.
A change of the engine must not change them: run it before and after, and look at `git diff`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import entry
import torch

from understudy.model.colour import UNCHANGED
from understudy.model.trainer import Trainer
from understudy.recipes import train_recipe

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "original_training.json"
NUM_STEPS = 3


def main() -> None:
    """Write the file."""
    GOLDEN.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")


def record() -> dict[str, object]:
    """The losses and, after the last step, sums of the weights' sizes; sha256 tells whether two programs agree to the bit."""
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(5)
    crops = {name: torch.randint(0, 256, (24, 5, 108, 108), generator=random, dtype=torch.uint8) for name in ("abel", "bea")}
    recipe = replace(train_recipe("original"), batch_size=4)
    trainer = Trainer(crops, dict.fromkeys(crops, UNCHANGED), recipe, 1.35)
    losses = [dict(trainer.step(number / NUM_STEPS).losses) for number in range(NUM_STEPS)]
    weights = trainer.network.state_dict()
    digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights)))
    sums = {name: float(weights[name].double().abs().sum()) for name in sorted(weights) if name.endswith("weight")}
    return {"losses": losses, "sums": sums, "sha256_on_the_recording_machine": digest.hexdigest()}


if __name__ == "__main__":
    entry.run(main, entry.parser(__doc__))
