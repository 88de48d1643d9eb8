"""`manifest.json`: what a finished stage was given, made of and left; its presence means finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from understudy.store.hashing import sha256_of_footage
from understudy.store.json_files import read_json, write_json
from understudy.types import BadInput, Json, StageResult
from understudy.version import __version__

MANIFEST_FILE = "manifest.json"
SCHEMA = 1


def _a_place(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a path")
    return text


PathText = Annotated[str, AfterValidator(_a_place)]


@dataclass(frozen=True)
class InputFile:
    """Something a stage was given: where it lay and the sha256 of its contents. Only the contents make it the same."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    path: PathText
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The record of a finished stage.

    inputs: by role (`plate`, `model`); outputs: by name, relative to the manifest's folder where they lie inside it.
    licences: of each weight used, by its name. consent: the records that covered the work, by performer.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    stage: str
    inputs: Mapping[str, InputFile]
    recipe_sha256: str
    figures: Mapping[str, object]
    outputs: Mapping[str, PathText]
    seed: int | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    consent: Mapping[str, str] = field(default_factory=dict)
    code_version: str = __version__
    schema: int = SCHEMA


_MANIFEST = TypeAdapter(Manifest)


def describe_input(path: Path) -> InputFile:
    """The input at `path`: footage (a file or a folder of images) or any other file, hashed."""
    return InputFile(path=path.as_posix(), sha256=sha256_of_footage(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically: the last act of a stage."""
    write_json(folder / MANIFEST_FILE, manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished stage's folder, or None where the stage is not finished.

    Raises BadInput where the file is damaged or was written by a newer version.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    values = read_json(path)
    check_schema(path, values, SCHEMA)
    try:
        return _MANIFEST.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg'][:120]}"
        raise BadInput(f"{path} is not a manifest ({why}); restore it, or remove it and run the stage again") from error


def stage_result(folder: Path, manifest: Manifest) -> StageResult:
    """What a stage hands back, from its manifest: outputs as paths below `folder`."""
    outputs = {name: folder / path for name, path in manifest.outputs.items()}
    return StageResult(stage=manifest.stage, figures=manifest.figures, outputs=outputs)


def check_schema(path: Path, values: Json, newest: int) -> None:
    """Raise BadInput unless `values` carry a schema number that this version can read."""
    schema = values.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise BadInput(f"{path} has no schema number; it was not written by understudy, or was changed by hand")
    if schema > newest:
        raise BadInput(f"{path} has schema {schema}, this version reads up to {newest}; update understudy")
