"""Reads a project file (TOML) into a Project: who is in it, from which footage, and who replaces whom in which plate.

Paths in the file are relative to it. Every mistake is one BadInput that names the file and the key.
"""

from __future__ import annotations

import glob
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.media.footage import probe, with_a_name
from understudy.recipes import convert_recipe, curate_recipe, did_you_mean, train_recipe, with_settings
from understudy.settings import ConvertRecipe, CurateRecipe, RangeSettings, TrainRecipe
from understudy.store.checkpoints import CHECKPOINTS_FOLDER
from understudy.trust.consent import consent_folder
from understudy.types import BadInput, check_performer_name

HEADER_MARGIN = 1.02
"""How many times the frames that a file's header tells of there may be, before a range is taken to lie beyond the plate."""

# ---- a project, resolved --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Performer:
    """A performer's training footage, and pictures that say which face in it is meant."""

    footage: tuple[Path, ...]
    like: tuple[Path, ...]


@dataclass(frozen=True)
class Swap:
    """One plate in which each of `with_` replaces the one of `replace` in the same place, all in one pass.

    ranges: parts of the plate with settings of their own. `truth` and `mask` are there for rendered pairs only.
    """

    name: str
    plate: Path
    replace: tuple[str, ...]
    with_: tuple[str, ...]
    recipe: ConvertRecipe
    ranges: tuple[RangeSettings, ...]
    truth: Path | None
    mask: Path | None


@dataclass(frozen=True)
class Project:
    """A project file with its paths found and its recipes complete; `out` is the one folder that is written to.

    consent: the folder of the performers' consent records, `consent` beside the project file unless $UNDERSTUDY_CONSENT is set.
    curation: how face sets are curated before training; None where the file has no [curate]. beginning: how else the training
    is asked for, by the names of the stage's arguments: `until`, `start_from`, `take` and `freeze`, where the file has them.
    """

    name: str
    out: Path
    consent: Path
    performers: Mapping[str, Performer]
    recipe: TrainRecipe
    minutes: float | None
    steps: int | None
    swaps: tuple[Swap, ...]
    curation: CurateRecipe | None = None
    beginning: Mapping[str, object] = field(default_factory=dict)


def read_project(path: Path) -> Project:
    """The project in a TOML file. Raises BadInput with the file and the key for anything missing, unknown or unusable."""
    tables = _validated(path, _parsed(path))
    with _blamed(path, "train"):
        recipe = train_recipe(tables.train.recipe, tables.train.settings)
        if tables.train.minutes is not None and tables.train.steps is not None:
            raise BadInput("expected minutes or steps, got both; take one of them out")
    with _blamed(path, "train.from"):
        beginning = _beginning(path, tables.train)
    with _blamed(path, "project.out"):
        _check_place(tables.project.out)
    with _blamed(path, "curate"):
        curation = curate_recipe(tables.curate.settings) if tables.curate else None
    return Project(
        name=tables.project.name,
        out=path.parent / tables.project.out,
        consent=consent_folder(project=path),
        performers={name: _performer(path, name, table) for name, table in tables.performers.items()},
        recipe=recipe,
        minutes=tables.train.minutes,
        steps=tables.train.steps,
        swaps=_swaps(path, tables),
        curation=curation,
        beginning=beginning,
    )


def _beginning(path: Path, table: _TrainTable) -> dict[str, object]:
    """Only what the file has, so that a project without it is the same as one of before there was such a key."""
    asked: dict[str, object] = {"until": table.until} if table.until != "spent" else {}
    if table.freeze:
        asked["freeze"] = tuple(table.freeze)
    if table.from_ is None:
        if table.take != "all":
            raise BadInput(f"take={table.take} says what to take of a model, and none is named")
        return asked
    start_from = path.parent / table.from_
    if not (start_from / CHECKPOINTS_FOLDER).is_dir():
        raise BadInput(f"{start_from}: there is no trained model; check the path")
    return {**asked, "start_from": start_from, **({"take": table.take} if table.take != "all" else {})}


# ---- the file as it is written --------------------------------------------------------------------------------------------


class _Table(BaseModel):
    """Numbers are `strict`: TOML has numbers of its own, so that one given as text is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _ProjectTable(_Table):
    name: str
    out: Path


Number = Annotated[int, Field(strict=True)]


class _PerformerTable(_Table):
    footage: list[str] = Field(min_length=1)
    like: list[str] = []


class _CurateTable(_Table):
    settings: dict[str, bool | int | float | str] = Field(default={}, alias="set")


class _TrainTable(_Table):
    recipe: str = "quick"
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
    steps: Number | None = Field(default=None, ge=1)
    until: Literal["spent", "plateau"] = "spent"
    from_: str | None = Field(default=None, alias="from")
    take: Literal["all", "encoder"] = "all"
    freeze: list[str] = []
    settings: dict[str, bool | int | float | str] = Field(default={}, alias="set")


class _RangeTable(_Table):
    frames: tuple[Number, Number] | None = None
    shot: Number | None = Field(default=None, ge=0)
    settings: dict[str, bool | int | float | str] = Field(default={}, alias="set")
    is_swapped: bool = Field(default=True, alias="swapped")


class _SwapTable(_Table):
    plate: str
    replace: str | list[str]
    with_: str | list[str] = Field(alias="with")
    ranges: list[_RangeTable] = Field(default=[], alias="range")
    name: str | None = None
    recipe: str = "delivery"
    settings: dict[str, bool | int | float | str] = Field(default={}, alias="set")
    truth: str | None = None
    mask: str | None = None


class _File(_Table):
    project: _ProjectTable
    performers: dict[str, _PerformerTable] = Field(min_length=2)
    curate: _CurateTable | None = None
    train: _TrainTable = _TrainTable()
    swap: list[_SwapTable] = Field(min_length=1)


def _parsed(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such project file; docs/tutorial.md shows how to write one") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:  # ValueError: not TOML, not UTF-8, a number of 5000 digits
        raise BadInput(f"{path}: not a TOML file: {' '.join(str(error).split())[:200]}") from error


def _validated(path: Path, content: Mapping[str, object]) -> _File:
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = first["loc"]
        if _is_in_settings(where):  # of a setting's value, what follows is the kinds that it may have
            where = where[: where.index("set") + 2]
        key = ".".join(str(part + 1) if isinstance(part, int) else part for part in where)
        if first["type"] == "extra_forbidden":
            raise BadInput(
                f"{path}: {key}: unknown key{did_you_mean(str(first['loc'][-1]), _keys_beside(first['loc']))}"
            ) from error
        if wanted := _wanted(where, first["type"]):
            raise BadInput(f"{path}: {key}: expected {wanted}, got {repr(first['input'])[:60]}") from error
        raise BadInput(f"{path}: {key}: {first['msg'][:1].lower()}{first['msg'][1:]}") from error


def _wanted(location: Sequence[str | int], kind: str) -> str:
    """What should stand at a place of the file, where pydantic's own words are about Python; "" where they will do."""
    if _is_in_settings(location):
        is_table = location[-1] == "set"
        return "a table of settings, as in set = { batch_size = 8 }" if is_table else "a number, text, true or false"
    table = "a table of keys and values"
    return {"int_type": "a whole number", "float_type": "a number", "dict_type": table, "model_type": table}.get(kind, "")


def _is_in_settings(location: Sequence[str | int]) -> bool:
    """Whether a place of the file is a table of settings or in one; a performer may have that name too."""
    return "set" in location and location[0] != "performers"


def _keys_beside(location: Sequence[str | int]) -> list[str]:
    tables: dict[str, type[_Table]] = {
        "project": _ProjectTable,
        "performers": _PerformerTable,
        "curate": _CurateTable,
        "train": _TrainTable,
        "swap": _SwapTable,
    }
    table = tables[str(location[0])] if len(location) > 1 else _File
    if len(location) > 3 and location[2] == "range":
        table = _RangeTable
    return [field.alias or name for name, field in table.model_fields.items()]


# ---- from names to paths --------------------------------------------------------------------------------------------------


def _performer(path: Path, name: str, table: _PerformerTable) -> Performer:
    with _blamed(path, f"performers.{name}"):
        check_performer_name(name)
    with _blamed(path, f"performers.{name}.footage"):
        footage = _all_found(path.parent, table.footage)
    with _blamed(path, f"performers.{name}.like"):
        return Performer(footage, _all_found(path.parent, table.like))


def _swaps(path: Path, tables: _File) -> tuple[Swap, ...]:
    swaps = tuple(_swap(path, f"swap.{number}", table, tables.performers) for number, table in enumerate(tables.swap, start=1))
    for name, count in Counter(swap.name for swap in swaps).items():
        if count > 1:
            raise BadInput(f"{path}: swap: {count} swaps are called {name!r}; give each a `name` of its own")
    return swaps


def _swap(path: Path, key: str, table: _SwapTable, performers: Iterable[str]) -> Swap:
    olds, news = (tuple([names] if isinstance(names, str) else names) for names in (table.replace, table.with_))
    for role, names in (("replace", olds), ("with", news)):
        for name in names:
            if name not in performers:
                raise BadInput(f"{path}: {key}.{role}: no performer is called {name!r}{did_you_mean(name, performers)}")
    if len(olds) != len(news) or not olds:
        raise BadInput(f"{path}: {key}: replace names {len(olds)} and with {len(news)} performers; name as many in each")
    for old, new in zip(olds, news, strict=True):
        if old == new:
            raise BadInput(f"{path}: {key}: replace and with are both {old!r}; name two performers")
        if olds.count(old) > 1:
            raise BadInput(f"{path}: {key}: {old!r} is replaced {olds.count(old)} times; name them once")
    with _blamed(path, f"{key}.plate"):
        plate = _one_found(path.parent, table.plate)
    name = table.name or with_a_name(plate).stem
    with _blamed(path, f"{key}.name"):
        _check_folder_name(name)
    with _blamed(path, key):
        recipe = convert_recipe(table.recipe, table.settings)
        ranges = tuple(_range(number, each, recipe) for number, each in enumerate(table.ranges, start=1))
    _check_frames(path, key, plate, ranges)
    with _blamed(path, f"{key}.truth"):
        truth = _one_found(path.parent, table.truth) if table.truth else None
    with _blamed(path, f"{key}.mask"):
        mask = _one_found(path.parent, table.mask) if table.mask else None
    return Swap(name, plate, olds, news, recipe, ranges, truth, mask)


def _range(number: int, table: _RangeTable, recipe: ConvertRecipe) -> RangeSettings:
    """A range whose settings are the swap's own but for those that it sets."""
    try:
        settings = RangeSettings(with_settings(recipe, table.settings), table.frames, table.shot, table.is_swapped)
        settings.check(recipe)
    except BadInput as error:
        raise BadInput(f"range.{number}: {error}") from error
    return settings


def _check_frames(path: Path, key: str, plate: Path, ranges: Sequence[RangeSettings]) -> None:
    """Refuses frames that the plate clearly lacks, hours before it is read to its end: a file's header may err a little."""
    if all(each.frames is None for each in ranges):
        return
    with _blamed(path, f"{key}.plate"):
        info = probe(plate)
    most_frames = info.num_frames_estimate if info.is_folder else math.ceil(info.num_frames_estimate * HEADER_MARGIN)
    for number, each in enumerate(ranges, start=1):
        if each.frames is not None and each.frames[0] >= most_frames > 0:
            about = "" if info.is_folder else "about "
            has = f"{plate.name} has {about}{info.num_frames_estimate} frames, counted from 0; give frames that it has"
            raise BadInput(f"{path}: {key}.range.{number}.frames: {has}")


def _all_found(folder: Path, patterns: Iterable[str]) -> tuple[Path, ...]:
    """The footage that each pattern stands for, in the order of the patterns, each pattern's in name order."""
    return tuple(found for pattern in patterns for found in _matches(folder, pattern))


def _one_found(folder: Path, pattern: str) -> Path:
    matches = _matches(folder, pattern)
    if len(matches) > 1:
        raise BadInput(f"expected one file or folder, but {pattern!r} stands for {len(matches)}")
    return matches[0]


def _matches(folder: Path, pattern: str) -> list[Path]:
    try:
        if (folder / pattern).exists():
            return [folder / pattern]
        matches = sorted(folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True))
    except (OSError, ValueError, re.error):  # longer than any name, or with a sign that no name can have
        matches = []
    if not matches:
        raise BadInput(f"no file or folder matches {pattern[:200]!r} in {folder.resolve()}")
    return matches


def _check_folder_name(name: str) -> None:
    """Names of swaps become folders of the project's `out`, so that none may lead out of it."""
    if (
        not name.strip()
        or name.startswith(".")
        or len(name) > 100
        or not name.isprintable()
        or any(sign in name for sign in "/\\")
    ):
        raise BadInput(f"{name[:100]!r} cannot be the name of a folder; use letters, digits, - and _, 100 at most")


def _check_place(place: Path) -> None:
    """The folder that is written to is the user's choice, but must be one that a file system can hold."""
    if not str(place).isprintable() or any(len(part) > 100 for part in place.parts) or len(str(place)) > 1000:
        raise BadInput(f"{str(place)[:100]!r} cannot be a folder; use letters, digits, - and _, 100 at most")


@contextmanager
def _blamed(path: Path, key: str) -> Iterator[None]:
    """Puts the file and the key before any BadInput from within."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{path}: {key}: {error}") from error
