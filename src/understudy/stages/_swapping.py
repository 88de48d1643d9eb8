"""The swap itself: from a stream of frames to a stream of finished ones, with the truth about each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.blend import Blend, bring_back, feather, hard, multiband, paste_back, poisson, to_unit
from understudy.imaging.colour import apply_colour
from understudy.imaging.framing import crop_from_face
from understudy.imaging.look import LookSample, apply_detail, look_at, measure_appearance, with_grain
from understudy.imaging.masks import Mask
from understudy.imaging.matte import enlarge, face_matte, fade, skin_mask
from understudy.imaging.similarity import Matrix, apply, compose
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord
from understudy.types import ConvertRecipe, Face, FloatArray, Framing, Image

Status = Literal["swapped", "no_face", "other_person", "failed"]
RgbaCrops = NDArray[np.float32]

NO_SWAP: Mapping[Status, str] = {"no_face": "no face was found", "other_person": "only other people's faces"}
"""Why a frame that shows nobody to replace is passed through."""


class Swapper(Protocol):
    """What a trained model can do here: new faces for crops of the plate (see model/swapper.py)."""

    @property
    def performers(self) -> tuple[str, ...]: ...
    @property
    def resolution_px(self) -> int: ...
    @property
    def framing(self) -> Framing: ...
    @property
    def galleries(self) -> Mapping[str, FloatArray]: ...

    def swap(self, crops: NDArray[np.uint8], from_performer: str, to_performer: str) -> RgbaCrops:
        """Crops (N, H, W, 3) in the model's framing to (N, H, W, 4) between 0 and 1, alpha straight."""
        ...


@dataclass(frozen=True)
class TrackEnds:
    """First and last frame of a track, and whether it begins or ends within its shot, where it must not pop."""

    first: int
    last: int
    is_faded_in: bool
    is_faded_out: bool


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first frame is composited.

    faces: the performer's, by frame. strangers: frames that show somebody else's face. looks: samples for the colour match, by
    track. frame_rate: of the plate, frames a second.
    """

    swapper: Swapper
    replace: str
    with_: str
    recipe: ConvertRecipe
    faces: Mapping[int, Sequence[Face]]
    strangers: frozenset[int]
    ends: Mapping[int, TrackEnds]
    looks: Mapping[int, Sequence[LookSample]]
    frame_rate: float


@dataclass(frozen=True)
class SwappedFrame:
    """A finished frame: the record it came from, the new picture and its matte (H, W), and what happened to it."""

    record: FrameRecord
    image: Image
    matte: Mask
    status: Status
    reason: str
    faces: Sequence[Face]


@dataclass(frozen=True)
class _Cut:
    """A frame with the crops of its faces, or the reason why they could not be cut."""

    record: FrameRecord
    crops: Sequence[Image]
    failure: str = ""


def plan_faces(faces: Sequence[Face], tracks: frozenset[int]) -> tuple[dict[int, list[Face]], frozenset[int]]:
    """The faces on `tracks` by frame, and the frames in which there are only others."""
    wanted: dict[int, list[Face]] = {}
    for face in faces:
        if face.track in tracks:
            wanted.setdefault(face.frame, []).append(face)
    return wanted, frozenset(face.frame for face in faces) - wanted.keys()


def track_ends(faces: Mapping[int, Sequence[Face]], shot_of_frame: Mapping[int, int]) -> dict[int, TrackEnds]:
    """Where each track begins and ends, and which of these ends lie within a shot (a cut or the clip's end needs no fade)."""
    frames: dict[int, list[int]] = {}
    for frame, several in faces.items():
        for face in several:
            frames.setdefault(face.track, []).append(frame)

    def is_open(frame: int, neighbour: int) -> bool:
        return shot_of_frame.get(neighbour) == shot_of_frame.get(frame) is not None and not faces.get(neighbour)

    return {
        track: TrackEnds(min(at), max(at), is_open(min(at), min(at) - 1), is_open(max(at), max(at) + 1))
        for track, at in frames.items()
    }


# ---- frame by frame -------------------------------------------------------------------------------------------------------


def swapped_frames(frames: Iterable[FrameRecord], plan: Plan) -> Iterator[SwappedFrame]:
    """Each frame finished, in order. A frame that cannot be composited comes back as the plate, marked as failed."""
    for cuts in _batches(frames, plan):
        answers = iter(_swap(cuts, plan))
        for cut in cuts:
            yield _finish(cut, [next(answers) for _ in cut.crops], plan)


def sample_looks(frames: Iterable[FrameRecord], plan: Plan) -> dict[int, list[LookSample]]:
    """Samples of every track before and after the swap: its first frame, and a few in each smoothing window."""
    stride = max(1, round(plan.recipe.colour_seconds * plan.frame_rate / 3))
    firsts = {ends.first for ends in plan.ends.values()}
    wanted = firsts | {frame for frame in plan.faces if frame % stride == 0}
    looks: dict[int, list[LookSample]] = {}
    for cuts in _batches((frame for frame in frames if frame.index in wanted), plan):
        answers = iter(_swap(cuts, plan))
        for cut in cuts:
            for face, crop, answer in zip(
                plan.faces[cut.record.index], cut.crops, islice(answers, len(cut.crops)), strict=False
            ):
                if np.isfinite(answer).all() and np.isfinite(face.landmarks).all():
                    looks.setdefault(face.track, []).append(_sample(cut.record, face, crop, answer, plan))
    return looks


def _sample(record: FrameRecord, face: Face, crop: Image, answer: RgbaCrops, plan: Plan) -> LookSample:
    landmarks = _landmarks_in_crop(face, plan)
    matte = _matte(answer[..., 3], landmarks, plan.recipe)
    skin = skin_mask(matte, landmarks * (len(matte) / len(crop)))
    height, width = record.image.shape[:2]
    after = answer[..., :3]
    inside, after_in_frame, skin_in_frame = bring_back(after, skin, crop_from_frame(face, plan.swapper), (width, height))
    before, before_in_frame = to_unit(crop), to_unit(record.image[inside])
    return LookSample(
        face.frame,
        plate=measure_appearance(enlarge(before), skin, before_in_frame, skin_in_frame),
        face=measure_appearance(enlarge(after), skin, after_in_frame, skin_in_frame),
    )


def _batches(frames: Iterable[FrameRecord], plan: Plan) -> Iterator[list[_Cut]]:
    """Frames gathered until they hold enough faces for the network, or there are enough of them to hold in memory."""
    batch: list[_Cut] = []
    for record in frames:
        batch.append(_cut(record, plan))
        if len(batch) >= plan.recipe.batch_size or sum(len(cut.crops) for cut in batch) >= plan.recipe.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _cut(record: FrameRecord, plan: Plan) -> _Cut:
    size_px = plan.swapper.resolution_px
    try:
        faces = plan.faces.get(record.index, ())
        crops = [warp_image(record.image, crop_from_frame(face, plan.swapper), (size_px, size_px)) for face in faces]
    except Exception as error:  # one bad frame must not end a long render; it is listed
        return _Cut(record, [], _in_words(error))
    return _Cut(record, crops)


def _swap(cuts: Sequence[_Cut], plan: Plan) -> Sequence[RgbaCrops]:
    crops = [crop for cut in cuts for crop in cut.crops]
    return list(plan.swapper.swap(np.stack(crops), plan.replace, plan.with_)) if crops else []


def _finish(cut: _Cut, answers: Sequence[RgbaCrops], plan: Plan) -> SwappedFrame:
    record, faces = cut.record, plan.faces.get(cut.record.index, ())
    finished = partial(SwappedFrame, record)
    nothing = np.zeros(record.image.shape[:2], np.float32)
    if not faces:
        status: Status = "other_person" if record.index in plan.strangers else "no_face"
        return finished(_without_swap(record.image, plan), nothing, status, NO_SWAP[status], ())
    if cut.failure:
        return finished(_without_swap(record.image, plan), nothing, "failed", cut.failure, faces)
    try:
        image, matte = record.image, nothing
        for face, answer in zip(faces, answers, strict=True):
            image, face_matte_in_frame = _lay_over(image, face, answer, plan)
            matte = np.maximum(matte, face_matte_in_frame)
    except Exception as error:  # as above
        return finished(_without_swap(record.image, plan), nothing, "failed", _in_words(error), faces)
    if not matte.any():
        return finished(_without_swap(record.image, plan), nothing, "failed", "the new face is nowhere visible", faces)
    return finished(image, matte, "swapped", "", faces)


def _lay_over(image: Image, face: Face, answer: RgbaCrops, plan: Plan) -> tuple[Image, Mask]:
    """One new face, in the plate's colours, through its matte, into the frame."""
    if not np.isfinite(answer).all():
        raise ValueError("the network's answer is not finite")
    recipe, colours = plan.recipe, answer[..., :3]
    blend = blend_method(recipe)
    if recipe.colour == "plate":
        sigma_frames = recipe.colour_seconds * plan.frame_rate
        look = look_at(plan.looks.get(face.track, ()), face.frame, sigma_frames, recipe.colour_method)
        colours = apply_colour(colours, look.colour)
        if recipe.is_sharpness_matched:
            colours = apply_detail(enlarge(colours), look.detail_gains)
        if recipe.is_grain_matched:
            blend = with_grain(blend, look.grain, seed=face.frame)
    matte = _matte(answer[..., 3], _landmarks_in_crop(face, plan), recipe)
    place = crop_from_frame(face, plan.swapper, len(colours))
    return paste_back(image, colours, matte, place, blend, _opacity(face, plan))


def blend_method(recipe: ConvertRecipe) -> Blend:
    """The blending that the recipe names. A performer's own skin cannot have the plate's light: it is feathered instead."""
    if recipe.blend == "multiband" and recipe.colour == "none":
        return feather
    methods: dict[str, Blend] = {
        "direct": feather,  # through a matte that is the whole square
        "hard": hard,
        "feather": feather,
        "poisson": poisson,
        "multiband": multiband,
    }
    return methods[recipe.blend]


def crop_from_frame(face: Face, swapper: Swapper, size_px: int | None = None) -> Matrix:
    """Takes frame pixels to pixels of the model's crop, or of the same square at `size_px`."""
    region = crop_from_face(swapper.framing, size_px or swapper.resolution_px)
    return compose(region, np.asarray(face.face_from_frame, np.float64))


def _landmarks_in_crop(face: Face, plan: Plan) -> FloatArray:
    return apply(crop_from_frame(face, plan.swapper), face.landmarks)


def _matte(learned: Mask, landmarks: FloatArray, recipe: ConvertRecipe) -> Mask:
    if recipe.blend == "direct":
        return np.ones_like(enlarge(learned))
    return face_matte(learned, landmarks, recipe.mask, recipe.erode_fraction, recipe.feather_fraction)


def _opacity(face: Face, plan: Plan) -> float:
    if plan.recipe.on_missing != "keep":
        return 1.0  # a fade would let the face shine through that must not be seen
    ends = plan.ends[face.track]
    num_frames = round(plan.recipe.fade_seconds * plan.frame_rate)
    return fade(face.frame, ends.first, ends.last, num_frames, ends.is_faded_in, ends.is_faded_out)


def _without_swap(image: Image, plan: Plan) -> Image:
    """What a frame without a swap shows: the plate, or, where its face must not be seen, less."""
    if plan.recipe.on_missing == "black":
        return np.zeros_like(image)
    if plan.recipe.on_missing == "blur":
        small = cv2.resize(image, (12, 8), interpolation=cv2.INTER_AREA)  # too coarse to know a face by, however large
        return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    return image


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
