"""The swap itself: from a stream of frames to a stream of finished ones, with the truth about each.

Frames are decoded in one thread, cut and drawn by the network in a second, and composited in several; whoever takes the
finished frames encodes them meanwhile. What waits between two of them is limited, so that memory does not grow with the film.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, cast

import cv2
import numpy as np

from understudy.imaging.blend import Layer
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.expression import read_expressions
from understudy.imaging.masks import Mask
from understudy.imaging.similarity import compose
from understudy.imaging.steadiness import average_crops, jittered_from_crop
from understudy.imaging.visibility import visibility
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord
from understudy.perception.survey import read_ahead
from understudy.stages._compositing import (
    Drawn,
    UnusableError,
    as_bytes,
    check_usable,
    composite_face,
    is_usable,
    reach_of,
)
from understudy.stages._swap_plan import (
    Crops,
    Plan,
    RgbaCrops,
    crop_from_frame,
    landmarks_in_crop,
)
from understudy.types import AnyImage, ConvertRecipe, Face

Status = Literal["swapped", "no_face", "other_person", "left_out", "failed"]

NO_SWAP: Mapping[Status, str] = {
    "no_face": "no face was found",
    "other_person": "only other people's faces",
    "left_out": "the project leaves it as it is",
}
"""Why a frame that shows nobody to replace is passed through."""

FAULT = "a fault of Understudy: "
"""Begins the reason of a frame that failed through a fault of ours; all others failed by what they hold."""

MOST_MEMORY_BYTES = 400_000_000
"""Of decoded frames that wait for the network, and of finished ones that wait for the encoder."""

MOST_WORKERS = 8


@dataclass(frozen=True)
class SwappedFrame:
    """A finished frame: the record it came from, the new picture (as deep as the plate) and its matte (H, W), and its fate.

    layers: the new faces, each in its place, in the order in which they were laid over the plate; drawn: what the network made
    of each. fault: the traceback where a fault of ours made it fail.
    """

    record: FrameRecord
    image: AnyImage
    matte: Mask
    status: Status
    reason: str
    faces: Sequence[Face]
    layers: Sequence[Layer] = ()
    drawn: Sequence[Drawn] = ()
    fault: str = ""


@dataclass(frozen=True)
class _Cut:
    """A frame with the crops of its faces (of each, as many as are averaged), or the reason why they could not be cut."""

    record: FrameRecord
    faces: Sequence[Face] = ()
    crops: Sequence[Sequence[Crops]] = ()
    failure: str = ""


@dataclass(frozen=True)
class _Answered:
    """A frame with what the network drew of its faces; the record is dropped where only the drawings are needed."""

    record: FrameRecord | None
    frame: int
    drawn: Sequence[Drawn] = ()
    failure: str = ""


# ---- frame by frame -------------------------------------------------------------------------------------------------------


def swapped_frames(frames: Iterable[FrameRecord], plan: Plan, wanted: range | None = None) -> Iterator[SwappedFrame]:
    """Each frame finished, in order. A frame that cannot be composited comes back as the plate, marked as failed.

    wanted: only these come back; `frames` are then `frames_to_read`, of which the others steady the first and last of them.
    """
    answered = read_ahead(_answered(read_ahead(frames, num_frames=4), plan), num_frames=2)
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="composite") as pool:
        waiting: deque[Future[SwappedFrame]] = deque()
        for window, place in _windows(answered, reach_of(plan)):
            if wanted is not None and window[place].frame not in wanted:
                continue
            waiting.append(pool.submit(_finish, window, place, plan))
            while len(waiting) > num_workers() + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def frames_to_read(wanted: range, plan: Plan, frame_bytes: int) -> range:
    """The frames that must be read so that each of `wanted` comes out to the bit as in the whole film."""
    size = batch_frames(plan, frame_bytes)
    start = max(0, wanted.start - reach_of(plan))
    return range(start - start % size, wanted.stop + reach_of(plan) + size)


def batch_frames(plan: Plan, frame_bytes: int) -> int:
    """Frames that are decoded and held for one question to the network."""
    return max(1, min(plan.recipe.batch_size, MOST_MEMORY_BYTES // frame_bytes))


def num_workers() -> int:
    """Threads that composite; OpenCV and numpy let go of the interpreter while they work."""
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1))


def drawn_frames(frames: Iterable[FrameRecord], plan: Plan) -> Iterator[tuple[FrameRecord, Sequence[Drawn]]]:
    """Each frame with what the network makes of its faces, unsteadied and from one crop each: for measuring."""
    for answered in _answered(frames, plan, is_measuring=True):
        assert answered.record is not None
        yield answered.record, answered.drawn


# ---- the network ----------------------------------------------------------------------------------------------------------


def _answered(frames: Iterable[FrameRecord], plan: Plan, is_measuring: bool = False) -> Iterator[_Answered]:
    """What the network makes of each frame's faces, asked in batches."""
    for cuts in _batches(frames, plan, 1 if is_measuring else None):
        answers = _swap(cuts, plan)
        for number, cut in enumerate(cuts):
            drawn = []
            for row, (face, crops) in enumerate(zip(cut.faces, cut.crops, strict=True)):
                visible = None if is_measuring else _visible(face, crops[0], plan)
                drawn.append(Drawn(face, crops[0], average_crops(answers[number, row]), visible))
            yield _Answered(cut.record, cut.record.index, drawn, cut.failure)


def _batches(frames: Iterable[FrameRecord], plan: Plan, num_crops: int | None) -> Iterator[list[_Cut]]:
    """Frames gathered until they hold enough faces for the network, or there are enough of them to hold in memory.

    A batch always ends where `batch_frames` says, counted from the clip's first frame: a network's answer depends, in its last
    digits, on how many faces it draws at once, and must not depend on where a render was cut.
    """
    batch: list[_Cut] = []
    for record in frames:
        batch.append(_cut(record, plan, num_crops))
        num_faces = sum(len(cut.faces) for cut in batch)
        if (record.index + 1) % batch_frames(plan, record.image.nbytes) == 0 or num_faces >= plan.recipe.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _cut(record: FrameRecord, plan: Plan, num_crops: int | None) -> _Cut:
    """num_crops: of each face; None for as many as the frame's settings say, and none where it is left as it is."""
    part, faces = plan.part_at(record.index), plan.faces.get(record.index, ())
    if not faces or (num_crops is None and not part.is_swapped):
        return _Cut(record)
    try:
        for face in faces:
            check_usable(face)
    except UnusableError as error:
        return _Cut(record, failure=str(error))
    crops = [_crops(record.image, face, plan, num_crops or part.recipe.num_crops) for face in faces]
    return _Cut(record, faces, crops)


def _crops(image: AnyImage, face: Face, plan: Plan, num_crops: int) -> list[Crops]:
    size_px = plan.swapper.resolution_px
    from_frame = crop_from_frame(face, plan.swapper)
    places = [compose(jittered_from_crop(number, size_px), from_frame) if number else from_frame for number in range(num_crops)]
    crops = [warp_image(image, place, (size_px, size_px)) for place in places]
    return [cast(Crops, crop if crop.dtype == np.uint8 else unit_from_codes(crop)) for crop in crops]


def _swap(cuts: Sequence[_Cut], plan: Plan) -> dict[tuple[int, int], list[RgbaCrops]]:
    """The network's answers by place in the batch and face; the faces of each role are drawn together."""
    answers: dict[tuple[int, int], list[RgbaCrops]] = {}
    for role in plan.replacements:
        asked = [
            ((number, row), face, crop)
            for number, cut in enumerate(cuts)
            for row, (face, crops) in enumerate(zip(cut.faces, cut.crops, strict=True))
            if plan.roles[face.track] == role
            for crop in crops
        ]
        if asked:
            places, faces, pictures = zip(*asked, strict=True)
            crops_asked = cast(Crops, np.stack(pictures))
            strength = np.array([plan.part_at(face.frame).recipe.expression_strength for face in faces])
            drawn = plan.swapper.swap(crops_asked, role.replace, role.with_, read_expressions(faces), strength)
            for place, answer in zip(places, drawn, strict=True):
                answers.setdefault(place, []).append(answer)
    return answers


def _visible(face: Face, crop: Crops, plan: Plan) -> Mask | None:
    """What of a face nothing stands before, over the crop; None where that is not asked for, or nobody knows."""
    usual = plan.usual.get(face.track)
    if usual is None or not plan.part_at(face.frame).recipe.is_occlusion_kept:
        return None
    return visibility(as_bytes(crop), landmarks_in_crop(face, plan.swapper), usual)


# ---- compositing ----------------------------------------------------------------------------------------------------------


def _windows(answered: Iterable[_Answered], reach: int) -> Iterator[tuple[list[_Answered], int]]:
    """Each frame among `reach` frames before and after it, and its place there."""
    before: deque[_Answered] = deque(maxlen=reach)
    ahead: deque[_Answered] = deque()

    def window() -> tuple[list[_Answered], int]:
        found = ([*before, *ahead], len(before))
        before.append(replace(ahead.popleft(), record=None))
        return found

    for each in answered:
        ahead.append(each)
        if len(ahead) > reach:
            yield window()
    while ahead:
        yield window()


def _finish(window: Sequence[_Answered], place: int, plan: Plan) -> SwappedFrame:
    answered = window[place]
    assert answered.record is not None
    record, faces = answered.record, plan.faces.get(answered.frame, ())
    part = plan.part_at(record.index)
    nothing = np.zeros(record.image.shape[:2], np.float32)

    def passed_through(status: Status, reason: str, fault: str = "") -> SwappedFrame:
        image = record.image if status == "left_out" else _without_swap(record.image, part.recipe)
        return SwappedFrame(record, image, nothing, status, reason, faces, fault=fault)

    if not part.is_swapped:
        return passed_through("left_out", NO_SWAP["left_out"])
    if not faces:
        status: Status = "other_person" if record.index in plan.strangers else "no_face"
        return passed_through(status, NO_SWAP[status])
    if answered.failure:
        return passed_through("failed", answered.failure)
    try:
        return _laid_over(record, [_around(window, place, row) for row in range(len(answered.drawn))], plan)
    except UnusableError as error:
        return passed_through("failed", str(error))
    except Exception as error:  # one frame must not end a long render; the fault is raised when the rest is done
        return passed_through("failed", FAULT + _in_words(error), traceback.format_exc())


def _laid_over(record: FrameRecord, faces: Sequence[tuple[Sequence[Drawn], int]], plan: Plan) -> SwappedFrame:
    """All new faces of a frame over its plate. Raises UnusableError where one of them cannot be put there."""
    image, matte, layers = record.image.copy(), np.zeros(record.image.shape[:2], np.float32), []
    for around, place in faces:
        layer = composite_face(image, around, place, plan)
        if not layer.matte.any():
            raise UnusableError(f"{plan.roles[around[place].face.track].with_}'s face is nowhere visible")
        layer.over(image)
        matte[layer.inside] = np.maximum(matte[layer.inside], layer.matte)
        layers.append(layer)
    drawn = [around[place] for around, place in faces]
    return SwappedFrame(record, image, matte, "swapped", "", [each.face for each in drawn], layers, drawn)


def _around(window: Sequence[_Answered], place: int, row: int) -> tuple[list[Drawn], int]:
    """What was drawn of one face in the frames around, as far as its track is unbroken, and the frame's place in it."""
    drawn = window[place].drawn[row]

    def follow(step: int) -> Iterator[Drawn]:
        number = place + step
        while 0 <= number < len(window) and window[number].frame == drawn.face.frame + number - place:
            same = next((each for each in window[number].drawn if each.face.track == drawn.face.track), None)
            if same is None or not is_usable(same):
                return
            yield same
            number += step

    before = list(follow(-1))[::-1]
    return [*before, drawn, *follow(1)], len(before)


def _without_swap(image: AnyImage, recipe: ConvertRecipe) -> AnyImage:
    """What a frame without a swap shows: the plate, or, where its face must not be seen, less."""
    if recipe.on_missing == "black":
        return np.zeros_like(image)
    if recipe.on_missing == "blur":
        small = cv2.resize(image, (12, 8), interpolation=cv2.INTER_AREA)  # too coarse to know a face by, however large
        return cast(AnyImage, cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC))
    return image


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
