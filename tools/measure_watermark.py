"""Measures the watermark: how often it is found after what happens to clips, and how often where it is not.

    python tools/measure_watermark.py CLIP... [--excerpts 300] [--seconds 10 2] [--lines 720] [--only "crf 23, 10"] [--out FILE]
    python tools/measure_watermark.py CLIP... --unmarked 24

Each excerpt has an identity of its own, begins anywhere in its clip and lies differently under the tile; the clips take turns.
It is marked, delivered (x264 crf 18), attacked (each attack is followed by its own encode) and searched by what `verify`
searches with. Clips shorter than the excerpts are played to and fro. --out keeps each outcome as one line of JSON, goes on
where it was stopped, and reports all that the file holds. With --unmarked every excerpt of ten seconds is searched unmarked
instead, mirrored, turned and cut in so many ways. Prints the tables of docs/trust.md.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import cv2
import entry
import numpy as np

from understudy.media import probe, read_frames
from understudy.trust.verify import find_mark
from understudy.trust.watermark import ID_BITS, TILES_PER_SHORT_SIDE, Marker
from understudy.trust.watermark_detector import NUM_PLACES_WHOLE, P_PRESENT, Detection, Evidence, detect, gather
from understudy.types import Image

CONFIDENCE = 0.95
SHIFT = 1 / 8
"""Of a tile, to each side: a quarter is one and a half periods of the coarsest wave."""


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
    """What one attack on one excerpt left; psnr_db: how much marking changed the excerpt."""

    attack: str
    clip: str
    number: int
    lines: int
    is_present: bool
    is_read: bool
    z: float
    p: float
    psnr_db: float


def main() -> None:
    """Runs every attack on every excerpt and prints the tables."""
    parser = entry.parser(__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--excerpts", type=int, default=20, help="excerpts of all clips together")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 2], help="lengths of what is attacked")
    parser.add_argument("--lines", type=int, help="bring the pictures to this size of their short side first")
    parser.add_argument("--only", nargs="+", default=[""], help="only the attacks whose name holds one of these")
    parser.add_argument("--unmarked", type=int, default=0, help="search unmarked excerpts instead, each in so many ways")
    parser.add_argument("--out", type=Path, help="keep the outcomes here, and go on where it was stopped")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.unmarked:
        found: list[Detection] = []
        for view in searched_unmarked(options.clips, options.unmarked):
            found.append(view)
            if len(found) % 100 == 0:
                report_unmarked(found)
        report_unmarked(found)
        return
    chosen = [attack for attack in attacks(options.seconds) if any(part in attack.name for part in options.only)]
    kept = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in kept]
    for number in range(options.excerpts):
        clip = options.clips[number % len(options.clips)]
        lines = options.lines or even_size(clip)
        done = {each.attack for each in outcomes if (each.clip, each.number, each.lines) == (clip.name, number, lines)}
        if left := [attack for attack in chosen if attack.name not in done]:
            made = list(attacked(clip, number, lines, left))
            outcomes += made
            if options.out:
                with options.out.open("a") as file:
                    file.write("".join(json.dumps(asdict(outcome)) + "\n" for outcome in made))
            print(f"{number + 1}/{options.excerpts} {clip.name}: lowest z {min(each.z for each in made)}", flush=True)
    report(outcomes)


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


# ---- marked -----------------------------------------------------------------------------------------------------------------


def even_size(clip: Path) -> int:
    """The short side of a clip's pictures, as far as it is even."""
    info = probe(clip)
    return min(info.width, info.height) // 2 * 2


def attacked(clip: Path, number: int, lines: int, chosen: Sequence[Attack]) -> Iterator[Outcome]:
    """Marks and delivers an excerpt, then does every attack to the delivered pictures. Number and size tell where it is."""
    draw, rate = np.random.default_rng([number, lines]), probe(clip).frame_rate
    identity = int(draw.integers(1 << ID_BITS))
    plates = excerpt(clip, round(max(attack.seconds for attack in chosen) * rate), lines, draw)
    psnrs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode(path, marked(plates, identity, psnrs), rate, Attack("delivery", crf=18))
        delivered = [frame.eight_bit for frame in read_frames(path)]
        for attack in chosen:
            part = delivered[: round(attack.seconds * rate)]
            kept = (part[int(i * attack.keep_every)] for i in range(int(len(part) / attack.keep_every)))
            encode(path, map(attack.change, kept), rate / attack.keep_every, attack)
            found = find_mark(path)
            assert found is not None
            yield Outcome(attack.name, clip.name, number, lines, found.is_present, found.identity == identity,
                          round(found.z, 2), found.p, round(float(np.mean(psnrs)), 2))  # fmt: skip


def excerpt(clip: Path, length: int, lines: int, draw: np.random.Generator) -> Iterator[Image]:
    """So many pictures of a clip from a place that is drawn, shifted by a drawn part of a tile, brought to a size."""
    most = max(0, probe(clip).num_frames_estimate - length)
    start = int(draw.integers(most + 1))
    pictures = [frame.eight_bit for frame in read_frames(clip, start, start + length)]
    first = 0 if most else int(draw.integers(2 * len(pictures)))
    down, right = draw.uniform(-SHIFT, SHIFT, 2)
    for index in to_and_fro(len(pictures), first, length):
        picture = even(pictures[index])
        if (factor := lines / min(picture.shape[:2])) != 1:
            way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            picture = even(np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way), dtype=np.uint8))
        yield shifted(picture, down, right)


def to_and_fro(num_pictures: int, first: int, length: int) -> Iterator[int]:
    """Numbers of the pictures of a clip that is played forwards and backwards without end."""
    period = max(1, 2 * (num_pictures - 1))
    for index in range(first, first + length):
        yield min(index % period, period - index % period) if num_pictures > 1 else 0


def shifted(picture: Image, down: float, right: float) -> Image:
    """The picture moved by these parts of a tile, whole pixels; what is missing at its edges is mirrored."""
    rows, columns = (round(part * min(picture.shape[:2]) / TILES_PER_SHORT_SIDE) for part in (down, right))
    height, width = picture.shape[:2]
    sides = (max(rows, 0), max(-rows, 0), max(columns, 0), max(-columns, 0))
    wider = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_REFLECT_101)
    top, left = max(-rows, 0), max(-columns, 0)
    return np.ascontiguousarray(wider[top : top + height, left : left + width], dtype=np.uint8)


def marked(plates: Iterable[Image], identity: int, psnrs: list[float]) -> Iterator[Image]:
    """The pictures with the mark; notes the change of every 25th."""
    plates = iter(plates)
    first = next(plates)
    marker = Marker(identity, first.shape[1], first.shape[0])
    for number, plate in enumerate(chain([first], plates)):
        picture = np.asarray(marker.mark(plate), dtype=np.uint8)
        if number % 25 == 0:
            psnrs.append(float(10 * np.log10(255**2 / np.mean((plate.astype(float) - picture) ** 2))))
        yield picture


def encode(path: Path, pictures: Iterable[Image], rate: Fraction, attack: Attack) -> None:
    """Writes the pictures with the attack's codec, its presets' quick one: it keeps less than the slow ones."""
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w") as output:
        options = {"crf": str(attack.crf), "preset": "veryfast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
        stream = output.add_stream(attack.codec, rate=rate, options=options)
        stream.thread_count = 1
        stream.height, stream.width = even(first).shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in chain([first], pictures):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(even(picture), format="rgb24")))
        output.mux(stream.encode(None))


def even(image: Image) -> Image:
    """Without the last row and column where their number is odd."""
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])


def scaled(image: Image, factor: float) -> Image:
    """The picture at another size."""
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cropped(image: Image) -> Image:
    """A tenth of width and height cut off, unevenly."""
    height, width = image.shape[:2]
    top, left = int(0.053 * height), int(0.037 * width)
    return image[top : top + int(0.9 * height), left : left + int(0.9 * width)]


def report(outcomes: Sequence[Outcome]) -> None:
    """Prints the table of attacks, and of sizes where there are several."""
    table("after", outcomes, lambda each: each.attack)
    if len({each.lines for each in outcomes}) > 1:
        ordered = sorted(outcomes, key=lambda each: each.lines)
        table("after, short side", ordered, lambda each: f"{each.attack}, {each.lines}")
    by_excerpt = {(each.clip, each.number): each.psnr_db for each in outcomes}
    changes = list(by_excerpt.values())
    print(f"\nPicture change: {min(changes):.1f} to {max(changes):.1f} dB PSNR, mean {np.mean(changes):.1f}. A peak alone "
          f"suffices from z {enough():.1f} on; with the bits of the code, lower ones do.")  # fmt: skip


def table(title: str, outcomes: Sequence[Outcome], key: Callable[[Outcome], Hashable]) -> None:
    """Prints one line for each group: counts, the share that they prove, and how far the weakest lies from the limit."""
    print(f"\n| {title} | excerpts | found | proven | identity read | median z | lowest z | weakest chance |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(map(key, outcomes)):
        group = [each for each in outcomes if key(each) == name]
        found, zs = sum(each.is_present for each in group), [each.z for each in group]
        print(f"| {name} | {len(group)} | {found} | {100 * proven(found, len(group)):.1f} % | "
              f"{sum(each.is_read for each in group)} | {np.median(zs):.1f} | {min(zs):.1f} | "
              f"{max(each.p for each in group):.0e} |")  # fmt: skip


def proven(found: int, total: int) -> float:
    """The share that so many of so many show at 95 % confidence: the one-sided bound of Clopper and Pearson (1934)."""
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        tail = sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(found, total + 1))
        low, high = (share, high) if tail < 1 - CONFIDENCE else (low, share)
    return low


def enough() -> float:
    """The height from which a whole picture's peak passes without any of its bits."""
    z = 5.0
    while (p := NUM_PLACES_WHOLE * 0.5 * math.erfc(z / math.sqrt(2))) * (1 - math.log(p)) >= P_PRESENT:
        z += 0.01
    return z


# ---- unmarked ---------------------------------------------------------------------------------------------------------------


def searched_unmarked(clips: Sequence[Path], num_ways: int) -> Iterator[Detection]:
    """Every ten seconds of every clip, each in so many ways.

    Of the 250 pictures that `verify` takes, every fifth is averaged: their neighbours say the same. A mirrored, turned or cut
    picture is to the detector another picture; since that holds for the average too, they are flattened only once.
    """
    num_excerpts = num_pictures = 0
    for clip in clips:
        length = round(10 * probe(clip).frame_rate)
        pictures = (frame.eight_bit for frame in read_frames(clip))
        while part := list(islice(pictures, length)):
            evidence = gather(part[:250:5])
            assert evidence is not None
            num_excerpts, num_pictures = num_excerpts + 1, num_pictures + evidence.num_pictures
            yield from (detect(seen) for seen in other_views(evidence, num_ways, num_excerpts))
        print(f"{num_excerpts} excerpts, {num_pictures} pictures: {clip.name}", flush=True)


def other_views(evidence: Evidence, num_ways: int, seed: int) -> Iterator[Evidence]:
    """Mirrored, turned by right angles, and from the ninth on cut by up to a quarter and enlarged again."""
    draw = np.random.default_rng(seed)
    lines = min(evidence.residual.shape)
    for way in range(num_ways):
        residual = np.rot90(evidence.residual, way % 4)
        residual = residual[:, ::-1] if way % 8 >= 4 else residual
        if way >= 8:
            height, width = (round(side * draw.uniform(0.75, 1.0)) for side in residual.shape)
            top, left = (int(draw.integers(a - b + 1)) for a, b in zip(residual.shape, (height, width), strict=True))
            residual = residual[top : top + height, left : left + width]
            factor = lines / min(height, width)
            residual = cv2.resize(np.ascontiguousarray(residual), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        yield Evidence(np.ascontiguousarray(residual, dtype=np.float32), evidence.num_pictures)


def report_unmarked(found: Sequence[Detection]) -> None:
    """How many were called marked, and how the stated chances compare with what came out."""
    chances = np.array([each.p for each in found])
    print(f"{len(found)} unmarked views: {sum(each.is_present for each in found)} called marked; highest z "
          f"{max(each.z for each in found):.2f}; smallest stated chance {chances.min():.1e}; stated below 0.1: "
          f"{np.mean(chances < 0.1):.3f}, below 0.01: {np.mean(chances < 0.01):.4f}, below 0.001: "
          f"{np.mean(chances < 0.001):.4f} of them", flush=True)  # fmt: skip


if __name__ == "__main__":
    entry.run(main)
