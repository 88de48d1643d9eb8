"""Excerpts of the bundled actors' clips, with what is known beside them: the benchmark's footage, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

from understudy.media import VideoWriter, read_frames, write_png


def cut_footage(sample: Path, folder: Path, train: range, test: range) -> Path:
    """The frames `train` and `test` (step 1) of both actors' clips, in the form of the sample."""
    folder.mkdir(parents=True)
    for name in ("abel", "bea"):
        for kind, frames in (("train", train), ("test", test)):
            cut_clip(sample / f"{name}_{kind}.mp4", folder / f"{name}_{kind}.mp4", frames)
        for record in read_frames(sample / f"{name}_test_mask", test.start, test.stop):
            write_png(folder / f"{name}_test_mask" / f"{record.index:04d}.png", record.image)
        known = json.loads((sample / f"{name}_test.json").read_text(encoding="utf-8"))
        known["frames"] = [known["frames"][k] for k in test]
        (folder / f"{name}_test.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


def cut_clip(clip: Path, out: Path, frames: range) -> None:
    """A range of a clip's frames as a clip of its own."""
    with VideoWriter(out, plate=clip, codec="h264", crf=12) as writer:
        for record in read_frames(clip, frames.start, frames.stop):
            writer.write(record.image, record)


def write_pictures(clip: Path, folder: Path, num_frames: int) -> Path:
    """The first frames of a clip as a folder of pictures."""
    folder.mkdir()
    for record in read_frames(clip, stop=num_frames):
        write_png(folder / f"{record.index:04d}.png", record.image)
    return folder
