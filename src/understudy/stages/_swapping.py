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
from understudy.imaging.masks import Mask
from understudy.media.footage import FrameRecord
from understudy.perception.survey import read_ahead
from understudy.settings import ConvertRecipe
from understudy.stages._compositing import (
    Drawn,
    UnusableError,
    composite_face,
    is_usable,
    reach_of,
)
from understudy.stages._drawing import Answered, answered_frames, unbroken, windows
from understudy.stages._swap_plan import (
    Plan,
)
from understudy.types import AnyImage, Face

Status = Literal["swapped", "no_face", "other_person", "left_out", "failed"]

NO_SWAP: Mapping[Status, str] = {
    "no_face": "no face was found",
    "other_person": "only other people's faces",
    "left_out": "the project leaves it as it is",
}
"""Why a frame that shows nobody to replace is passed through."""

FAULT = "a fault of Understudy: "
"""Begins the reason of a face that failed through a fault of ours; all others failed by what the frame holds."""

MOST_WORKERS = 8


@dataclass(frozen=True)
class SwappedFrame:
    """A finished frame: the record it came from, the new picture (as deep as the plate) and its matte (H, W), and its fate.

    faces: all that were to be replaced; layers: the new ones, each in its place, in the order in which they were laid over the
    plate; drawn: what the network made of each of these. reason: why there is no new face, or who of several has none.
    fault: the traceback where a fault of ours made a face fail.
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


# ---- frame by frame -------------------------------------------------------------------------------------------------------


def swapped_frames(frames: Iterable[FrameRecord], plan: Plan, wanted: range | None = None) -> Iterator[SwappedFrame]:
    """Each frame finished, in order. A frame that cannot be composited comes back as the plate, marked as failed.

    Of several faces those that can be replaced are, and the reason names the others, where `on_missing` lets these be seen.
    wanted: only these come back; `frames` are then `frames_to_read`, of which the others steady the first and last of them.
    """
    answered = read_ahead(answered_frames(read_ahead(frames, num_frames=4), plan), num_frames=2)
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="composite") as pool:
        waiting: deque[Future[SwappedFrame]] = deque()
        for window, place in windows(answered, reach_of(plan), lambda each: replace(each, record=None)):
            if wanted is not None and window[place].frame not in wanted:
                continue
            waiting.append(pool.submit(_finish, window, place, plan))
            while len(waiting) > num_workers() + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def num_workers() -> int:
    """Threads that composite; OpenCV and numpy let go of the interpreter while they work."""
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1))


# ---- compositing ----------------------------------------------------------------------------------------------------------


def _finish(window: Sequence[Answered], place: int, plan: Plan) -> SwappedFrame:
    answered = window[place]
    assert answered.record is not None
    record, faces = answered.record, plan.faces.get(answered.frame, ())
    part = plan.part_at(record.index)

    def passed_through(status: Status, reason: str, fault: str = "") -> SwappedFrame:
        image = record.image if status == "left_out" else _without_swap(record.image, part.recipe)
        return SwappedFrame(record, image, _no_matte(record), status, reason, faces, fault=fault)

    if not part.is_swapped:
        return passed_through("left_out", NO_SWAP["left_out"])
    if not faces:
        status: Status = "other_person" if record.index in plan.strangers else "no_face"
        return passed_through(status, NO_SWAP[status])
    swapped = _laid_over(window, place, record, faces, plan)
    if not swapped.layers or (swapped.reason and part.recipe.on_missing != "keep"):  # a face that must not be seen hides all
        return passed_through("failed", swapped.reason, swapped.fault)
    return swapped


@dataclass(frozen=True)
class _Failure:
    """Why a face is not replaced. fault: the traceback where that is a fault of ours."""

    reason: str
    fault: str = ""


def _laid_over(window: Sequence[Answered], place: int, record: FrameRecord, faces: Sequence[Face], plan: Plan) -> SwappedFrame:
    """The new faces of a frame over its plate, as many as can be put there."""
    image, matte, layers, laid = record.image.copy(), _no_matte(record), [], []
    failures = {track: _Failure(reason) for track, reason in window[place].failures.items()}
    for row, drawn in enumerate(window[place].drawn):
        track = drawn.face.track
        try:
            layer = composite_face(image, *_around(window, place, row), plan)
            if not layer.matte.any():
                raise UnusableError(f"{plan.roles[track].with_}'s face is nowhere visible")
            layer.over(image)
        except UnusableError as error:
            failures[track] = _Failure(str(error))
        except Exception as error:  # one face must not end a long render; the fault is raised when the rest is done
            failures[track] = _Failure(FAULT + _in_words(error), traceback.format_exc())
        else:
            matte[layer.inside] = np.maximum(matte[layer.inside], layer.matte)
            layers.append(layer)
            laid.append(drawn)
    fault = "\n".join(failure.fault for failure in failures.values() if failure.fault)
    return SwappedFrame(record, image, matte, "swapped", _in_one_line(failures, faces, plan), faces, layers, laid, fault)


def _in_one_line(failures: Mapping[int, _Failure], faces: Sequence[Face], plan: Plan) -> str:
    """Why faces are not replaced, and where there are several, whose."""
    if len(faces) == 1:
        return "".join(failure.reason for failure in failures.values())
    return "; ".join(f"{plan.roles[track].replace} is not replaced: {failures[track].reason}" for track in sorted(failures))


def _no_matte(record: FrameRecord) -> Mask:
    return np.zeros(record.image.shape[:2], np.float32)


def _around(window: Sequence[Answered], place: int, row: int) -> tuple[list[Drawn], int]:
    """What was drawn of one face in the frames around, as far as its track is unbroken, and the frame's place in it."""
    drawn = window[place].drawn[row]

    def same(answered: Answered) -> Drawn | None:
        if answered is window[place]:
            return drawn
        return next((each for each in answered.drawn if each.face.track == drawn.face.track and is_usable(each)), None)

    return unbroken(window, place, same)


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
