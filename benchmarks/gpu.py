"""How fast a recipe trains on a GPU, and what share of the GPU's bfloat16 rate that is: `python -m benchmarks.gpu [OUT]`.

Each way of running the same recipe (batch size, compilation) is timed on made-up faces: whole steps, from the draw to the
averaged weights, by the wall clock over steps that end with the GPU idle. Its floating-point operations are those of the
convolutions and matrix products of the network alone, forward and backward, counted; what the loss, the warp and the optimiser
compute is not. They are compared with a bfloat16 product of two 8192 x 8192 matrices of random numbers, timed in the same run.
Prints a table and writes the figures to OUT (bench_gpu.json).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from benchmarks.speed import PERFORMERS, gigaflops_per_face, made_up_trainer
from understudy.model.trainer import Trainer
from understudy.recipes import parse_settings, train_recipe
from understudy.settings import TrainRecipe

MATRIX_SIDE = 8192
NUM_FACES = 256


def main() -> None:
    """Measure, write the figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=Path("bench_gpu.json"))
    parser.add_argument("--recipe", default="portrait")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--compile", nargs="+", default=["off", "default"], choices=["off", "default", "cuda-graphs"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="also print which kernels the time goes to")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: this benchmark needs a CUDA device, and this machine has none")
    peak = matrix_teraflops()
    gpu = torch.cuda.get_device_name()
    print(f"{gpu}, torch {torch.__version__}: {peak:.0f} TFLOP/s in a bfloat16 product", flush=True)
    print(
        "| recipe | batch | compile | first steps, s | faces a second | TFLOP/s | share | GB |\n" + 8 * "|---" + "|", flush=True
    )
    rows = []
    for batch, how in product(asked.batch, asked.compile):
        recipe = replace(train_recipe(asked.recipe, parse_settings(asked.set)), batch_size=batch, compile=how)
        row = {"recipe": asked.recipe, "batch": batch, "compile": how, **timed(recipe, asked.steps, asked.profile)}
        row["share"] = row["teraflops"] / peak
        rows.append(row)
        print(
            f"| {asked.recipe} | {batch} | {how} | {row['first_seconds']:.1f} | {row['faces_per_second']:.0f} "
            f"| {row['teraflops']:.1f} | {row['share']:.2f} | {row['gigabytes']:.1f} |",
            flush=True,
        )
    asked.out.write_text(json.dumps({"gpu": gpu, "peak_teraflops": peak, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def matrix_teraflops(num_products: int = 10) -> float:
    """The median rate of large bfloat16 products."""
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(num_products + 3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * MATRIX_SIDE**3 / statistics.median(seconds[3:]) / 1e12


def timed(recipe: TrainRecipe, num_steps: int, is_profiled: bool) -> dict[str, float]:
    """Faces a second and what they amount to."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainer = made_up_trainer(recipe, "cuda", NUM_FACES)
    began = time.perf_counter()
    for _ in range(5):
        trainer.step(0.5)
    torch.cuda.synchronize()
    first_seconds = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(num_steps):
        trainer.step(0.5)
    torch.cuda.synchronize()
    faces = len(PERFORMERS) * recipe.batch_size * num_steps / (time.perf_counter() - began)
    if is_profiled:
        profile(trainer)
    return {
        "first_seconds": first_seconds,
        "faces_per_second": faces,
        "teraflops": faces * gigaflops_per_face(recipe) / 1e3,
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9,
    }


def profile(trainer: Trainer) -> None:
    """Print the kernels by time, and the time between them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(3):
            trainer.step(0.5)
        torch.cuda.synchronize()
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=22, max_name_column_width=60), flush=True)


if __name__ == "__main__":
    main()
