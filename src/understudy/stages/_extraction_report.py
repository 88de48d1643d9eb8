"""The report of an extraction: how many faces there are and which frames lack one, in words, and a contact sheet to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from understudy.imaging.framing import FULL, STORED, crop_from_face
from understudy.imaging.similarity import compose, invert
from understudy.imaging.warp import warp_image
from understudy.media.images import encode_jpeg, read_small_image
from understudy.store.atomic import atomic_write_bytes
from understudy.store.faceset import FaceSet
from understudy.store.report import Figure, Picture, Section, Table, Value, render_report
from understudy.types import Face, Image

NUM_COLUMNS, NUM_ROWS = 10, 6
_TILE_PX = 112
_LABEL_PX = 16
_MOST_RANGES = 100

_YAW_NAMES = ("far to image left", "to image left", "to the camera", "to image right", "far to image right")
_PITCH_NAMES = ("down", "level", "up")
_YAW_EDGES = (-45, -15, 15, 45)
_PITCH_EDGES = (-12, 12)


# ---- the contact sheet ----------------------------------------------------------------------------------------------------


def write_contact_sheet(face_set: FaceSet, faces: Sequence[Face], path: Path) -> bytes:
    """Writes a picture of faces spread evenly over all `faces`, each with its number and its frame's; returns the JPEG."""
    rows = np.unique(np.linspace(0, len(faces) - 1, min(len(faces), NUM_COLUMNS * NUM_ROWS)).round().astype(int))
    tiles = [_tile(face_set, faces[row]) for row in rows]
    blank = np.full((_TILE_PX + _LABEL_PX, _TILE_PX, 3), 24, np.uint8)
    tiles += [blank] * (-len(tiles) % NUM_COLUMNS or (0 if tiles else NUM_COLUMNS))
    sheet = np.vstack([np.hstack(tiles[start : start + NUM_COLUMNS]) for start in range(0, len(tiles), NUM_COLUMNS)])
    data = encode_jpeg(sheet, quality=90)
    atomic_write_bytes(path, data)
    return data


def _tile(face_set: FaceSet, face: Face) -> Image:
    """The face in `full` framing above its number (#12, by which it can be curated) and its frame's; grey if not kept."""
    crop = read_small_image(face_set.crop_path(face), round(_TILE_PX * STORED.side / FULL.side))
    tile_from_crop = compose(crop_from_face(FULL, _TILE_PX), invert(crop_from_face(STORED, crop.shape[0])))
    picture = warp_image(crop, tile_from_crop, (_TILE_PX, _TILE_PX))
    if not face.kept:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    label = np.full((_LABEL_PX, _TILE_PX, 3), 24, np.uint8)
    font, scale, frame = cv2.FONT_HERSHEY_SIMPLEX, 0.4, str(face.frame)
    (frame_width_px, _), _ = cv2.getTextSize(frame, font, scale, 1)
    right = _TILE_PX - frame_width_px - 3
    cv2.putText(label, f"#{face.id}", (3, _LABEL_PX - 4), font, scale, (230, 230, 230), 1, cv2.LINE_AA)
    cv2.putText(label, frame, (right, _LABEL_PX - 4), font, scale, (150, 150, 150), 1, cv2.LINE_AA)
    return np.vstack([picture, label])


# ---- the report -----------------------------------------------------------------------------------------------------------


def write_extraction_report(
    path: Path,
    face_set: FaceSet,
    faces: Sequence[Face],
    figures: Mapping[str, float | int],
    contact_sheet: bytes,
    losses: Sequence[str],
    doubts: Sequence[str],
) -> None:
    """Writes report.html of an extraction; `faces` are the performer's, interpolated ones included."""
    sections = [
        _gaps_section(list(_ranges_without_a_face(face_set, faces))),
        Section("Where the face looks", _pose_in_words(faces), table=_pose_table(faces)),
        Section("How steady it is", _steadiness_in_words(figures)),
    ]
    if doubts:
        sections.insert(0, Section("What to look at first", items=list(doubts)))
    if losses:
        sections.append(Section("What could not be read of the footage", items=list(losses)))
    caption = (
        "faces spread evenly over the footage: left the face's #number, as curate's --keep and --leave-out take it, right the "
        "frame's number; grey: not kept"
    )
    render_report(
        path,
        f"Faces of {face_set.performer}",
        sections,
        verdict=_verdict(face_set.performer, faces, figures),
        figures=list(_headline(figures)),
        pictures=[Picture(contact_sheet, caption)] if faces else [],
        eyebrow="Understudy: extract",
    )


def _verdict(performer: str, faces: Sequence[Face], figures: Mapping[str, float | int]) -> str:
    if not figures["num_faces"]:
        return f"No face of {performer} was found in {figures['num_frames']} frames."
    words = (
        f"{figures['num_faces']} faces of {performer} in {figures['num_frames_with_face']} of {figures['num_frames']} frames; "
        f"{figures['num_kept']} kept for training."
    )
    left_out = Counter(face.reason for face in faces if not face.kept and not face.is_bridged)
    if left_out:
        words += f" Not kept: {', '.join(f'{num} {reason}' for reason, num in left_out.most_common())}."
    if figures["num_other_faces"]:
        words += f" {figures['num_other_faces']} faces are of other people and were set apart."
    return words


def _headline(figures: Mapping[str, float | int]) -> Iterator[Figure]:
    notes = {
        "num_faces": "measured faces of the performer",
        "num_kept": "of these, kept for training",
        "num_frames_without_face": "frames in which the performer's face was not seen",
        "num_bridged": "of these, with an alignment interpolated from their neighbours",
        "num_tracks": "runs of one face through one shot",
        "num_other_faces": "faces of other people, set apart",
        "jitter_before_px": "tremble of the alignment as measured, pixels of the frame",
        "jitter_after_px": "tremble of the alignment in use",
    }
    for name, note in notes.items():
        yield name.removeprefix("num_").replace("_", " "), figures[name], note


def _ranges_without_a_face(face_set: FaceSet, faces: Sequence[Face]) -> Iterator[tuple[str, str, str]]:
    """Clip, frames ("80-87") and fate of each run of frames in which the performer was not seen."""
    is_bridged = {(face.source, face.frame): face.is_bridged for face in sorted(faces, key=lambda face: not face.is_bridged)}
    for source in face_set.sources():
        frames = [frame.frame for frame in face_set.frames(source)]
        for fate, run in groupby(frames, key=lambda frame: is_bridged.get((source, frame))):
            if fate is False:
                continue
            numbers = list(run)
            text = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
            yield source, text, "interpolated from the frames around" if fate else "no face of the performer"


def _gaps_section(gaps: Sequence[tuple[str, str, str]]) -> Section:
    title = "Frames without a face"
    if not gaps:
        return Section(title, "There are none.")
    text = "Gaps of up to 12 frames within a shot get an alignment from their neighbours, to swap with but not to train on."
    if len(gaps) > _MOST_RANGES:
        text += f" Only the first {_MOST_RANGES} of {len(gaps)} runs are listed."
    return Section(title, text, table=Table(("clip", "frames", "what happened"), gaps[:_MOST_RANGES]))


def _pose_in_words(faces: Sequence[Face]) -> str:
    kept = np.array([face.pose for face in faces if face.kept]).reshape(-1, 3)
    if not len(kept):
        return "No face is kept."
    low, high = np.percentile(kept, 1, axis=0), np.percentile(kept, 99, axis=0)
    words = [f"{name} from {low[i]:.0f}° to {high[i]:.0f}°" for i, name in enumerate(("yaw", "pitch", "roll"))]
    return (
        f"{', '.join(words)} (98 in 100 faces lie between). A swap can only show what the other performer showed too: "
        "compare this table with theirs."
    )


def _pose_table(faces: Sequence[Face]) -> Table:
    """Number of kept faces by yaw and pitch."""
    kept = np.array([face.pose for face in faces if face.kept]).reshape(-1, 3)
    columns, rows = np.digitize(kept[:, 0], _YAW_EDGES), np.digitize(kept[:, 1], _PITCH_EDGES)
    counts: list[list[Value]] = [
        [name, *(int(np.sum((columns == column) & (rows == row))) for column in range(len(_YAW_NAMES)))]
        for row, name in reversed(list(enumerate(_PITCH_NAMES)))
    ]
    return Table(("looks", *_YAW_NAMES), counts)


def _steadiness_in_words(figures: Mapping[str, float | int]) -> str:
    before, after = figures["jitter_before_px"], figures["jitter_after_px"]
    if not before:
        return "No face is followed through five frames in a row, so there is no tremble to measure."
    return (
        f"As measured, the face's corners and centre tremble by {before:.2f} pixels from frame to frame; in use, by "
        f"{after:.2f}. The measured alignments stay in the face set."
    )
