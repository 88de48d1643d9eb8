"""What a model folder says of its model and of the people in its weights, beside the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from understudy.imaging.exemplars import NUM_FORM_POINTS, Exemplars
from understudy.imaging.expression import ExpressionStandard, Told
from understudy.model.colour import ColourStandard
from understudy.settings import TrainRecipe
from understudy.store.checkpoints import check_beside, stated_beside
from understudy.types import BadInput, FloatArray, Json, check_performer_name

GALLERIES_FILE = "galleries.safetensors"
ANCESTORS_FILE = "ancestors.safetensors"
"""Embeddings of performers whom this model cannot draw, but whose faces the models it began from were trained on."""
EXEMPLARS_FILE = "exemplars.safetensors"
PICTURES, FORMS = "pictures", "forms"
"""Of each performer, what the exemplars file holds (imaging/exemplars.py), as `NAME.pictures` and `NAME.forms`."""
PEOPLE_FILES = (GALLERIES_FILE, ANCESTORS_FILE)
"""Who is in a model's weights: each checkpoint is bound to these files, because consent is asked for by them."""
MAX_RESOLUTION_PX = 2048


def offsets_from_json(values: object, path: Path) -> dict[str, dict[str, tuple[float, ...]]]:
    """How much each performer's skin is shifted for each other's, R G B. Raises BadInput where it is anything else."""
    try:
        named = cast(Mapping[str, Mapping[str, Sequence[float]]], values)
        return {name: {other: _three(offset) for other, offset in each.items()} for name, each in named.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{path}: its skin offsets are no numbers; restore it from a copy") from error


def _three(numbers: Sequence[float]) -> tuple[float, ...]:
    red, green, blue = map(float, numbers)
    return red, green, blue


def recipe_from_json(values: Json) -> TrainRecipe:
    """The recipe that a checkpoint was trained with. Raises BadInput naming fields that this version does not know."""
    if not isinstance(values, dict):
        raise BadInput("the checkpoint has no recipe; restore it from a copy, or train it again")
    known = {field.name for field in fields(TrainRecipe)}
    unknown = sorted(set(values) - known)
    if unknown:
        named = ", ".join(unknown)[:200]
        raise BadInput(f"the checkpoint's recipe has settings that this version does not know ({named}); update")
    try:
        recipe = TypeAdapter(TrainRecipe).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"the checkpoint's recipe: {where}: {first['msg']}; restore it from a copy") from error
    if not (0 < recipe.resolution_px <= MAX_RESOLUTION_PX and 0 < recipe.width <= 8 and 0 < recipe.code_size <= 2**14):
        raise BadInput(
            f"the checkpoint's recipe asks for {recipe.resolution_px} px, width {recipe.width:g} and a code of "
            f"{recipe.code_size}; no such model was ever made"
        )
    return recipe


def recipe_as_json(recipe: TrainRecipe) -> Json:
    """The recipe as it stands in a checkpoint."""
    return dict(asdict(recipe))


def standards_from_json(values: Json) -> dict[str, ColourStandard]:
    """The performers' colour standards as they stand in a checkpoint."""
    if not isinstance(values, dict) or not values:
        raise BadInput("the checkpoint does not say who its performers are; restore it from a copy, or train it again")
    for name in values:
        check_performer_name(name)
    return {name: ColourStandard.from_json(cast(Mapping[str, Sequence[float]], each)) for name, each in values.items()}


def expressions_from_json(values: Json) -> dict[str, ExpressionStandard]:
    """What is ordinary for each performer's expressions, as it stands in a checkpoint."""
    if not isinstance(values, dict) or not all(isinstance(each, dict) for each in values.values()):
        raise BadInput("the checkpoint's expression standards are no table; restore it from a copy, or train it again")
    return {name: ExpressionStandard.from_json(cast(Mapping[str, object], each)) for name, each in values.items()}


def told_by(expressions: Mapping[str, ExpressionStandard], path: Path) -> Told:
    """How a model with these standards is told expressions; older ones are told otherwise.

    Raises BadInput where its performers differ in it; path: of the checkpoint.
    """
    told = {standard.told for standard in expressions.values()}
    if len(told) > 1:
        raise BadInput(f"{path}: its performers' expressions are not measured alike; restore it from a copy")
    return told.pop() if told else Told()


def read_galleries(model: Path, state: Json) -> dict[str, FloatArray]:
    """The performers' identity embeddings that lie beside the checkpoints; state: of the checkpoint that is used.

    Raises BadInput where they are missing, or not those that the checkpoint was saved with.
    """
    path = model / GALLERIES_FILE
    if not path.is_file():
        raise BadInput(f"{model} lacks {GALLERIES_FILE}, which says who its performers are; train again with the same command")
    check_beside(model, GALLERIES_FILE, state)
    return _read_embeddings(path)


def read_ancestors(model: Path, state: Json) -> dict[str, FloatArray]:
    """Embeddings of others whose faces are in the model's weights; none where it began from nothing. See `read_galleries`."""
    check_beside(model, ANCESTORS_FILE, state)
    path = model / ANCESTORS_FILE
    return _read_embeddings(path) if path.is_file() else {}


def people_in(model: Path, state: Json) -> dict[str, FloatArray]:
    """The embeddings of everybody whose face is in the weights of a model folder, by name; state: of its checkpoint.

    Raises BadInput where the checkpoint names somebody of whom the folder no longer knows.
    """
    people = read_ancestors(model, state) | read_galleries(model, state)
    began_from = cast(Sequence[Mapping[str, Sequence[str]]], state.get("lineage", ()))
    named = {name for entry in began_from for name in entry.get("performers", ())}
    if missing := sorted(named - people.keys()):
        raise BadInput(
            f"{model}: its weights hold {', '.join(missing)}, of whom {ANCESTORS_FILE} does not know; "
            "restore that file, or train again"
        )
    return people


def read_exemplars(model: Path, state: Json, side_units: float, least_px: int) -> dict[str, Exemplars]:
    """The performers' pictures that swaps take their fine detail from; none where the checkpoint with `state` has none.

    side_units: face units that a picture is wide; least_px: pixels that the network draws, and that it must at least have.
    Raises BadInput where the file is not the one that the checkpoint was saved with, or holds anything else.
    """
    if EXEMPLARS_FILE not in stated_beside(state):  # what only lies there may be of anybody
        return {}
    check_beside(model, EXEMPLARS_FILE, state)
    arrays = _read_arrays(model / EXEMPLARS_FILE)
    exemplars = {}
    for name in sorted({key.rpartition(".")[0] for key in arrays}):
        pictures, forms = (arrays.get(f"{name}.{what}", np.zeros(0)) for what in (PICTURES, FORMS))
        num, size_px = len(pictures), pictures.shape[1] if pictures.ndim == 4 else 0
        is_right = pictures.shape == (num, size_px, size_px, 3) and forms.shape == (num, NUM_FORM_POINTS, 2)
        if not (
            is_right
            and num
            and least_px <= size_px <= MAX_RESOLUTION_PX
            and pictures.dtype == np.uint8
            and forms.dtype == np.float32
        ):
            raise BadInput(
                f"{model / EXEMPLARS_FILE}: it holds no pictures of {name[:60]!r} that are {least_px} px wide or more; "
                "train again with the same command"
            )
        exemplars[name] = Exemplars(pictures, forms, size_px / side_units)
    return exemplars


def _read_embeddings(path: Path) -> dict[str, FloatArray]:
    galleries = _read_arrays(path)
    for name, gallery in galleries.items():
        if gallery.ndim != 2 or gallery.shape[1] != 128 or gallery.dtype.kind != "f":
            raise BadInput(f"{path}: expected (N, 128) numbers of {name[:60]!r}, got {gallery.shape}; train again")
    return galleries


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read ({one_line(error)}); train again with the same command") from error


def one_line(error: Exception) -> str:
    """What another library says went wrong, short."""
    return " ".join(str(error).split())[:160]
