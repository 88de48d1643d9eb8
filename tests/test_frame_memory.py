"""The memory of decoded frames gives what decoding them again would give."""

from __future__ import annotations

import numpy as np
import pytest

from understudy.media import probe, read_frames, write_png
from understudy.stages._frame_memory import FrameMemory

FRAME_BYTES = 20 * 30 * 3


@pytest.fixture
def clip(tmp_path):
    """Seven frames that differ."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(7):
        write_png(folder / f"{number}.png", np.full((20, 30, 3), 30 * number, np.uint8))
    return folder


def levels(frames):
    return [(record.index, int(record.image[0, 0, 0])) for record in frames]


@pytest.mark.parametrize("num_held", [0, 3, 7])
@pytest.mark.parametrize("begin", [0, 2])
@pytest.mark.parametrize(("start", "stop"), [(0, 7), (2, 3), (1, 5), (4, 6), (6, 7)])
def test_frames_come_out_as_they_would_be_read_again_however_many_are_held(clip, num_held, begin, start, stop):
    memory = FrameMemory(num_held * FRAME_BYTES)
    assert levels(memory.remember(read_frames(clip, begin), "clip")) == levels(read_frames(clip, begin))
    assert levels(memory.read(probe(clip), "clip", start, stop)) == levels(read_frames(clip, start, stop))


def test_what_is_held_is_not_read_again_and_what_does_not_fit_is(clip):
    memory = FrameMemory(4 * FRAME_BYTES)
    list(memory.remember(read_frames(clip), "clip"))
    list(memory.remember(read_frames(clip), "another"))
    for picture in clip.iterdir():
        write_png(picture, np.full((20, 30, 3), 7, np.uint8))
    assert levels(memory.read(probe(clip), "clip", 2, 6)) == [(2, 60), (3, 90), (4, 7), (5, 7)]
    assert levels(memory.read(probe(clip), "another", 0, 1)) == [(0, 7)]
