"""Extracts from every file of some folders and writes docs/footage.md.

`python tools/make_footage_page.py FOLDER... [--workers N]`. A row says what was read (frames and times, compared with a plain
decode by PyAV), what was found in it, or the line that the user gets instead. The page is written anew after each file, so an
interrupted run leaves the rows it has.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import entry

from understudy.media import probe
from understudy.stages.extract import extract
from understudy.store.faceset import FaceSet
from understudy.types import UnderstudyError

PAGE = Path(__file__).parents[1] / "docs" / "footage.md"
MARK = "<!-- made by tools/make_footage_page.py: what follows is written anew -->\n"
HEADER = "| file | read as | frames, seconds | faces | what happens |\n|---|---|---|---|---|\n"
LONGEST_LINE = 300


@dataclass(frozen=True)
class Row:
    """What happened to one file."""

    folder: str
    name: str
    cells: tuple[str, str, str, str]


def main() -> None:
    """Extract everything, a few files at a time, and write the page."""
    parser = entry.parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    files = [path for folder in asked.folders for path in sorted(folder.iterdir())]
    rows: list[Row] = []
    with multiprocessing.get_context("spawn").Pool(asked.workers, entry.end_quietly) as pool:
        for row in pool.imap_unordered(row_of, sorted(files, key=lambda path: path.stat().st_size)):
            rows.append(row)
            print(f"{len(rows)} of {len(files)}: {row.name}: {' | '.join(row.cells)}", flush=True)
            write_page(rows)


def row_of(path: Path) -> Row:
    """Extract the most frequent person of one file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "faces"
        try:
            info = probe(path)
            result = extract([path], "somebody", out)
            cells = (
                f"{info.width}x{info.height}",
                frames_and_times(out, path),
                faces_in_words(result.figures),
                "; ".join(line.replace(str(path), "it") for line in losses(out)) or "read to its end",
            )
        except UnderstudyError as error:
            cells = ("", "", "", f"status {error.exit_status}: `{str(error).replace(str(path), path.name)[:LONGEST_LINE]}`")
    return Row(path.parent.name, path.name, cells)


def frames_and_times(out: Path, path: Path) -> str:
    """How many frames there are and when the first and the last is shown; and whether a plain decode agrees."""
    with FaceSet.open(out) as face_set:
        frames = [frame for source in face_set.sources() for frame in face_set.frames(source)]
    text = f"{len(frames)}, {frames[0].time_seconds:.3f} to {frames[-1].time_seconds:.3f}" if frames else "0"
    if path.is_dir():
        return text
    decoded = plain_times(path)
    if len(decoded) != len(frames):
        return f"{text} (a plain decode gives {len(decoded)})"
    apart = max((abs(ours.time_seconds - theirs) for ours, theirs in zip(frames, decoded, strict=True)), default=0.0)
    return f"{text}, as decoded" if apart < 1e-3 else f"{text} (times differ by up to {apart:.3f})"


def plain_times(path: Path) -> list[float]:
    """The presentation times of the first video stream, from the first frame's on, without any of our code."""
    times = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                times.append(float(frame.time) if frame.time is not None else float(len(times)))
        except av.FFmpegError:
            pass
    return [moment - times[0] for moment in times]


def faces_in_words(figures: dict[str, object]) -> str:
    """The performer's faces, the interpolated ones, other people's, and frames without the performer."""
    if not figures["num_faces"]:
        return "none" + (f" ({figures['num_other_faces']} of others)" if figures["num_other_faces"] else "")
    parts = [f"{figures['num_faces']} in {figures['num_tracks']} track{'s' * (figures['num_tracks'] != 1)}"]
    names = {"num_bridged": "interpolated", "num_other_faces": "of others", "num_frames_without_face": "frames without"}
    parts += [f"{figures[key]} {words}" for key, words in names.items() if figures[key]]
    return ", ".join(parts)


def losses(out: Path) -> list[str]:
    """What could not be read, as the report says it."""
    with FaceSet.open(out) as face_set:
        return [line for line in (face_set.note("losses") or "").splitlines() if line]


def write_page(rows: list[Row]) -> None:
    """The page's own words, then a table for each folder."""
    words = PAGE.read_text("utf-8").split(MARK)[0]
    text = f"{words}{MARK}\nMade on {time.strftime('%Y-%m-%d')}.\n"
    for folder in sorted({row.folder for row in rows}):
        text += f"\n## {folder}\n\n{HEADER}"
        for row in sorted((row for row in rows if row.folder == folder), key=lambda row: row.name):
            text += f"| `{row.name}` | {' | '.join(cell.replace('|', '/') for cell in row.cells)} |\n"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    entry.run(main)
