"""The report of a curation: who was left out and why, what either performer lacks, and what to shoot or extract next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.meanface import OUTER_LIPS, RIGID_POINTS
from understudy.imaging.similarity import apply, compose
from understudy.media.images import encode_jpeg
from understudy.settings import CurateRecipe
from understudy.stages._curation_coverage import (
    BRIGHT,
    DARK,
    LEAST_FACES,
    LIT_FROM_ONE_SIDE,
    OPEN_MOUTH,
    SHUT_EYES,
    SHUT_MOUTH,
    WIDE_EYES,
    WIDE_MOUTH,
    Gap,
    Showing,
    columns_of,
    frames_in_words,
    ranges_in_words,
)
from understudy.stages._curation_faults import KINDS, Fault, Kind
from understudy.stages._curation_measure import working_picture
from understudy.store.atomic import atomic_write_bytes
from understudy.store.charts import Chart, heat_map, histogram
from understudy.store.faceset import FaceSet
from understudy.store.report import Figure, Picture, Section, Table, Value, render_report
from understudy.types import Face, FloatArray, Image

TILE_PX = 128
MOST_TILES = 32
MOST_GAPS = 14
SHEET_COLUMNS, SHEET_ROWS_A_KIND = 12, 2
SHEET_TILE_PX, SHEET_LABEL_PX = 104, 16

YAW_EDGES = np.arange(-75.0, 76.0, 15.0)
PITCH_EDGES = np.arange(-40.0, 41.0, 10.0)

EXPLANATIONS: dict[Kind, str] = {
    "wrong person": "Their identity is too far from the performer's other faces, or nearer to the other performer.",
    "misaligned": "The landmarks are no head's, or lie away from where the face's track runs: such a face teaches a smear.",
    "occluded": "Something hides a good part of the face: a decoder would learn the hand along with the cheek.",
    "blurred": "Much less fine detail than is usual in their footage. A decoder learns the softness that it is shown.",
    "over-exposed": "Skin without any detail, far brighter than this footage usually is.",
    "under-exposed": "Skin without any detail, far darker than this footage usually is.",
    "too small": "They cover too few pixels of the footage, and far fewer than the other faces.",
    "near-duplicate": "The same pose, mouth, eyes and pixels as a face that is kept (right), which is as sharp or sharper.",
}


@dataclass(frozen=True)
class Curation:
    """What a curation found. Faces are the performer's with a picture; `gaps` and `other` are there for two performers only."""

    one: Showing
    other: Showing | None
    gaps: Sequence[Gap]
    by_hand: dict[int, bool]
    missing: dict[str, tuple[int, list[int]]]
    warnings: Sequence[str]
    recipe: CurateRecipe

    @property
    def num_kept(self) -> int:
        return int(self.one.is_kept.sum())

    def of_kind(self, kind: Kind) -> list[tuple[int, Fault]]:
        """Row and fault of each face of one kind, in the order of the footage."""
        return [(row, fault) for row, fault in sorted(self.one.faults.items()) if fault.kind == kind]


# ---- in words -------------------------------------------------------------------------------------------------------------


def verdict(curation: Curation) -> str:
    """How many faces are kept and why the others are not, in a few sentences."""
    name, num = curation.one.performer, len(curation.one.measures)
    if not num:
        return f"There is no face of {name} to choose from."
    left_out = [f"{len(rows)} {_kind_of(kind, len(rows))}" for kind in KINDS if (rows := curation.of_kind(kind))]
    num_hands_kept = sum(curation.by_hand.values())
    if num_hands_left_out := len(curation.by_hand) - num_hands_kept:
        left_out.append(f"{num_hands_left_out} by hand")
    words = f"{curation.num_kept} of {num} faces of {name} are kept."
    if left_out:
        words += f" Left out: {', '.join(left_out)}."
    if num_hands_kept:
        words += f" {num_hands_kept} {'stays' if num_hands_kept == 1 else 'stay'} because set by hand."
    num_missing = sum(len(frames) for _, frames in curation.missing.values())
    if num_missing:
        words += f" {num_missing} frames of the footage show no face of {name}."
    return words


def _kind_of(kind: Kind, num: int) -> str:
    plurals: dict[Kind, str] = {"wrong person": "of another person", "near-duplicate": "near-duplicates"}
    return kind if num == 1 and kind == "near-duplicate" else plurals.get(kind, kind)


def missing_in_words(curation: Curation) -> list[str]:
    """For each clip, the frames in which the performer's face was not seen."""
    return [
        f"{source}: {len(frames)} of {num_frames} frames have no face: {ranges_in_words(frames)}"
        for source, (num_frames, frames) in curation.missing.items()
        if frames
    ]


# ---- the contact sheet ----------------------------------------------------------------------------------------------------


def write_contact_sheet(curation: Curation, face_set: FaceSet, path: Path) -> None:
    """A picture of what is kept (two rows, evenly over the footage) and what is left out, kind by kind, with numbers."""
    faces = curation.one.measures.faces
    rows = [("kept", _evenly([int(row) for row in np.flatnonzero(curation.one.is_kept)], 2 * SHEET_COLUMNS))]
    for kind in KINDS:
        of_kind = [row for row, _ in curation.of_kind(kind)]
        rows.append((kind, _evenly(of_kind, SHEET_ROWS_A_KIND * SHEET_COLUMNS)))
    strips = []
    for name, chosen in rows:
        if chosen:
            strips.append(_band(name))
            tiles = [_sheet_tile(face_set, faces[row]) for row in chosen]
            tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % SHEET_COLUMNS)
            strips += [np.hstack(tiles[start : start + SHEET_COLUMNS]) for start in range(0, len(tiles), SHEET_COLUMNS)]
    sheet = np.vstack(strips) if strips else _band("no faces")
    atomic_write_bytes(path, encode_jpeg(sheet, quality=90))


def _sheet_tile(face_set: FaceSet, face: Face) -> Image:
    picture = working_picture(face, face_set.crop_path(face), SHEET_TILE_PX)
    label = np.full((SHEET_LABEL_PX, SHEET_TILE_PX, 3), 24, np.uint8)
    cv2.putText(label, f"#{face.id}", (3, SHEET_LABEL_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230,) * 3, 1, cv2.LINE_AA)
    return np.vstack([picture, label])


def _band(text: str) -> Image:
    band = np.full((26, SHEET_COLUMNS * SHEET_TILE_PX, 3), 56, np.uint8)
    cv2.putText(band, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (245, 240, 230), 1, cv2.LINE_AA)
    return band


def _evenly(rows: Sequence[int], most: int) -> list[int]:
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int))]


# ---- the report -----------------------------------------------------------------------------------------------------------


def write_curation_report(path: Path, curation: Curation, face_set: FaceSet) -> None:
    """Writes report.html."""
    sections = [
        *_next_section(curation),
        _pose_section(curation),
        _histogram_section(curation),
        *(_kind_section(curation, kind, face_set) for kind in KINDS if curation.of_kind(kind)),
        *_by_hand_section(curation, face_set),
        _footage_section(curation),
        _recipe_section(curation.recipe),
    ]
    other = f" against {curation.other.performer}" if curation.other else ""
    render_report(
        path,
        f"Faces of {curation.one.performer}{other}",
        sections,
        verdict=verdict(curation),
        figures=list(_headline(curation)),
        pictures=[_kept_strip(curation, face_set)] if curation.num_kept else [],
        eyebrow="Understudy: curate",
        footer="Nothing was deleted. `understudy curate FACES --undo` keeps all of it again; --keep and --leave-out set "
        "single faces by their number.",
    )


def _headline(curation: Curation) -> Iterator[Figure]:
    num = len(curation.one.measures)
    yield "kept", curation.num_kept, f"of {num} faces; training sees these"
    for kind in KINDS:
        if found := len(curation.of_kind(kind)):
            yield kind, found, "left out"
    if curation.other:
        yield "gaps", len(curation.gaps), "kinds of face that one shows and the other lacks"


def _kept_strip(curation: Curation, face_set: FaceSet) -> Picture:
    """Kept faces from image left to image right, ten in a row."""
    kept = np.flatnonzero(curation.one.is_kept)
    by_yaw = kept[np.argsort(curation.one.measures.yaw[kept], kind="stable")]
    faces = [curation.one.measures.faces[row] for row in _evenly([int(row) for row in by_yaw], 10)]
    strip = np.hstack([working_picture(face, face_set.crop_path(face), 160) for face in faces])
    return Picture(encode_jpeg(strip, quality=88), "kept faces, by the turn of the head")


def _next_section(curation: Curation) -> Iterator[Section]:
    title = "What to shoot or extract next"
    if curation.warnings:
        yield Section("Look here first", items=list(curation.warnings))
    if not curation.other:
        yield Section(
            title, "Not compared with anybody: `--against FACES` tells what the other performer shows and this one lacks."
        )
        return
    names = f"{curation.one.performer} and {curation.other.performer}"
    if not curation.gaps:
        yield Section(title, f"Nothing: whatever one of {names} shows often, the other shows too.")
        return
    text = (
        "A swap can show only what both performers have given: what the plate's performer does and the other never did comes "
        "out as the nearest thing known. The most wanted first; left and right are those of the image."
    )
    if len(curation.gaps) > MOST_GAPS:
        text += f" The first {MOST_GAPS} of {len(curation.gaps)}."
    yield Section(title, text, table=_gap_table(curation.gaps[:MOST_GAPS]))


def _gap_table(gaps: Sequence[Gap]) -> Table:
    rows: list[list[Value]] = []
    for gap in gaps:
        nearest = frames_in_words(gap.nearest) or "–"
        if gap.left_out:
            nearest += f"; left out: {', '.join(f'#{face.id}' for face in gap.left_out[:6])}"
        rows.append([gap.lacking, gap.comparison(), gap.num_wanted, nearest, gap.example])
    return Table(("for", "what is missing", "faces to add", "nearest frames there are", "how the other does it"), rows)


def _pose_section(curation: Curation) -> Section:
    """A heat map of yaw by pitch for each performer; what the other shows and this one lacks is framed."""
    showings = [curation.one, *([curation.other] if curation.other else [])]
    counts = [_pose_counts(showing) for showing in showings]
    rows, columns = _used_range(sum(counts).sum(axis=1), 2), _used_range(sum(counts).sum(axis=0), 3)  # type: ignore[union-attr]
    charts = []
    for number, (showing, count) in enumerate(zip(showings, counts, strict=True)):
        marked = None
        if len(counts) == 2:
            marked = ((counts[1 - number] >= LEAST_FACES) & (count == 0))[rows, columns]
        charts.append(
            heat_map(
                count[rows, columns],
                YAW_EDGES[columns.start : columns.stop + 1].tolist(),
                PITCH_EDGES[rows.start : rows.stop + 1].tolist(),
                caption=f"{showing.performer}, {int(showing.is_kept.sum())} kept faces",
                names=("nose to image left  ←  yaw  →  to image right", "down  ←  pitch  →  up"),
                marked=marked,
            )
        )
    text = "Kept faces in each 15° of yaw and 10° of pitch."
    if len(counts) == 2:
        text += f" Framed: none here, but {LEAST_FACES} or more of the other performer. {_other_note(curation)}"
    return Section("Where the heads look", text, charts=charts)


def _other_note(curation: Curation) -> str:
    assert curation.other is not None
    name = curation.other.performer
    return f"The faces of {name} are counted as curation by the same rules would leave them; that face set is not changed."


def _pose_counts(showing: Showing) -> NDArray[np.int64]:
    """(pitch, yaw) counts of kept faces; those beyond the outer edges are in the outer cells."""
    kept = showing.is_kept & np.isfinite(showing.measures.yaw) & np.isfinite(showing.measures.pitch)
    yaw = np.clip(showing.measures.yaw[kept], YAW_EDGES[0], YAW_EDGES[-1] - 1e-6)
    pitch = np.clip(showing.measures.pitch[kept], PITCH_EDGES[0], PITCH_EDGES[-1] - 1e-6)
    return np.histogram2d(pitch, yaw, bins=(PITCH_EDGES, YAW_EDGES))[0].astype(np.int64)


def _used_range(totals: NDArray[np.int64], least: int) -> slice:
    """The bins that hold anything, and at least `least` to either side of the middle."""
    middle = len(totals) // 2
    used = np.flatnonzero(totals)
    first = min(int(used[0]) if len(used) else middle, middle - least)
    last = max(int(used[-1]) if len(used) else middle, middle + least - 1)
    return slice(first, last + 1)


def _histogram_section(curation: Curation) -> Section:
    showings = [curation.one, *([curation.other] if curation.other else [])]
    columns = [columns_of(showing.measures) for showing in showings]

    def chart(column: str, edges: FloatArray, caption: str, axis: str, marks: Sequence[float]) -> Chart:
        series = []
        for showing, values in zip(showings, columns, strict=True):
            kept = values[column][showing.is_kept & np.isfinite(values[column])]
            counts = np.histogram(np.clip(kept, edges[0], edges[-1] - 1e-9), edges)[0]
            series.append((showing.performer, counts / max(len(kept), 1)))
        return histogram(series, list(map(float, edges)), caption=caption, axis=axis, marks=marks)

    charts = [
        chart(
            "mouth", np.linspace(0, 0.2, 26), "mouth", "gap between the lips, face units", (SHUT_MOUTH, OPEN_MOUTH, WIDE_MOUTH)
        ),
        chart("eyes", np.linspace(0.2, 1.6, 29), "eyes", "opening, 1 = usual for this performer", (SHUT_EYES, WIDE_EYES)),
        chart("brightness", np.linspace(0.3, 1.9, 33), "light", "brightness, 1 = usual for this performer", (DARK, BRIGHT)),
        chart(
            "light_side",
            np.linspace(-0.5, 0.5, 26),
            "where the light comes from",
            "from image left (below 0) or image right",
            (-LIT_FROM_ONE_SIDE, LIT_FROM_ONE_SIDE),
        ),
    ]
    text = "Shares of the kept faces; outliers are in the outer bins. Thin lines part the kinds that the list above speaks of."
    return Section("Mouth, eyes and light", text, charts=charts)


def _kind_section(curation: Curation, kind: Kind, face_set: FaceSet) -> Section:
    found = curation.of_kind(kind)
    faces = curation.one.measures.faces
    chosen = _evenly(range(len(found)), MOST_TILES // 2 if kind == "near-duplicate" else MOST_TILES)
    pictures = [_tile(face_set, faces, *found[number]) for number in chosen]
    text = EXPLANATIONS[kind]
    if len(chosen) < len(found):
        text += f" {len(chosen)} of {len(found)}, evenly over the footage."
    return Section(f"Left out: {kind} ({len(found)})", text, pictures=pictures, are_tiles=True)


def _tile(face_set: FaceSet, faces: Sequence[Face], row: int, fault: Fault) -> Picture:
    """The face, and beside it, if it doubles another, that one."""
    shown = [faces[row], *(face for face in faces if fault.like and face.id == fault.like)]
    pictures = [working_picture(face, face_set.crop_path(face), TILE_PX) for face in shown]
    face = faces[row]
    if fault.kind == "misaligned":
        pictures = [_with_landmarks(face, pictures[0])]
    words = f"as #{fault.like}" if fault.like else fault.words
    return Picture(encode_jpeg(np.hstack(pictures), quality=85), f"#{face.id}, frame {face.frame}: {words}")


def _with_landmarks(face: Face, picture: Image) -> Image:
    """The tile with the points of brows, eyes, nose and lips, where the alignment has them."""
    tile_from_frame = compose(crop_from_face(FULL, TILE_PX), np.asarray(face.face_from_frame, np.float64))
    drawn = picture.copy()
    for x, y in apply(tile_from_frame, face.landmarks[[*RIGID_POINTS, *OUTER_LIPS], :2]):
        cv2.circle(drawn, (round(x * 8 - 4), round(y * 8 - 4)), 8, (90, 255, 120), -1, cv2.LINE_AA, shift=3)
    return drawn


def _by_hand_section(curation: Curation, face_set: FaceSet) -> Iterator[Section]:
    rows = {face.id: face for face in curation.one.measures.faces}
    chosen = [rows[number] for number in sorted(curation.by_hand) if number in rows][:MOST_TILES]
    if not chosen:
        return
    pictures = [
        Picture(
            encode_jpeg(working_picture(face, face_set.crop_path(face), TILE_PX), quality=85),
            f"#{face.id}, frame {face.frame}: {'kept' if curation.by_hand[face.id] else 'left out'}",
        )
        for face in chosen
    ]
    yield Section(
        f"Set by hand ({len(curation.by_hand)})", "They stay so, whatever the rules say.", pictures=pictures, are_tiles=True
    )


def _footage_section(curation: Curation) -> Section:
    faces, is_kept = curation.one.measures.faces, curation.one.is_kept
    rows: list[list[Value]] = []
    for source, (num_frames, frames) in curation.missing.items():
        of_source = [row for row, face in enumerate(faces) if face.source == source]
        kept = sum(bool(is_kept[row]) for row in of_source)
        rows.append([source, num_frames, len(of_source), kept, len(frames)])
    words = missing_in_words(curation)
    text = "" if words else "Every frame shows the performer's face."
    return Section(
        "Clip by clip", text, table=Table(("clip", "frames", "faces", "kept", "frames without a face"), rows), items=words
    )


def _recipe_section(recipe: CurateRecipe) -> Section:
    text = (
        "A face is left out only where it is poor by these figures and unlike its own set as well. Change one with "
        "--set key=value and run again; 0 switches a check off."
    )
    rows: list[list[Value]] = [[name, value] for name, value in asdict(recipe).items() if name != "name"]
    return Section("By which rules", text, table=Table(("setting", "value"), rows))
