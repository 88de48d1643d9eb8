"""Writes new frames in place of a plate's: as a video with its times, colour tags and sound, or as a folder of pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from understudy.media.codecs import CODECS, STILLS, Track, check_codec, unkept
from understudy.media.footage import FrameRecord, LossReport, ignore_losses, probe
from understudy.media.segments import FRAMES_PER_SEGMENT, Layer, SegmentedWriter
from understudy.settings import Codec
from understudy.types import AnyImage, AnyMatte, BadInput


class VideoWriter:
    """Writes one frame for each frame of the plate; the output gets its name only when everything is in it.

        with VideoWriter(path, plate=plate, codec="h264", crf=14, metadata=label) as writer:
            for frame in read_frames(plate):
                writer.write(swapped(frame.image), frame)

    codec: see media/codecs.py; pictures keep the plate's depth where the codec has it. crf: quality of h264, h265, vp9 and av1,
    from 0 (best) to 51. Every audio track is copied unchanged, subtitles where the container takes them; times, colour tags,
    pixel aspect, display matrix, timecode and field order are the plate's. has_alpha: frames come with transparency. What of
    the plate cannot be kept is told to `on_loss`. Raises BadInput where the path does not suit the codec, the plate cannot
    be read, or no frame was written. For long footage that must survive a kill there is SegmentedWriter.
    """

    def __init__(
        self,
        path: Path,
        *,
        plate: Path,
        codec: Codec = "h264",
        crf: int = 14,
        metadata: Mapping[str, str] | None = None,
        has_alpha: bool = False,
        on_loss: LossReport = ignore_losses,
    ) -> None:
        check_output(path, plate, codec)
        self._path, self._on_loss = path, on_loss
        self._track = Track(path, codec, crf, dict(metadata or {}), has_alpha=has_alpha)
        self._info = probe(plate)
        self._num_frames = 0

    def __enter__(self) -> VideoWriter:
        """Opens a temporary folder beside the output."""
        for message in unkept(self._track.codec, self._info, self._path.suffix.lower() == ".mkv", self._track.has_alpha):
            self._on_loss(message)
        folder = self._path.with_name(f".{self._path.name}.segments")
        with blaming(self._path):
            shutil.rmtree(folder, ignore_errors=True)
            self._segments = SegmentedWriter(folder, self._info, {"picture": self._track}, FRAMES_PER_SEGMENT, self._on_loss)
        return self

    def write(self, image: AnyImage, frame: FrameRecord, alpha: AnyMatte | None = None) -> None:
        """Adds an RGB picture (height, width, 3), uint8 or uint16, of the plate's size, at the time of its `frame`."""
        expected = (self._info.height, self._info.width, 3)
        if image.shape != expected:
            raise ValueError(f"frame {frame.index}: expected an image of shape {expected}, got {image.shape}")
        with blaming(self._path):
            self._segments.write(frame, {"picture": Layer(image, alpha)})
        self._num_frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Gives the finished output its name, or removes what there is where the block failed."""
        try:
            if kind is None:
                if self._num_frames == 0:
                    raise BadInput(f"{self._info.path}: gave no frames, so {self._path} was not written; check the plate")
                with blaming(self._path):
                    self._segments.join()
        finally:
            self._segments.discard()


def check_output(path: Path, plate: Path, codec: Codec) -> None:
    """Raises BadInput where a codec cannot be written to `path`, or not on this machine."""
    check_codec(codec)
    suffixes, is_folder = CODECS[codec].suffixes, codec in STILLS
    if path.suffix.lower() not in suffixes:
        wanted = "a folder (a name without suffix)" if is_folder else " or ".join(suffixes)
        raise BadInput(f"{path}: {codec} is written to {wanted}; change the output's name or the codec")
    if not path.exists():
        return
    if path.resolve() == plate.resolve():
        raise BadInput(f"{path}: is the plate itself, which is never changed; choose another output")
    if path.is_dir() != is_folder or (path.is_dir() and any(path.iterdir())):
        kind = "folder" if path.is_dir() else "file"
        raise BadInput(f"{path}: exists already as a {kind}; remove it or choose another output")


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """A failure of the file system becomes one line that names the output."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from error
