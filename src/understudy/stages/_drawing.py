"""From frames to what the network draws: faces cut out, read and steadied, told the plate's expression, and drawn.

The network is asked in batches that begin and end at the same frames wherever a render was cut, because its answer depends, in
the last digits, on how many faces it is asked about at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar, cast

import numpy as np

from understudy.imaging.depth import unit_from_codes
from understudy.imaging.exemplars import Choice
from understudy.imaging.expression import Drive, read_expressions
from understudy.imaging.masks import Mask
from understudy.imaging.similarity import compose
from understudy.imaging.steadiness import average_crops, jittered_from_crop, reach_frames, steady_code
from understudy.imaging.visibility import visibility
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord
from understudy.stages._compositing import Drawn, as_bytes, reach_of, why_unusable
from understudy.stages._exemplar_detail import FormReader, choose
from understudy.stages._swap_plan import (
    Codes,
    Crops,
    Masks,
    Plan,
    Replacement,
    RgbaCrops,
    crop_from_frame,
    face_in_crop,
    landmarks_in_crop,
)
from understudy.types import AnyImage, Face, FloatArray

MOST_MEMORY_BYTES = 400_000_000
"""Of decoded frames that wait for the network, and of finished ones that wait for the encoder."""


@dataclass(frozen=True)
class _Cut:
    """A frame with the crops of its faces (of each, as many as are averaged), but for those that cannot be cut.

    codes: what the network reads of each crop, where that is steadied; the record is dropped where only they are needed.
    failures: by track, why a face could not be cut.
    """

    record: FrameRecord | None
    frame: int
    faces: Sequence[Face] = ()
    crops: Sequence[Sequence[Crops]] = ()
    codes: Sequence[Sequence[Codes]] = ()
    failures: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A frame with what the network drew of its faces; the record is dropped where only the drawings are needed.

    failures: by track, why a face could not be drawn.
    """

    record: FrameRecord | None
    frame: int
    drawn: Sequence[Drawn] = ()
    failures: Mapping[int, str] = field(default_factory=dict)


class _OfAFrame(Protocol):
    @property
    def frame(self) -> int: ...


Kind = TypeVar("Kind", bound=_OfAFrame)
Picked = TypeVar("Picked")


# ---- which frames matter ----------------------------------------------------------------------------------------------------


def frames_to_read(wanted: range, plan: Plan, frame_bytes: int) -> range:
    """The frames that must be read so that each of `wanted` comes out to the bit as in the whole film."""
    size = batch_frames(plan, frame_bytes)
    return decisive_frames(wanted, plan, size, reach_of(plan))


def decisive_frames(frames: range, plan: Plan, batch: int, reach: int) -> range:
    """The frames that have a say in these: those within `reach`, those that are drawn together with one of them, those that
    steady what is drawn, and those that are read together with one of these."""
    drawn = _whole_batches(range(frames.start - reach, frames.stop + reach), batch)
    num_around = code_reach(plan)
    return _whole_batches(range(drawn.start - num_around, drawn.stop + num_around), batch) if num_around else drawn


def code_reach(plan: Plan) -> int:
    """How many frames to either side steady what the network reads of a frame."""
    if plan.swapper.reads_expressions:
        return 0
    return max(reach_frames(recipe.code_seconds * plan.frame_rate) for recipe in plan.recipes())


def batch_frames(plan: Plan, frame_bytes: int) -> int:
    """Frames that are decoded and held for one question to the network."""
    return max(1, min(plan.recipe.batch_size, MOST_MEMORY_BYTES // frame_bytes))


def _whole_batches(frames: range, size: int) -> range:
    start = max(0, frames.start)
    return range(start - start % size, -(-frames.stop // size) * size)


# ---- the network ----------------------------------------------------------------------------------------------------------


def drawn_frames(frames: Iterable[FrameRecord], plan: Plan) -> Iterator[tuple[FrameRecord, Sequence[Drawn]]]:
    """Each frame with what the network makes of its faces, unsteadied and from one crop each: for measuring."""
    for answered in answered_frames(frames, plan, is_measuring=True):
        assert answered.record is not None
        yield answered.record, answered.drawn


def answered_frames(frames: Iterable[FrameRecord], plan: Plan, is_measuring: bool = False) -> Iterator[Answered]:
    """What the network makes of each frame's faces, asked in batches."""
    all_cuts: Iterable[_Cut] = (_cut(record, plan, 1 if is_measuring else None) for record in frames)
    reader = FormReader(plan.swapper.framing)
    for cuts in _batches(all_cuts if is_measuring else _steadied(all_cuts, plan), plan):
        answers = {place: average_crops(several) for place, several in _swap(cuts, plan).items()}
        forms = _forms(cuts, answers, plan, reader, is_measuring)
        for number, cut in enumerate(cuts):
            drawn = []
            for row, (face, crops) in enumerate(zip(cut.faces, cut.crops, strict=True)):
                visible = None if is_measuring else _visible(face, crops[0], plan)
                answer, form = answers[number, row], forms.get((number, row))
                choice = None if form is None else _choice(answer, form, face, plan)
                drawn.append(Drawn(face, crops[0], answer, visible, form, choice))
            yield Answered(cut.record, cut.frame, drawn, cut.failures)


def _forms(
    cuts: Sequence[_Cut],
    answers: Mapping[tuple[int, int], RgbaCrops],
    plan: Plan,
    reader: FormReader,
    is_measuring: bool,
) -> dict[tuple[int, int], FloatArray]:
    """The form of each face that gets its detail from exemplars, by place in the batch and face."""
    wanted = []
    for number, cut in enumerate(cuts):
        recipe = plan.recipe if is_measuring else plan.part_at(cut.frame).recipe
        for row, face in enumerate(cut.faces):
            if recipe.exemplar_strength > 0 and plan.exemplars_for(face.track) is not None:
                wanted.append((number, row))
    return dict(zip(wanted, reader.read([answers[place][..., :3] for place in wanted]), strict=True))


def _choice(answer: RgbaCrops, form: FloatArray, face: Face, plan: Plan) -> Choice | None:
    """Which exemplars are like what was drawn of a face."""
    exemplars = plan.exemplars_for(face.track)
    assert exemplars is not None  # or no form had been read
    return choose(answer[..., :3], form, exemplars)


def _steadied(cuts: Iterable[_Cut], plan: Plan) -> Iterator[_Cut]:
    """The cuts with what the network reads of them, steadied between the frames of a track; as they are where it is not."""
    reach = code_reach(plan)
    if reach == 0:
        yield from cuts
        return
    read = (cut for batch in _batches(cuts, plan) for cut in _read(batch, plan))
    for window, place in windows(read, reach, lambda cut: replace(cut, record=None, crops=())):
        yield replace(window[place], codes=_steady_codes(window, place, plan))


def _read(cuts: Sequence[_Cut], plan: Plan) -> list[_Cut]:
    codes: dict[tuple[int, int], list[Codes]] = {}
    for role in plan.replacements:
        if asked := _asked(cuts, role, plan):
            read = plan.swapper.read(_stacked(asked), role.replace, _faces(asked, plan))
            for each, code in zip(asked, read, strict=True):
                codes.setdefault(each.place, []).append(code)
    return [replace(cut, codes=[codes[number, row] for row in range(len(cut.faces))]) for number, cut in enumerate(cuts)]


def _steady_codes(window: Sequence[_Cut], place: int, plan: Plan) -> list[list[Codes]]:
    """By face and crop of the frame in the middle."""
    cut = window[place]
    sigma_frames = plan.part_at(cut.frame).recipe.code_seconds * plan.frame_rate
    steady = []
    for row, face in enumerate(cut.faces):
        around, middle = unbroken(window, place, partial(_codes_of, track=face.track))
        alike = [[_same_crop(codes, which) for codes in around] for which in range(len(cut.codes[row]))]
        steady.append([steady_code(codes, middle, sigma_frames) for codes in alike])
    return steady


def _same_crop(codes: Sequence[Codes], which: int) -> Codes:
    """The code of a crop of that number; no numbers where the settings of that frame ask for fewer crops."""
    return codes[which] if which < len(codes) else np.full_like(codes[0], np.nan)


def _codes_of(cut: _Cut, track: int) -> Sequence[Codes] | None:
    return next((codes for face, codes in zip(cut.faces, cut.codes, strict=True) if face.track == track), None)


def _batches(cuts: Iterable[_Cut], plan: Plan) -> Iterator[list[_Cut]]:
    """Frames gathered until they hold enough faces for the network, or there are enough of them to hold in memory.

    A batch always ends where `batch_frames` says, counted from the clip's first frame: a network's answer depends, in its last
    digits, on how many faces it draws at once, and must not depend on where a render was cut.
    """
    batch: list[_Cut] = []
    for cut in cuts:
        assert cut.record is not None
        batch.append(cut)
        num_faces = sum(len(each.faces) for each in batch)
        if (cut.frame + 1) % batch_frames(plan, cut.record.image.nbytes) == 0 or num_faces >= plan.recipe.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _cut(record: FrameRecord, plan: Plan, num_crops: int | None) -> _Cut:
    """num_crops: of each face; None for as many as the frame's settings say, and none where it is left as it is."""
    part, faces = plan.part_at(record.index), plan.faces.get(record.index, ())
    if not faces or (num_crops is None and not part.is_swapped):
        return _Cut(record, record.index)
    failures = {face.track: why for face in faces if (why := why_unusable(face))}
    usable = [face for face in faces if face.track not in failures]
    crops = [_crops(record.image, face, plan, num_crops or part.recipe.num_crops) for face in usable]
    return _Cut(record, record.index, usable, crops, failures=failures)


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
        if asked := _asked(cuts, role, plan):
            faces = [each.face for each in asked]
            recipes = [plan.part_at(face.frame).recipe for face in faces]
            strength = np.array([recipe.expression_strength for recipe in recipes])
            shading = np.array([recipe.shading_strength for recipe in recipes])
            drive = Drive(read_expressions(faces), strength, _faces(asked, plan), shading)
            read = [each.code for each in asked if each.code is not None]
            drawn = plan.swapper.swap(_stacked(asked), role.replace, role.with_, drive, np.stack(read) if read else None)
            for each, answer in zip(asked, drawn, strict=True):
                answers.setdefault(each.place, []).append(answer)
    return answers


@dataclass(frozen=True)
class _Asked:
    """One crop that the network is asked about. place: its frame's in the batch, and its face's in the frame."""

    place: tuple[int, int]
    face: Face
    crop: Crops
    code: Codes | None


def _asked(cuts: Sequence[_Cut], role: Replacement, plan: Plan) -> list[_Asked]:
    """The crops of all faces of a role."""
    return [
        _Asked((number, row), face, crop, cut.codes[row][which] if cut.codes else None)
        for number, cut in enumerate(cuts)
        for row, (face, crops) in enumerate(zip(cut.faces, cut.crops, strict=True))
        if plan.roles[face.track] == role
        for which, crop in enumerate(crops)
    ]


def _stacked(asked: Sequence[_Asked]) -> Crops:
    return cast(Crops, np.stack([each.crop for each in asked]))


def _faces(asked: Sequence[_Asked], plan: Plan) -> Masks:
    """Where the faces lie in the crops, as if none were shifted by half a pixel, as one of several of a face is."""
    return np.stack([face_in_crop(each.face, plan.swapper) for each in asked])


def _visible(face: Face, crop: Crops, plan: Plan) -> Mask | None:
    """What of a face nothing stands before, over the crop; None where that is not asked for, or nobody knows."""
    usual = plan.usual.get(face.track)
    if usual is None or not plan.part_at(face.frame).recipe.is_occlusion_kept:
        return None
    return visibility(as_bytes(crop), landmarks_in_crop(face, plan.swapper), usual)


# ---- frames around a frame ---------------------------------------------------------------------------------------------------


def windows(frames: Iterable[Kind], reach: int, spent: Callable[[Kind], Kind]) -> Iterator[tuple[list[Kind], int]]:
    """Each frame among `reach` frames before and after it, and its place there. spent: makes a frame light that is past."""
    before: deque[Kind] = deque(maxlen=reach)
    ahead: deque[Kind] = deque()

    def window() -> tuple[list[Kind], int]:
        found = ([*before, *ahead], len(before))
        before.append(spent(ahead.popleft()))
        return found

    for each in frames:
        ahead.append(each)
        if len(ahead) > reach:
            yield window()
    while ahead:
        yield window()


def unbroken(window: Sequence[Kind], place: int, pick: Callable[[Kind], Picked | None]) -> tuple[list[Picked], int]:
    """What `pick` finds in the frames around, as far as no frame and no find is missing, and its place in the middle frame."""

    def follow(step: int) -> Iterator[Picked]:
        number = place + step
        while 0 <= number < len(window) and window[number].frame == window[place].frame + number - place:
            picked = pick(window[number])
            if picked is None:
                return
            yield picked
            number += step

    here = pick(window[place])
    assert here is not None
    before = list(follow(-1))[::-1]
    return [*before, here, *follow(1)], len(before)
