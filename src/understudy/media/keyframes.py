"""Reads a few key frames spread over a video: the best preserved pictures of a file, found without decoding the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from understudy.imaging.depth import eight_bit
from understudy.media.colour import Converter
from understudy.media.footage import open_footage, turned, upright_turn, video_stream
from understudy.types import Image


def read_key_frames(path: Path, most: int) -> Iterator[Image]:
    """At most this many key frames of a video file, evenly spread, upright, RGB (height, width, 3) uint8.

    What does not decode is left out. Raises BadInput where the file is no video.
    """
    with open_footage(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.skip_frame = "NONKEY"
        converter = Converter()
        seen: set[int | None] = set()
        for frame in _spread(container, stream, most):
            if frame.pts not in seen:
                seen.add(frame.pts)
                image = converter.image_from_frame(frame, (frame.width, frame.height))
                yield eight_bit(turned(image, upright_turn(frame)))


def _spread(container: InputContainer, stream: VideoStream, most: int) -> Iterator[av.VideoFrame]:
    seen: set[int] = set()
    if not stream.duration:
        yield from _next_frames(container, stream, most, seen)
        return
    for number in range(most):
        try:
            container.seek((stream.start_time or 0) + stream.duration * number // most, stream=stream)
        except av.FFmpegError:
            return
        yield from _next_frames(container, stream, 1, seen)


def _next_frames(container: InputContainer, stream: VideoStream, most: int, seen: set[int]) -> Iterator[av.VideoFrame]:
    """The frames that follow; none where the first key packet is among `seen`: where key frames are rare, seeks meet again."""
    num_frames, is_begun = 0, False
    try:
        for packet in container.demux(stream):
            if packet.is_keyframe and packet.pts in seen and not is_begun:
                return
            is_begun = is_begun or packet.is_keyframe
            for frame in packet.decode():
                yield frame
                num_frames += 1
                if frame.pts is not None:
                    seen.add(frame.pts)
                if num_frames == most:
                    return
    except av.FFmpegError:
        return
