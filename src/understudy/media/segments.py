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

Segments may have keys that say what decides their pictures. One whose key has changed is made again, the others stay; `adopt`
takes over those of an earlier work that have the same key. `missing` are the frames that are then to be written, in order. One
with a spoiled frame is part of what is joined, but no later run finds it: it is made again.

    segments/plan.json                what is written, from which plate and by which code; another one starts anew
    segments/000003/key               the segment's key, if it has one
    segments/000003/spoiled           there if a frame of it is spoiled
    segments/000003/swap.packets      the encoder's packets with their exact times; or swap/000750.png ... for stills
    segments/000003/notes.jsonl       one line a frame
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import av
from av.packet import Packet
from av.video.stream import VideoStream

from understudy.media.codecs import STILLS, Track
from understudy.media.encode import PictureEncoder, still_bytes
from understudy.media.footage import FootageInfo, FrameRecord, LossReport, ignore_losses, turned_back
from understudy.media.images import sync_folder, written_beside
from understudy.media.mux import write_movie
from understudy.media.packets import joined_packets, record_of
from understudy.types import AnyImage, AnyMatte, Json

FRAMES_PER_SEGMENT = 250
PLAN_FILE, NOTES_FILE, KEY_FILE, SPOILED_FILE = "plan.json", "notes.jsonl", "key", "spoiled"
LAYOUT = 2
"""How segments lie on disk, counted up with each change: those of another layout are made again."""

_ENDLESS = 2**62


@dataclass(frozen=True)
class Layer:
    """What a track gets of one frame: (height, width, 3) or, in a grey track, (height, width); uint8 or uint16; upright."""

    image: AnyImage
    alpha: AnyMatte | None = None


class SegmentedWriter:
    """See the top of this file. `folder` is for the segments alone; closed ones are kept when the block fails.

    keys: of the first segments, as far as they are whole and have one. code: stands for the program that makes the pictures;
    what another one left is made again. num_done: frames in closed segments before the first
    that is missing, where reading goes on. Frames must come as `missing` has them: without keys, all from `num_done` on.
    """

    def __init__(
        self,
        folder: Path,
        info: FootageInfo,
        tracks: Mapping[str, Track],
        every: int = FRAMES_PER_SEGMENT,
        on_loss: LossReport = ignore_losses,
        keys: Sequence[str] = (),
        code: str = "",
    ) -> None:
        self._folder, self._info, self._tracks, self._every, self._on_loss = folder, info, dict(tracks), every, on_loss
        self._keys, self._code = keys, code
        self._open: _Segment | None = None
        self._plan = self._prepare()
        self._closed = self._find_closed()
        self.num_done = self._next() * every

    def adopt(self, folder: Path) -> None:
        """Takes over what is missing here from the segments of an earlier work in `folder`, where plan and key are the same."""
        if not (folder / PLAN_FILE).is_file() or (folder / PLAN_FILE).read_text(encoding="utf-8") != self._plan:
            return
        for number in range(len(self._keys)):
            if number not in self._closed and self._is_whole(folder, number):
                _link_folder(_segment_path(folder, number), _segment_path(self._folder, number))
        self._closed = self._find_closed()
        self.num_done = self._next() * self._every

    @property
    def missing(self) -> list[range]:
        """The frames that are to be written, counted from the first of all; the last range has no end."""
        numbers = [number for number in range(len(self._keys)) if number not in self._closed]
        first_beyond = max(self._closed | {len(self._keys) - 1}) + 1
        ranges: list[range] = []
        for start, stop in [*((each, each + 1) for each in numbers), (first_beyond, _ENDLESS)]:
            if ranges and ranges[-1].stop == start * self._every:
                ranges[-1] = range(ranges[-1].start, stop * self._every)
            else:
                ranges.append(range(start * self._every, stop * self._every))
        return ranges

    def write(
        self, frame: FrameRecord, layers: Mapping[str, Layer], note: Json | None = None, *, is_spoiled: bool = False
    ) -> None:
        """Adds a frame to the tracks named in `layers`, at its own time; `note` comes back from `notes`.

        is_spoiled: a later run shall try it again.
        """
        if self._open is None:
            self._open = _Segment(_segment_path(self._folder, self._next()), self._info, self._tracks)
        self._open.write(frame, layers, note or {}, is_spoiled)
        if self._open.num_frames == self._every:
            self._close_segment()

    @property
    def is_last_of_segment(self) -> bool:
        """Whether the next frame that is written closes a segment."""
        return (self._open.num_frames if self._open else 0) + 1 == self._every

    def notes(self) -> Iterator[Json]:
        """The notes of all frames written so far, in order, those of earlier runs too. Closes the segment in work."""
        self._close_segment()
        for segment in self._closed_paths():
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

    def _prepare(self) -> str:
        """Keeps the segments of a run that was asked for the same, else starts anew; what was in work is made again."""
        plan = json.dumps(
            {
                "layout": LAYOUT,
                "code": self._code,
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
        return plan

    def _closed_paths(self) -> list[Path]:
        return [_segment_path(self._folder, number) for number in sorted(self._closed)]

    def _find_closed(self) -> set[int]:
        """Whole segments with the right key; of those without one, from the first on."""
        closed = {number for number in range(len(self._keys)) if self._is_whole(self._folder, number)}
        while len(closed) >= len(self._keys) and self._is_whole(self._folder, len(closed)):
            closed.add(len(closed))
        return closed

    def _is_whole(self, folder: Path, number: int) -> bool:
        """Whether a segment is closed, has the right key and nothing spoiled. A short one ended a run: more may follow it."""
        path = _segment_path(folder, number)
        if (path / SPOILED_FILE).is_file():
            return False
        key = (path / KEY_FILE).read_text(encoding="utf-8") if (path / KEY_FILE).is_file() else ""
        return _num_lines(path / NOTES_FILE) == self._every and (number >= len(self._keys) or key == self._keys[number])

    def _next(self) -> int:
        """The first segment that is missing."""
        return next(number for number in range(len(self._closed) + 1) if number not in self._closed)

    def _close_segment(self) -> None:
        if self._open is not None:
            number = self._next()
            self._open.close(self._keys[number] if number < len(self._keys) else "")
            self._open = None
            self._closed.add(number)

    # ---- joining ----

    def _join_stills(self, name: str, track: Track) -> None:
        """Gathers the pictures under a temporary name; linked, not moved, so that a kill in between loses nothing."""
        partial = track.path.with_name(f".{track.path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for segment in self._closed_paths():
            for picture in sorted((segment / name).iterdir()):
                _link_or_copy(picture, partial / picture.name)
        sync_folder(partial)
        partial.replace(track.path)
        sync_folder(track.path.parent)

    def _join_movie(self, name: str, track: Track) -> None:
        files = [segment / f"{name}.packets" for segment in self._closed_paths()]
        with written_beside(track.path) as partial:
            partial.touch()
            write_movie(
                partial, track, self._info, joined_packets(files, self._info.time_base, self._info.frame_step), self._on_loss
            )


# ---- one segment ----------------------------------------------------------------------------------------------------------


class _Segment:
    """A segment in work, under a temporary name."""

    def __init__(self, path: Path, info: FootageInfo, tracks: Mapping[str, Track]) -> None:
        self._path, self._partial = path, path.with_name(f".{path.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._notes: list[Json] = []
        self._is_spoiled = False
        self._sinks = {name: _sink(self._partial / name, info, track) for name, track in tracks.items()}

    @property
    def num_frames(self) -> int:
        return len(self._notes)

    def write(self, frame: FrameRecord, layers: Mapping[str, Layer], note: Json, is_spoiled: bool) -> None:
        for name, layer in layers.items():
            self._sinks[name].write(layer, frame)
        self._notes.append(note)
        self._is_spoiled |= is_spoiled

    def close(self, key: str) -> None:
        """Flushes everything to disk, then gives the segment its name."""
        for sink in self._sinks.values():
            sink.close()
        (self._partial / KEY_FILE).write_text(key, encoding="utf-8")
        if self._is_spoiled:
            (self._partial / SPOILED_FILE).touch()
        lines = (json.dumps(note, ensure_ascii=False, allow_nan=False) for note in self._notes)
        with written_beside(self._partial / NOTES_FILE) as file:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        shutil.rmtree(self._path, ignore_errors=True)  # a short one, or one with another key
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
        self._durations: dict[int, int] = {}  # by time: encoders do not hand them all through
        self._file = path.open("wb")

    def write(self, layer: Layer, frame: FrameRecord) -> None:
        image = turned_back(layer.image, self._info.turn)
        alpha = None if layer.alpha is None else turned_back(layer.alpha, self._info.turn)
        self._durations[frame.pts] = frame.duration
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
                self._file.write(record_of(packet, self._durations.pop(packet.pts or 0, 0)))


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"


def _link_folder(source: Path, target: Path) -> None:
    """A folder's files once more, under a temporary name until all are there."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, partial, copy_function=_link_or_copy)
    partial.replace(target)
    sync_folder(target.parent)


def _num_lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.is_file() else 0


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
