"""Writes new frames in place of a plate's: as a video with the plate's times, colour tags and sound, or as a folder of PNGs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from understudy.media.colour import ColourTags, Converter, tags_for_rgb, tags_for_yuv
from understudy.media.footage import FootageInfo, FrameRecord, LossReport, ignore_losses, probe
from understudy.media.images import encode_png, sync_folder, written_beside
from understudy.media.passthrough import OtherTracks
from understudy.types import AnyImage, BadInput

Codec = Literal["h264", "ffv1", "png"]

FORMAT_FROM_SUFFIX = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
SUFFIXES: Mapping[Codec, tuple[str, ...]] = {"h264": (".mp4", ".mov", ".mkv"), "ffv1": (".mkv",), "png": ("",)}
MOVIE_UNITS_PER_SECOND = 90_000
MATROSKA_TIME_BASE = Fraction(1, 1000)


class VideoWriter:
    """Writes one frame for each frame of the plate; the output gets its name only when everything is in it.

        with VideoWriter(path, plate=plate, codec="h264", crf=14, metadata=label) as writer:
            for frame in read_frames(plate):
                writer.write(swapped(frame.image), frame)

    codec: "h264" (.mp4, .mov, .mkv; 8 bit 4:2:0, or 4:4:4 where a side is odd, so that the size stays), "ffv1" (.mkv; RGB,
    no loss) or "png" (a folder of numbered pictures, no sound). crf: quality of h264, from 0 (best) to 51. Every audio track is
    copied unchanged, subtitles where the container takes them; the picture is upright, without a display matrix. Whatever of
    the plate cannot be kept is told to `on_loss`. Raises BadInput where the path does not suit the codec, the plate cannot be
    read, or no frame was written.
    """

    def __init__(
        self,
        path: Path,
        *,
        plate: Path,
        codec: Codec = "h264",
        crf: int = 14,
        metadata: Mapping[str, str] | None = None,
        on_loss: LossReport = ignore_losses,
    ) -> None:
        _check_output(path, plate, codec)
        self._path = path
        self._codec: Codec = codec
        self._crf = crf
        self._metadata = dict(metadata or {})
        self._on_loss = on_loss
        self._info = probe(plate)
        self._num_frames = 0

    def __enter__(self) -> VideoWriter:
        """Opens a temporary file or folder beside the output."""
        for message in _unkept(self._info, self._codec, self._path):
            self._on_loss(message)
        with ExitStack() as exits, _blaming(self._path):
            if self._codec == "png":
                folder = exits.enter_context(_folder_written_beside(self._path))
                self._sink: _Sink = _PngFolder(folder)
            else:
                file = exits.enter_context(written_beside(self._path))
                file.touch()
                self._sink = exits.enter_context(self._video_file(file, self._codec))
            self._exits = exits.pop_all()
        return self

    def write(self, image: AnyImage, frame: FrameRecord) -> None:
        """Adds an RGB picture (height, width, 3), uint8 or uint16, of the plate's size, at the time of its `frame`."""
        expected = (self._info.height, self._info.width, 3)
        if image.shape != expected:
            raise ValueError(f"frame {frame.index}: expected an image of shape {expected}, got {image.shape}")
        with _blaming(self._path):
            self._sink.write(image, frame)
        self._num_frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Gives the finished output its name, or removes what there is where the block failed."""
        if kind is not None:
            self._exits.__exit__(kind, error, trace)
            return
        with _blaming(self._path), self._exits:
            if self._num_frames == 0:
                raise BadInput(f"{self._info.path}: gave no frames, so {self._path} was not written; check the plate")

    def _video_file(self, file: Path, codec: Codec) -> _VideoFile:
        container_format = FORMAT_FROM_SUFFIX[self._path.suffix.lower()]
        return _VideoFile(file, container_format, self._info, codec, self._crf, self._metadata, self._on_loss)


def _check_output(path: Path, plate: Path, codec: Codec) -> None:
    if path.suffix.lower() not in SUFFIXES[codec]:
        wanted = "a folder (a name without suffix)" if codec == "png" else " or ".join(SUFFIXES[codec])
        raise BadInput(f"{path}: {codec} is written to {wanted}; change the output's name or the codec")
    if not path.exists():
        return
    if path.resolve() == plate.resolve():
        raise BadInput(f"{path}: is the plate itself, which is never changed; choose another output")
    if path.is_dir() != (codec == "png") or (path.is_dir() and any(path.iterdir())):
        kind = "folder" if path.is_dir() else "file"
        raise BadInput(f"{path}: exists already as a {kind}; remove it or choose another output")


def _unkept(info: FootageInfo, codec: Codec, path: Path) -> Iterator[str]:
    """One sentence for each property of the plate's picture that the output cannot hold."""
    if info.bits_per_channel > 8:
        yield f"{info.path}: has {info.bits_per_channel} bits a channel, written with 8"
    if info.has_alpha and info.codec != "gif":
        yield f"{info.path}: its alpha channel is not written"
    if info.is_interlaced:
        yield f"{info.path}: is interlaced; its frames are written as they are, marked progressive"
    if codec == "png" and not info.is_folder:
        yield f"{info.path}: a folder of pictures holds neither its frame times nor sound"
    if path.suffix.lower() == ".mkv" and (info.time_base / MATROSKA_TIME_BASE).denominator != 1:
        yield f"{info.path}: Matroska rounds frame times to milliseconds; write .mp4 or .mov to keep them exact"


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """A failure of the file system becomes one line that names the output."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from error


# ---- where frames go ------------------------------------------------------------------------------------------------------


class _Sink(Protocol):
    def write(self, image: AnyImage, frame: FrameRecord) -> None: ...


class _PngFolder:
    """Numbered PNGs, numbered like the plate's frames."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, image: AnyImage, frame: FrameRecord) -> None:
        (self._folder / f"{frame.index:06d}.png").write_bytes(encode_png(image))


class _VideoFile:
    """An encoder and a muxer, with the plate's other tracks beside the picture."""

    def __init__(
        self,
        file: Path,
        container_format: str,
        info: FootageInfo,
        codec: Codec,
        crf: int,
        metadata: Mapping[str, str],
        on_loss: LossReport,
    ) -> None:
        is_odd = bool(info.width % 2 or info.height % 2)
        self._pixel_format = "bgr0" if codec == "ffv1" else "yuv444p" if is_odd else "yuv420p"
        self._tags = tags_for_rgb(info.colour) if codec == "ffv1" else tags_for_yuv(info.colour, info.width, info.height)
        self._converter = Converter()
        self._container = _open_output(file, container_format, info, metadata)
        self._stream = _add_picture(self._container, info, codec, crf, self._pixel_format, self._tags)
        self._others = None if info.is_folder else OtherTracks(info, self._container, on_loss)

    def __enter__(self) -> _VideoFile:
        return self

    def write(self, image: AnyImage, frame: FrameRecord) -> None:
        picture = self._converter.frame_from_image(image, self._pixel_format, self._tags)
        picture.pts, picture.time_base = frame.pts, frame.time_base
        self._mux(self._stream.encode(picture))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._mux(self._stream.encode(None))
            if self._others is not None:
                self._others.close(is_complete=kind is None)
        finally:
            self._container.close()

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            if self._others is not None and packet.dts is not None:
                self._others.copy_until(float(packet.dts * packet.time_base))
            self._container.mux_one(packet)


def _open_output(file: Path, container_format: str, info: FootageInfo, metadata: Mapping[str, str]) -> OutputContainer:
    # Sound often starts a little before zero (its codec's run-in); moving everything to zero would change the picture's times.
    options = {"avoid_negative_ts": "disabled"}
    if container_format in ("mp4", "mov"):
        # Times are counted in the plate's own unit; the movie's own unit, in which tracks are shifted against each other, is a
        # fine multiple of it. The index comes first, so that browsers play at once, and every metadata name is kept.
        unit = info.time_base.denominator
        movie_unit = unit * max(1, MOVIE_UNITS_PER_SECOND // unit)
        options["movflags"] = "+faststart+use_metadata_tags"
        options |= {"video_track_timescale": str(unit), "movie_timescale": str(movie_unit)}
    container = av.open(f"file:{file.absolute()}", "w", format=container_format, container_options=options)
    container.metadata.update(metadata)
    return container


def _add_picture(
    container: OutputContainer, info: FootageInfo, codec: Codec, crf: int, pixel_format: str, tags: ColourTags
) -> VideoStream:
    encoder = "libx264" if codec == "h264" else "ffv1"
    options = {"crf": str(crf), "preset": "fast"} if codec == "h264" else {"level": "3", "slicecrc": "1"}
    stream = cast(VideoStream, container.add_stream(encoder, rate=info.frame_rate, options=options))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = info.width, info.height, pixel_format
    context.time_base = stream.time_base = info.time_base
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.colorspace, context.color_range = tags.matrix, tags.range
    return stream


@contextmanager
def _folder_written_beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed when the block ends well, removed when it fails."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_folder(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
