"""Measures what the watermark costs: one picture, and its share of the processor time of whole conversions.

    python tools/measure_marking.py WORK_FOLDER [--seconds 6]

The conversions are those of a user, `convert` with its default recipe, the content gate's process included. Their plates are a
virtual actor enlarged to the height of 1280x720 and of 3840x2160; the model is trained for some seconds, since what it learned
costs nothing. Keys, records, face sets and model are the folder's own and stay for the next time. Prints the tables of
docs/trust.md.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import entry

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np

import understudy
from understudy.media import read_frames
from understudy.trust.watermark import Marker
from understudy.types import AnyImage, FloatArray

SAMPLE = Path(understudy.__file__).parent / "sample"
PICTURE_SIZES = ((512, 512), (1280, 720), (1920, 1080), (3840, 2160))
CONVERSIONS = ((1280, 720, 40), (3840, 2160, 8))
"""Width, height and number of frames."""


def main() -> None:
    """Prints both tables."""
    parser = entry.parser(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long the model is trained")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"UNDERSTUDY_KEYS": f"{options.work}/keys", "UNDERSTUDY_CONSENT": f"{options.work}/consent"}
    model = made_model(options.work, options.seconds)
    print("| size | frames | marked pictures | marking | conversion | share |\n|---|---|---|---|---|---|")
    for width, height, num_frames in CONVERSIONS:
        plate = made_plate(options.work / f"plate_{height}.mp4", width, height, num_frames)
        with timed_marking() as marking:
            begin = processor_seconds()
            out = options.work / f"swap_{height}"
            shutil.rmtree(out, ignore_errors=True)
            understudy.convert(plate, model=model, replace="abel", with_="bea", out=out)
            total = processor_seconds() - begin
        print(f"| {width}x{height} | {num_frames} | {marking.num_pictures} | {marking.seconds:.2f} s | {total:.1f} s | "
              f"{100 * marking.seconds / total:.1f} % |", flush=True)  # fmt: skip
    report_pictures()


@dataclass
class Marking:
    """What went into marking so far: processor time of the threads that did it, and how many pictures."""

    seconds: float = 0.0
    num_pictures: int = 0


@contextmanager
def timed_marking() -> Iterator[Marking]:
    """Times every call of `Marker.mark` and the making of every marker."""
    marking, mark, make = Marking(), Marker.mark, Marker.__init__

    def timed_mark(self: Marker, frame: AnyImage, matte: FloatArray | None = None) -> AnyImage:
        begin = time.thread_time()
        marked = mark(self, frame, matte)
        marking.seconds += time.thread_time() - begin
        marking.num_pictures += 1
        return marked

    def timed_make(self: Marker, *arguments: object, **named: object) -> None:
        begin = time.thread_time()
        make(self, *arguments, **named)  # type: ignore[arg-type]
        marking.seconds += time.thread_time() - begin

    with patch.object(Marker, "mark", timed_mark), patch.object(Marker, "__init__", timed_make):
        yield marking


def processor_seconds() -> float:
    """Of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def made_model(work: Path, seconds: float) -> Path:
    """A model of both virtual actors."""
    model = work / "model"
    if not (model / "manifest.json").exists():
        faces = [work / "faces" / name for name in ("abel", "bea")]
        for face_set in faces:
            understudy.extract([SAMPLE / f"{face_set.name}_test.mp4"], performer=face_set.name, out=face_set)
        understudy.train(faces, out=model, minutes=seconds / 60)
    return model


def made_plate(path: Path, width: int, height: int, num_frames: int) -> Path:
    """The actor's clip enlarged to the height, mirrored at both sides to the width."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "16", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in read_frames(SAMPLE / "abel_test.mp4", 0, num_frames):
            square = cv2.resize(frame.image, (height, height), interpolation=cv2.INTER_CUBIC)
            left = (width - height) // 2
            wide = cv2.copyMakeBorder(square, 0, 0, left, width - height - left, cv2.BORDER_REFLECT)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(wide, dtype=np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def report_pictures() -> None:
    """Prints what marking one picture costs."""
    print("\n| size | marking one frame (1 thread) |\n|---|---|")
    draw = np.random.default_rng(0)
    for width, height in PICTURE_SIZES:
        plate = cv2.resize(draw.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), (width, height))
        marker = Marker(0xC0FFEE123456, width, height)
        seconds = []
        for _ in range(7):
            begin = time.process_time()
            marker.mark(np.asarray(plate, dtype=np.uint8))
            seconds.append(time.process_time() - begin)
        print(f"| {width}x{height} | {1000 * np.median(seconds):.1f} ms |")


if __name__ == "__main__":
    entry.run(main)
