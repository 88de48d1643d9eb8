"""Runs arms that have no result yet: what is there is found again, so that a killed run goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth.footage import code_sha256
from benchmarks.truth.network import in_face_space
from benchmarks.truth.run import machine
from experiments import results
from experiments.claims.model import Arm, Claim
from experiments.measures import blends, finding, pixelcnn, swaps, tracking
from experiments.scoring import Answers, Pair, score, truth_of
from experiments.training import Scale, Trained, train
from experiments.workshop import Workshop, shown_rows, tile
from understudy.imaging.framing import framing
from understudy.imaging.metrics_series import Series
from understudy.media import encode_jpeg
from understudy.stages import _evaluation_pixels as pixels
from understudy.store.atomic import atomic_write_bytes
from understudy.trust.label import labelled_picture
from understudy.types import Image

Measure = Callable[[Mapping[str, Any], int, "Workshop"], tuple[dict[str, Series], Image | None]]

MEASURES: Mapping[str, Measure] = {
    "blended": blends.blended,
    "clone shift": blends.clone_shift,
    "detected": finding.detected,
    "aligned": finding.aligned,
    "followed": tracking.followed,
    "drawn": pixelcnn.drawn,
    "on morph": swaps.on_morph,
    "stage bill": swaps.stage_bill,
}
"""What can be measured without training a network of its own, by name."""


def needed(claims: Iterable[Claim], scale: Scale, folder: Path, seeds: int | None = None) -> Iterator[tuple[Arm, int]]:
    """Arms and seeds without a result, in the claims' order, each once."""
    seen: set[tuple[str, int]] = set()
    for claim in claims:
        for arm in claim.arms:
            for seed in range(seeds or claim.num_seeds):
                if (arm.name, seed) not in seen and results.load(arm, scale, seed, folder) is None:
                    yield arm, seed
                seen.add((arm.name, seed))


def run(asked: Sequence[tuple[Arm, int]], shop: Workshop, minutes: float | None = None) -> int:
    """Work through what is asked until `minutes` of processor time are spent; returns how many were done."""
    started = time.process_time()
    for done, (arm, seed) in enumerate(asked):
        spent = (time.process_time() - started) / 60
        if minutes is not None and spent >= minutes:
            return done
        print(f"{done + 1} of {len(asked)}: {arm.name}, seed {seed} ({spent:.1f} minutes of processor time so far)", flush=True)
        run_one(arm, seed, shop)
    return len(asked)


def run_one(arm: Arm, seed: int, shop: Workshop) -> None:
    """Train or measure one arm with one seed, and keep what came out."""
    before = time.process_time()
    if arm.training is None:
        series, strip = MEASURES[arm.measure](arm.settings, seed, shop)
        modules: tuple[str, ...] = ("understudy.stages.convert", "understudy.stages.extract")
    else:
        trained = train(arm.training, shop.scale, seed, shop.footage, shop.work, shop.report)
        series, made = score(trained, shop.pair)
        strip = _strip(trained, made, shop.pair) if seed == 0 else None
        modules = ("understudy.model.trainer", "understudy.stages.extract", "understudy.stages._training_faces")
    told: dict[str, Any] = {
        "cpu_seconds": round(time.process_time() - before, 1),
        "code": code_sha256(*modules)[:16],
        "machine": machine(1),
    }
    results.save(arm, shop.scale, seed, series, told, shop.folder)
    if strip is not None and seed == 0:
        write_strip(results.strip_of(arm, shop.scale, shop.folder), strip)
    if not results.truth_strip(shop.scale, shop.folder).is_file():
        tiles = [tile(truth_of(shop.pair.frames[n])) for n in shown_rows(shop.pair)]
        write_strip(results.truth_strip(shop.scale, shop.folder), np.hstack(tiles))


def write_strip(path: Path, strip: Image) -> None:
    """A row of pictures, small; the file says that it is AI-made."""
    atomic_write_bytes(path, labelled_picture(encode_jpeg(strip, quality=88)))


def _strip(trained: Trained, made: Answers, pair: Pair) -> Image:
    """The network's faces on the plate as they are, in face space: its square, or its own mask where it draws one."""
    region, tiles = framing(trained.recipe.framing), []
    for n in shown_rows(pair):
        drawn = pair.frames[n]
        swap, inside = in_face_space(made.swap[n], region)
        if made.swap_mask is not None:
            learned, _ = in_face_space(np.repeat(made.swap_mask[n][..., None], 3, axis=2), region)
            inside = np.asarray(inside * learned[..., 0], np.float32)
        plate = pixels.face_crop(drawn.frames.plate, drawn.plate_from_frame)
        tiles.append(tile(inside[..., None] * swap + (1 - inside[..., None]) * plate))
    return np.hstack(tiles)
