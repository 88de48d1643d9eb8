"""Compares a whole extraction with its bare networks on the same frames.

`python tools/measure_extraction_speed.py CLIP [--detector NAME] [--rounds N]`. Bare: detector, mesh and identity network called
in a loop, a frame at a time, on frames that are decoded beforehand, the identity as often as extraction does. Whole: `extract`,
with decoding, content gate, tracks, crops, report. What is compared is processor time (user and system, all threads, child
processes included), because a busy machine distorts the time on the clock. It distorts processor time as well, by a quarter
and more from one second to the next, so the two take turns: whenever extraction reports that it has looked through some
frames, the bare networks catch up with it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import entry
import torch

from understudy.media import read_frames
from understudy.media.footage import FrameRecord
from understudy.perception.survey import EMBED_EVERY, Networks, load_networks
from understudy.stages.extract import extract
from understudy.types import Event


def main() -> None:
    """Measure some rounds and print the seconds and their ratios."""
    parser = entry.parser(__doc__)
    parser.add_argument("clip", type=Path, metavar="CLIP")
    parser.add_argument("--detector", default="mediapipe")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    frames = list(read_frames(asked.clip))
    networks = load_networks(asked.detector)
    bare(frames[:3], networks)
    ratios = []
    for number in range(asked.rounds):
        one, other = one_round(asked.clip, asked.detector, frames, networks)
        ratios.append(other / one)
        print(f"round {number + 1}: bare {one:.2f} s, whole {other:.2f} s of processor time: {other / one:.2f}", flush=True)
    middle = sorted(ratios)[len(ratios) // 2]
    print(f"{len(frames)} frames, {asked.detector}: extraction costs {middle:.2f} times the bare networks (median)")


def one_round(clip: Path, detector: str, frames: list[FrameRecord], networks: Networks) -> tuple[float, float]:
    """Processor seconds of the bare networks and of a whole extraction that takes turns with them."""
    num_done, bare_seconds = 0, 0.0

    def catch_up(event: Event) -> None:
        nonlocal num_done, bare_seconds
        done = int(event.done)
        if event.unit == "frames" and done > num_done:
            started = time.thread_time()
            bare(frames[num_done:done], networks)
            bare_seconds += time.thread_time() - started
            num_done = done

    before = used_seconds()
    with tempfile.TemporaryDirectory() as folder:
        extract([clip], "somebody", Path(folder) / "faces", detector=detector, report=catch_up)
    assert num_done == len(frames)
    return bare_seconds, used_seconds() - before - bare_seconds


def bare(frames: list[FrameRecord], networks: Networks) -> None:
    """The networks alone, one detection a frame."""
    for record in frames:
        for detection in networks.detect(record.eight_bit)[:1]:
            mesh = networks.landmarks(record.eight_bit, detection)
            if record.index % EMBED_EVERY == 0:
                networks.embed(record.eight_bit, mesh.points)


def used_seconds() -> float:
    """Processor time of this process and its finished children, in seconds."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    entry.run(main)
