"""Footage in, footage out: exact frames, exact times, the same colours, the same sound; and bad files named in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from understudy.media import FrameRecord, VideoWriter, encode_jpeg, probe, read_frames, read_image, write_jpeg, write_png
from understudy.types import BadInput, Image

pytestmark = pytest.mark.slow  # real networks, codecs and clips

WIDTH, HEIGHT = 96, 64


# ---- making small clips ---------------------------------------------------------------------------------------------------


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A soft coloured picture with `number` written in eight black or white squares along its top."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    image = np.stack([60 + 150 * across, 200 - 120 * down, 80 + 100 * across * down], axis=2)
    for bit in range(8):
        image[:8, bit * 8 : bit * 8 + 8] = 255 * (number >> bit & 1)
    return np.asarray(np.rint(image), dtype=np.uint8)


def number_in(image: Image) -> int:
    """The number that `picture` wrote."""
    return sum(1 << bit for bit in range(8) if image[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 127)


def make_clip(
    path: Path,
    *,
    times: Sequence[int] = range(10),
    time_base: Fraction = Fraction(1, 25),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    tags: tuple[int, int, int, int] = (2, 2, 2, 0),
    turn: tuple[float, bool] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    num_sounds: int = 0,
    sound_seconds: float = 0.4,
    muxing: Mapping[str, str] | None = None,
) -> Path:
    """A clip of `picture`s at `times`; turn: (degrees counterclockwise, mirrored); tags: primaries, transfer, matrix, range."""
    with av.open(str(path), "w", container_options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=round(1 / time_base), options={"crf": "10"} | dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = (*size, pixel_format)
        stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        sounds = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(num_sounds)]
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for tone, sound in enumerate(sounds):
            for start in range(0, int(sound_seconds * 48000), 1024):
                wave = np.sin((start + np.arange(1024)) * (0.05 + 0.02 * tone)).astype(np.float32)[None] * 0.3
                frame_of_sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                frame_of_sound.sample_rate, frame_of_sound.pts = 48000, start
                container.mux(sound.encode(frame_of_sound))
            container.mux(sound.encode(None))
    return path


def copy_through_writer(plate: Path, output: Path, **options: object) -> list[FrameRecord]:
    """Writes every frame of the plate as it is; returns the frames."""
    frames = []
    with VideoWriter(output, plate=plate, **options) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame)
            frames.append(frame)
    return frames


def seconds_of(frames: Sequence[FrameRecord]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def packets_of(path: Path, kind: str) -> list[list[tuple[Fraction, bytes]]]:
    """(time, bytes) of every packet of each stream of a kind."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        if not streams:
            return []
        found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in streams}
        for packet in container.demux(streams):
            if packet.size:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return list(found.values())


# ---- reading --------------------------------------------------------------------------------------------------------------


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
    np.testing.assert_array_equal(frame.image, seen)


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


def test_an_animated_gif_is_footage(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "moving.gif", codec="gif", pixel_format="rgb8", time_base=Fraction(1, 10), options={"crf": "10"}
    )
    frames = list(read_frames(clip))
    assert [number_in(frame.image) for frame in frames] == list(range(10))
    assert seconds_of(frames) == [Fraction(time, 10) for time in range(10)]


# ---- folders and pictures -------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_is_read_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "Bilder 顔 (1)'s"
    for number in (1, 2, 9, 10, 11, 100):
        write_png(folder / f"frame{number}.png", picture(number))
    (folder / "notes.txt").write_text("not a picture")
    frames = list(read_frames(folder))
    assert [number_in(frame.image) for frame in frames] == [1, 2, 9, 10, 11, 100]
    assert seconds_of(frames) == [Fraction(time, 25) for time in range(6)]
    assert seconds_of(list(read_frames(folder, folder_frame_rate=Fraction(10)))) == [Fraction(time, 10) for time in range(6)]
    assert [frame.index for frame in read_frames(folder, 2, 4)] == [2, 3]
    assert probe(folder).is_folder
    assert probe(folder).num_frames_estimate == 6


def test_pictures_of_mixed_sizes_are_refused_by_name(tmp_path: Path) -> None:
    write_png(tmp_path / "a1.png", picture(1))
    write_png(tmp_path / "a2.png", picture(2, 80, 64))
    with pytest.raises(BadInput, match=r"a2\.png: is 80x64.*96x64"):
        list(read_frames(tmp_path))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no pictures"):
        probe(tmp_path)


def test_a_png_comes_back_as_it_went(tmp_path: Path) -> None:
    write_png(tmp_path / "é 顔.png", picture(5))
    np.testing.assert_array_equal(read_image(tmp_path / "é 顔.png"), picture(5))
    assert [path.name for path in tmp_path.iterdir()] == ["é 顔.png"]


def test_a_jpeg_keeps_full_chroma(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    write_jpeg(tmp_path / "stripes.jpg", stripes, quality=98)
    assert np.abs(read_image(tmp_path / "stripes.jpg").astype(int) - stripes).mean() < 6
    assert (tmp_path / "stripes.jpg").read_bytes() == encode_jpeg(stripes, quality=98)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_every_kind_of_picture_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"picture{suffix}"), picture(3)[:, :, ::-1])
    (tmp_path / f"picture{suffix}").rename(tmp_path / "picture.dat")
    assert np.abs(read_image(tmp_path / "picture.dat").astype(int) - picture(3)).mean() < 8


def test_a_picture_that_claims_gigabytes_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    write_png(tmp_path / "bomb.png", picture(1))
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (40000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(BadInput, match=r"bomb\.png: 40000x40000 is larger"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_a_broken_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.png"):
        read_image(tmp_path / "broken.png")


# ---- files that are no footage --------------------------------------------------------------------------------------------


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Bad files, and a word of the remedy or reason that their message must hold."""
    good = make_clip(folder / "good.mp4", num_sounds=1)
    with av.open(str(folder / "sound.mp4"), "w") as container, av.open(str(good)) as source:
        sound = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                container.mux(packet)
    yield folder / "sound.mp4", "no video stream"
    yield folder / "missing.mp4", "no such file"
    contents = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"once upon a time\n" * 50, "text file"),
        "picture.mp4": (encode_jpeg(picture(1)), "JPEG picture"),
        "noindex.mp4": (good.read_bytes()[:-3000], "index"),
        "noise.mkv": (np.random.default_rng(0).bytes(5000), "no video"),
    }
    for name, (data, word) in contents.items():
        (folder / name).write_bytes(data)
        yield folder / name, word


def test_each_bad_file_gives_one_line_that_names_it(tmp_path: Path) -> None:
    for path, word in bad_files(tmp_path):
        for attempt in (probe, lambda path: next(read_frames(path))):
            with pytest.raises(BadInput, match=word) as caught:
                attempt(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("playlist", ["ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n"])
def test_a_playlist_in_a_videos_clothes_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    make_clip(tmp_path / "secret.mp4")
    (tmp_path / "clip.mp4").write_text(playlist)
    with pytest.raises(BadInput, match="text file"):
        probe(tmp_path / "clip.mp4")


def test_a_path_is_never_read_as_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4").rename("concat:a.mp4")
    assert len(list(read_frames(Path("concat:a.mp4")))) == 10
    with pytest.raises(BadInput, match="no such file"):
        probe(Path("http://localhost/clip.mp4"))


def test_a_video_that_claims_huge_frames_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "huge.gif", codec="gif", pixel_format="rgb8")
    data = bytearray(clip.read_bytes())
    data[6:10] = (60000).to_bytes(2, "little") * 2
    clip.write_bytes(data)
    with pytest.raises(BadInput, match=r"huge\.gif"):
        list(read_frames(clip))


# ---- writing --------------------------------------------------------------------------------------------------------------

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


def test_the_output_of_a_turned_plate_is_upright_without_a_matrix(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "phone.mp4", turn=(90, False), sample_aspect_ratio=Fraction(4, 3))
    frames = copy_through_writer(plate, tmp_path / "swap.mp4")
    info = probe(tmp_path / "swap.mp4")
    assert (info.width, info.height, info.rotation_degrees) == (HEIGHT, WIDTH, 0)
    assert info.sample_aspect_ratio == Fraction(3, 4)
    assert np.abs(next(read_frames(tmp_path / "swap.mp4")).image.astype(int) - frames[0].image).mean() < 1.5


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_label_reaches_the_container(tmp_path: Path, suffix: str) -> None:
    label = {"comment": "AI-manipulated", "description": "by Understudy", "AIGC": '{"Label":"1"}'}
    copy_through_writer(make_clip(tmp_path / "plate.mp4"), tmp_path / f"swap{suffix}", metadata=label)
    with av.open(str(tmp_path / f"swap{suffix}")) as container:
        written = {name.lower(): value for name, value in container.metadata.items()}
    assert {name.lower(): value for name, value in label.items()}.items() <= written.items()


def test_a_plate_of_more_bits_or_alpha_is_reported(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mov", codec="prores_ks", pixel_format="yuva444p10le", options={"profile": "4444"})
    told: list[str] = []
    copy_through_writer(plate, tmp_path / "swap.mp4", on_loss=told.append)
    assert any("bits a channel, written with 8" in message for message in told)
    assert any("alpha" in message for message in told)


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
