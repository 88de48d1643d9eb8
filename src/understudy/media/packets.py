"""The packets of an encoder on disk, and those of several segments as one stream.

A file holds one record a packet, in decoding order: its head, then its bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

_HEAD = struct.Struct("<qqI?")
"""Time and duration of showing in the plate's unit, number of bytes, whether it is a key frame: before each packet."""


def record_of(packet: Packet[VideoStream], duration: int) -> bytes:
    """A packet as it is kept; duration: how long its picture is shown in the plate, 0 where that is not known."""
    assert packet.pts is not None
    return _HEAD.pack(packet.pts, duration, packet.size, packet.is_keyframe) + bytes(packet)


def joined_packets(files: Sequence[Path], time_base: Fraction, usual_step: int) -> Iterator[Packet[Stream]]:
    """The packets of all segments in decoding order, timed as if one encoder had made them.

    Times of showing are the plate's own; a frame lasts until the next one, the last as long as in the plate; times of decoding
    are those of showing, in order, put back by as many frames as the encoder shuffles. usual_step: from one frame to the next,
    for a frame that is alone.
    """
    files = [file for file in files if file.stat().st_size]  # an end card stands in the picture alone, not in the passes
    num_back = max((_num_reordered(_times(file)) for file in files), default=0)
    before: list[int] = []
    step = usual_step
    for file, following in zip(files, [*files[1:], None], strict=True):
        times = _times(file)
        shown = sorted(times)
        if not before:
            step = shown[1] - shown[0] if len(shown) > 1 else usual_step
            before = [shown[0] - step * back for back in range(num_back, 0, -1)]
        step = shown[-1] - shown[-2] if len(shown) > 1 else step
        ends = [*shown[1:], min(_times(following)) if following else shown[-1] + (_last_duration(file) or step)]
        duration = {start: end - start for start, end in zip(shown, ends, strict=True)}
        decoded = [*before, *shown]
        for number, (pts, is_key, data) in enumerate(_records(file)):
            packet = Packet(data)
            packet.pts, packet.dts, packet.duration, packet.time_base = pts, decoded[number], duration[pts], time_base
            packet.is_keyframe = is_key
            yield packet
        before = decoded[len(decoded) - num_back :]


def _num_reordered(times: Sequence[int]) -> int:
    """How many frames late the latest frame of this order of decoding comes."""
    rank = {time: place for place, time in enumerate(sorted(times))}
    return max((place - rank[time] for place, time in enumerate(times)), default=0)


def _times(file: Path) -> list[int]:
    return [pts for pts, _ in _spans(file)]


def _last_duration(file: Path) -> int:
    return max(_spans(file))[1]


def _spans(file: Path) -> Iterator[tuple[int, int]]:
    """The time and duration of each packet, without reading what is in them."""
    with file.open("rb") as source:
        while head := source.read(_HEAD.size):
            pts, duration, size, _ = _HEAD.unpack(head)
            yield pts, duration
            source.seek(size, os.SEEK_CUR)


def _records(file: Path) -> Iterator[tuple[int, bool, bytes]]:
    with file.open("rb") as source:
        while head := source.read(_HEAD.size):
            pts, _, size, is_key = _HEAD.unpack(head)
            yield pts, is_key, source.read(size)
