"""The swap taken apart, frame by frame, to be finished elsewhere: foreground, matte, hold-out, and where the faces lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from understudy.imaging.depth import codes_from_unit, sixteen_bit
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.masks import Mask
from understudy.imaging.similarity import apply, compose, invert
from understudy.media.codecs import STILLS, Track
from understudy.media.footage import FootageInfo
from understudy.media.segments import Layer
from understudy.settings import Codec, ConvertRecipe
from understudy.stages._swapping import SwappedFrame
from understudy.types import DeepImage, FloatArray, Json

PASSES_FOLDER = "passes"
FOREGROUND, MATTE, HOLD_OUT = "foreground", "matte", "holdout"
PASSES = (FOREGROUND, MATTE, HOLD_OUT)
CODECS_OF_PASSES: Mapping[str, Codec] = {"video": "ffv1", "png": "png", "exr": "exr"}
NUKE_SQUARE_PX = 1024
"""What is laid over a face in Nuke is a square of this size."""

_WHITE = np.zeros((1, 1, 1), np.uint16)


def pass_tracks(folder: Path, recipe: ConvertRecipe, metadata: Mapping[str, str]) -> dict[str, Track]:
    """The tracks of the passes that the recipe asks for, at 16 bits: FFV1 in Matroska, or folders of PNG or EXR."""
    if recipe.passes == "none":
        return {}
    codec = CODECS_OF_PASSES[recipe.passes]
    suffix = "" if codec in STILLS else ".mkv"
    return {
        name: Track(
            folder / f"{name}{suffix}", codec, metadata=metadata, has_sound=False, is_grey=name != FOREGROUND, least_bits=16
        )
        for name in PASSES
    }


def pass_layers(frame: SwappedFrame) -> dict[str, Layer]:
    """The passes of a frame, black where it has no new face. The foreground over the plate, through the matte, is the swap."""
    foreground, matte, hold_out = taken_apart(frame)
    return {FOREGROUND: Layer(foreground), MATTE: Layer(_codes(matte)), HOLD_OUT: Layer(_codes(hold_out))}


def taken_apart(frame: SwappedFrame) -> tuple[DeepImage, Mask, Mask]:
    """Foreground (H, W, 3), un-premultiplied, in the plate's code values; its matte and what stands before it (H, W), 0..1."""
    height, width = frame.image.shape[:2]
    foreground = np.zeros((height, width, 3), np.float32)
    matte, hold_out = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    plate = frame.record.image
    for layer in frame.layers:
        inside = layer.inside
        below = matte[inside] * (1 - layer.matte)
        union = layer.matte + below
        above = layer.foreground(plate) * layer.matte[..., None] + foreground[inside] * below[..., None]
        foreground[inside] = above / np.maximum(union, np.float32(1e-6))[..., None]
        matte[inside] = union
        if layer.hold_out is not None:
            hold_out[inside] = np.maximum(hold_out[inside], layer.hold_out)
    return sixteen_bit(codes_from_unit(foreground, like=_WHITE)), matte, hold_out


def _codes(mask: Mask) -> DeepImage:
    return sixteen_bit(codes_from_unit(mask, like=_WHITE))


# ---- alignment for Nuke -----------------------------------------------------------------------------------------------------


def nuke_script(alignments: Sequence[Json], info: FootageInfo) -> str:
    """A script of one CornerPin2D a track, which lays a square picture over the face (its framing `full`) in every frame.

    alignments: the lines of alignment.jsonl. Nuke counts pixels from the lower left corner; frames are numbered from 0, like
    the files of the passes. Where a track is absent its node is disabled. Load it with File > Insert Comp Nodes, or paste it.
    """
    corners: dict[int, dict[int, FloatArray]] = {}
    for line in alignments:
        for face in line["faces"]:  # type: ignore[attr-defined]
            corners.setdefault(int(face["track"]), {})[int(str(line["frame"]))] = _corners(face["face_from_frame"], info.height)
    parts = [f"# Understudy: alignment of {len(corners)} tracks in {len(alignments)} frames of {info.width}x{info.height}"]
    parts += [_corner_pin(track, frames, place) for place, (track, frames) in enumerate(sorted(corners.items()))]
    return "\n".join(parts) + "\n"


def _corners(face_from_frame: object, height: int) -> FloatArray:
    """(4, 2): lower left, lower right, upper right, upper left of the face's square in the frame, as Nuke counts."""
    crop_from_frame = compose(crop_from_face(FULL, 1), np.asarray(face_from_frame, np.float64))
    points = apply(invert(crop_from_frame), np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float64))
    return np.column_stack([points[:, 0], height - points[:, 1]])


def _corner_pin(track: int, frames: Mapping[int, FloatArray], place: int) -> str:
    size = NUKE_SQUARE_PX
    squares = ((0, 0), (size, 0), (size, size), (0, size))
    to = [f" to{k + 1} {{{_curve(frames, k, 0)} {_curve(frames, k, 1)}}}" for k in range(4)]
    start = [f" from{k + 1} {{{x} {y}}}" for k, (x, y) in enumerate(squares)]
    lines = ["CornerPin2D {", " inputs 0", *to, *start, f" disable {_presence(sorted(frames))}"]
    return "\n".join([*lines, f" name Face_track_{track}", f" xpos {place * 120}", " ypos 0", "}"])


def _curve(frames: Mapping[int, FloatArray], corner: int, axis: int) -> str:
    keys = " ".join(f"x{frame} {frames[frame][corner, axis]:.4f}" for frame in sorted(frames))
    return f"{{curve L {keys}}}"


def _presence(frames: Sequence[int]) -> str:
    """A curve that is 1, disabled, wherever the track is not: constant between its keys."""
    keys = list(_switches(frames))
    return "{{curve K " + " ".join(f"x{frame} {value}" for frame, value in keys) + "}}"


def _switches(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    if frames[0] > 0:
        yield 0, 1
    for before, frame, after in zip([None, *frames], frames, [*frames[1:], None], strict=False):
        if before is None or before < frame - 1:
            yield frame, 0
        if after is None or after > frame + 1:
            yield frame + 1, 1
