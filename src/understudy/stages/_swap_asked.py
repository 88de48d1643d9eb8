"""What a conversion is asked for, checked as far as it can be before anything is looked through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from understudy.media.codecs import check_codec
from understudy.media.footage import FootageInfo, probe, with_a_name
from understudy.model.identity import IdentitySwapper
from understudy.model.swapper import Swapper, load_swapper
from understudy.settings import ConvertRecipe, RangeSettings
from understudy.stages._plate_survey import frames_around
from understudy.stages._swap_plan import Replacement, replacements_of
from understudy.store.checkpoints import best_valid
from understudy.trust.limited import check_footage
from understudy.trust.notice import check_notice
from understudy.types import BadInput, Json


@dataclass(frozen=True)
class PlateAsked:
    """The plate, by its own name, and which of its frames are to be shown and looked at."""

    info: FootageInfo
    shown: range
    around: range


@dataclass(frozen=True)
class ModelAsked:
    """The model, and who replaces whom by it."""

    swapper: Swapper | IdentitySwapper
    roles: tuple[Replacement, ...]


def plate_asked(
    footage: Path, recipe: ConvertRecipe, ranges: Sequence[RangeSettings] = (), frames: tuple[int, int] | None = None
) -> PlateAsked:
    """Raises BadInput for footage that cannot be read, and for settings, ranges and frames that no plate could have."""
    check_notice(recipe.notice, recipe.notice_language)
    footage = with_a_name(footage)
    check_footage(footage)
    info = probe(footage)
    check_codec(recipe.codec)
    for each in ranges:
        each.check(recipe)
    shown, around = frames_around(frames, info)
    if frames and any(each.shot is not None for each in ranges):
        raise BadInput("ranges by shot count from the film's first frame, which frames alone do not know: give them by frames")
    return PlateAsked(info, shown, around)


def model_asked(
    model: Path,
    replace: str | Sequence[str],
    with_: str | Sequence[str],
    recipe: ConvertRecipe,
    ranges: Sequence[RangeSettings] = (),
) -> ModelAsked:
    """Raises BadInput for an unusable model, performers it does not know, and settings that would do nothing with it."""
    swapper = load_swapper(model, weights=recipe.weights)
    roles = replacements_of(replace, with_, swapper.performers)
    _check_strengths((recipe, *(each.recipe for each in ranges)), model, swapper, roles)
    return ModelAsked(swapper, roles)


def check_asked(
    footage: Path,
    model: Path,
    replace: str | Sequence[str],
    with_: str | Sequence[str],
    recipe: ConvertRecipe,
    frames: tuple[int, int] | None = None,
) -> None:
    """Raises BadInput as `convert` would at its start; a model that is not there may still be made."""
    plate_asked(footage, recipe, frames=frames)
    if model.is_dir() and best_valid(model) is not None:
        model_asked(model, replace, with_, recipe)


def as_json(
    recipe: ConvertRecipe,
    roles: Sequence[Replacement],
    ranges: Sequence[RangeSettings],
    frames: tuple[int, int] | None,
) -> Json:
    """What is asked, as `recipe.json` has it; one replacement without ranges reads as it always did."""
    olds, news = [role.replace for role in roles], [role.with_ for role in roles]
    asked: Json = {**asdict(recipe), "replace": olds, "with": news}
    if len(roles) == 1:
        asked |= {"replace": olds[0], "with": news[0]}
    if ranges:
        asked["ranges"] = [asdict(each) for each in ranges]
    if frames:
        asked["frames"] = list(frames)
    return asked


def _check_strengths(
    recipes: Sequence[ConvertRecipe], model: Path, swapper: Swapper | IdentitySwapper, roles: Sequence[Replacement]
) -> None:
    """Raises BadInput where more or less is asked of what the model has none of: nothing would come of it."""
    trained = swapper.recipe
    if any(each.expression_strength != 1 for each in recipes) and not trained.is_expression_measured:
        raise BadInput(
            f"{model} is not told what is measured of expressions (is_expression_measured); leave expression_strength at 1"
        )
    if any(each.shading_strength != 1 for each in recipes) and not trained.is_light_measured:
        raise BadInput(f"{model} draws faces as they were lit (is_light_measured); leave shading_strength at 1")
    news = [role.with_ for role in roles]
    if any(each.exemplar_strength != 1 for each in recipes) and not swapper.exemplars.keys() & set(news):
        raise BadInput(f"{model} keeps no pictures of {' or '.join(news)} (num_exemplars); leave exemplar_strength at 1")
