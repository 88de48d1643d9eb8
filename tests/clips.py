"""Small clips with numbers in them, and what is in a file, for the tests of reading and writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from understudy.media import FrameRecord, VideoWriter, read_frames
from understudy.types import Image

WIDTH, HEIGHT = 96, 64


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A soft coloured picture with `number` written in eight black or white squares along its top."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    image = np.stack([60 + 150 * across, 200 - 120 * down, 80 + 100 * across * down], axis=2)
    for bit in range(8):
        image[:8, bit * 8 : bit * 8 + 8] = 255 * (number >> bit & 1)
    return np.asarray(np.rint(image), dtype=np.uint8)


def number_in(image: Image) -> int:
    """The number that `picture` wrote."""
    return sum(1 << bit for bit in range(8) if image[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 127)


def make_clip(
    path: Path,
    *,
    times: Sequence[int] = range(10),
    time_base: Fraction = Fraction(1, 25),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    tags: tuple[int, int, int, int] = (2, 2, 2, 0),
    turn: tuple[float, bool] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    num_sounds: int = 0,
    sound_seconds: float = 0.4,
    muxing: Mapping[str, str] | None = None,
    last_duration: int = 1,
) -> Path:
    """A clip of `picture`s at `times`; turn: (degrees counterclockwise, mirrored); tags: primaries, transfer, matrix, range.

    last_duration: how long the last picture is shown, in units of time_base.
    """
    with av.open(str(path), "w", container_options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=round(1 / time_base), options={"crf": "10"} | dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = (*size, pixel_format)
        stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        sounds = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(num_sounds)]
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        for packet in stream.encode(None):
            packet.duration = last_duration if packet.pts == times[-1] else packet.duration
            container.mux(packet)
        for tone, sound in enumerate(sounds):
            for start in range(0, int(sound_seconds * 48000), 1024):
                wave = np.sin((start + np.arange(1024)) * (0.05 + 0.02 * tone)).astype(np.float32)[None] * 0.3
                frame_of_sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                frame_of_sound.sample_rate, frame_of_sound.pts = 48000, start
                container.mux(sound.encode(frame_of_sound))
            container.mux(sound.encode(None))
    return path


def make_damaged_clip(path: Path, lost: int, num_frames: int) -> Path:
    """A clip whose frames decode each by itself, all but one."""
    make_clip(path, times=range(num_frames), codec="mjpeg", pixel_format="yuvj420p")
    [packets] = packets_of(path, "video")
    data = packets[lost][1]
    path.write_bytes(path.read_bytes().replace(data, bytes(len(data))))
    return path


def copy_through_writer(plate: Path, output: Path, **options: object) -> list[FrameRecord]:
    """Writes every frame of the plate as it is; returns the frames."""
    frames = []
    with VideoWriter(output, plate=plate, **options) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame)
            frames.append(frame)
    return frames


def seconds_of(frames: Sequence[FrameRecord]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def packets_of(path: Path, kind: str) -> list[list[tuple[Fraction, bytes]]]:
    """(time, bytes) of every packet of each stream of a kind."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        if not streams:
            return []
        found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in streams}
        for packet in container.demux(streams):
            if packet.size:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return list(found.values())
