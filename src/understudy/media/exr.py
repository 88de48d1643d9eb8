"""Reads OpenEXR pictures: scene-linear light as code values of PQ at 16 bits, which hold its highlights.

1.0 counts as 100 cd/m2, as in the EXRs that are written (media/encode.py), so that light comes back as it was, to a part in a
thousand; up to 100.0. What is below 0 or no number becomes black. Alpha and further layers are not read: EXR's colours are
multiplied by their alpha, a plate's are not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from understudy.imaging.transfer import PQ, signal_from_light
from understudy.types import DeepImage

MAGIC = b"\x76\x2f\x31\x01"
UNIT_NITS, PEAK_NITS = 100, 10_000


def codes_from_exr(data: bytes) -> DeepImage | None:
    """The picture (height, width, 3) uint16; None where it does not decode."""
    context = av.CodecContext.create("exr", "r")
    assert isinstance(context, VideoCodecContext)
    try:
        frame = next(iter(context.decode(av.Packet(data))), None)
    except (av.FFmpegError, ValueError):
        return None
    kind = "" if frame is None else frame.format.name
    if frame is None or not kind.startswith(("gbrp", "gbrap", "gray")) or not kind.endswith(("f16le", "f32le")):
        return None
    planes = [np.frombuffer(bytes(plane), "<f2" if kind.endswith("f16le") else "<f4") for plane in frame.planes]
    rows = [values.reshape(frame.height, -1)[:, : frame.width] for values in planes]
    red_green_blue = (0, 0, 0) if kind.startswith("gray") else (2, 0, 1)
    light = np.nan_to_num(np.dstack([rows[place] for place in red_green_blue]).astype(np.float32), posinf=PEAK_NITS)
    signal = signal_from_light(np.clip(light, 0, PEAK_NITS / UNIT_NITS) * (UNIT_NITS / PEAK_NITS), PQ)
    return np.rint(signal * 65535).astype(np.uint16)


def exr_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the picture or of what is stored of it, whichever is larger, from the header; None without one."""
    sizes = []
    for name, place, _ in _attributes(data):
        if name in (b"dataWindow", b"displayWindow"):
            left, top, right, bottom = struct.unpack_from("<4i", data, place)
            sizes.append((right - left + 1, bottom - top + 1))
    return (max(width for width, _ in sizes), max(height for _, height in sizes)) if sizes else None


def exr_has_alpha(data: bytes) -> bool:
    """Whether one of its channels is called A."""
    return any(
        name == b"channels" and b"A" in _channels(data[place : place + length]) for name, place, length in _attributes(data)
    )


def _channels(values: bytes) -> list[bytes]:
    """The names of a channel list: after each a zero and 16 bytes about it, and a zero at the end."""
    names, place = [], 0
    while values[place] != 0:
        end = values.index(b"\0", place)
        names.append(values[place:end])
        place = end + 17
    return names


def _attributes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of each value in the header. Raises ValueError for a header that is none."""
    place = 8
    while data[place] != 0:
        name_end = data.index(b"\0", place)
        kind_end = data.index(b"\0", name_end + 1)
        (length,) = struct.unpack_from("<i", data, kind_end + 1)
        if length < 0:
            raise ValueError("an EXR header with a value of negative length")
        yield data[place:name_end], kind_end + 5, length
        place = kind_end + 5 + length
