"""Compares a whole extraction with its bare networks on the same frames.

`python tools/measure_extraction_speed.py CLIP [--detector NAME] [--rounds N]`. Bare: detector, mesh and identity network called
in a loop on frames that are decoded beforehand, the identity as often as extraction does. Whole: `extract`, with decoding,
content gate, tracks, crops, report. In turn in every round, in one process; what is compared is processor time (user and
system, all threads, child processes included), because a busy machine distorts the time on the clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from understudy.media import read_frames
from understudy.media.footage import FrameRecord
from understudy.perception.survey import EMBED_EVERY, Networks, load_networks
from understudy.stages.extract import extract


def main() -> None:
    """Time both in turn and print the seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, metavar="CLIP")
    parser.add_argument("--detector", default="mediapipe")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    frames = list(read_frames(asked.clip))
    networks = load_networks(asked.detector)
    bare(frames[:3], networks)
    ratios, clock_ratios = [], []
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            one, one_clock = seconds(lambda: bare(frames, networks))
            other, other_clock = seconds(
                lambda out=Path(folder) / "faces": extract([asked.clip], "somebody", out, detector=asked.detector)
            )
        ratios.append(other / one)
        clock_ratios.append(other_clock / one_clock)
        print(
            f"round {number + 1}: bare {one:.2f} s, extraction {other:.2f} s of processor time ({other / one:.2f} times); "
            f"on the clock {one_clock:.2f} s and {other_clock:.2f} s ({other_clock / one_clock:.2f} times)",
            flush=True,
        )
    middle = sorted(ratios)[len(ratios) // 2]
    print(f"{len(frames)} frames, {asked.detector}: extraction costs {middle:.2f} times the bare networks (median)")


def bare(frames: list[FrameRecord], networks: Networks) -> None:
    """The networks alone, one detection a frame."""
    for record in frames:
        for detection in networks.detect(record.eight_bit)[:1]:
            mesh = networks.landmarks(record.eight_bit, detection)
            if record.index % EMBED_EVERY == 0:
                networks.embed(record.eight_bit, mesh.points)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Processor time of this process and its finished children, and time on the clock, that `work` takes."""
    before, clock = os.times(), time.monotonic()
    work()
    after = os.times()
    used = sum(getattr(after, name) - getattr(before, name) for name in ("user", "system", "children_user", "children_system"))
    return used, time.monotonic() - clock


if __name__ == "__main__":
    main()
