"""Opens footage safely and says what it is: size, rate, codec, colours, sound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from understudy.imaging.depth import eight_bit
from understudy.imaging.transfer import PQ
from understudy.media.colour import FULL, RGB_MATRIX, UNSTATED, ColourTags, bits_of, has_alpha, tags_of
from understudy.media.images import MAX_PIXELS, footage_images, is_exr, picture_kind, read_deep_image
from understudy.media.transparency import has_unread_transparency, read_transparency
from understudy.types import AnyImage, AnyMatte, BadInput, Image

FOLDER_FRAME_RATE = Fraction(25)
TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = (2, 4), (3, 5)
"""AVFieldOrder: which field is stored first, or shown first."""

# A text that poses as a video (a playlist) could otherwise make ffmpeg open any other file or address.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mxf,mpegts,mpeg,mpegvideo,gif,ogg"
OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}

LossReport = Callable[[str], None]
"""Told in words what of a clip could not be read or kept."""


def ignore_losses(message: str) -> None:
    """A loss report that tells nobody."""


def with_a_name(path: Path) -> Path:
    """The same place under a name of its own, which frames and files are called after: `.`, `..` and `a/..` have none."""
    return path if path.name not in ("", "..") else Path(os.path.realpath(path))


@dataclass(frozen=True)
class HdrMetadata:
    """For which display an HDR picture was made (SMPTE ST 2086) and how bright it gets (CTA-861.3), in cd/m2.

    chromaticities: x and y of red, green, blue and white; None where it is not stated, like 0 for the light levels.
    """

    chromaticities: tuple[float, ...] | None
    darkest_nits: float
    brightest_nits: float
    max_content_nits: int
    max_average_nits: int


@dataclass(frozen=True)
class FootageInfo:
    """What is known of footage before it is read through.

    width, height: of the upright picture. sample_aspect_ratio: width to height of one upright pixel (1 = square).
    rotation_degrees: clockwise turn that made the stored picture upright. time_base: seconds per unit of `FrameRecord.pts`.
    clock_start_seconds is taken off the times of the file: where an MPEG stream's clock starts, 0 for other containers.
    display_matrix: the nine numbers of libavutil/display.h by which the file asks to be turned, None where it does not.
    timecode: of the first frame, "HH:MM:SS:FF" or with ";" before FF where frames are dropped; "" where none is stated.
    has_unread_alpha: it is transparent in places, but how cannot be read.
    duration_seconds and num_frames_estimate come from the header; 0 where it does not say.
    """

    path: Path
    width: int
    height: int
    num_frames_estimate: int
    frame_rate: Fraction
    duration_seconds: float
    has_audio: bool
    codec: str
    is_folder: bool
    rotation_degrees: int
    sample_aspect_ratio: Fraction
    time_base: Fraction
    clock_start_seconds: Fraction
    colour: ColourTags
    bits_per_channel: int
    has_alpha: bool
    is_interlaced: bool
    is_bottom_field_first: bool = False
    display_matrix: tuple[int, ...] | None = None
    timecode: str = ""
    hdr: HdrMetadata | None = None
    has_unread_alpha: bool = False

    @property
    def turn(self) -> tuple[bool, bool, bool]:
        """What made the stored picture upright, see `upright_turn`."""
        return _turn(self.display_matrix) if self.display_matrix else (False, False, False)

    @property
    def is_transposed(self) -> bool:
        """Whether the stored picture lies on its side."""
        return self.turn[0]

    @property
    def frame_step(self) -> int:
        """How long a frame is shown at the (average) frame rate, in units of time_base."""
        return max(1, round(1 / self.frame_rate / self.time_base))


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame of footage: upright RGB picture (height, width, 3), its number from 0, and its exact time.

    image: full range, uint8; uint16 where the footage has more than 8 bits a channel (`eight_bit` is for those who only look).
    alpha: the footage's own transparency (height, width) in the same depth, 0 = see-through; None where it has none.
    pts: time in units of time_base, strictly increasing; time_seconds = pts * time_base. The clock is the container's own,
    except in streams whose clock starts anywhere (MPEG): there zero is the start of the stream.
    duration: how long the file says that it is shown, in the same units; 0 where it does not.
    """

    index: int
    time_seconds: float
    pts: int
    time_base: Fraction
    image: AnyImage
    alpha: AnyMatte | None = None
    duration: int = 0

    @cached_property
    def eight_bit(self) -> Image:
        """The picture at 8 bits, for whoever only looks at it (perception, gate, reports)."""
        return eight_bit(self.image)


def probe(path: Path, *, folder_frame_rate: Fraction = FOLDER_FRAME_RATE) -> FootageInfo:
    """What the footage is; decodes one frame to be sure. Raises BadInput with one line where it cannot be read."""
    if path.is_dir():
        return _probe_folder(path, folder_frame_rate)
    with open_footage(path) as container:
        stream = video_stream(container, path)
        frame = next(_any_frames(container, stream), None)
        if frame is None:
            raise BadInput(f"{path}: none of its {stream.codec_context.name} video decodes; export it again from its source")
        return _info(path, container, stream, frame)


def open_footage(path: Path) -> InputContainer:
    """The opened container; only known video containers, only this one file. Raises BadInput naming the file and a remedy."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file or folder; check the path")
    try:
        # The prefix keeps a colon in a file name from being read as a protocol.
        return av.open(f"file:{path.absolute()}", options=OPEN_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadInput(f"{path}: {_why_unreadable(path, error)}") from None


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first real video stream (no cover picture), its decoder limited in picture size. Raises BadInput."""
    for stream in container.streams.video:
        if Disposition.attached_pic in Disposition(stream.disposition):
            continue
        if stream.codec_context is None:
            raise BadInput(f"{path}: there is no decoder for its video here; convert it to H.264 or ProRes first")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            size = f"{stream.codec_context.width}x{stream.codec_context.height}"
            limit = f"{MAX_PIXELS // 10**6} megapixels"
            raise BadInput(f"{path}: frames of {size} are larger than the limit of {limit}; scale the clip down")
        stream.codec_context.options["max_pixels"] = str(MAX_PIXELS)
        stream.thread_type = "AUTO"
        return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise BadInput(f"{path}: holds no video stream (only {kinds}); give a file with a picture")


def upright_turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """What makes a decoded frame upright: (transpose, then flip left-right, then flip top-bottom)."""
    if SideDataType.DISPLAYMATRIX not in frame.side_data:
        return False, False, False
    return _turn(np.frombuffer(frame.side_data[SideDataType.DISPLAYMATRIX], np.int32)[:9].tolist())


def _turn(matrix: Sequence[int]) -> tuple[bool, bool, bool]:
    a, b, _, c, d = matrix[:5]  # p' = (a x + c y, b x + d y): libavutil/display.h
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def turned(picture: AnyImage, turn: tuple[bool, bool, bool]) -> AnyImage:
    """A picture (height, width, ...) after a turn that `upright_turn` gave."""
    is_transposed, is_flipped_across, is_flipped_down = turn
    if is_transposed:
        picture = picture.swapaxes(0, 1)
    if is_flipped_across:
        picture = picture[:, ::-1]
    if is_flipped_down:
        picture = picture[::-1]
    return picture.copy() if any(turn) else picture


def turned_back(picture: AnyImage, turn: tuple[bool, bool, bool]) -> AnyImage:
    """The inverse of `turned`."""
    is_transposed, is_flipped_across, is_flipped_down = turn
    if is_flipped_down:
        picture = picture[::-1]
    if is_flipped_across:
        picture = picture[:, ::-1]
    if is_transposed:
        picture = picture.swapaxes(0, 1)
    return picture.copy() if any(turn) else picture


def _any_frames(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                continue
    except av.FFmpegError:
        return


def _clock_start(container: InputContainer) -> Fraction:
    is_arbitrary = bool(container.format.flags & cast(int, Flags.ts_discont.value))
    return Fraction(container.start_time, av.time_base) if is_arbitrary and container.start_time else Fraction(0)


def _info(path: Path, container: InputContainer, stream: VideoStream, frame: av.VideoFrame) -> FootageInfo:
    is_transposed, is_flipped_across, is_flipped_down = upright_turn(frame)
    aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    rate = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_FRAME_RATE)
    time_base = stream.time_base or Fraction(1, av.time_base)
    duration = stream.duration * time_base if stream.duration else Fraction(container.duration or 0, av.time_base)
    return FootageInfo(
        path=path,
        width=frame.height if is_transposed else frame.width,
        height=frame.width if is_transposed else frame.height,
        num_frames_estimate=_num_frames_estimate(stream, round(duration * rate)),
        frame_rate=rate,
        duration_seconds=float(duration),
        has_audio=bool(container.streams.audio),
        codec=stream.codec_context.name,
        is_folder=False,
        rotation_degrees=_clockwise_degrees(is_transposed, is_flipped_across, is_flipped_down),
        sample_aspect_ratio=1 / aspect if is_transposed else aspect,
        time_base=time_base,
        clock_start_seconds=_clock_start(container),
        colour=tags_of(frame),
        bits_per_channel=bits_of(frame),
        has_alpha=has_alpha(frame) and stream.codec_context.name != "gif",  # a GIF's holes show the frame before
        is_interlaced=frame.interlaced_frame or stream.codec_context.field_order in (*TOP_FIELD_FIRST, *BOTTOM_FIELD_FIRST),
        is_bottom_field_first=stream.codec_context.field_order in BOTTOM_FIELD_FIRST,
        display_matrix=_display_matrix(frame),
        timecode=_timecode(container, stream),
        hdr=_hdr_metadata(frame),
        has_unread_alpha=not has_alpha(frame) and stream.metadata.get("alpha_mode") == "1",  # VP8, VP9: a stream of its own
    )


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    if SideDataType.DISPLAYMATRIX not in frame.side_data or not any(upright_turn(frame)):
        return None
    return tuple(np.frombuffer(frame.side_data[SideDataType.DISPLAYMATRIX], np.int32)[:9].tolist())


def _timecode(container: InputContainer, stream: VideoStream) -> str:
    """Of the picture's own track, the container, or a timecode track beside it (MOV)."""
    holders = [stream.metadata, container.metadata, *(other.metadata for other in container.streams)]
    tags = ({name.lower(): value for name, value in holder.items()} for holder in holders)
    return next((each["timecode"] for each in tags if each.get("timecode")), "")


def _hdr_metadata(frame: av.VideoFrame) -> HdrMetadata | None:
    """From the frame's side data (libavutil/mastering_display_metadata.h: fractions, then what is stated)."""
    display, light = (
        np.frombuffer(frame.side_data[kind], np.int32) if kind in frame.side_data else None
        for kind in (SideDataType.MASTERING_DISPLAY_METADATA, SideDataType.CONTENT_LIGHT_LEVEL)
    )
    if display is None and light is None:
        return None
    values = [0.0] * 10 if display is None else (display[:20:2] / np.maximum(display[1:20:2], 1)).tolist()
    has_primaries, has_luminance = (False, False) if display is None else (bool(display[20]), bool(display[21]))
    return HdrMetadata(
        chromaticities=tuple(values[:8]) if has_primaries else None,
        darkest_nits=values[8] if has_luminance else 0.0,
        brightest_nits=values[9] if has_luminance else 0.0,
        max_content_nits=0 if light is None else int(light[0]),
        max_average_nits=0 if light is None else int(light[1]),
    )


def _num_frames_estimate(stream: VideoStream, by_duration: int) -> int:
    """The smaller of what the header counts and what the duration gives: an edit list hides frames that the header counts."""
    return min(stream.frames, by_duration) if stream.frames and by_duration else stream.frames or by_duration


def _clockwise_degrees(is_transposed: bool, is_flipped_across: bool, is_flipped_down: bool) -> int:
    if is_transposed:
        return 270 if is_flipped_down else 90
    return 180 if is_flipped_across and is_flipped_down else 0


def _probe_folder(path: Path, frame_rate: Fraction) -> FootageInfo:
    images = footage_images(path)
    first = read_deep_image(images[0])
    height, width = first.shape[:2]
    return FootageInfo(
        path=path,
        width=width,
        height=height,
        num_frames_estimate=len(images),
        frame_rate=frame_rate,
        duration_seconds=float(len(images) / frame_rate),
        has_audio=False,
        codec="images",
        is_folder=True,
        rotation_degrees=0,
        sample_aspect_ratio=Fraction(1),
        time_base=1 / frame_rate,
        clock_start_seconds=Fraction(0),
        colour=ColourTags(UNSTATED, PQ if is_exr(images[0]) else UNSTATED, RGB_MATRIX, FULL, is_rgb=True),
        bits_per_channel=8 * first.itemsize,
        has_alpha=read_transparency(images[0]) is not None,
        is_interlaced=False,
        has_unread_alpha=has_unread_transparency(images[0]),
    )


def _why_unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that ffmpeg would not open, and what to do, from its first bytes."""
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "is empty (0 bytes); copy it again from its source"
    if kind := picture_kind(head):
        return f"is a {kind} picture, not a video; put pictures into a folder and give the folder"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "is an MP4 or MOV file without a usable index (cut off while recording or copying); copy it again or repair it"
    if b"\0" not in head:
        return "is a text file, not a video; give a video file or a folder of images"
    return f"is no video in a known container ({CONTAINERS.replace(',', ', ')}), or is damaged at its start; export it again"
