"""Measures the watermark: how often it is found after what happens to clips, how often where it is not, what it costs.

    python tools/measure_watermark.py CLIP... [--excerpts 3] [--seconds 10 2] [--out figures.json]
    python tools/measure_watermark.py CLIP... --unmarked 1000

Each excerpt is marked, delivered (x264 crf 18), attacked (each attack is followed by its own encode) and searched as `verify`
does: key frames first, then all frames. With --unmarked, so many unmarked excerpts of a second (as they are, mirrored, scaled,
cropped, darkened) are searched instead. Prints the tables of docs/trust.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from understudy.media import probe, read_frames
from understudy.media.keyframes import read_key_frames
from understudy.trust.watermark import Marker
from understudy.trust.watermark_detector import Detection, detect, gather
from understudy.types import Image

IDENTITY = 0xC0FFEE123456
COST_SIZES = ((512, 512), (1280, 720), (1920, 1080), (3840, 2160))


@dataclass(frozen=True)
class Attack:
    """A change to every frame, then an encode; `keep_every` n drops frames."""

    name: str
    crf: int = 23
    codec: str = "libx264"
    change: Callable[[Image], Image] = lambda image: image
    keep_every: Fraction = Fraction(1)
    seconds: int = 2


@dataclass(frozen=True)
class Outcome:
    """What one attack on one excerpt left."""

    attack: str
    is_present: bool
    is_read: bool
    z: float
    p: float


def main() -> None:
    """Runs every attack on every excerpt and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--excerpts", type=int, default=3, help="excerpts of each clip")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 2], help="lengths of what is attacked")
    parser.add_argument("--only", default="", help="only the attacks whose name holds this")
    parser.add_argument("--unmarked", type=int, default=0, help="search so many unmarked excerpts instead")
    parser.add_argument("--out", type=Path, help="write the outcomes as JSON")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.unmarked:
        found: list[Detection] = []
        for unmarked in islice(searched_unmarked(options.clips), options.unmarked):
            found.append(unmarked)
            if len(found) % 50 == 0:
                report_unmarked(found)
        report_unmarked(found)
        return
    chosen = [attack for attack in attacks(options.seconds) if options.only in attack.name]
    outcomes: list[Outcome] = []
    psnrs: list[float] = []
    for clip in options.clips:
        for start in excerpt_starts(clip, options.excerpts, max(options.seconds)):
            plates = excerpt(clip, start, max(options.seconds))
            marker = Marker(IDENTITY, plates[0].shape[1], plates[0].shape[0])
            marked = [marker.mark(plate) for plate in plates]
            psnrs.append(float(np.mean([psnr_db(a, b) for a, b in zip(plates[::25], marked[::25], strict=True)])))
            outcomes += attacked(marked, probe(clip).frame_rate, chosen)
            print(f"{clip.name} from {start}: {len(outcomes)} outcomes", flush=True)
            if options.out:
                options.out.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1))
    report(outcomes, psnrs)
    report_cost()


def attacks(lengths: Sequence[int]) -> Iterator[Attack]:
    """The changes that docs/trust.md names, on excerpts of each length in seconds."""
    for seconds in lengths:
        yield Attack(f"H.264 crf 23, {seconds} s", seconds=seconds)
        yield Attack(f"H.264 crf 28, {seconds} s", crf=28, seconds=seconds)
        yield Attack(f"H.265 crf 28, {seconds} s", crf=28, codec="libx265", seconds=seconds)
        changes: dict[str, Callable[[Image], Image]] = {
            "scaled to 75 %": lambda image: scaled(image, 0.75),
            "scaled to 50 %": lambda image: scaled(image, 0.5),
            "cropped by 10 %": cropped,
            "brightness +10 %": lambda image: cv2.convertScaleAbs(image, alpha=1.1),
            "brightness -10 %": lambda image: cv2.convertScaleAbs(image, alpha=0.9),
        }
        for name, change in changes.items():
            yield Attack(f"{name}, crf 23, {seconds} s", change=change, seconds=seconds)
        yield Attack(f"2/3 of the frames, crf 23, {seconds} s", keep_every=Fraction(3, 2), seconds=seconds)


def attacked(marked: Sequence[Image], rate: Fraction, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Delivers an excerpt, then every attack on the delivered pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        encode(path, marked, rate, Attack("delivery", crf=18))
        delivered = [frame.image for frame in read_frames(path)]
        for attack in chosen:
            part = delivered[: round(attack.seconds * rate)]
            encode(path, part, rate, attack)
            found = searched(path)
            yield Outcome(attack.name, found.is_present, found.identity == IDENTITY, round(found.z, 2), found.p)


def searched(path: Path) -> Detection:
    """Key frames first, then all frames, as `verify` does."""
    found = [detected(read_key_frames(path, 48))]
    if found[0].identity is None:
        found.append(detected(frame.image for frame in islice(read_frames(path), 250)))
    return max(found, key=lambda each: (each.identity is not None, -each.p))


def detected(pictures: Iterator[Image]) -> Detection:
    """The detection in these pictures; at least one is needed."""
    evidence = gather(pictures)
    assert evidence is not None
    return detect(evidence)


def searched_unmarked(clips: Sequence[Path]) -> Iterator[Detection]:
    """Seconds of unmarked clips in turn, each as it is and changed in four ways: to the detector these are other pictures."""
    changes: list[Callable[[Image], Image]] = [
        lambda image: image, lambda image: np.ascontiguousarray(image[:, ::-1]), lambda image: scaled(image, 0.8), cropped,
        lambda image: cv2.convertScaleAbs(np.ascontiguousarray(image[::-1]), alpha=0.8),
    ]  # fmt: skip
    for clip in clips:
        info = probe(clip)
        step = max(1, round(info.frame_rate))
        held: list[Image] = []
        for frame in read_frames(clip):
            if frame.index % step < 4:
                held.append(frame.image)
            if len(held) == 4:
                for change in changes:
                    yield detected(change(picture) for picture in held)
                held = []


def report_unmarked(found: Sequence[Detection]) -> None:
    """How many were called marked, and how the stated chances compare with what came out."""
    chances = np.array([each.p for each in found])
    print(f"{len(found)} unmarked excerpts: {sum(each.is_present for each in found)} called marked; highest z "
          f"{max(each.z for each in found):.2f}; smallest stated chance {chances.min():.1e}; stated below 0.1: "
          f"{np.mean(chances < 0.1):.3f}, below 0.01: {np.mean(chances < 0.01):.4f} of them", flush=True)  # fmt: skip


def encode(path: Path, pictures: Sequence[Image], rate: Fraction, attack: Attack) -> None:
    """Writes the changed pictures with the attack's codec."""
    chosen = [pictures[int(i * attack.keep_every)] for i in range(int(len(pictures) / attack.keep_every))]
    with av.open(str(path), "w") as output:
        options = {"crf": str(attack.crf), "preset": "veryfast", "x265-params": "log-level=none"}
        stream = output.add_stream(attack.codec, rate=rate / attack.keep_every, options=options)
        height, width = attack.change(chosen[0]).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        for picture in chosen:
            even = np.ascontiguousarray(attack.change(picture)[: stream.height, : stream.width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        output.mux(stream.encode(None))


def excerpt_starts(clip: Path, most: int, seconds: int) -> list[int]:
    """First frames of excerpts spread over a clip, not overlapping; one if the clip is short."""
    info = probe(clip)
    length = round(seconds * info.frame_rate)
    num_excerpts = max(1, min(most, info.num_frames_estimate // length))
    return [number * (info.num_frames_estimate // num_excerpts) for number in range(num_excerpts)]


def excerpt(clip: Path, start: int, seconds: int) -> list[Image]:
    """The pictures of some seconds of a clip, fewer at its end."""
    stop = start + round(seconds * probe(clip).frame_rate)
    return [frame.image for frame in read_frames(clip, start, stop)]


def scaled(image: Image, factor: float) -> Image:
    """The picture at another size."""
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cropped(image: Image) -> Image:
    """A tenth of width and height cut off, unevenly."""
    height, width = image.shape[:2]
    top, left = int(0.053 * height), int(0.037 * width)
    return image[top : top + int(0.9 * height), left : left + int(0.9 * width)]


def psnr_db(a: Image, b: Image) -> float:
    """Peak signal to noise of two pictures."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def report(outcomes: Sequence[Outcome], psnrs: Sequence[float]) -> None:
    """Prints the table of attacks."""
    print("\n| after | excerpts | found | identity read | median z | lowest z |\n|---|---|---|---|---|---|")
    for name in dict.fromkeys(outcome.attack for outcome in outcomes):
        of_attack = [outcome for outcome in outcomes if outcome.attack == name]
        zs = [outcome.z for outcome in of_attack]
        present, read = sum(outcome.is_present for outcome in of_attack), sum(outcome.is_read for outcome in of_attack)
        print(f"| {name} | {len(of_attack)} | {present} | {read} | {np.median(zs):.1f} | {min(zs):.1f} |")
    print(f"\nPicture change: {min(psnrs):.1f} to {max(psnrs):.1f} dB PSNR, mean {np.mean(psnrs):.1f}")


def report_cost() -> None:
    """Prints what marking one frame costs."""
    print("\n| size | marking one frame (1 thread) |\n|---|---|")
    draw = np.random.default_rng(0)
    for width, height in COST_SIZES:
        plate = cv2.resize(draw.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), (width, height))
        marker = Marker(IDENTITY, width, height)
        seconds = []
        for _ in range(7):
            begin = time.process_time()
            marker.mark(plate)
            seconds.append(time.process_time() - begin)
        print(f"| {width}x{height} | {1000 * np.median(seconds):.1f} ms |")


if __name__ == "__main__":
    main()
