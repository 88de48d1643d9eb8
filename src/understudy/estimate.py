"""What can be said of a stage before it runs: whether it would begin, how long it will take and how much memory it needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import cast

from understudy.settings import TIMES_UNTIL_PLATEAU, TrainRecipe
from understudy.types import BadInput

# Measured on two idle cores of a server CPU (AMD EPYC, AVX2), 512 px footage with one face; a GPU is several times faster.
EXTRACT_SECONDS_PER_FRAME = 0.06
CURATE_SECONDS_PER_FACE = 0.004
CONVERT_SECONDS_PER_FRAME = 0.42
"""The sample's 120 frames with `quick` and its exemplars, finding faces and signing included: `delivery` 0.42, 0.49 and 0.51 in
three runs, `truth-benchmark` 0.35, on two cores that other work shared (0.37 alone)."""
EVALUATE_SECONDS_PER_FRAME = 0.30
START_SECONDS = 4.0

CPU_GIGAFLOPS = 65.0

USUAL_FACES = 300
"""Of a performer whose face set is still to be extracted."""

BASE_GIGABYTES = 0.6
"""Python, torch and OpenCV before any work."""

_CHECKED_IN = {"extract": "extract", "train": "_training_asked", "convert": "_swap_asked", "evaluate": "evaluate"}
"""By verb, the stage's file that says whether it would begin."""

GIGABYTES_PER_FRAME = 50e-6
"""A film's faces are held as a list and smoothed over the longest take; measured on one take with a face in each frame."""


@dataclass(frozen=True)
class Estimate:
    """Seconds on two CPU cores, and gigabytes of memory at the peak; remark: what fits into this machine's memory."""

    seconds: float
    memory_gb: float
    remark: str = ""


def estimate(verb: str, arguments: Mapping[str, object]) -> Estimate:
    """What a stage will cost, from the arguments of its function.

    Raises BadInput where what it is to read is not there, but for face sets and models, which may still be made, and for a
    training that this machine could not do.
    """
    _check_files(arguments)
    if verb == "train":
        return _training(arguments)
    if verb == "extract":
        num_frames = sum(map(_num_frames, cast(tuple[Path, ...], arguments["footage"])))
        return _looking_through(num_frames, EXTRACT_SECONDS_PER_FRAME, BASE_GIGABYTES + 0.5)
    if verb == "curate":
        sets = [cast(Path, arguments[role]) for role in ("faces", "against") if arguments[role] is not None]
        return Estimate(START_SECONDS + sum(map(_num_faces, sets)) * CURATE_SECONDS_PER_FACE, BASE_GIGABYTES)
    if verb == "convert":
        num_frames = _num_frames(cast(Path, arguments["footage"]))
        return _looking_through(num_frames, CONVERT_SECONDS_PER_FRAME, BASE_GIGABYTES + 0.8)
    num_frames = _num_frames(cast(Path, arguments["plate"]))
    return _looking_through(num_frames, EVALUATE_SECONDS_PER_FRAME, BASE_GIGABYTES + 0.8)


def check_asked(verb: str, arguments: Mapping[str, object]) -> None:
    """Refuses what a stage would refuse at its start, but for consent and for what its folder holds. Raises BadInput.

    Face sets, models and swaps that are not there may still be made.
    """
    if verb not in _CHECKED_IN:
        return
    check = importlib.import_module(f"understudy.stages.{_CHECKED_IN[verb]}").check_asked
    check(**{name: arguments[name] for name in signature(check).parameters if name in arguments})


def _looking_through(num_frames: int, seconds_per_frame: float, gigabytes: float) -> Estimate:
    """The cost of following faces through footage."""
    return Estimate(START_SECONDS + num_frames * seconds_per_frame, gigabytes + num_frames * GIGABYTES_PER_FRAME)


def _training(arguments: Mapping[str, object]) -> Estimate:
    from understudy.model.cost import network_cost
    from understudy.model.memory import plan_memory
    from understudy.stages._training_asked import budget_of, check_recipe
    from understudy.stages._training_state import Until
    from understudy.store.checkpoints import checkpoint_to_begin_from

    if start_from := cast(Path | None, arguments.get("start_from")):
        checkpoint_to_begin_from(start_from)
    recipe = cast(TrainRecipe, arguments["recipe"])
    minutes, steps = cast(float | None, arguments["minutes"]), cast(int | None, arguments["steps"])
    budget_of(recipe, minutes, steps, cast(Until, arguments.get("until", "spent")))
    check_recipe(recipe)
    cost = network_cost(recipe)
    face_sets = cast(Sequence[Path], arguments["face_sets"])
    num_performers, num_stored = max(2, len(face_sets)), sum(map(_num_faces, face_sets))
    faces = (steps or 0) * recipe.batch_size * num_performers
    by_steps = faces * cost.training_gigaflop / CPU_GIGAFLOPS
    usual = recipe.default_minutes * (TIMES_UNTIL_PLATEAU if arguments.get("until") == "plateau" else 1)
    seconds = by_steps if minutes is None and steps else 60 * (minutes or usual)
    memory = plan_memory(recipe, num_performers, num_stored or USUAL_FACES * num_performers)
    return Estimate(START_SECONDS + seconds, BASE_GIGABYTES + memory.needed_gb, str(memory))


def _check_files(arguments: Mapping[str, object]) -> None:
    """The files that only the user can bring; footage is opened anyway."""
    for path in (*cast(Sequence[Path], arguments.get("like", ())), arguments.get("truth"), arguments.get("mask")):
        if isinstance(path, Path) and not path.exists():
            raise BadInput(f"{path}: no such file or folder; check the path")


def _num_faces(folder: Path) -> int:
    """0 where the face set is still to be extracted."""
    from understudy.store.faceset import INDEX_FILE, FaceSet

    if not (folder / INDEX_FILE).is_file():
        return 0
    with FaceSet.open(folder) as face_set:
        return len(face_set)


def _num_frames(footage: Path) -> int:
    from understudy.media import probe

    info = probe(footage)
    return info.num_frames_estimate or round(info.duration_seconds * float(info.frame_rate))
