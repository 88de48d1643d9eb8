"""Keeps decoded frames between the two passes of an extraction, as many as its memory holds, so that they are decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from understudy.media.footage import FootageInfo, FrameRecord
from understudy.media.reader import read_frames

MEMORY_BYTES = 512 * 2**20
"""Of pictures: 23 seconds of film in 640x480, 8 in 1280x720, 3 in 1920x1080."""


class FrameMemory:
    """Holds the frames of each clip that were read last in one go, from the first of them on, until it is full."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._num_bytes_left = memory_bytes
        self._frames: dict[str, list[FrameRecord]] = {}

    def remember(self, frames: Iterable[FrameRecord], source: str) -> Iterator[FrameRecord]:
        """The same frames, which follow one another; those that fit are kept."""
        kept = self._frames.setdefault(source, [])
        is_full = False
        for record in frames:
            num_bytes = record.image.nbytes
            is_full = is_full or num_bytes > self._num_bytes_left
            if not is_full:
                self._num_bytes_left -= num_bytes
                kept.append(replace(record, alpha=None))  # a record of its own: without its copy at 8 bits either
            yield record

    def read(self, clip: FootageInfo, source: str, start: int, stop: int) -> Iterator[FrameRecord]:
        """Frames `start` up to (not including) `stop` of the clip: from memory as far as it reaches, the others decoded."""
        kept = self._frames.pop(source, [])
        if kept and kept[0].index <= start <= kept[-1].index:
            yield from (record for record in kept if start <= record.index < stop)
            start = kept[-1].index + 1
        if start < stop:
            yield from read_frames(clip.path, start, stop, info=clip)
