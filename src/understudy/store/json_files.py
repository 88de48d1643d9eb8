"""JSON in and out of files: plain values, strict text (no NaN), atomic writes, errors that name the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np

from understudy.store.atomic import atomic_write_text
from understudy.types import BadInput, Json


def as_plain(value: object) -> object:
    """`value` in JSON's own types: dataclasses and mappings become objects, sequences and arrays lists, paths strings.

    A number that is not finite becomes None, because JSON has no NaN. Raises TypeError for anything else.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return as_plain(asdict(value))
    if isinstance(value, np.generic | np.ndarray):
        return as_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}")


def json_text(value: object, *, is_compact: bool = False) -> str:
    """`value` as JSON text: readable, or on one line without spaces."""
    plain, indent, separators = as_plain(value), None if is_compact else 2, (",", ":") if is_compact else None
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    if _is_encodable(text):
        return text
    return json.dumps(plain, allow_nan=False, indent=indent, separators=separators)  # a file name that is not UTF-8


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically."""
    atomic_write_text(path, json_text(value) + "\n")


def read_json(path: Path) -> Json:
    """The JSON object in `path`. Raises BadInput that names the file where it holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not readable JSON ({error}); it was damaged or changed by hand: restore it") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds a JSON {type(value).__name__}, expected an object; restore it")
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
