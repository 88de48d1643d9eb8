"""Who is swapped where and how: all that is decided before the first frame of a plate is composited."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.imaging.exemplars import Exemplars
from understudy.imaging.expression import Drive
from understudy.imaging.framing import crop_from_face
from understudy.imaging.look import TrackLook
from understudy.imaging.masks import Mask, hull_mask
from understudy.imaging.meanface import face_outline
from understudy.imaging.similarity import Matrix, apply, compose
from understudy.imaging.transfer import SRGB
from understudy.imaging.visibility import Appearance as UsualFace
from understudy.perception.persons import select_performer, track_embeddings
from understudy.settings import ConvertRecipe, RangeSettings
from understudy.types import BadInput, Face, FloatArray, Framing

RgbaCrops = NDArray[np.float32]
Crops = NDArray[np.uint8] | NDArray[np.float32]
Codes = NDArray[np.float32]
Masks = NDArray[np.float32]


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
    @property
    def skins(self) -> Mapping[str, FloatArray]: ...
    @property
    def exemplars(self) -> Mapping[str, Exemplars]: ...
    @property
    def reads_expressions(self) -> bool: ...

    def read(self, crops: Crops, performer: str, faces: Masks | None = None) -> Codes:
        """faces: (N, H, W), where the faces lie in the crops, as in a `Drive`."""
        ...

    def swap(
        self,
        crops: Crops,
        from_performer: str,
        to_performer: str,
        drive: Drive | None = None,
        codes: Codes | None = None,
    ) -> RgbaCrops:
        """Crops (N, H, W, 3) in the model's framing, uint8 or float32 0..1, to (N, H, W, 4) in 0..1, alpha straight.

        codes: (N, ...), what `read` gave, steadied: drawn in place of what the crops show.
        """
        ...


@dataclass(frozen=True)
class Replacement:
    """One performer of the plate, and who takes their place."""

    replace: str
    with_: str

    def __str__(self) -> str:
        return f"{self.with_} in place of {self.replace}"


@dataclass(frozen=True)
class TrackEnds:
    """First and last frame of a track, and whether it begins or ends within its shot, where it must not pop."""

    first: int
    last: int
    is_faded_in: bool
    is_faded_out: bool


@dataclass(frozen=True)
class Part:
    """Frames (step 1) with settings of their own, or that are left as they are."""

    frames: range
    recipe: ConvertRecipe
    is_swapped: bool


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first frame is composited.

    faces: those to replace, by frame. roles: who replaces whom, by track. strangers: frames that show only other people.
    frame_rate: of the plate, frames a second. shot_of_frame: the shot of every frame that was read. parts: of the plate, with
    other settings; the last that holds a frame counts. looks: what the colours are matched by, by track. shutter: of the
    plate's camera, measured. usual: how the faces look when nothing stands before them, by track. transfer: the plate's
    transfer curve (H.273).
    """

    swapper: Swapper
    replacements: tuple[Replacement, ...]
    recipe: ConvertRecipe
    faces: Mapping[int, Sequence[Face]]
    roles: Mapping[int, Replacement]
    strangers: frozenset[int]
    ends: Mapping[int, TrackEnds]
    frame_rate: float
    shot_of_frame: Mapping[int, int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    looks: Mapping[int, TrackLook] = field(default_factory=dict)
    shutter: float = 0.0
    transfer: int = SRGB
    usual: Mapping[int, UsualFace] = field(default_factory=dict)

    def part_at(self, frame: int) -> Part:
        """The settings of a frame."""
        for part in reversed(self.parts):
            if frame in part.frames:
                return part
        return Part(range(frame, frame + 1), self.recipe, is_swapped=True)

    def recipes(self) -> tuple[ConvertRecipe, ...]:
        """Every recipe that some frame of the plate is made by."""
        return (self.recipe, *(part.recipe for part in self.parts if part.is_swapped))

    def with_looks(self, looks: Mapping[int, TrackLook], shutter: float, usual: Mapping[int, UsualFace]) -> Plan:
        """The plan with what was measured on the plate."""
        return replace(self, looks=looks, shutter=shutter, usual=usual)

    def exemplars_for(self, track: int) -> Exemplars | None:
        """What the new face of a track takes its fine detail from, if the model has it."""
        return self.swapper.exemplars.get(self.roles[track].with_)

    def face_of(self, track: int, frame: int) -> Face | None:
        """The face of a track in a frame, if it is to be replaced there."""
        return next((face for face in self.faces.get(frame, ()) if face.track == track), None)


# ---- who is who -----------------------------------------------------------------------------------------------------------


def replacements_of(
    replace: str | Sequence[str], with_: str | Sequence[str], performers: Sequence[str]
) -> tuple[Replacement, ...]:
    """Who replaces whom. Raises BadInput where the pairs do not add up or the model does not know somebody."""
    olds, news = ([name] if isinstance(name, str) else list(name) for name in (replace, with_))
    if len(olds) != len(news) or not olds:
        raise BadInput(f"--replace was given {len(olds)} times and --with {len(news)} times; give them in pairs")
    for option, names in (("--replace", olds), ("--with", news)):
        for name in names:
            if name not in performers:
                raise BadInput(f"{option} {name}: expected a performer whom the model knows: {', '.join(performers)}")
    for old, new in zip(olds, news, strict=True):
        if old == new:
            raise BadInput(f"--replace and --with are both {old}; name two performers")
        if olds.count(old) > 1:
            raise BadInput(f"--replace {old} was given {olds.count(old)} times; a performer is replaced by one other")
    return tuple(Replacement(old, new) for old, new in zip(olds, news, strict=True))


def roles_of(
    faces: Sequence[Face], galleries: Mapping[str, FloatArray], replacements: Sequence[Replacement], max_distance: float
) -> dict[int, Replacement]:
    """The tracks that are replaced, and by whom: a track is of the performer, of all whom the model knows, who is nearest."""
    persons = {name: np.nanmean(np.asarray(rows, np.float64), axis=0) for name, rows in galleries.items() if len(rows)}
    means = track_embeddings(faces)
    nearest = {
        track: min(persons, key=lambda name: float(np.linalg.norm(mean - persons[name]))) for track, mean in means.items()
    }
    roles: dict[int, Replacement] = {}
    for role in replacements:
        theirs = [face for face in faces if nearest.get(face.track) == role.replace]
        roles |= dict.fromkeys(select_performer(theirs, galleries[role.replace], max_distance), role)
    return roles


def check_somebody_is_replaced(plan: Plan, faces: Sequence[Face], plate: Path, shown: Container[int]) -> None:
    """Raises BadInput where nobody would be replaced: the film would be the plate, labelled and signed as if a face were new.

    faces: all that were found in the plate. shown: the frames to make.
    """
    swapped = {frame for frame in plan.shot_of_frame if frame in shown and plan.part_at(frame).is_swapped}
    if swapped.intersection(plan.faces):
        return
    names = " or ".join(role.replace for role in plan.replacements)
    if not swapped or any(frame in shown for frame in plan.faces):
        raise BadInput(
            f"{plate}: its ranges leave every frame that shows {names} as it is, so nobody would be replaced, though the film "
            "would say so; take a range away, or do without this swap"
        )
    there = [face for face in faces if face.frame in shown]
    if not there:
        raise BadInput(f"{plate}: no face was found in it; give footage or frames that show {names}")
    if hint := _swapped_names(plan, there):
        raise BadInput(f"no face in {plate} is {names}; {hint}")
    wanted = {role.replace for role in plan.replacements}
    others = "".join(f", nor {name}" for name in plan.swapper.galleries if name not in wanted)
    raise BadInput(
        f"no face in {plate} is {names}{others}: give footage or frames that show {names}; "
        f"identity_distance ({plan.recipe.identity_distance}) says how alike a face must be"
    )


def _swapped_names(plan: Plan, faces: Sequence[Face]) -> str:
    """Who of those whom the model knows is in most frames, and what to give to replace them; empty where none of them is."""
    galleries, wanted = plan.swapper.galleries, {role.replace for role in plan.replacements}
    others = [Replacement(name, name) for name in galleries if name not in wanted]
    frames: dict[str, set[int]] = {}
    tracks = roles_of(faces, galleries, others, plan.recipe.identity_distance)
    for face in faces:
        if face.track in tracks:
            frames.setdefault(tracks[face.track].replace, set()).add(face.frame)
    if not frames:
        return ""
    found = max(frames, key=lambda name: len(frames[name]))
    new = next((role.with_ for role in plan.replacements if role.with_ != found), plan.replacements[0].replace)
    return f"{len(frames[found])} frames show {found}: did you mean --replace {found} --with {new}?"


def plan_faces(faces: Iterable[Face], tracks: Iterable[int]) -> tuple[dict[int, list[Face]], frozenset[int]]:
    """The faces on `tracks` by frame, and the frames in which there are only others."""
    wanted: dict[int, list[Face]] = {}
    chosen, frames = frozenset(tracks), set()
    for face in faces:
        frames.add(face.frame)
        if face.track in chosen:
            wanted.setdefault(face.frame, []).append(face)
    return wanted, frozenset(frames - wanted.keys())


def track_ends(
    faces: Mapping[int, Sequence[Face]], shot_of_frame: Mapping[int, int], roles: Mapping[int, Replacement]
) -> dict[int, TrackEnds]:
    """Where each track begins and ends, and which of these ends lie within a shot (a cut or the clip's end needs no fade)."""
    frames: dict[int, list[int]] = {}
    for frame, several in faces.items():
        for face in several:
            frames.setdefault(face.track, []).append(frame)

    def is_open(track: int, frame: int, neighbour: int) -> bool:
        is_same_shot = shot_of_frame.get(neighbour) == shot_of_frame.get(frame) is not None
        return is_same_shot and all(roles.get(face.track) != roles.get(track) for face in faces.get(neighbour, ()))

    return {
        track: TrackEnds(min(at), max(at), is_open(track, min(at), min(at) - 1), is_open(track, max(at), max(at) + 1))
        for track, at in frames.items()
    }


# ---- parts of a plate -----------------------------------------------------------------------------------------------------


def parts_of(ranges: Sequence[RangeSettings], recipe: ConvertRecipe, shot_of_frame: Mapping[int, int]) -> tuple[Part, ...]:
    """Ranges and shots as frames. Raises BadInput for a shot that is not there and a setting that is the whole file's."""
    return tuple(_part(each, recipe, shot_of_frame) for each in ranges)


def check_ranges(ranges: Sequence[RangeSettings], num_frames: int) -> None:
    """Raises BadInput for frames of which the plate, read to its end, has none: nothing would come of what is set for them."""
    for each in ranges:
        if each.frames is not None and each.frames[0] >= num_frames:
            raise BadInput(f"range {each}: the plate has {num_frames} frames, counted from 0")


def _part(settings: RangeSettings, recipe: ConvertRecipe, shot_of_frame: Mapping[int, int]) -> Part:
    if settings.frames is not None:
        first, last = settings.frames
        return Part(range(first, last + 1), settings.recipe, settings.is_swapped)
    frames = [frame for frame, shot in shot_of_frame.items() if shot == settings.shot]
    if not frames:
        num_shots = len(set(shot_of_frame.values()))
        raise BadInput(f"range {settings}: the plate has {num_shots} shots, counted from 0 (the ledger tells each frame's)")
    return Part(range(min(frames), max(frames) + 1), settings.recipe, settings.is_swapped)


# ---- where faces lie ------------------------------------------------------------------------------------------------------


def crop_from_frame(face: Face, swapper: Swapper, size_px: int | None = None) -> Matrix:
    """Takes frame pixels to pixels of the model's crop, or of the same square at `size_px`."""
    region = crop_from_face(swapper.framing, size_px or swapper.resolution_px)
    return compose(region, np.asarray(face.face_from_frame, np.float64))


def landmarks_in_crop(face: Face, swapper: Swapper) -> FloatArray:
    """A face's landmarks (468, 2) in pixels of the model's crop."""
    return apply(crop_from_frame(face, swapper), face.landmarks)


def face_in_crop(face: Face, swapper: Swapper) -> Mask:
    """Where a face lies in the model's crop, (R, R)."""
    return hull_mask(face_outline(landmarks_in_crop(face, swapper)), (swapper.resolution_px, swapper.resolution_px))


def velocity_in_crop_px(face: Face, plan: Plan, size_px: int) -> FloatArray:
    """How far the face's centre moves in a frame (x, y), in pixels of its crop at `size_px`, seen from the frame."""
    target_from_frame = crop_from_frame(face, plan.swapper, size_px)
    places = {}
    for step in (-1, 0, 1):
        other = face if step == 0 else plan.face_of(face.track, face.frame + step)
        if other is not None and np.isfinite(other.landmarks).all():
            places[step] = apply(target_from_frame, np.asarray(other.landmarks, np.float64).mean(axis=0))
    steps = sorted(places)
    return (places[steps[-1]] - places[steps[0]]) / max(1, steps[-1] - steps[0])
