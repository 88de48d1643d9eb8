"""How fast training is on this machine, as ratios measured side by side: `python benchmarks/speed.py [OUT] [--rounds N]`.

Writes bench.json and prints a table. Every round runs each contender once, in turn, so that a busy machine slows all alike;
what is compared is the processor time of a step (user and system, all threads); the ratio reported is the median over
rounds of the ratios within a round.
Contenders, all on the same number of faces a step:
  bare loop        the `original` network and its order of steps in plain PyTorch (Adam as PyTorch makes it), one held batch
  bare loop fused  the same with PyTorch's fused Adam
  original         our trainer with the `original` recipe: sampling, warp, finite checks and all
  original summed  the same with both performers in one encoder batch (`--set alternate_performers=false`)
  original auto    that in the precision which other recipes take on this machine (`--set precision=auto`)
  quick            our trainer with the `quick` recipe, in the precision that it takes on this machine; its floating-point
                   operations against the machine's float32 matrix product
  quick float32    the same in float32, which is what a processor without matrix units takes
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from understudy.console import EXIT_STOPPED, progress, stopped
from understudy.imaging.expression import READINGS
from understudy.model.colour import UNCHANGED
from understudy.model.networks import FaceSwapNetwork, build_network
from understudy.model.precision import name_of, working_type
from understudy.model.schedule import FIRST_STEPS
from understudy.model.trainer import Trainer
from understudy.recipes import train_recipe
from understudy.settings import TrainRecipe
from understudy.stages._training_faces import DENSITY, MARGIN
from understudy.stages._training_process import keep_freed_memory
from understudy.stages._training_start import begin
from understudy.stages._training_terms import make_adversary, make_features
from understudy.types import Event, Reporter, silent

PERFORMERS = ("abel", "bea")
MATRIX_SIDE, NUM_PRODUCTS = 2048, 4
TARGETS = {"original": 0.95, "original summed": 1.15, "quick of the matrix rate": 0.6}


def main() -> None:
    """Measure, write bench.json, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=Path("bench.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="faces of each performer in a step of `original`")
    parser.add_argument("--threads", type=int, default=1, help="more than one is only fair on an idle machine")
    parser.add_argument("--only", nargs="*", help="contenders to run")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    contenders = {
        name: make
        for name, make in make_contenders(asked.batch).items()
        if not asked.only or name in asked.only or name.startswith("matrix product")
    }
    try:
        with progress() as report:
            result = measure(contenders, asked.rounds, report)
    except KeyboardInterrupt:
        print(stopped(goes_on=False), file=sys.stderr)  # ratios of one sitting: halves of two would not compare
        sys.exit(EXIT_STOPPED)
    result["machine"] = machine(asked.threads)
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def make_contenders(batch: int) -> dict[str, Callable[[], float]]:
    """By name, what runs once and returns its work: faces, or for the matrix products gigaflops."""
    original = replace(train_recipe("original"), batch_size=batch)
    quick = train_recipe("quick")
    return {
        "matrix product": matrix_product(torch.float32),
        "matrix product bfloat16": matrix_product(torch.bfloat16),
        "bare loop": bare_loop(original, is_fused=False),
        "bare loop fused": bare_loop(original, is_fused=True),
        "original": ours(original),
        "original summed": ours(replace(original, alternate_performers=False)),
        "original auto": ours(replace(original, alternate_performers=False, precision="auto")),
        "quick": ours(quick, num_steps=8),
        "quick float32": ours(replace(quick, precision="float32"), num_steps=8),
    }


def matrix_product(precision: torch.dtype) -> Callable[[], float]:
    """Large products: the rate that nothing on this machine exceeds by much in that precision."""
    a, b = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE).to(precision)

    def run() -> float:
        for _ in range(NUM_PRODUCTS):
            a @ b
        return NUM_PRODUCTS * 2 * MATRIX_SIDE**3 / 1e9

    return run


def bare_loop(recipe: TrainRecipe, is_fused: bool) -> Callable[[], float]:
    """The original's network and order of steps, and nothing else: no data, no checks, no bookkeeping."""
    network = build_network(recipe, PERFORMERS)
    faces = {name: torch.rand(recipe.batch_size, 3, recipe.resolution_px, recipe.resolution_px) for name in PERFORMERS}
    optimizers = {name: _adam(network, name, recipe, is_fused) for name in PERFORMERS}

    def run() -> float:
        for name in PERFORMERS:
            optimizers[name].zero_grad()
            (network(faces[name], name) - faces[name]).abs().mean().backward()
            optimizers[name].step()
        return len(PERFORMERS) * recipe.batch_size

    return run


def _adam(network: FaceSwapNetwork, name: str, recipe: TrainRecipe, is_fused: bool) -> torch.optim.Adam:
    parameters = [*network.encoder.parameters(), *network.decoders[name].parameters()]
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    return torch.optim.Adam(parameters, recipe.learning_rate, betas, eps=1e-7, fused=is_fused or None)


def ours(recipe: TrainRecipe, num_steps: int = 1) -> Callable[[], float]:
    """Our trainer, on made-up faces: each step whole, from the draw to the averaged weights."""
    trainer = made_up_trainer(recipe)
    trainer.num_steps = FIRST_STEPS  # as in a run that is under way

    def run() -> float:
        for _ in range(num_steps):
            trainer.step(0.5)
        return num_steps * len(PERFORMERS) * recipe.batch_size

    return run


def made_up_trainer(recipe: TrainRecipe, device: str = "cpu", num_faces: int = 64) -> Trainer:
    """A trainer whose faces, and what was measured of them, are noise; with everything that the recipe's losses need.

    It begins as a run does, so that weights are drawn back to what they began with where the recipe says so.
    """
    side = round(recipe.resolution_px * MARGIN * DENSITY)
    shape = (num_faces, 5, side, side)
    crops = {name: torch.randint(0, 256, shape, dtype=torch.uint8, device=device) for name in PERFORMERS}
    readings = {name: torch.rand(num_faces, len(READINGS)) for name in PERFORMERS}
    adversary, features = make_adversary(recipe, list(PERFORMERS), device), make_features(recipe, device)
    standards = dict.fromkeys(PERFORMERS, UNCHANGED)
    trainer = Trainer(crops, standards, recipe, MARGIN, adversary, features=features, readings=readings)
    begin(trainer, None)
    return trainer


def measure(contenders: Mapping[str, Callable[[], float]], num_rounds: int, report: Reporter = silent) -> dict[str, object]:
    """Run all contenders in turn; the first round warms up and is not counted."""
    rounds: list[dict[str, float]] = []
    for number in range(num_rounds + 1):
        rates = {}
        for place, (name, run) in enumerate(contenders.items(), start=number * len(contenders)):
            report(Event("bench", "progress", place, (num_rounds + 1) * len(contenders), "measurements", name))
            began = time.process_time()
            work = run()
            rates[name] = work / (time.process_time() - began)
        rounds.append(rates)
    rounds = rounds[1:]
    gigaflops = gigaflops_per_face(train_recipe("quick"))
    ratios = {
        name: [each[name] / each["bare loop"] for each in rounds]
        for name in ("bare loop fused", "original", "original summed", "original auto")
        if {name, "bare loop"} <= contenders.keys()
    }
    if {"original", "bare loop fused"} <= contenders.keys():
        ratios["original over bare loop fused"] = [each["original"] / each["bare loop fused"] for each in rounds]
    for name in ("quick", "quick float32"):
        if name in contenders:
            ratios[f"{name} of the matrix rate"] = [each[name] * gigaflops / each["matrix product"] for each in rounds]
    return {
        "unit": "work per second of processor time: faces, gigaflops for the matrix product",
        "rates": {name: statistics.median(each[name] for each in rounds) for name in contenders},
        "ratios": {name: {"median": statistics.median(values), "rounds": values} for name, values in ratios.items()},
        "targets": TARGETS,
        "quick_gigaflops_per_face": gigaflops,
        "quick_precision": name_of(working_type(train_recipe("quick"), torch.device("cpu"))),
    }


def gigaflops_per_face(recipe: TrainRecipe) -> float:
    """The floating-point operations of one face forward and backward, convolutions and matrix products alone, counted."""
    network: nn.Module = build_network(recipe, PERFORMERS[:1])
    faces = torch.rand(2, 3, recipe.resolution_px, recipe.resolution_px)
    with FlopCounterMode(display=False) as counter:
        network(faces, PERFORMERS[0]).mean().backward()
    return counter.get_total_flops() / len(faces) / 1e9


def machine(num_threads: int) -> dict[str, object]:
    """Where the figures were measured, and how busy it was."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": num_threads,
        "torch": torch.__version__,
        "load": list(os.getloadavg()),
    }


def table(result: Mapping[str, object]) -> str:
    """The figures as a Markdown table."""
    rates, ratios = result["rates"], result["ratios"]
    assert isinstance(rates, dict)
    assert isinstance(ratios, dict)
    lines = ["| contender | per second of processor time |", "|---|---|"]
    lines += [f"| {name} | {rate:.1f} {'GFLOP' if name.startswith('matrix') else 'faces'} |" for name, rate in rates.items()]
    lines += ["", "| ratio | median | rounds | target |", "|---|---|---|---|"]
    for name, ratio in ratios.items():
        rounds = " ".join(f"{value:.2f}" for value in ratio["rounds"])
        lines.append(f"| {name} | {ratio['median']:.2f} | {rounds} | {TARGETS.get(name, '')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
