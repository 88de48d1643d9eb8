"""Where each frame of a video file lies, so that one in the middle of a film can be shown without decoding all before it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av

from understudy.media.footage import open_footage, video_stream


@dataclass(frozen=True)
class FrameIndex:
    """The times of all frames of a file, in order, in the stream's time base."""

    pts: tuple[int, ...]

    def number_of(self, pts: int | None) -> int | None:
        """The frame of that time, counted from 0; None where there is none."""
        number = bisect_left(self.pts, pts) if pts is not None else len(self.pts)
        return number if number < len(self.pts) and self.pts[number] == pts else None


def frame_index(path: Path) -> FrameIndex | None:
    """The index of a file, read from its packets; None where they do not tell which frames they give."""
    known = path.stat()
    return _read_index(path, known.st_size, known.st_mtime_ns)


@lru_cache(8)
def _read_index(path: Path, size_bytes: int, changed_ns: int) -> FrameIndex | None:
    times: list[int] = []
    with open_footage(path) as container:
        stream = video_stream(container, path)
        try:
            for packet in container.demux(stream):
                if packet.dts is None and packet.size == 0:  # the last, which flushes the decoder
                    continue
                if packet.pts is None or packet.size == 0 or packet.is_corrupt or packet.is_discard:
                    return None
                times.append(packet.pts)
        except av.FFmpegError:
            return None
    is_told = len(set(times)) == len(times) > 0 and stream.frames in (0, len(times))
    return FrameIndex(tuple(sorted(times))) if is_told else None
