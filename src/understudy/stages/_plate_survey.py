"""Finds the faces of a plate once and remembers them, so that a killed conversion goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy.media.footage import FootageInfo, FrameRecord
from understudy.media.reader import read_frames
from understudy.perception.follow import link_and_smooth, shots_of
from understudy.perception.survey import FrameFaces, load_networks
from understudy.stages._stored_survey import survey_stored
from understudy.store.faceset import INDEX_FILE, FaceSet
from understudy.store.hashing import code_sha256
from understudy.store.manifest import read_manifest
from understudy.types import BadInput, Event, Face, Reporter

PLATE_FOLDER = "plate"
WHOLE = range(2**62)
"""All frames of a clip, whose number is known only when it has been read."""

MARGIN_SECONDS = 2.0
"""Looked at before and after frames that are shown alone: more than smoothing, bridges and colours reach."""

_LOOKED_AT = "looked at"


@dataclass(frozen=True)
class PlateSurvey:
    """All faces of a plate, linked and steady, in order of time, and the shot of each frame (T,) that was read."""

    faces: list[Face]
    shot: dict[int, int]


def frames_around(frames: tuple[int, int] | None, info: FootageInfo) -> tuple[range, range]:
    """(frames to show, frames to look at) of a range (first, last) that is shown alone; all of the clip where there is none.

    Raises BadInput for a range that is empty.
    """
    if frames is None:
        return WHOLE, WHOLE
    first, last = frames
    if not 0 <= first <= last:
        raise BadInput(f"--frames '{first}-{last}': expected the first and the last frame, counted from 0")
    margin = round(MARGIN_SECONDS * info.frame_rate)
    return range(first, last + 1), range(max(0, first - margin), last + 1 + margin)


def survey_file(out: Path) -> Path:
    """Where a conversion into `out` keeps the faces that it found."""
    return out / PLATE_FOLDER / INDEX_FILE


def survey_plate(info: FootageInfo, out: Path, report: Reporter, frames: range = WHOLE, plate_sha256: str = "") -> PlateSurvey:
    """The faces of the plate, from `out`/plate/faces.sqlite where they are known, else found now and stored there.

    frames: which are looked at. plate_sha256: what is stored there of another plate or of other frames is not taken, nor what
    other code found.
    """
    source, total = info.path.name, min(info.num_frames_estimate, frames.stop)

    def read(num_done: int) -> Iterator[FrameRecord]:
        return read_frames(info.path, max(frames.start, num_done), frames.stop, is_sought=frames != WHOLE)

    def tell(num_done: int) -> None:
        report(Event("convert", "progress", num_done, total, "frames", "looking for faces"))

    looked_at = _what_is_looked_at(info, frames, plate_sha256)
    _remove_other(out / PLATE_FOLDER, looked_at)
    with FaceSet.create(out / PLATE_FOLDER, performer="plate") as stored:
        stored.set_note(_LOOKED_AT, looked_at)
        surveyed = survey_stored(stored, source, read, load_networks, tell)
    return link(surveyed)


def _remove_other(folder: Path, looked_at: str) -> None:
    """Clears away what a failed conversion with other settings or by other code left, and what was measured of it."""
    if (folder / INDEX_FILE).is_file() and not _is_of(folder, looked_at):
        shutil.rmtree(folder)


def _what_is_looked_at(info: FootageInfo, frames: range, plate_sha256: str) -> str:
    return f"{plate_sha256} {info.path.name} {frames.start} {frames.stop} {code_sha256()}"


def _is_of(folder: Path, looked_at: str) -> bool:
    with FaceSet.open(folder) as stored:
        return stored.note(_LOOKED_AT) == looked_at


def reuse_survey(earlier: Path, out: Path, info: FootageInfo, frames: range, plate_sha256: str) -> None:
    """Takes over the faces that an earlier conversion, finished in `earlier` by the same code, found in the same frames."""
    found, place = earlier / PLATE_FOLDER / INDEX_FILE, out / PLATE_FOLDER
    if not found.is_file() or place.exists() or read_manifest(earlier) is None:
        return
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(found, partial / INDEX_FILE)
    if _is_of(partial, _what_is_looked_at(info, frames, plate_sha256)):
        partial.rename(place)
    else:
        shutil.rmtree(partial)


def link(surveyed: list[FrameFaces]) -> PlateSurvey:
    """Shots, tracks and steady alignments from what every frame showed."""
    if not surveyed:
        return PlateSurvey([], {})
    shots = shots_of(surveyed)
    shot_of_frame = {each.frame: int(shot) for each, shot in zip(surveyed, shots.shot, strict=True)}
    return PlateSurvey(link_and_smooth(surveyed, shots=shots) if any(each.faces for each in surveyed) else [], shot_of_frame)
