"""The content gate while a conversion writes: it sees the plate, what is round faces and the swap; nothing refused stays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from clips import make_clip
from painted_plates import a_face
from understudy.media import FrameRecord, probe, read_frames
from understudy.media.segments import SegmentedWriter
from understudy.settings import ConvertRecipe
from understudy.stages import _marked_output
from understudy.stages._marked_output import MarkedOutput
from understudy.stages._swapping import SwappedFrame
from understudy.trust import gate
from understudy.trust.credentials import Lineage
from understudy.trust.gate import ContentGate
from understudy.types import Image, Refused

NUM_FRAMES = 6
SCORING = """
import json, sys
scores = iter(json.loads(sys.argv[1]))
print(json.dumps({"gate": "test", "sha256": "00"}), flush=True)
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "score": next(scores, 0.0), "label": "synthetic"}), flush=True)
"""

Scores = Callable[..., None]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    """Sets what the gate answers to its pictures, in order; 0 to all that follow."""

    def answer(*given: float) -> None:
        monkeypatch.setattr(gate, "default_command", lambda: [sys.executable, "-c", SCORING, str([*given])])

    return answer


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "plate.mp4", times=range(NUM_FRAMES))


def swapped(record: FrameRecord) -> SwappedFrame:
    matte = np.zeros(record.image.shape[:2], np.float32)
    return SwappedFrame(record, record.image, matte, "swapped", "", ())


def output(plate: Path, out: Path) -> MarkedOutput:
    return MarkedOutput(out, probe(plate), ConvertRecipe(passes="none"), Lineage({}, ()), print, is_resumed=True)


def render(plate: Path, out: Path, stop: int = NUM_FRAMES, end: BaseException | None = None) -> None:
    """Writes the frames before `stop`; `end` is what happens then."""
    with output(plate, out) as opened:
        for record in read_frames(plate, opened.num_done, stop):
            opened.write(swapped(record), 0)
        if end is not None:
            raise end


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_plate_what_is_round_its_faces_and_the_swap_are_looked_at(
    plate: Path, tmp_path: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Hashable]] = []

    class Recorder(ContentGate):
        def look(self, image: Image, where: str, shot: Hashable = 0, times: int = 1) -> None:
            seen.extend([(where, shot)] * times)
            super().look(image, where, shot, times)

    scores()
    monkeypatch.setattr(_marked_output, "ContentGate", Recorder)
    with output(plate, tmp_path / "swap") as opened:
        for record in read_frames(plate):
            opened.write(replace(swapped(record), faces=(a_face(record.index),)), 7)
    assert seen == [("plate.mp4, frame 0", ("plate", 7))] * 2 + [("the swap of plate.mp4, frame 0", ("swap", 7))]


def test_nothing_is_kept_of_a_film_whose_last_picture_is_refused(plate: Path, tmp_path: Path, scores: Scores) -> None:
    scores(0.0, 0.9)
    with pytest.raises(Refused, match="the swap of plate"):
        render(plate, tmp_path / "swap")
    assert not files_in(tmp_path / "swap")


def test_nothing_is_kept_of_a_film_that_is_refused_while_it_is_written(
    plate: Path, tmp_path: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores()
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=2))
    with pytest.raises(Refused, match="in the midst"):
        render(plate, tmp_path / "swap", stop=5, end=Refused("in the midst"))
    assert not files_in(tmp_path / "swap")


def test_a_weak_hit_before_an_interruption_counts_with_those_after_it(
    plate: Path, tmp_path: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=2))
    scores(0.5)
    with pytest.raises(KeyboardInterrupt):
        render(plate, tmp_path / "swap", stop=5, end=KeyboardInterrupt())
    assert files_in(tmp_path / "swap")
    with output(plate, tmp_path / "swap") as opened:
        assert opened.num_done == 0  # all of its shot is looked at again
        for record in read_frames(plate):
            opened.write(swapped(record), 0)
