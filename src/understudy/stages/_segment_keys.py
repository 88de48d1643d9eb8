"""What decides the pictures of each segment of a swap, as a key: where it has not changed, nothing need be rendered again.

A key covers everything that the frames of a segment are made from, and nothing else: the settings of every frame that has a say
in one of them, the faces there, and what was measured of their tracks nearby. Model, plate, consent and what is set for the
whole file are in the identity that is watermarked, which is part of every key; segments of other code are not looked at.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np

from understudy.imaging.expression import read_expressions
from understudy.imaging.look import LookSample
from understudy.settings import ConvertRecipe
from understudy.stages._compositing import reach_of
from understudy.stages._drawing import batch_frames, code_reach, decisive_frames
from understudy.stages._swap_plan import Plan
from understudy.store.hashing import sha256_of_json
from understudy.types import Face, FloatArray

REACH_OF_LOOKS = 4
"""Samples of a track's look farther away than this, in units of `colour_seconds`, weigh nothing (imaging/look.py)."""


def segment_keys(
    plan: Plan, num_frames: int, every: int, frame_bytes: int, identity: str, shown: range | None = None
) -> list[str]:
    """The keys of the segments of `every` frames that lie wholly within the plate's `num_frames`, or those `shown` of them.

    identity: of the watermark.
    """
    shown = shown or range(num_frames)
    batch = batch_frames(plan, frame_bytes)
    whole = [identity, every, batch, reach_of(plan), code_reach(plan), plan.frame_rate, plan.transfer]
    keys = []
    for start in range(shown.start, min(num_frames, shown.stop) - every + 1, every):
        frames = _decisive(range(start, start + every), plan, batch, num_frames)
        recipes = [plan.part_at(frame).recipe for frame in frames]
        tracks = sorted({face.track for frame in frames for face in plan.faces.get(frame, ())})
        about = [
            [_frame(frame, plan) for frame in frames],
            [_track(track, frames, recipes, plan) for track in tracks],
            plan.shutter if any(recipe.is_motion_blur_matched for recipe in recipes) else 0.0,
        ]
        keys.append(sha256_of_json([whole, about]))
    return keys


def _decisive(frames: range, plan: Plan, batch: int, num_frames: int) -> range:
    """The frames that have a say in these: those around, and those that are drawn together with one of them."""
    num_around = max(reach_of(plan), int(any(recipe.is_motion_blur_matched for recipe in plan.recipes())))
    decisive = decisive_frames(frames, plan, batch, num_around)
    return range(decisive.start, min(num_frames, decisive.stop))


def _frame(frame: int, plan: Plan) -> list[object]:
    """How a frame is composited and what is in it."""
    part = plan.part_at(frame)
    settings = {name: value for name, value in asdict(part.recipe).items() if name != "name"}
    faces = [_face(face) for face in plan.faces.get(frame, ())]
    return [part.is_swapped, settings, frame in plan.strangers, plan.shot_of_frame.get(frame), faces]


def _face(face: Face) -> list[object]:
    return [
        face.track,
        face.is_bridged,
        asdict(face.box),
        _digest((face.landmarks, face.face_from_frame, read_expressions([face]))),
    ]


def _track(track: int, frames: range, recipes: Sequence[ConvertRecipe], plan: Plan) -> list[object]:
    """What is known of a track near these frames."""
    ends, look, usual = plan.ends[track], plan.looks.get(track), plan.usual.get(track)
    samples: Iterable[LookSample] = ()
    if look is not None:
        is_whole = any(recipe.colour == "performer" for recipe in recipes)
        reach = REACH_OF_LOOKS * max(recipe.colour_seconds for recipe in recipes) * plan.frame_rate
        samples = look.samples if is_whole else _near(look.samples, frames.start - reach, frames.stop + reach)
    measured = [[sample.frame, sample.plate, sample.face] for sample in samples]
    return [track, str(plan.roles[track]), ends, measured, "" if usual is None else _digest(vars(usual).values())]


def _near(samples: Sequence[LookSample], first: float, last: float) -> Sequence[LookSample]:
    """Those between, and the nearest on either side, which count where there are none between."""
    start = bisect_left(samples, first, key=lambda sample: sample.frame)
    stop = bisect_right(samples, last, key=lambda sample: sample.frame)
    return samples[max(0, start - 1) : stop + 1]


def _digest(arrays: Iterable[FloatArray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()
