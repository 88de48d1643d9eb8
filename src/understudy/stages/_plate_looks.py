"""Measures a plate before it is composited: its colours, grain and motion blur, what the model makes of them, its usual faces.

One pass over samples of the clip. The answers are kept on disk, so that a killed conversion need not ask again; the usual
faces, which are large, are read back when their track comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from understudy.imaging.blend import bring_back
from understudy.imaging.colour import ColourStatistics
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.look import Appearance, LookSample, TrackLook, detail_of_model, measure_appearance
from understudy.imaging.matte import at_size, enlarge, scaled_to, skin_mask
from understudy.imaging.motion_blur import ShutterSample, pool_shutter, sample_shutter
from understudy.imaging.visibility import MOST_SAMPLES, usual_appearance
from understudy.imaging.visibility import Appearance as UsualFace
from understudy.media.footage import FrameRecord
from understudy.stages._compositing import Drawn, as_bytes, detailed_colours, is_usable, matte_of
from understudy.stages._drawing import drawn_frames
from understudy.stages._swap_plan import Plan, crop_from_frame, landmarks_in_crop, velocity_in_crop_px
from understudy.store.atomic import atomic_write_bytes, atomic_write_text
from understudy.store.json_files import json_text
from understudy.types import Image, Json

LOOKS_FILE, USUAL_FOLDER = "looks.jsonl", "usual"
TRACKS_IN_MEMORY = 8

LEAST_DETAIL_OF_MODEL = 0.7
"""A model that draws less than this share of the plate's detail is raw (docs/blending.md has the figures)."""


def measured(
    plan: Plan, frames: Callable[[], Iterable[FrameRecord]], folder: Path, tell: Callable[[int], None] = lambda frame: None
) -> Plan:
    """The plan with the plate's looks, from `folder` where an earlier run left them. frames: begins a reading of the clip."""
    if not frames_to_sample(plan):
        return plan
    if not (folder / LOOKS_FILE).is_file():
        _measure(plan, frames(), folder, tell)
    looks = _read_looks(folder / LOOKS_FILE)
    shutter = pool_shutter([sample.shutter for samples in looks.values() for sample in samples])
    by_track = {track: TrackLook.of(samples) for track, samples in looks.items()}
    return plan.with_looks(by_track, shutter, _UsualFaces(folder / USUAL_FOLDER))


def rawness_warnings(plan: Plan) -> list[str]:
    """What to tell of a model that is too raw for this plate; nothing of one that is ready."""
    words = []
    for role in plan.replacements:
        details = [detail_of_model(look) for track, look in plan.looks.items() if plan.roles[track] == role]
        details = [each for each in details if np.isfinite(each)]  # a face of which no skin shows has none
        if details and (detail := float(np.median(details))) < LEAST_DETAIL_OF_MODEL:
            words.append(
                f"the model is raw: its {role.with_} has {detail:.0%} of the detail of {role.replace}'s face there, "
                f"so that much of {role.replace} will show; train longer"
            )
    return words


def frames_to_sample(plan: Plan) -> frozenset[int]:
    """The frames that are looked at: a few in each smoothing window, the first of each track, and some for its usual face."""
    recipes = [recipe for recipe in plan.recipes() if recipe.colour != "none"]
    wanted: set[int] = set()
    if recipes:
        stride = max(1, round(min(recipe.colour_seconds for recipe in recipes) * plan.frame_rate / 3))
        wanted |= {ends.first for ends in plan.ends.values()} | {frame for frame in plan.faces if frame % stride == 0}
    if any(recipe.is_occlusion_kept for recipe in plan.recipes()):
        wanted |= {frame for frames in _usual_frames(plan).values() for frame in frames}
    return frozenset(wanted)


# ---- measuring ------------------------------------------------------------------------------------------------------------


def _measure(plan: Plan, frames: Iterable[FrameRecord], folder: Path, tell: Callable[[int], None]) -> None:
    wanted, usual_frames = frames_to_sample(plan), _usual_frames(plan)
    lines: list[str] = []
    usual: dict[int, list[Drawn]] = {}
    for record, drawn_faces in drawn_frames((frame for frame in frames if frame.index in wanted), plan):
        for track in [track for track in usual if plan.ends[track].last < record.index]:
            _write_usual(folder / USUAL_FOLDER, track, usual.pop(track), plan)
        for drawn in drawn_faces:
            if is_usable(drawn):
                sample = _sample(record, drawn, plan)
                lines.append(json_text({"track": drawn.face.track, **vars(sample)}, is_compact=True) + "\n")
            if record.index in usual_frames.get(drawn.face.track, ()):
                usual.setdefault(drawn.face.track, []).append(drawn)
        tell(record.index)
    for track, several in usual.items():
        _write_usual(folder / USUAL_FOLDER, track, several, plan)
    atomic_write_text(folder / LOOKS_FILE, "".join(lines))


def _usual_frames(plan: Plan) -> dict[int, frozenset[int]]:
    """By track, the frames that show how its face usually looks, spread evenly; none where the detector did not see it."""
    seen: dict[int, list[int]] = {}
    for frame, faces in plan.faces.items():
        for face in faces:
            if not face.is_bridged:
                seen.setdefault(face.track, []).append(frame)
    return {
        track: frozenset(at[row] for row in np.linspace(0, len(at) - 1, min(len(at), MOST_SAMPLES)).round().astype(int))
        for track, at in seen.items()
    }


def _sample(record: FrameRecord, drawn: Drawn, plan: Plan) -> LookSample:
    """By the settings of the whole film: what is set for a part of it must not change how the rest looks."""
    face, recipe = drawn.face, plan.recipe
    landmarks = landmarks_in_crop(face, plan.swapper)
    matte = matte_of(drawn, drawn.answer[..., 3], None, plan, recipe)
    skin = skin_mask(matte, landmarks * (len(matte) / len(drawn.crop)))
    height, width = record.image.shape[:2]
    colours = detailed_colours([drawn], 0, plan, recipe)
    after = enlarge(colours)
    before, skin = scaled_to(unit_from_codes(drawn.crop), len(after)), at_size(skin, len(after))
    place = crop_from_frame(face, plan.swapper, len(colours))
    inside, after_in_frame, skin_in_frame = bring_back(colours, skin, place, (width, height))
    return LookSample(
        face.frame,
        plate=measure_appearance(before, skin, unit_from_codes(record.image[inside]), skin_in_frame),
        face=measure_appearance(after, skin, after_in_frame, skin_in_frame),
        shutter=sample_shutter(before, after, at_size(matte, len(after)), velocity_in_crop_px(face, plan, len(after))),
    )


# ---- on disk --------------------------------------------------------------------------------------------------------------


class _UsualFaces(Mapping[int, UsualFace]):
    """How each track's face usually looks, read from a folder when it is asked for; the last few stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = lru_cache(TRACKS_IN_MEMORY)(self._read_file)

    def __getitem__(self, track: int) -> UsualFace:
        return self._read(track)

    def __iter__(self) -> Iterator[int]:
        return (int(path.stem) for path in sorted(self._folder.glob("*.safetensors")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _read_file(self, track: int) -> UsualFace:
        from safetensors.numpy import load_file

        try:
            arrays = load_file(_usual_path(self._folder, track))
        except FileNotFoundError:
            raise KeyError(track) from None
        return UsualFace(**{name: array.astype(np.float32) for name, array in arrays.items()})


def _write_usual(folder: Path, track: int, several: list[Drawn], plan: Plan) -> None:
    from safetensors.numpy import save

    crops: list[Image] = [as_bytes(drawn.crop) for drawn in several]
    usual = usual_appearance(crops, [landmarks_in_crop(drawn.face, plan.swapper) for drawn in several])
    data = save({name: np.ascontiguousarray(array, np.float16) for name, array in vars(usual).items()})
    atomic_write_bytes(_usual_path(folder, track), data, is_durable=False)


def _usual_path(folder: Path, track: int) -> Path:
    return folder / f"{track:06d}.safetensors"


def _read_looks(path: Path) -> dict[int, list[LookSample]]:
    looks: dict[int, list[LookSample]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            values = cast(dict[str, Json], json.loads(line))
            plate, face = (_appearance(values[name]) for name in ("plate", "face"))
            shutter = ShutterSample(**cast(dict[str, float], values["shutter"])) if values["shutter"] else None
            sample = LookSample(cast(int, values["frame"]), plate, face, shutter)
            looks.setdefault(cast(int, values["track"]), []).append(sample)
    return looks


def _appearance(values: Json) -> Appearance:
    colour = cast(dict[str, float], values["colour"])
    statistics = ColourStatistics(colour["weight"], np.array(colour["mean"]), np.array(colour["covariance"]))
    return Appearance(statistics, np.array(values["detail"]), cast(float, values["grain"]))
