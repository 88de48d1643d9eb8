"""Footage out: the plate's times, colours, tags and sound; and an output is whole or is not there."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clips import HEIGHT, WIDTH, copy_through_writer, make_clip, number_in, packets_of, picture, seconds_of
from understudy.media import VideoWriter, probe, read_frames, write_png
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, codecs and clips


UNTAGGED, HD, HDR, FULL_RANGE = (2, 2, 2, 0), (1, 1, 1, 1), (9, 16, 9, 1), (2, 2, 5, 2)


@pytest.mark.parametrize("tags", [UNTAGGED, HD, HDR, FULL_RANGE, (6, 6, 6, 1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_frame_that_is_not_changed_keeps_its_colours_and_tags(
    tmp_path: Path, tags: tuple[int, int, int, int], suffix: str
) -> None:
    plate = make_clip(tmp_path / "plate.mp4", tags=tags)
    frames = copy_through_writer(plate, tmp_path / f"swap{suffix}", crf=12)
    copies = list(read_frames(tmp_path / f"swap{suffix}"))
    difference = np.stack([copy.image.astype(int) - frame.image for copy, frame in zip(copies, frames, strict=True)])
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.5
    assert probe(tmp_path / f"swap{suffix}").colour == probe(plate).colour


def test_ffv1_and_png_are_exact(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4", size=(97, 65), pixel_format="yuv444p")
    for output, codec in ((tmp_path / "swap.mkv", "ffv1"), (tmp_path / "frames", "png")):
        frames = copy_through_writer(plate, output, codec=codec)
        for copy, frame in zip(read_frames(output), frames, strict=True):
            np.testing.assert_array_equal(copy.image, frame.image)
    assert [path.name for path in sorted((tmp_path / "frames").iterdir())][:2] == ["000000.png", "000001.png"]


@pytest.mark.parametrize("size", [(97, 64), (96, 65), (97, 65)])
def test_odd_sizes_stay(tmp_path: Path, size: tuple[int, int]) -> None:
    plate = make_clip(tmp_path / "plate.mp4", size=size, pixel_format="yuv444p")
    copy_through_writer(plate, tmp_path / "swap.mp4")
    info = probe(tmp_path / "swap.mp4")
    assert (info.width, info.height) == size


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("times", "time_base"),
    [
        (range(0, 20020, 1001), Fraction(1, 30000)),
        ([0, 1001, 3003, 3103, 20020, 21021, 30030], Fraction(1, 30000)),
        (range(1001, 20020, 1001), Fraction(1, 30000)),
        (range(10), Fraction(1, 25)),
    ],
    ids=["29.97", "variable", "late start", "25"],
)
def test_every_frame_keeps_its_time(tmp_path: Path, suffix: str, times: Sequence[int], time_base: Fraction) -> None:
    muxing = {"movie_timescale": "90000"}  # or the plate's own late start is rounded to milliseconds
    plate = make_clip(
        tmp_path / "plate.mp4", times=times, time_base=time_base, options={"bf": "3"}, num_sounds=1, muxing=muxing
    )
    told: list[str] = []
    frames = copy_through_writer(plate, tmp_path / f"swap{suffix}", on_loss=told.append)
    copies = list(read_frames(tmp_path / f"swap{suffix}"))
    assert [number_in(copy.image) for copy in copies] == list(range(len(times)))
    assert seconds_of(frames) == [time * time_base for time in times]
    if suffix == ".mkv":
        assert max(abs(a - b) for a, b in zip(seconds_of(copies), seconds_of(frames), strict=True)) <= Fraction(1, 2000)
        assert any("milliseconds" in message for message in told)
    else:
        assert seconds_of(copies) == seconds_of(frames)
        assert copies[0].time_base == frames[0].time_base
        assert told == []


def test_a_streams_arbitrary_clock_is_set_to_zero_for_picture_and_sound_alike(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.ts", num_sounds=1, muxing={"output_ts_offset": "10"})
    frames = copy_through_writer(plate, tmp_path / "swap.mp4")
    offset = packets_of(plate, "video")[0][0][0] - packets_of(plate, "audio")[0][0][0]
    copied = packets_of(tmp_path / "swap.mp4", "video")[0][0][0] - packets_of(tmp_path / "swap.mp4", "audio")[0][0][0]
    assert packets_of(plate, "video")[0][0][0] > 9
    assert frames[0].time_seconds < 0.2
    assert float(copied) == pytest.approx(float(offset), abs=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_sound_track_is_copied_byte_for_byte_to_its_end(tmp_path: Path, suffix: str) -> None:
    plate = make_clip(tmp_path / "plate.mp4", num_sounds=2, sound_seconds=1.5)
    copy_through_writer(plate, tmp_path / f"swap{suffix}")
    sounds, copies = packets_of(plate, "audio"), packets_of(tmp_path / f"swap{suffix}", "audio")
    assert len(copies) == 2
    for sound, copy in zip(sounds, copies, strict=True):
        assert [data for _, data in copy] == [data for _, data in sound]
        assert max(abs(float(a - b)) for (a, _), (b, _) in zip(sound, copy, strict=True)) <= 0.001


def test_subtitles_are_kept_by_matroska_and_reported_lost_by_mp4(tmp_path: Path) -> None:
    (tmp_path / "text.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nGrüß Gott\n")
    clip = make_clip(tmp_path / "clip.mkv", num_sounds=1)
    with (
        av.open(str(tmp_path / "plate.mkv"), "w") as plate,
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "text.srt")) as text,
    ):
        copies = {stream: plate.add_stream_from_template(stream, opaque=True) for stream in (*source.streams, *text.streams)}
        for packet in [*source.demux(), *text.demux()]:
            if packet.size:
                packet.stream = copies[packet.stream]
                plate.mux(packet)
    told: list[str] = []
    copy_through_writer(tmp_path / "plate.mkv", tmp_path / "swap.mkv", on_loss=told.append)
    assert packets_of(tmp_path / "swap.mkv", "subtitle")[0][0][1] == "Grüß Gott".encode()
    assert told == []
    copy_through_writer(tmp_path / "plate.mkv", tmp_path / "swap.mp4", on_loss=told.append)
    assert packets_of(tmp_path / "swap.mp4", "subtitle") == []
    assert any("subtitle" in message and ".mkv" in message for message in told)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("turn", [(90, False), (-90, False), (180, False), (90, True), (0, True)], ids=str)
def test_the_output_of_a_turned_plate_lies_and_is_turned_like_it(tmp_path: Path, suffix: str, turn: tuple[float, bool]) -> None:
    plate = make_clip(tmp_path / "phone.mp4", turn=turn, sample_aspect_ratio=Fraction(4, 3))
    frames = copy_through_writer(plate, tmp_path / f"swap{suffix}")
    before, after = probe(plate), probe(tmp_path / f"swap{suffix}")
    assert (after.width, after.height) == (before.width, before.height)
    assert after.sample_aspect_ratio == before.sample_aspect_ratio
    assert after.turn == before.turn
    with av.open(str(tmp_path / f"swap{suffix}")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (WIDTH, HEIGHT)
    assert np.abs(next(read_frames(tmp_path / f"swap{suffix}")).image.astype(int) - frames[0].image).mean() < 1.5


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_label_reaches_the_container(tmp_path: Path, suffix: str) -> None:
    label = {"comment": "AI-manipulated", "description": "by Understudy", "AIGC": '{"Label":"1"}'}
    copy_through_writer(make_clip(tmp_path / "plate.mp4"), tmp_path / f"swap{suffix}", metadata=label)
    with av.open(str(tmp_path / f"swap{suffix}")) as container:
        written = {name.lower(): value for name, value in container.metadata.items()}
    assert {name.lower(): value for name, value in label.items()}.items() <= written.items()


# ---- an output is whole or is not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("swap.mp4", "h264"), ("swap.mkv", "ffv1"), ("frames", "png")])
def test_an_output_gets_its_name_only_when_it_is_whole(tmp_path: Path, name: str, codec: str) -> None:
    plate = make_clip(tmp_path / "plate.mp4", num_sounds=1)
    with VideoWriter(tmp_path / name, plate=plate, codec=codec) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame)
            assert not (tmp_path / name).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["plate.mp4", name])


@pytest.mark.parametrize(("name", "codec"), [("swap.mp4", "h264"), ("swap.mkv", "ffv1"), ("frames", "png")])
@pytest.mark.parametrize("num_written", [0, 3])
def test_a_failed_run_leaves_nothing_behind(tmp_path: Path, name: str, codec: str, num_written: int) -> None:
    plate = make_clip(tmp_path / "plate.mp4", num_sounds=1)

    def write_some_and_stop() -> None:
        with VideoWriter(tmp_path / name, plate=plate, codec=codec) as writer:
            for frame in read_frames(plate, 0, num_written):
                writer.write(frame.image, frame)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_some_and_stop()
    assert [path.name for path in tmp_path.iterdir()] == ["plate.mp4"]


def test_a_failed_run_keeps_the_output_of_the_last_one(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4")
    copy_through_writer(plate, tmp_path / "swap.mp4")
    before = (tmp_path / "swap.mp4").read_bytes()
    with (
        pytest.raises(ValueError, match="expected an image of shape"),
        VideoWriter(tmp_path / "swap.mp4", plate=plate) as writer,
    ):
        writer.write(picture(0, 32, 32), next(read_frames(plate)))
    assert (tmp_path / "swap.mp4").read_bytes() == before


def test_an_output_without_frames_is_refused(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4", num_sounds=1)
    with pytest.raises(BadInput, match="no frames"), VideoWriter(tmp_path / "swap.mp4", plate=plate):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["plate.mp4"]


def test_outputs_that_cannot_be_are_refused_in_words(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4")
    write_png(tmp_path / "full" / "old.png", picture(1))
    with pytest.raises(BadInput, match="the plate itself"):
        VideoWriter(plate, plate=plate)
    with pytest.raises(BadInput, match=r"ffv1 is written to \.mkv"):
        VideoWriter(tmp_path / "swap.mp4", plate=plate, codec="ffv1")
    with pytest.raises(BadInput, match="h264 is written to"):
        VideoWriter(tmp_path / "swap.wmv", plate=plate)
    with pytest.raises(BadInput, match="exists already as a folder"):
        VideoWriter(tmp_path / "full", plate=plate, codec="png")
    with pytest.raises(BadInput, match="cannot be written"), VideoWriter(plate / "swap.mp4", plate=plate):
        pass


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("num_frames", [1, 2, 10])
def test_the_last_frame_is_shown_as_long_as_in_the_plate(tmp_path: Path, suffix: str, num_frames: int) -> None:
    for last_duration in (1, 50):
        plate = make_clip(tmp_path / f"plate{last_duration}{suffix}", times=range(num_frames), last_duration=last_duration)
        output = tmp_path / f"output{last_duration}{suffix}"
        copy_through_writer(plate, output)
        assert probe(output).duration_seconds == pytest.approx((num_frames - 1 + last_duration) / 25, abs=0.001)


def test_a_single_picture_is_shown_for_one_frame(tmp_path: Path) -> None:
    write_png(tmp_path / "plate" / "0001.png", picture(1))
    copy_through_writer(tmp_path / "plate", tmp_path / "output.mp4")
    made = probe(tmp_path / "output.mp4")
    assert (made.frame_rate, made.duration_seconds) == (25, 0.04)
