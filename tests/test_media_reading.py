"""Footage in: exact frames, exact times, the colours that the tags say; what is lost is told."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from clips import HEIGHT, WIDTH, make_clip, make_damaged_clip, number_in, seconds_of
from understudy.media import probe, read_frames, reader
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, codecs and clips


def test_frames_come_in_order_with_their_exact_times(tmp_path: Path) -> None:
    times = [0, 1001, 3003, 3004, 20020, 21021, 30030]
    clip = make_clip(tmp_path / "variable.mp4", times=times, time_base=Fraction(1, 30000), options={"bf": "3"})
    frames = list(read_frames(clip))
    assert [number_in(frame.image) for frame in frames] == list(range(7))
    assert [frame.index for frame in frames] == list(range(7))
    assert seconds_of(frames) == [Fraction(time, 30000) for time in times]
    assert frames[4].time_seconds == pytest.approx(20020 / 30000, abs=1e-12)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_reading_can_start_at_any_frame(tmp_path: Path, suffix: str) -> None:
    codec, pictures_ahead = ("mpeg4", "0") if suffix == ".avi" else ("libx264", "3")
    clip = make_clip(
        tmp_path / f"long{suffix}", times=range(60), codec=codec, options={"g": "25", "bf": pictures_ahead, "b": "2M"}
    )
    whole = list(read_frames(clip))
    for start in (0, 1, 24, 25, 26, 40, 59):
        part = list(read_frames(clip, start, start + 2))
        assert [number_in(frame.image) for frame in part] == list(range(start, min(start + 2, 60)))
        assert [(frame.index, frame.pts) for frame in part] == [(frame.index, frame.pts) for frame in whole[start : start + 2]]
    assert list(read_frames(clip, 60)) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_a_part_of_a_film_is_the_same_when_it_is_sought(tmp_path: Path, suffix: str) -> None:
    codec, pictures_ahead = ("mpeg4", "0") if suffix == ".avi" else ("libx264", "3")
    options = {"g": "25", "bf": pictures_ahead, "b": "2M", "x264-params": "open-gop=1"}
    clip = make_clip(tmp_path / f"long{suffix}", times=range(60), codec=codec, options=options)
    for start in (1, 24, 25, 26, 40, 59, 60):
        part, sought = (list(read_frames(clip, start, start + 2, is_sought=is_sought)) for is_sought in (False, True))
        assert [(each.index, each.pts, each.time_seconds) for each in sought] == [
            (each.index, each.pts, each.time_seconds) for each in part
        ]
        assert all(np.array_equal(one.image, other.image) for one, other in zip(part, sought, strict=True))


def test_a_frame_that_is_lost_moves_none_to_another_number_wherever_the_seeking_starts(tmp_path: Path) -> None:
    clip = make_damaged_clip(tmp_path / "damaged.mov", lost=6, num_frames=12)
    for start in (0, 3, 8):
        found = [(each.index, number_in(each.image)) for each in read_frames(clip, start, 10, is_sought=True)]
        assert found == [(number, number) for number in range(start, 10) if number != 6]


def test_seeking_decodes_little_of_what_lies_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "long.mp4", times=range(100), options={"g": "10"})
    decoded: list[int | None] = []
    whole = reader._decoded
    monkeypatch.setattr(reader, "_decoded", lambda *about: (decoded.append(each.pts) or each for each in whole(*about)))
    assert [frame.index for frame in read_frames(clip, 95, 97, is_sought=True)] == [95, 96]
    assert len(decoded) <= 10


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_turned_clip_is_delivered_upright(tmp_path: Path, degrees: int, is_mirrored: bool) -> None:
    clip = make_clip(tmp_path / "phone.mp4", turn=(degrees, is_mirrored), sample_aspect_ratio=Fraction(4, 3))
    stored = next(read_frames(make_clip(tmp_path / "stored.mp4"))).image
    seen = np.rot90(stored, degrees // 90)
    if is_mirrored:  # av_display_matrix_flip: turned first, then mirrored
        seen = seen[:, ::-1]
    info = probe(clip)
    frame = next(read_frames(clip))
    assert (info.width, info.height) == seen.shape[1::-1]
    assert info.sample_aspect_ratio == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))
    assert info.rotation_degrees == -degrees % 360 or is_mirrored
    # Two encodes of one picture can be a few levels apart: the colour conversion before them depends on how memory is aligned.
    assert np.abs(frame.image.astype(int) - seen).max() <= 8


LUMA_WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv422p10le", "yuv444p12le", "gray"])
@pytest.mark.parametrize(("matrix", "colour_range"), [(1, 1), (1, 2), (6, 1), (6, 2), (9, 1)])
def test_colours_follow_the_tags_of_the_stream(tmp_path: Path, pixel_format: str, matrix: int, colour_range: int) -> None:
    rgb = np.array([200.0, 90.0, 40.0]) if pixel_format != "gray" else np.array([120.0, 120.0, 120.0])
    clip = tmp_path / "flat.mkv"
    write_flat_colour(clip, rgb, pixel_format, matrix, colour_range)
    image = next(read_frames(clip)).eight_bit
    assert probe(clip).colour.range == colour_range
    assert np.abs(image.reshape(-1, 3) - rgb).max() <= 1.5


def write_flat_colour(path: Path, rgb: NDArray[np.float64], pixel_format: str, matrix: int, colour_range: int) -> None:
    """One lossless frame whose codes are computed here, from H.273."""
    red, blue = LUMA_WEIGHTS[matrix]
    luma = float(np.dot([red, 1 - red - blue, blue], rgb / 255))
    chroma = ((rgb[2] / 255 - luma) / (2 - 2 * blue), (rgb[0] / 255 - luma) / (2 - 2 * red))
    bits = av.VideoFormat(pixel_format).components[0].bits
    unit, top = 2 ** (bits - 8), 2**bits - 1
    codes = [luma * top, *(128 * unit + value * top for value in chroma)]
    if colour_range == 1:
        codes = [(16 + 219 * luma) * unit, *((128 + 224 * value) * unit for value in chroma)]
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    frame.pts, frame.colorspace, frame.color_range = 0, matrix, colour_range
    for plane, code in zip(frame.planes, codes, strict=False):
        plane.update(np.full(plane.buffer_size // (1 + (bits > 8)), round(code), np.uint16 if bits > 8 else np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_frames_after_a_change_of_size_are_scaled_and_the_loss_is_told(tmp_path: Path) -> None:
    first = make_clip(tmp_path / "first.ts", times=range(5))
    second = make_clip(tmp_path / "second.ts", times=range(5, 10), size=(128, 80))
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    told: list[str] = []
    frames = list(read_frames(tmp_path / "both.ts", on_loss=told.append))
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert len(frames) == 10
    assert all(later > earlier for earlier, later in zip(seconds_of(frames), seconds_of(frames)[1:], strict=False))
    assert any("5 frames were scaled" in message and "both.ts" in message for message in told)


def test_a_clip_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "whole.mkv", times=range(100), codec="ffv1", options={"g": "1"})
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    told: list[str] = []
    frames = list(read_frames(tmp_path / "cut.mkv", on_loss=told.append))
    assert 20 < len(frames) < 80
    assert [number_in(frame.image) for frame in frames] == list(range(len(frames)))
    assert any("cut short" in message and "of 4.00 seconds" in message for message in told)


def test_a_whole_clip_is_told_no_loss_even_where_its_sound_is_longer(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "long.mp4", num_sounds=1, sound_seconds=2.0)
    told: list[str] = []
    assert len(list(read_frames(clip, on_loss=told.append))) == 10
    assert len(list(read_frames(clip, 2, 4, on_loss=told.append))) == 2
    assert told == []


def test_damaged_packets_are_counted_and_left_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.avi", times=range(20), codec="ffv1", options={"slicecrc": "1", "g": "1"})
    data = bytearray(clip.read_bytes())
    middle = data.index(b"00dc", len(data) // 2) + 8
    data[middle : middle + 500] = b"\xff" * 500
    clip.write_bytes(data)
    told: list[str] = []
    num_frames = len(list(read_frames(clip, on_loss=told.append)))
    assert num_frames in (19, 20)
    assert any("did not decode" in message or "damaged" in message for message in told)


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".avi"), ("libx264", ".mp4")])
def test_frames_after_a_damaged_one_keep_their_numbers_wherever_reading_starts(tmp_path: Path, codec: str, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip{suffix}", times=range(40), codec=codec, options={"g": "10"})
    with av.open(str(clip)) as container:
        damaged = [packet for packet in container.demux(video=0) if packet.size][5]
    start = damaged.pos + (8 if suffix == ".avi" else 0)
    data = bytearray(clip.read_bytes())
    data[start : start + damaged.size] = b"\xff" * damaged.size
    clip.write_bytes(data)
    whole = [(frame.index, frame.pts) for frame in read_frames(clip)]
    assert 30 < len(whole) < 40
    assert [(frame.index, frame.pts) for frame in read_frames(clip, 25)] == whole[25:]


@pytest.mark.parametrize("start", [0, 15, 20])
def test_what_is_lost_is_counted_over_the_whole_file_wherever_reading_starts(tmp_path: Path, start: int) -> None:
    large, small = make_clip(tmp_path / "large.ts"), make_clip(tmp_path / "small.ts", size=(64, 48))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(large.read_bytes() + small.read_bytes())
    told: list[str] = []
    assert len(list(read_frames(joined, start, on_loss=told.append))) == 20 - start
    assert any("10 frames were scaled to the size of the first" in message for message in told)


def test_an_animated_gif_is_footage(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "moving.gif", codec="gif", pixel_format="rgb8", time_base=Fraction(1, 10), options={"crf": "10"}
    )
    frames = list(read_frames(clip))
    assert [number_in(frame.image) for frame in frames] == list(range(10))
    assert seconds_of(frames) == [Fraction(time, 10) for time in range(10)]


# ---- the shared hard clips, where they are there --------------------------------------------------------------------------


def hard(name: str) -> Path:
    """A file of the shared hard footage, or a skip."""
    repository = Path(__file__).resolve().parents[1]
    footage = Path(os.environ.get("UNDERSTUDY_FOOTAGE", repository.parent / "shared" / "footage"))
    path = footage / "hard" / name
    if not path.exists():
        pytest.skip(f"{path} is not here; point UNDERSTUDY_FOOTAGE at the footage folder")
    return path


@pytest.mark.parametrize(
    ("name", "num_frames"),
    [
        ("audio_only.mp4", 0),
        ("empty_zero_bytes.mp4", 0),
        ("jpeg_renamed.mp4", 0),
        ("text_renamed.mp4", 0),
        ("truncated_no_moov.mp4", 0),
        ("truncated_55pct.mkv", 70),
    ],
)
def test_each_broken_file_is_refused_or_read_as_far_as_it_goes(name: str, num_frames: int) -> None:
    path = hard(f"broken/{name}")
    told: list[str] = []
    if num_frames == 0:
        with pytest.raises(BadInput, match=name):
            list(read_frames(path))
    else:
        assert len(list(read_frames(path, on_loss=told.append))) == num_frames
        assert len(told) == 1


@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("made/interlaced_tff.mp4", 144, (720, 480)),
        ("made/rotated_phone_displaymatrix_90.mp4", 90, (720, 1280)),
        ("made/prores_4444_alpha.mov", 15, (320, 180)),
        ("made/resolution_changes_midstream.ts", 90, (640, 360)),
        ("natural/container_theora_vorbis.ogg", 30, (640, 480)),
        ("natural/container_xvid.avi", 31, (640, 480)),
        ("natural/container_vp8_opus.webm", 31, (640, 480)),
    ],
)
def test_hard_clips_give_all_their_frames(name: str, num_frames: int, size: tuple[int, int]) -> None:
    path = hard(name)
    info = probe(path)
    assert (info.width, info.height) == size
    assert sum(1 for _ in read_frames(path)) == num_frames
