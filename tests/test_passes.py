"""Passes: what a finishing artist gets of a swap, and how Nuke is told where the faces lie."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from clips import make_clip
from understudy.imaging.blend import Layer
from understudy.imaging.depth import codes_from_unit, unit_from_codes
from understudy.media import FrameRecord, probe, read_frames
from understudy.media.codecs import CODECS
from understudy.media.segments import SegmentedWriter
from understudy.settings import Codec, ConvertRecipe
from understudy.stages import _marked_output
from understudy.stages._marked_output import MarkedOutput, output_path
from understudy.stages._passes import FOREGROUND, nuke_script, pass_layers, taken_apart
from understudy.stages._swapping import SwappedFrame
from understudy.store.hashing import sha256_of_footage
from understudy.trust.credentials import Lineage, read_credentials
from understudy.trust.notice import END_CARD_SECONDS, with_corner_notice
from understudy.types import AnyImage, BadInput

NUM_FRAMES = 6


def swapped(record: FrameRecord) -> SwappedFrame:
    """A frame whose even numbers have a new face, half hidden by something."""
    height, width = record.image.shape[:2]
    nothing = np.zeros((height, width), np.float32)
    if record.index % 2:
        return SwappedFrame(record, record.image, nothing, "no_face", "", ())
    inside = (slice(20, 52), slice(30, 62))
    matte = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    hold_out = (matte < 0.5).astype(np.float32)
    plate = unit_from_codes(record.image)[inside]
    blended = plate + matte[..., None] * (np.float32([0.7, 0.4, 0.3]) - plate)
    layer = Layer(inside, blended, matte, hold_out)
    image = record.image.copy()
    layer.over(image)
    nothing[inside] = matte
    return SwappedFrame(record, image, nothing, "swapped", "", (), [layer])


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    options = {"profile": "high10"}
    return make_clip(tmp_path / "plate.mp4", times=range(NUM_FRAMES), pixel_format="yuv420p10le", options=options)


def test_the_foreground_over_the_plate_through_the_matte_is_the_swap(plate: Path) -> None:
    frame = swapped(next(read_frames(plate)))
    foreground, matte, hold_out = taken_apart(frame)
    below, share = unit_from_codes(frame.record.image), matte[..., None]
    laid_over = unit_from_codes(foreground) * share + below * (1 - share)
    assert np.abs(codes_from_unit(laid_over, like=frame.image).astype(int) - frame.image).max() <= 40  # of 65535
    assert (foreground[matte == 0] == 0).all()
    assert hold_out.max() == 1


def test_passes_are_there_for_every_frame_and_signed(plate: Path, tmp_path: Path) -> None:
    info, recipe = probe(plate), ConvertRecipe(codec="ffv1", passes="png")
    with MarkedOutput(tmp_path / "swap", info, recipe, Lineage({}, ()), print) as output:
        for record in read_frames(plate):
            output.write(swapped(record), 0)
    for name in ("foreground", "matte", "holdout"):
        frames = list(read_frames(tmp_path / "swap" / "passes" / name))
        assert [frame.image.dtype for frame in frames] == [np.uint16] * NUM_FRAMES
        assert [bool(frame.image.any()) for frame in frames] == [index % 2 == 0 for index in range(NUM_FRAMES)]
        assert read_credentials(tmp_path / "swap" / "passes" / name).state in ("valid", "untrusted")
    assert sorted(path.name for path in (tmp_path / "swap").iterdir()) == ["passes", "swap.mkv", "swap.mkv.c2pa"]


def test_the_foreground_which_shows_the_new_face_alone_is_watermarked_too(plate: Path, tmp_path: Path) -> None:
    recipe = ConvertRecipe(codec="ffv1", passes="png")
    with MarkedOutput(tmp_path / "swap", probe(plate), recipe, Lineage({}, ()), print) as output:
        for record in read_frames(plate):
            output.write(swapped(record), 0)
    unmarked = pass_layers(swapped(next(read_frames(plate))))[FOREGROUND].image
    written = next(read_frames(tmp_path / "swap" / "passes" / "foreground")).image
    change = np.abs(written.astype(int) - unmarked)
    assert change.max() > 0
    assert change.mean() < 0.01 * unmarked.max()


@pytest.mark.parametrize("codec", ["h265", "prores_4444", "tiff", "exr"])
def test_every_kind_of_output_is_marked_and_signed(plate: Path, tmp_path: Path, codec: str) -> None:
    recipe = replace(ConvertRecipe(passes="none"), codec=codec)
    with MarkedOutput(tmp_path / "swap", probe(plate), recipe, Lineage({}, ()), print) as output:
        for record in read_frames(plate):
            output.write(swapped(record), 0)
    made = output_path(tmp_path / "swap", recipe.codec)
    assert output.path == made
    assert made.exists()
    assert read_credentials(made).state in ("valid", "untrusted")
    assert output.figures["watermark_id"]


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_made_for_watching_shows_the_notice_in_every_frame_and_nothing_else_does(
    codec: Codec, plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed: list[str] = []

    def with_notice(frame: AnyImage, language: str, white: float) -> AnyImage:
        noticed.append(language)
        return with_corner_notice(frame, language, white)

    monkeypatch.setattr(_marked_output, "with_corner_notice", with_notice)
    recipe = ConvertRecipe(codec=codec, passes="none", notice_language="de")
    with MarkedOutput(tmp_path / "swap", probe(plate), recipe, Lineage({}, ()), print) as output:
        for record in read_frames(plate):
            output.write(swapped(record), 0)
    assert noticed == (["de"] * NUM_FRAMES if codec in ("h264", "h265", "vp9", "av1") else [])


def test_an_output_goes_on_after_a_failure_with_its_notes(plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=2))
    info, recipe = probe(plate), ConvertRecipe(codec="ffv1", passes="none")

    def write_some_and_stop() -> None:
        with MarkedOutput(tmp_path / "swap", info, recipe, Lineage({}, ()), print, is_resumed=True) as output:
            for record in read_frames(plate, stop=5):
                output.write(swapped(record), 0, {"frame": record.index})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_some_and_stop()
    with MarkedOutput(tmp_path / "swap", info, recipe, Lineage({}, ()), print, is_resumed=True) as output:
        assert output.num_done == 4
        for record in read_frames(plate, output.num_done):
            output.write(swapped(record), 0, {"frame": record.index})
        assert [note["frame"] for note in output.notes()] == list(range(NUM_FRAMES))
    assert len(list(read_frames(tmp_path / "swap" / "swap.mkv"))) == NUM_FRAMES
    assert output.figures["gate"]["num_samples"] > 0  # type: ignore[index]


def test_a_plate_that_is_changed_while_it_is_converted_is_refused_and_nothing_of_it_is_kept(
    plate: Path, tmp_path: Path
) -> None:
    info, lineage = probe(plate), Lineage({"plate": sha256_of_footage(plate)}, ())

    def write_and_change() -> None:
        with MarkedOutput(tmp_path / "swap", info, ConvertRecipe(passes="none"), lineage, print) as output:
            for record in read_frames(plate):
                output.write(swapped(record), 0)
            with plate.open("ab") as file:
                file.write(b"another end")

    with pytest.raises(BadInput, match=r"plate\.mp4: was changed while it was converted"):
        write_and_change()
    assert not [path for path in (tmp_path / "swap").rglob("*") if path.is_file()]


def test_no_picture_has_its_final_name_before_its_credentials(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []
    monkeypatch.setattr(_marked_output, "_put", lambda _, place: put.append(place.name))
    monkeypatch.setattr(Path, "iterdir", lambda folder: sorted(folder.glob("*")))
    with MarkedOutput(tmp_path / "swap", probe(plate), ConvertRecipe(codec="ffv1"), Lineage({}, ()), print) as output:
        for record in read_frames(plate):
            output.write(swapped(record), 0)
    names = [name for name in put if name.endswith(".c2pa")]
    assert len(names) == 4
    assert all(put.index(name) < put.index(name.removesuffix(".c2pa")) for name in names)


def test_nuke_gets_the_corners_of_the_face_counted_from_below(plate: Path) -> None:
    face_from_frame = [[0.01, 0.0, -0.3], [0.0, 0.01, -0.2]]  # the unit square lies at (30, 20) to (130, 120)
    lines = [
        {"frame": 0, "time_seconds": 0.0, "faces": []},
        {"frame": 1, "time_seconds": 0.04, "faces": [{"track": 3, "face_from_frame": face_from_frame}]},
        {"frame": 2, "time_seconds": 0.08, "faces": []},
    ]
    script = nuke_script(lines, replace(probe(plate), width=200, height=150))
    assert "name Face_track_3" in script
    assert "disable {{curve K x0 1 x1 0 x2 1}}" in script
    corners = [tuple(map(float, pair)) for pair in re.findall(r"to\d {\{curve L x1 (\S+)} {curve L x1 (\S+)}}", script)]
    # `full` is twice the unit square about its centre (80, 70): (-20, -30) to (180, 170), and y is counted from 150 up
    assert corners == [(-20, -20), (180, -20), (180, 180), (-20, 180)]


def carded(plate: Path, out: Path, passes: str) -> list[FrameRecord]:
    """The clip with an end card, gone on with where an earlier run ended."""
    recipe = ConvertRecipe(notice="end-card", passes=passes)
    with MarkedOutput(out, probe(plate), recipe, Lineage({}, ()), print, is_resumed=True) as output:
        for record in read_frames(plate, output.num_done):
            output.write(swapped(record), 0)
        list(output.notes())
    return list(read_frames(output.path))


@pytest.mark.parametrize("passes", ["none", "video", "png"])
def test_an_end_card_follows_the_last_frame_whatever_passes_there_are(plate: Path, tmp_path: Path, passes: str) -> None:
    frames = carded(plate, tmp_path / "swap", passes)
    assert len(frames) == NUM_FRAMES + round(END_CARD_SECONDS * probe(plate).frame_rate)
    times = [frame.time_seconds for frame in frames]
    assert times == sorted(times)


def test_an_end_card_lasts_as_long_after_a_plate_whose_last_frames_lie_far_apart(tmp_path: Path) -> None:
    times = [*range(0, 150, 10), 400]
    plate = make_clip(tmp_path / "plate.mp4", times=times, time_base=Fraction(1, 250))
    frames = carded(plate, tmp_path / "swap", "none")
    assert [frame.time_seconds for frame in frames[: len(times)]] == pytest.approx([time / 250 for time in times])
    assert frames[-1].time_seconds - frames[len(times)].time_seconds == pytest.approx(END_CARD_SECONDS, abs=0.15)


def test_an_end_card_waits_until_a_last_frame_that_is_held_has_been_seen(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4", times=range(NUM_FRAMES), last_duration=30)
    frames = carded(plate, tmp_path / "swap", "none")
    card = frames[NUM_FRAMES:]
    assert card[0].time_seconds == pytest.approx((NUM_FRAMES - 1 + 30) / 25)
    assert card[1].time_seconds - card[0].time_seconds == pytest.approx(1 / probe(plate).frame_rate, abs=1e-3)


def test_a_run_that_dies_after_the_last_frame_still_ends_with_its_whole_card(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plate's six frames fill three segments, and the card some more, before the first run dies."""

    def dies(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=2))
    whole = carded(plate, tmp_path / "whole", "none")
    with monkeypatch.context() as patch:
        patch.setattr(_marked_output, "finish_output", dies)
        with pytest.raises(InterruptedError):
            carded(plate, tmp_path / "cut", "none")
    again = carded(plate, tmp_path / "cut", "none")
    assert [frame.time_seconds for frame in again] == [frame.time_seconds for frame in whole]
    assert len(again) == NUM_FRAMES + round(END_CARD_SECONDS * probe(plate).frame_rate)
