"""Writes long footage in closed segments, so that a kill costs a segment at most, and joins them without encoding anew.

    tracks = {"swap": Track(out / "swap.mp4", "h264", crf=14), "matte": Track(out / "matte.mkv", "ffv1", is_grey=True)}
    with SegmentedWriter(out / "segments", info, tracks) as writer:
        for frame in read_frames(info.path, writer.num_done):
            writer.write(frame, {"swap": Layer(swapped), "matte": Layer(matte)}, note={"frame": frame.index, ...})
        ledger = list(writer.notes())
        writer.join()
        writer.discard()

Every `every` frames all tracks are closed together, with the notes that belong to them, and the segment's folder gets its name
by one rename. The same call after a kill finds the whole segments (`num_done` frames) and goes on there; one that was not whole
is made again. Because segments begin at fixed frames and each has an encoder of its own, the joined files are the same byte for
byte wherever and however often the work was killed. Memory does not grow with the length.

    segments/plan.json                what is written, and from which plate; another one starts anew
    segments/000003/swap.packets      the encoder's packets with their exact times; or swap/000750.png ... for stills
    segments/000003/notes.jsonl       one line a frame
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import av
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from understudy.media.codecs import STILLS, Track
from understudy.media.encode import PictureEncoder, still_bytes
from understudy.media.footage import FootageInfo, FrameRecord, LossReport, ignore_losses, turned_back
from understudy.media.images import sync_folder, written_beside
from understudy.media.mux import write_movie
from understudy.types import AnyImage, AnyMatte, Json

FRAMES_PER_SEGMENT = 250
PLAN_FILE, NOTES_FILE = "plan.json", "notes.jsonl"
_RECORD = struct.Struct("<qI?")
"""Time of showing in the plate's unit, number of bytes, whether it is a key frame: before each packet."""


@dataclass(frozen=True)
class Layer:
    """What a track gets of one frame: (height, width, 3) or, in a grey track, (height, width); uint8 or uint16; upright."""

    image: AnyImage
    alpha: AnyMatte | None = None


class SegmentedWriter:
    """See the top of this file. `folder` is for the segments alone; closed ones are kept when the block fails.

    num_done: frames in closed segments, where reading goes on. Frames must come without gaps from there.
    """

    def __init__(
        self,
        folder: Path,
        info: FootageInfo,
        tracks: Mapping[str, Track],
        every: int = FRAMES_PER_SEGMENT,
        on_loss: LossReport = ignore_losses,
    ) -> None:
        self._folder, self._info, self._tracks, self._every, self._on_loss = folder, info, dict(tracks), every, on_loss
        self._open: _Segment | None = None
        self._prepare()
        self._num_closed = self._count_closed()
        self.num_done = self._num_closed * every

    def write(self, frame: FrameRecord, layers: Mapping[str, Layer], note: Json | None = None) -> None:
        """Adds a frame to the tracks named in `layers`, at its own time; `note` comes back from `notes`."""
        if self._open is None:
            self._open = _Segment(self._segment_path(self._num_closed), self._info, self._tracks)
        self._open.write(frame, layers, note or {})
        if self._open.num_frames == self._every:
            self._close_segment()

    @property
    def is_last_of_segment(self) -> bool:
        """Whether the next frame that is written closes a segment."""
        return (self._open.num_frames if self._open else 0) + 1 == self._every

    def notes(self) -> Iterator[Json]:
        """The notes of all frames written so far, in order, those of earlier runs too. Closes the segment in work."""
        self._close_segment()
        for segment in self._closed():
            with (segment / NOTES_FILE).open(encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)

    def join(self) -> None:
        """Makes each track's file or folder of its segments, atomically; the segments stay until `discard`."""
        self._close_segment()
        for name, track in self._tracks.items():
            if track.codec in STILLS:
                self._join_stills(name, track)
            else:
                self._join_movie(name, track)

    def discard(self) -> None:
        """Removes all segments: what was written must not stay."""
        if self._open is not None:
            self._open.abandon()
            self._open = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open is not None:
            self._open.abandon()
            self._open = None

    # ---- segments on disk ----

    def _prepare(self) -> None:
        """Keeps the segments of a run that was asked for the same, else starts anew; what was in work is made again."""
        plan = json.dumps(
            {
                "every": self._every,
                "plate": os.fsdecode(self._info.path.name),
                "size": [self._info.width, self._info.height],
                "library": {name: list(version) for name, version in av.library_versions.items()},
                "tracks": {name: {**asdict(track), "path": track.path.name} for name, track in self._tracks.items()},
            },
            default=dict,
        )
        file = self._folder / PLAN_FILE
        if not (file.is_file() and file.read_text(encoding="utf-8") == plan):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            with written_beside(file) as partial:
                partial.write_text(plan, encoding="utf-8")

    def _segment_path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"

    def _closed(self) -> list[Path]:
        return [self._segment_path(number) for number in range(self._num_closed)]

    def _count_closed(self) -> int:
        """Closed segments from the first on. A short one ended a run: it is made again, because more may follow."""
        number = 0
        while _num_lines(self._segment_path(number) / NOTES_FILE) == self._every:
            number += 1
        return number

    def _close_segment(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            self._num_closed += 1

    # ---- joining ----

    def _join_stills(self, name: str, track: Track) -> None:
        """Gathers the pictures under a temporary name; linked, not moved, so that a kill in between loses nothing."""
        partial = track.path.with_name(f".{track.path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for segment in self._closed():
            for picture in sorted((segment / name).iterdir()):
                _link_or_copy(picture, partial / picture.name)
        sync_folder(partial)
        partial.replace(track.path)
        sync_folder(track.path.parent)

    def _join_movie(self, name: str, track: Track) -> None:
        files = [segment / f"{name}.packets" for segment in self._closed()]
        with written_beside(track.path) as partial:
            partial.touch()
            write_movie(partial, track, self._info, joined_packets(files, self._info.time_base), self._on_loss)


# ---- one segment ----------------------------------------------------------------------------------------------------------


class _Segment:
    """A segment in work, under a temporary name."""

    def __init__(self, path: Path, info: FootageInfo, tracks: Mapping[str, Track]) -> None:
        self._path, self._partial = path, path.with_name(f".{path.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._notes: list[Json] = []
        self._sinks = {name: _sink(self._partial / name, info, track) for name, track in tracks.items()}

    @property
    def num_frames(self) -> int:
        return len(self._notes)

    def write(self, frame: FrameRecord, layers: Mapping[str, Layer], note: Json) -> None:
        for name, layer in layers.items():
            self._sinks[name].write(layer, frame)
        self._notes.append(note)

    def close(self) -> None:
        """Flushes everything to disk, then gives the segment its name."""
        for sink in self._sinks.values():
            sink.close()
        lines = (json.dumps(note, ensure_ascii=False, allow_nan=False) for note in self._notes)
        with written_beside(self._partial / NOTES_FILE) as file:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        shutil.rmtree(self._path, ignore_errors=True)  # a short one, see _count_closed
        self._partial.replace(self._path)
        sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Removes what there is; the segment will be made again."""
        for sink in self._sinks.values():
            sink.abandon()
        shutil.rmtree(self._partial, ignore_errors=True)


class _Sink(Protocol):
    def write(self, layer: Layer, frame: FrameRecord) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


def _sink(path: Path, info: FootageInfo, track: Track) -> _Sink:
    return (
        _Stills(path, info, track) if track.codec in STILLS else _Packets(path.with_name(f"{path.name}.packets"), info, track)
    )


class _Stills:
    """Numbered pictures, numbered like the plate's frames."""

    def __init__(self, folder: Path, info: FootageInfo, track: Track) -> None:
        self._folder, self._info, self._track = folder, info, track
        folder.mkdir()

    def write(self, layer: Layer, frame: FrameRecord) -> None:
        path = self._folder / f"{frame.index:06d}.{self._track.codec}"
        path.write_bytes(still_bytes(self._track, layer.image, self._info))

    def close(self) -> None:
        for picture in self._folder.iterdir():
            with picture.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(self._folder)

    def abandon(self) -> None:
        return


class _Packets:
    """The packets of an encoder of its own."""

    def __init__(self, path: Path, info: FootageInfo, track: Track) -> None:
        self._info = info
        self._encoder = PictureEncoder(track, info)
        self._file = path.open("wb")

    def write(self, layer: Layer, frame: FrameRecord) -> None:
        image = turned_back(layer.image, self._info.turn)
        alpha = None if layer.alpha is None else turned_back(layer.alpha, self._info.turn)
        self._put(self._encoder.encode(image, frame.pts, frame.time_base, alpha))

    def close(self) -> None:
        self._put(self._encoder.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        self._file.close()

    def _put(self, packets: Sequence[Packet[VideoStream]]) -> None:
        for packet in packets:
            if packet.size:
                assert packet.pts is not None
                self._file.write(_RECORD.pack(packet.pts, packet.size, packet.is_keyframe))
                self._file.write(bytes(packet))


# ---- joining packets ------------------------------------------------------------------------------------------------------


def joined_packets(files: Sequence[Path], time_base: Fraction) -> Iterator[Packet[Stream]]:
    """The packets of all segments in decoding order, timed as if one encoder had made them.

    Times of showing are the plate's own; a frame lasts until the next one; times of decoding are those of showing, in order,
    put back by as many frames as the encoder shuffles.
    """
    files = [file for file in files if file.stat().st_size]  # an end card stands in the picture alone, not in the passes
    num_back = max((_num_reordered(_times(file)) for file in files), default=0)
    before: list[int] = []
    step = 0
    for file, following in zip(files, [*files[1:], None], strict=True):
        times = _times(file)
        shown = sorted(times)
        if not before:
            step = shown[1] - shown[0] if len(shown) > 1 else 1
            before = [shown[0] - step * back for back in range(num_back, 0, -1)]
        step = shown[-1] - shown[-2] if len(shown) > 1 else step
        ends = [*shown[1:], min(_times(following)) if following else shown[-1] + step]
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
    """The time of each packet, without reading what is in them."""
    times = []
    with file.open("rb") as source:
        while head := source.read(_RECORD.size):
            pts, size, _ = _RECORD.unpack(head)
            times.append(pts)
            source.seek(size, os.SEEK_CUR)
    return times


def _records(file: Path) -> Iterator[tuple[int, bool, bytes]]:
    with file.open("rb") as source:
        while head := source.read(_RECORD.size):
            pts, size, is_key = _RECORD.unpack(head)
            yield pts, is_key, source.read(size)


def _num_lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.is_file() else 0


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
