"""Checkpoints: a folder each of safetensors and `state.json`, whole or not there, checked by sha256 when read."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from understudy.store.atomic import (
    atomic_folder,
    atomic_write_text,
    remove_temporaries,
    temporary_beside,
)
from understudy.store.hashing import sha256_of_file
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import check_schema
from understudy.types import BadInput, Event, Json, Reporter, silent

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINTS_FOLDER = "checkpoints"
STATE_FILE = "state.json"
BEST_FILE = "best"
FILE_NAME = r"\w{1,40}\.safetensors"
BESIDE = "beside"
SCHEMA = 1

_REPLACED_PREFIX = ".old-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are whole. state: what `save_checkpoint` was given (recipe, lineage, figures...)."""

    path: Path
    step: int
    state: Json


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Json, beside: Sequence[str] = ()
) -> Path:
    """Write `folder/checkpoints/000500/` with one `NAME.safetensors` for each of `tensors`, and `state.json`.

    tensors: by file ("weights", "ema", "optimizer"), then by tensor name; on any device. beside: files in `folder` that belong
    to the weights, as far as they are there; the state holds their sha256, for `check_beside`. Raises BadInput when the disk is
    full; what was there before stays whole. A checkpoint of the same step is replaced.
    """
    place = folder / CHECKPOINTS_FOLDER / f"{step:06d}"
    remove_temporaries(place.parent)
    if beside:
        state = {**state, BESIDE: {name: sha256_of_file(folder / name) for name in beside if (folder / name).is_file()}}
    with _set_aside(place), atomic_folder(place) as temporary:
        files = {
            f"{name}.safetensors": _write_tensors(temporary / f"{name}.safetensors", group) for name, group in tensors.items()
        }
        write_json(temporary / STATE_FILE, {**state, "schema": SCHEMA, "step": step, "files": files})
    return place


def load_tensors(checkpoint: Checkpoint, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors saved as `name` ("weights", "ema", "optimizer"). Raises BadInput that lists the names that are there."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = checkpoint.path / f"{name}.safetensors"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in checkpoint.path.glob("*.safetensors")))
        raise BadInput(f"{checkpoint.path} has no {name!r}; it has: {names}")
    try:
        tensors: dict[str, Tensor] = load_file(path, device=device)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} holds no tensors that can be read ({str(error)[:120]}); restore it from a copy") from error
    return tensors


def stated_beside(state: Json) -> Mapping[str, str]:
    """The sha256 of each file beside the checkpoints that a state holds, by name; none in a state of before they were held."""
    stated = state.get(BESIDE, {})
    if not isinstance(stated, dict) or not all(re.fullmatch(FILE_NAME, name) for name in stated):
        raise BadInput(f"the checkpoint's {STATE_FILE} is damaged ({BESIDE}: {str(stated)[:80]}); restore it from a copy")
    return {name: str(sha256) for name, sha256 in stated.items()}


def check_beside(folder: Path, name: str, state: Json) -> None:
    """Raises BadInput where a file in a model's folder is missing or changed since the checkpoint with `state` was saved.

    A checkpoint of before says nothing of it, and whatever lies there is taken as it always was.
    """
    stated = stated_beside(state).get(name)
    if stated is not None and not (folder / name).is_file():
        raise BadInput(f"{folder} lacks {name}, with which its checkpoint was saved; restore it, or train again")
    if stated is not None and sha256_of_file(folder / name) != stated:
        raise BadInput(
            f"{folder / name} was changed since its checkpoint was saved: its sha256 is not the one that {STATE_FILE} names; "
            "restore it, or train again with the same command"
        )


def latest_valid(folder: Path, report: Reporter = silent) -> Checkpoint | None:
    """The newest checkpoint whose files match their sha256, None where none was ever saved.

    A broken one is passed over with a warning. Raises BadInput where there are some and none is whole.
    """
    return next(valid_checkpoints(folder, report), None)


def valid_checkpoints(folder: Path, report: Reporter = silent) -> Iterator[Checkpoint]:
    """The checkpoints whose files match their sha256, newest first; each is read when it is asked for.

    A broken one is passed over with a warning. Raises BadInput where there are some and none is whole.
    """
    problems, is_one_whole = [], False
    for path in _newest_first(folder):
        try:
            checkpoint = _read_checked(path)
        except BadInput as problem:
            problems.append(str(problem))
            report(Event("train", "warning", message=f"passed over a broken checkpoint: {problem}"))
            continue
        is_one_whole = True
        yield checkpoint
    if problems and not is_one_whole:
        raise BadInput(
            f"none of the {len(problems)} checkpoints in {folder / CHECKPOINTS_FOLDER} is whole ({problems[0]}); "
            "restore one from a copy, or train again into another --out"
        )


def discard_newer(folder: Path, step: int) -> None:
    """Delete the checkpoints after `step`, also where one is the best: the run goes on from `step` by another way."""
    if _best_name(folder).isdigit() and int(_best_name(folder)) > step:
        (folder / CHECKPOINTS_FOLDER / BEST_FILE).unlink()
    for path in _newest_first(folder):
        if int(path.name.removeprefix(_REPLACED_PREFIX)) > step:
            _delete_folder(path)


def best_valid(folder: Path, report: Reporter = silent) -> Checkpoint | None:
    """The checkpoint that `mark_best` named; where none is named, or it is broken, the newest that is whole."""
    pointer = folder / CHECKPOINTS_FOLDER / BEST_FILE
    if pointer.is_file():
        try:
            return _read_checked(pointer.parent / _best_name(folder))
        except BadInput as problem:
            report(Event("train", "warning", message=f"the best checkpoint is broken, taking the newest: {problem}"))
    return latest_valid(folder, report)


def checkpoint_to_begin_from(model: Path) -> Checkpoint:
    """The best checkpoint of a model that a training is to begin from. Raises BadInput where it has none that is whole."""
    checkpoint = best_valid(model) if model.is_dir() else None
    if checkpoint is None:
        raise BadInput(f"--from {model}: there is no checkpoint; train a model there first, or leave --from out")
    return checkpoint


def mark_best(folder: Path, step: int) -> None:
    """Let `checkpoints/best` name the checkpoint of `step`; it is then never pruned."""
    atomic_write_text(folder / CHECKPOINTS_FOLDER / BEST_FILE, f"{step:06d}\n")


def prune(folder: Path, keep: int) -> None:
    """Delete all checkpoints but the newest `keep` whole ones and the best one, and what killed writers left."""
    place = folder / CHECKPOINTS_FOLDER
    remove_temporaries(place)
    whole = [path for path in _newest_first(folder) if _has_all_bytes(path)]
    kept = {path.name for path in whole[: max(keep, 1)]} | {_best_name(folder)}
    for path in _newest_first(folder):
        if path.name not in kept and whole:
            _delete_folder(path)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Json:
    """Write one safetensors file and return its size and sha256."""
    from safetensors.torch import save

    # A copy of each: safetensors refuses views and tensors that share memory.
    data = save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})
    path.write_bytes(data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


@contextmanager
def _set_aside(place: Path) -> Iterator[None]:
    """Keep a checkpoint of the same step, under a name that is still read, until its successor stands."""
    old = place.with_name(f"{_REPLACED_PREFIX}{place.name}")
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(place, old)
    try:
        yield
    except BaseException:
        if old.exists() and not place.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoint folders by falling step; a replaced one, left by a kill, stands behind its successor."""
    found = []
    for path in (folder / CHECKPOINTS_FOLDER).glob("*"):
        match = re.fullmatch(rf"({re.escape(_REPLACED_PREFIX)})?(\d{{6,}})", path.name)
        if match and path.is_dir():
            found.append((int(match[2]), match[1] is None, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _best_name(folder: Path) -> str:
    """The name in `checkpoints/best`, or one that no checkpoint has."""
    try:
        name = (folder / CHECKPOINTS_FOLDER / BEST_FILE).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return "none"
    return name if re.fullmatch(r"\d{6,20}", name) else "none"


def _read_checked(path: Path) -> Checkpoint:
    """The checkpoint at `path`. Raises BadInput that names the first file that is missing or differs."""
    state_path = path / STATE_FILE
    if not state_path.is_file():
        raise BadInput(f"{state_path} is missing")
    state = read_json(state_path)
    check_schema(state_path, state, SCHEMA)
    try:
        files = {name: str(file["sha256"]) for name, file in cast(dict[str, Json], state["files"]).items()}
        step = int(cast(int, state["step"]))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BadInput(f"{state_path} is damaged ({error})") from error
    for name, expected in files.items():
        if not re.fullmatch(FILE_NAME, name):
            raise BadInput(f"{state_path} is damaged (it names the file {name[:80]!r})")
        if sha256_of_file(path / name) != expected:
            raise BadInput(f"{path / name} is damaged: its sha256 is not the one that {STATE_FILE} names")
    return Checkpoint(path, step, {key: value for key, value in state.items() if key not in ("schema", "step", "files")})


def _has_all_bytes(path: Path) -> bool:
    """Whether `state.json` can be read and each file has its size: a quick look, without hashing."""
    try:
        files = cast(dict[str, Json], read_json(path / STATE_FILE)["files"])
        return all((path / name).stat().st_size == file["size_bytes"] for name, file in files.items())
    except (BadInput, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _delete_folder(path: Path) -> None:
    """Rename first, so that a kill half-way leaves no half checkpoint under its name."""
    doomed = temporary_beside(path)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
