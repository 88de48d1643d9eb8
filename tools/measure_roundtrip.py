"""Measures what a plate loses on its way through reading and writing: every file of a folder, frame by frame.

    python tools/measure_roundtrip.py FOOTAGE... [--codec h264] [--most-frames 120] --out table.md

Each file is read, written with the codec, and read again: the number of frames, their times, the sound's packets, the tags and
the picture are compared. What lossless codecs must keep is compared code for code with FFV1 on the first frames.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np

from understudy.media import FootageInfo, VideoWriter, probe, read_frames
from understudy.media.codecs import CODECS
from understudy.types import BadInput, Codec

NUM_LOSSLESS_FRAMES = 2
HEADER = "| plate | frames | times | sound | tags | PSNR, dB | FFV1 | told |\n|---|---|---|---|---|---|---|---|"


def main() -> None:
    """Prints and writes one row a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", nargs="+", type=Path)
    parser.add_argument("--codec", choices=list(CODECS), default="h264")
    parser.add_argument("--most-frames", type=int, default=10**9)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [HEADER]
    for path in options.footage:
        try:
            rows.append(row(path, options.codec, options.most_frames))
        except BadInput as error:
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
        largest = max((abs(a - b) for a, b in zip(times, copied_times, strict=False)), default=0)
        sound = "same bytes" if sounds(path) == sounds(copy) else "not all"
        cells = [
            path.name,
            f"{len(copied_times)} of {len(times)}",
            "exact" if largest == 0 else f"{float(largest) * 1000:.2f} ms off",
            sound if sounds(path) else "none",
            tags_in_words(info, probe(copy)),
            f"{10 * np.log10(1 / max(float(np.mean(errors)), 1e-12)):.1f}",
            lossless(path, Path(folder)),
            "; ".join(message.removeprefix(f"{path}: ") for message in told),
        ]
    return "| " + " | ".join(cells) + " |"


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
    main()
