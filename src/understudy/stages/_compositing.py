"""One new face into one frame: steadied, in the plate's look, through its matte, behind what stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.blend import (
    Blend,
    Layer,
    bring_back,
    feather,
    hard,
    in_light,
    lay_over,
    multiband,
    poisson,
    relief,
)
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.exemplars import Choice
from understudy.imaging.look import apply_colours, apply_detail, level_gain, look_at, with_grain
from understudy.imaging.masks import Mask
from understudy.imaging.matte import at_size, enlarge, face_matte, fade, scaled_to, skin_mask
from understudy.imaging.motion_blur import blur_along
from understudy.imaging.similarity import Matrix, scale_of
from understudy.imaging.steadiness import blend_along_flow, reach_frames, steady_mask
from understudy.imaging.transfer import light_from_signal, signal_from_light
from understudy.settings import ConvertRecipe
from understudy.stages._exemplar_detail import with_detail
from understudy.stages._swap_plan import (
    Crops,
    Plan,
    RgbaCrops,
    crop_from_frame,
    landmarks_in_crop,
    velocity_in_crop_px,
)
from understudy.types import Face, FloatArray


class UnusableError(Exception):
    """This face cannot be composited; the message says why. Anything else that is raised is a fault of ours."""


@dataclass(frozen=True)
class Drawn:
    """What the network made of a face: the crop of the plate (N, N, 3), the answer (N, N, 4), and what is visible (N, N).

    form: (470, 3), the mesh and irises of the answer in its pixels, where the model has exemplars of who was drawn; choice:
    which of these are like it.
    """

    face: Face
    crop: Crops
    answer: RgbaCrops
    visibility: Mask | None = None
    form: FloatArray | None = None
    choice: Choice | None = None


BLENDS: dict[str, Blend] = {
    "direct": feather,  # through a matte that is the whole square
    "alpha": feather,  # through the network's own mask
    "hard": hard,
    "feather": feather,
    "poisson": poisson,
    "multiband": multiband,
    "relief": relief,
}


BANDED = ("multiband", "relief")


def lies_somewhere(face: Face) -> bool:
    """Whether the face's alignment is a place in the frame."""
    return bool(np.isfinite(face.face_from_frame).all() and scale_of(np.asarray(face.face_from_frame, np.float64)) > 0)


def why_unusable(face: Face) -> str:
    """Why a face cannot be cut out; "" for one that can."""
    if not lies_somewhere(face):
        return "the face's alignment is unusable"
    return "" if np.isfinite(face.landmarks).all() else "the face's landmarks are not finite"


def is_usable(drawn: Drawn) -> bool:
    """Whether the network's answer is a picture."""
    return bool(np.isfinite(drawn.answer).all())


def reach_of(plan: Plan) -> int:
    """How many frames to either side have a say in a frame."""
    return max(
        max(reach_frames(recipe.matte_seconds * plan.frame_rate), int(recipe.flow_blend_fraction > 0))
        for recipe in plan.recipes()
    )


def composite_face(plate: NDArray[Any], around: Sequence[Drawn], place: int, plan: Plan) -> Layer:
    """The new face of `around[place]` as a layer over `plate`. around: what was drawn of its track in consecutive frames.

    Raises UnusableError where the network's answer is no picture.
    """
    drawn = around[place]
    if not is_usable(drawn):
        raise UnusableError("the network's answer is not finite")
    recipe, face = plan.part_at(drawn.face.frame).recipe, drawn.face
    colours = detailed_colours(around, place, plan, recipe)
    sigma_frames = recipe.matte_seconds * plan.frame_rate
    learned = steady_mask([each.answer[..., 3] for each in around], place, sigma_frames)
    visible = _steady_visibility(around, place, sigma_frames)
    matte = matte_of(drawn, learned, visible, plan, recipe)
    colours, blend = _in_the_plates_look(colours, drawn, matte, plan, recipe)
    place_in_frame = crop_from_frame(face, plan.swapper, len(colours))
    layer = lay_over(plate, colours, matte, place_in_frame, blend, _opacity(face, plan, recipe))
    return layer if visible is None else replace(layer, hold_out=_hold_out(visible, colours, place_in_frame, plate))


def detailed_colours(around: Sequence[Drawn], place: int, plan: Plan, recipe: ConvertRecipe) -> NDArray[np.float32]:
    """What was drawn of `around[place]`, steadied if told, with the detail of the new performer's own pictures."""
    colours, drawn = _steady_colours(around, place, recipe), around[place]
    exemplars = plan.exemplars_for(drawn.face.track)
    if exemplars is None or drawn.form is None:
        return colours
    forms = [each.form if each.form is not None else np.full_like(drawn.form, np.nan) for each in around]
    sigma_frames = recipe.matte_seconds * plan.frame_rate
    choices = [each.choice for each in around]
    return with_detail(colours, forms, choices, place, sigma_frames, exemplars, recipe.exemplar_strength)


def _hold_out(visible: Mask, colours: NDArray[np.float32], place_in_frame: Matrix, plate: NDArray[Any]) -> Mask:
    """What stands before the face, in the frame, as an artist needs it to put it back."""
    before = 1 - at_size(visible, len(colours))
    return bring_back(colours, before, place_in_frame, (plate.shape[1], plate.shape[0]))[2]


def matte_of(drawn: Drawn, learned: Mask, visible: Mask | None, plan: Plan, recipe: ConvertRecipe) -> Mask:
    """Where the new face shows in its crop: learned (N, N) by the network; visible (N, N), where nothing stands before it."""
    if recipe.blend == "direct":
        return np.ones_like(enlarge(learned))
    if recipe.blend == "alpha":
        alpha = np.clip(enlarge(learned), 0, 1)
        return alpha if visible is None else np.minimum(alpha, at_size(visible, len(alpha)))
    landmarks = landmarks_in_crop(drawn.face, plan.swapper)
    return face_matte(learned, landmarks, recipe.mask, recipe.erode_fraction, recipe.feather_fraction, visible)


def blend_method(recipe: ConvertRecipe, transfer: int) -> Blend:
    """The blending that the recipe names. A performer's own skin cannot take the plate's bands: it is feathered."""
    blend = feather if recipe.blend in BANDED and recipe.colour != "plate" else BLENDS[recipe.blend]
    if not recipe.is_light_linear:
        return blend
    return in_light(blend, partial(light_from_signal, transfer=transfer), partial(signal_from_light, transfer=transfer))


def as_bytes(crop: Crops) -> NDArray[np.uint8]:
    """A crop at 8 bits."""
    return np.asarray(crop if crop.dtype == np.uint8 else np.rint(crop * 255), np.uint8)


# ---- helpers --------------------------------------------------------------------------------------------------------------


def _steady_colours(around: Sequence[Drawn], place: int, recipe: ConvertRecipe) -> NDArray[np.float32]:
    colours = [each.answer[..., :3] for each in around]
    if recipe.flow_blend_fraction == 0 or len(around) == 1:
        return colours[place]
    near = slice(max(0, place - 1), place + 2)
    return blend_along_flow(
        colours[near], [as_bytes(each.crop) for each in around[near]], min(place, 1), recipe.flow_blend_fraction
    )


def _steady_visibility(around: Sequence[Drawn], place: int, sigma_frames: float) -> Mask | None:
    if around[place].visibility is None:
        return None
    seen = [(row, each.visibility) for row, each in enumerate(around) if each.visibility is not None]
    return steady_mask([mask for _, mask in seen], [row for row, _ in seen].index(place), sigma_frames)


def _in_the_plates_look(
    colours: NDArray[np.float32], drawn: Drawn, matte: Mask, plan: Plan, recipe: ConvertRecipe
) -> tuple[NDArray[np.float32], Blend]:
    face, blend = drawn.face, blend_method(recipe, plan.transfer)
    if recipe.colour == "none":
        return colours, blend
    sigma_frames = recipe.colour_seconds * plan.frame_rate
    role, skins = plan.roles[face.track], plan.swapper.skins
    usual_skins = (skins[role.replace], skins[role.with_]) if {role.replace, role.with_} <= skins.keys() else None
    look = look_at(plan.looks.get(face.track), face.frame, sigma_frames, recipe.colour_method, recipe.colour, usual_skins)
    colours = apply_colours(colours, look)
    if recipe.colour == "plate":
        skin = at_size(skin_mask(matte, landmarks_in_crop(face, plan.swapper) * (len(matte) / len(drawn.crop))), len(colours))
        crop = scaled_to(unit_from_codes(drawn.crop), len(colours))
        colours = colours * np.float32(level_gain(crop, colours, skin))
    if recipe.is_sharpness_matched:
        colours = apply_detail(enlarge(colours), look.detail_gains)
    if recipe.is_motion_blur_matched and plan.shutter:
        colours = enlarge(colours)
        colours = blur_along(colours, velocity_in_crop_px(face, plan, len(colours)), plan.shutter)
    if recipe.is_grain_matched:
        blend = with_grain(blend, look.grain, seed=face.frame)
    return colours, blend


def _opacity(face: Face, plan: Plan, recipe: ConvertRecipe) -> float:
    if recipe.on_missing != "keep":
        return 1.0  # a fade would let the face shine through that must not be seen
    ends = plan.ends[face.track]
    num_frames = round(recipe.fade_seconds * plan.frame_rate)
    return fade(face.frame, ends.first, ends.last, num_frames, ends.is_faded_in, ends.is_faded_out)
