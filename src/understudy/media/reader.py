"""Reads frames of a video file or an image folder one by one, upright, in RGB, with exact times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from understudy.imaging.depth import code_max
from understudy.media.colour import Converter
from understudy.media.footage import (
    FOLDER_FRAME_RATE,
    FootageInfo,
    FrameRecord,
    LossReport,
    ignore_losses,
    open_footage,
    probe,
    turned,
    upright_turn,
    video_stream,
)
from understudy.media.images import footage_images, is_exr, read_deep_image
from understudy.media.seeking import FrameIndex, frame_index
from understudy.media.transparency import read_transparency
from understudy.types import AnyImage, AnyMatte, BadInput

CUT_SHORT_SECONDS = 0.25
"""A file whose last packet ends this much before its stated duration is reported as cut short."""


def read_frames(
    path: Path,
    start: int = 0,
    stop: int | None = None,
    *,
    folder_frame_rate: Fraction = FOLDER_FRAME_RATE,
    on_loss: LossReport = ignore_losses,
    info: FootageInfo | None = None,
    is_sought: bool = False,
) -> Iterator[FrameRecord]:
    """Frames `start` up to (not including) `stop`, one at a time; memory does not grow with the length.

    info: what `probe` said of a file, for whoever has asked already.

    A frame has the same number and time wherever the reading starts: what is before `start` is decoded too, because only
    decoding tells which packets give a frame. is_sought: begin at the nearest key frame instead, for looking at a part of a
    film; what does not decode is then counted as frames, wherever the reading starts. Where a file's packets do not number its
    frames, all is decoded nevertheless.
    Frames are upright (display matrix applied), interlaced ones as decoded, non-square pixels as stored. Where the size changes
    within the stream, later frames are scaled to the first one's. What does not decode is left out. Each such loss is told to
    `on_loss` in words when the reading ends. Raises BadInput naming the file where there is nothing to read at all.
    """
    if path.is_dir():
        return _read_folder(path, start, stop, folder_frame_rate, on_loss)
    return _read_file(path, start, stop, on_loss, info, is_sought)


def _read_folder(path: Path, start: int, stop: int | None, frame_rate: Fraction, on_loss: LossReport) -> Iterator[FrameRecord]:
    images = footage_images(path)
    first, first_alpha = read_deep_image(images[0]), read_transparency(images[0])
    time_base, num_unread = 1 / frame_rate, 0
    for index, image_path in list(enumerate(images))[start:stop]:
        image = read_deep_image(image_path)
        if (image.shape, image.dtype, is_exr(image_path)) != (first.shape, first.dtype, is_exr(images[0])):
            raise BadInput(
                f"{image_path}: is {_size_in_words(image)}, the first picture of the folder is {_size_in_words(first)}; "
                "give pictures of one size, depth and kind"
            )
        alpha = read_transparency(image_path)
        if first_alpha is None:
            num_unread, alpha = num_unread + (alpha is not None), None
        elif alpha is None:
            alpha = np.full_like(first_alpha, code_max(image))  # opaque, like any picture without
        yield FrameRecord(index, float(index * time_base), index, time_base, image, alpha)
    if num_unread:
        on_loss(f"{path}: {num_unread} pictures have an alpha channel, which is not read because the first one has none")


def _size_in_words(image: AnyImage) -> str:
    return f"{image.shape[1]}x{image.shape[0]} at {8 * image.itemsize} bits"


def _read_file(
    path: Path, start: int, stop: int | None, on_loss: LossReport, info: FootageInfo | None, is_sought: bool
) -> Iterator[FrameRecord]:
    info = info or probe(path)
    losses = _Losses()
    converter = Converter()
    clock_start_pts = round(info.clock_start_seconds / info.time_base)
    last_pts: int | None = None
    for index, frame in _sought_frames(path, start, losses) if is_sought else enumerate(_frames_of(path, losses)):
        if stop is not None and index >= stop:
            break
        pts = frame.pts if frame.pts is None else frame.pts - clock_start_pts
        if pts is None or (last_pts is not None and pts <= last_pts):
            losses.num_retimed += 1
            pts = 0 if last_pts is None else last_pts + max(1, frame.duration)
        last_pts = pts
        if index >= start or not is_sought:  # what lies before a part that is sought is no part of what is asked for
            losses.num_rescaled += (frame.width, frame.height) != _size_in_file(info, upright_turn(frame))
            losses.num_damaged += frame.is_corrupt
        if index >= start:
            image, alpha = _upright(frame, info, converter)
            yield FrameRecord(index, float(pts * info.time_base), pts, info.time_base, image, alpha, frame.duration or 0)
    for message in losses.messages(path):
        on_loss(message)


def _upright(frame: av.VideoFrame, info: FootageInfo, converter: Converter) -> tuple[AnyImage, AnyMatte | None]:
    turn = upright_turn(frame)
    stored_size = _size_in_file(info, turn)
    alpha = converter.alpha_from_frame(frame, stored_size) if info.has_alpha else None
    return turned(converter.image_from_frame(frame, stored_size), turn), None if alpha is None else turned(alpha, turn)


def _size_in_file(info: FootageInfo, turn: tuple[bool, bool, bool]) -> tuple[int, int]:
    return (info.height, info.width) if turn[0] else (info.width, info.height)


# ---- decoding -------------------------------------------------------------------------------------------------------------


@dataclass
class _Losses:
    """Counts what could not be read as it should."""

    num_undecodable: int = 0
    num_damaged: int = 0
    num_rescaled: int = 0
    num_retimed: int = 0
    is_read_to_end: bool = False
    is_broken_off: bool = False
    end_seconds: float = 0.0
    stated_end_seconds: float = 0.0

    def messages(self, path: Path) -> Iterator[str]:
        """One sentence for each kind of loss."""
        if self.is_read_to_end and self.end_seconds < self.stated_end_seconds - CUT_SHORT_SECONDS:
            yield f"{path}: ends at {self.end_seconds:.2f} of {self.stated_end_seconds:.2f} seconds; the file is cut short"
        elif self.is_broken_off:
            yield f"{path}: reading broke off at {self.end_seconds:.2f} seconds; the rest of the file is damaged"
        if self.num_undecodable:
            yield f"{path}: {self.num_undecodable} packets of video did not decode and their frames are left out"
        if self.num_damaged:
            yield f"{path}: {self.num_damaged} frames are damaged and shown as far as they decode"
        if self.num_rescaled:
            yield f"{path}: its picture size changes; {self.num_rescaled} frames were scaled to the size of the first"
        if self.num_retimed:
            yield f"{path}: {self.num_retimed} frames had no usable time and follow the frame before them"


def _sought_frames(path: Path, start: int, losses: _Losses) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames from the last key frame before `start` on, with their numbers; all frames where nothing can be sought."""
    index = frame_index(path)
    if index is not None and start < len(index.pts):
        with open_footage(path) as container:
            stream = video_stream(container, path)
            numbered = _from_key_frame(container, stream, index, start, losses)
            if (first := next(numbered, None)) is not None and first[0] <= start:
                yield first
                yield from numbered
                return
    yield from enumerate(_frames_of(path, losses))


def _from_key_frame(
    container: InputContainer, stream: VideoStream, index: FrameIndex, start: int, losses: _Losses
) -> Iterator[tuple[int, av.VideoFrame]]:
    """What decodes from a key frame near `start` on. Frames shown before it need those that were skipped, and are left out."""
    try:
        container.seek(index.pts[start], stream=stream)
    except av.FFmpegError:
        return
    key: int | None = None
    for frame in _decoded(container, stream, losses):
        number = index.number_of(frame.pts)
        if number is None:
            return
        key = number if key is None and frame.key_frame else key
        if key is not None and number >= key:
            yield number, frame


def _frames_of(path: Path, losses: _Losses) -> Iterator[av.VideoFrame]:
    with open_footage(path) as container:
        yield from _decoded(container, video_stream(container, path), losses)


def _decoded(container: InputContainer, stream: VideoStream, losses: _Losses) -> Iterator[av.VideoFrame]:
    """Every frame that decodes. All streams are demuxed, because only together they show where the file ends."""
    losses.stated_end_seconds = _stated_end_seconds(container, stream)
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            losses.is_broken_off = True
            packet = None
        if packet is None:
            losses.is_read_to_end = True
            return
        if packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            losses.end_seconds = max(losses.end_seconds, end)
        is_other = packet.stream.index != stream.index  # packet.stream_index is 0 in the last ones, which flush the decoder
        is_repeat = packet.size == 0 and packet.pts is not None  # "show the last frame longer", as Theora says it
        if is_other or is_repeat:
            continue
        try:
            yield from packet.decode()
        except av.FFmpegError:
            losses.num_undecodable += 1


def _stated_end_seconds(container: InputContainer, stream: VideoStream) -> float:
    if container.format.name == "avi" and stream.average_rate:  # its duration is a guess where the index is cut off
        return float(stream.frames / stream.average_rate)
    return ((container.start_time or 0) + (container.duration or 0)) / av.time_base
