"""Measures what a plate loses on its way through reading and writing: every file of a folder, frame by frame.

    python tools/measure_roundtrip.py FOOTAGE... [--codec h264] [--most-frames 120] [--convert] --out table.md

Each file is read, written with the codec, and read again: the number of frames, their times, the sound's packets, the tags and
the picture are compared. What lossless codecs must keep is compared code for code with FFV1 on the first frames.

With --convert each whole file goes through `convert` instead, with the model that returns its input: the person who is
in most frames is replaced by themselves, with all of blending, watermark and notice. The picture is compared beside the notice,
and once more within the boxes of the replaced faces.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import av
import entry
import numpy as np

from understudy.media import FootageInfo, VideoWriter, probe, read_frames
from understudy.media.codecs import CODECS
from understudy.model.identity import write_identity_model
from understudy.perception.persons import most_frequent_person
from understudy.settings import Codec, ConvertRecipe
from understudy.stages._plate_survey import PLATE_FOLDER, survey_plate
from understudy.stages.convert import convert
from understudy.trust.consent import create_record
from understudy.trust.identity import bind_identity
from understudy.trust.notice import with_corner_notice
from understudy.types import BadInput, Event, Face, FaultInFrames, Refused, StageResult, silent

NUM_LOSSLESS_FRAMES = 2
HEADER = "| plate | frames | times | sound | tags | PSNR, dB | FFV1 | told |\n|---|---|---|---|---|---|---|---|"
CONVERT_HEADER = (
    "| plate | frames | swapped | failed | times | sound | tags | PSNR, dB | PSNR of faces, dB | told |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
ACTOR, OTHER = "actor", "other"


def main() -> None:
    """Prints and writes one row a file."""
    parser = entry.parser(__doc__)
    parser.add_argument("footage", nargs="+", type=Path)
    parser.add_argument("--codec", choices=list(CODECS), default="h264")
    parser.add_argument("--most-frames", type=int, default=10**9)
    parser.add_argument("--convert", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [CONVERT_HEADER if options.convert else HEADER]
    for path in options.footage:
        try:
            if options.convert:
                rows.append(converted_row(path, options.codec))
            else:
                rows.append(row(path, options.codec, options.most_frames))
        except (BadInput, Refused, FaultInFrames) as error:
            rows.append(f"| {path.name} | refused: {error} |")
        print(rows[-1], file=sys.stderr, flush=True)
    options.out.write_text("\n".join(rows) + "\n", encoding="utf-8")


def row(path: Path, codec: Codec, most_frames: int) -> str:
    """One line of the table."""
    info = probe(path)
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{'.mkv' if path.suffix == '.mkv' and codec == 'h264' else CODECS[codec].suffixes[0]}"
        times = written(path, copy, codec, most_frames, told)
        errors, copied_times = compared(path, copy, most_frames)
        cells = [
            path.name,
            f"{len(copied_times)} of {len(times)}",
            times_in_words(times, copied_times),
            sound_in_words(path, copy),
            tags_in_words(info, probe(copy)),
            decibels(float(np.mean(errors))),
            lossless(path, Path(folder)),
            "; ".join(message.removeprefix(f"{path}: ") for message in told),
        ]
    return "| " + " | ".join(cells) + " |"


def times_in_words(before: list[object], after: list[object]) -> str:
    """How far the times of two clips' frames are apart at most."""
    largest = max((abs(a - b) for a, b in zip(before, after, strict=False)), default=0)
    return "exact" if largest == 0 else f"{float(largest) * 1000:.2f} ms off"


def sound_in_words(path: Path, copy: Path) -> str:
    """Whether the copy has every packet of the sound and the subtitles."""
    return "none" if not sounds(path) else "same bytes" if sounds(path) == sounds(copy) else "not all"


# ---- through all of convert -----------------------------------------------------------------------------------------------


def converted_row(path: Path, codec: Codec) -> str:
    """One line of the table: the whole file, its main person replaced by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        result, faces = replaced_by_themselves(path, Path(folder), codec)
        if result is None:
            return f"| {path.name} | no face |"
        swap, figures = result.outputs["swap"], result.figures
        times, swap_times, error, face_error = compared_with_plate(path, swap, faces)
        told = [event["message"] for event in events(Path(folder) / "swap") if event["kind"] == "warning"]
        cells = [
            path.name,
            f"{len(swap_times)} of {len(times)}",
            str(figures["num_swapped"]),
            str(figures["num_failed"]),
            times_in_words(times, swap_times),
            sound_in_words(path, swap),
            tags_in_words(probe(path), probe(swap)),
            decibels(error),
            decibels(face_error),
            "; ".join(message.removeprefix(f"{path}: ") for message in told),
        ]
    return "| " + " | ".join(cells) + " |"


def replaced_by_themselves(path: Path, work: Path, codec: Codec) -> tuple[StageResult | None, Mapping[int, list[Face]]]:
    """The conversion, and the faces of the plate by frame; None where there is none. Records of consent are made in `work`."""
    faces = survey_plate(probe(path), work / "survey", silent).faces
    actor = most_frequent_person(faces)
    if not len(actor):
        return None, {}
    galleries = {ACTOR: actor, OTHER: -actor}
    for name, embeddings in galleries.items():
        bind_identity(create_record(work / "consent", name, "synthetic"), embeddings)
    model = write_identity_model(work / "model", galleries)

    def hand_over(event: Event) -> None:
        """Faces need not be looked for twice."""
        if event.kind == "started":
            shutil.copytree(work / "survey" / PLATE_FOLDER, work / "swap" / PLATE_FOLDER)

    recipe = ConvertRecipe(codec=codec, passes="none")
    result = convert(path, model, ACTOR, OTHER, work / "swap", recipe=recipe, consent=work / "consent", report=hand_over)
    by_frame: dict[int, list[Face]] = {}
    for face in faces:
        by_frame.setdefault(face.frame, []).append(face)
    return result, by_frame


def compared_with_plate(
    path: Path, swap: Path, faces: Mapping[int, list[Face]]
) -> tuple[list[object], list[object], float, float]:
    """The times of both, and the mean squared errors (white = 1) beside the notice and within the faces."""
    times = [record.pts * record.time_base for record in read_frames(path)]
    swap_times, errors, face_errors = [], [], []
    beside: np.ndarray | None = None
    plates = read_frames(path)
    for after in read_frames(swap):
        swap_times.append(after.pts * after.time_base)
        before = next(plates, None)
        if before is None:
            continue
        if beside is None:
            black, white = np.zeros_like(before.eight_bit), np.full_like(before.eight_bit, 255)
            beside = ((with_corner_notice(black) == black) & (with_corner_notice(white) == white)).all(axis=2)
        squared = np.square(unit(before.image) - unit(after.image))
        errors.append(float(np.mean(squared[beside])))
        face_errors += [
            float(np.mean(squared[box])) for face in faces.get(after.index, ()) if squared[box := inside(face)].size
        ]
    return times, swap_times, float(np.mean(errors)), float(np.mean(face_errors))


def inside(face: Face) -> tuple[slice, slice]:
    """The pixels of a face's box."""
    box = face.box
    return slice(max(0, round(box.top)), max(0, round(box.bottom))), slice(max(0, round(box.left)), max(0, round(box.right)))


def events(folder: Path) -> Iterator[Mapping[str, str]]:
    """What a stage told."""
    return map(json.loads, (folder / "events.jsonl").read_text(encoding="utf-8").splitlines())


def decibels(mean_squared_error: float) -> str:
    """As a signal-to-noise ratio."""
    return f"{10 * np.log10(1 / max(mean_squared_error, 1e-12)):.1f}"


# ---- through reader and writer --------------------------------------------------------------------------------------------


def written(path: Path, copy: Path, codec: Codec, most_frames: int, told: list[str]) -> list[object]:
    """Copies the plate through the writer; the times of its frames."""
    times = []
    with VideoWriter(copy, plate=path, codec=codec, on_loss=told.append) as writer:
        for frame in read_frames(path, stop=most_frames, on_loss=told.append):
            writer.write(frame.image, frame)
            times.append(frame.pts * frame.time_base)
    return times


def compared(path: Path, copy: Path, most_frames: int) -> tuple[list[float], list[object]]:
    """The mean squared error (white = 1) of each frame, and the copy's times."""
    errors, times = [], []
    for before, after in zip(read_frames(path, stop=most_frames), read_frames(copy), strict=False):
        errors.append(float(np.mean(np.square(unit(before.image) - unit(after.image)))))
        times.append(after.pts * after.time_base)
    return errors, times


def unit(image: np.ndarray) -> np.ndarray:
    """Code values between 0 and 1."""
    return image.astype(np.float32) / np.iinfo(image.dtype).max


def lossless(path: Path, folder: Path) -> str:
    """Whether FFV1 gives the first frames back code for code."""
    frames = list(islice(read_frames(path), NUM_LOSSLESS_FRAMES))
    with VideoWriter(folder / "lossless.mkv", plate=path, codec="ffv1") as writer:
        for frame in frames:
            writer.write(frame.image, frame)
    same = all(np.array_equal(a.image, b.image) for a, b in zip(frames, read_frames(folder / "lossless.mkv"), strict=True))
    return "identical" if same else "differs"


def sounds(path: Path) -> list[str]:
    """The sha256 of the packets of each audio and subtitle track."""
    if path.is_dir():
        return []
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type in ("audio", "subtitle")]
        digests = {stream.index: hashlib.sha256() for stream in streams}
        for packet in packets(container, streams):
            digests[packet.stream.index].update(bytes(packet))
    return [digest.hexdigest() for digest in digests.values()]


def packets(container: av.container.InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """All packets that hold data."""
    return (packet for packet in container.demux(streams) if packet.size) if streams else iter(())


def tags_in_words(before: FootageInfo, after: FootageInfo) -> str:
    """What differs: colour, aspect, turn, fields, timecode, HDR metadata; "same" where nothing does."""
    stated = {"primaries", "transfer", "matrix"}
    differing = [name for name in stated if getattr(before.colour, name) != getattr(after.colour, name)]
    if (before.colour.range or 1) != (after.colour.range or 1):  # not stated means limited
        differing.append("range")
    names = (
        "sample_aspect_ratio",
        "display_matrix",
        "is_interlaced",
        "is_bottom_field_first",
        "timecode",
        "hdr",
        "width",
        "height",
    )
    differing += [name.replace("_", " ") for name in names if getattr(before, name) != getattr(after, name)]
    return "same" if not differing else ("stated now: " if before.colour.is_rgb else "") + ", ".join(sorted(differing))


if __name__ == "__main__":
    entry.run(main)
