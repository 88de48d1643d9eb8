"""Every codec: the plate's depth without an 8-bit step, its transparency, fields, timecode and HDR metadata."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clips import copy_through_writer, make_clip, seconds_of
from test_media_depth import HEIGHT, write_gradient
from understudy.imaging.transfer import PQ, light_from_codes
from understudy.media import VideoWriter, probe, read_frames
from understudy.media.codecs import CODECS, STILLS, available_codecs
from understudy.media.encode import exr_bytes, scene_light
from understudy.media.images import encode_png
from understudy.settings import Codec
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real codecs

DEEP: list[Codec] = ["h264", "h265", "prores_422_hq", "prores_4444", "ffv1", "av1", "png", "tiff"]
SHALLOW_CODES = 220
"""Grey steps that 8 bits in limited range can tell apart."""


def output_of(folder: Path, codec: Codec) -> Path:
    return folder / f"copy{CODECS[codec].suffixes[0]}"


@pytest.mark.parametrize("codec", DEEP)
def test_a_gradient_of_10_bits_goes_from_file_to_file_without_an_8_bit_step(tmp_path: Path, codec: Codec) -> None:
    light = write_gradient(tmp_path / "plate.mkv", "yuv420p10le")
    copy_through_writer(tmp_path / "plate.mkv", output_of(tmp_path, codec), codec=codec, crf=4)
    image = next(read_frames(output_of(tmp_path, codec))).image
    assert image.dtype == np.uint16
    row = image[HEIGHT // 2, :, 1] / 65535
    assert len(np.unique(row)) > 2 * SHALLOW_CODES
    assert np.abs(row - light).mean() < 1.5 / 1023


@pytest.mark.parametrize("codec", ["ffv1", "png", "tiff"])
def test_lossless_codecs_give_every_16_bit_code_back(tmp_path: Path, codec: Codec) -> None:
    write_gradient(tmp_path / "plate.mkv", "yuv444p12le")
    frames = copy_through_writer(tmp_path / "plate.mkv", output_of(tmp_path, codec), codec=codec)
    np.testing.assert_array_equal(next(read_frames(output_of(tmp_path, codec))).image, frames[0].image)


def test_an_exr_holds_the_plates_light_to_a_half_floats_precision(tmp_path: Path) -> None:
    write_gradient(tmp_path / "plate.mkv", "yuv444p10le")
    frames = copy_through_writer(tmp_path / "plate.mkv", tmp_path / "exr", codec="exr")
    context = av.CodecContext.create("exr", "r")
    (picture,) = context.decode(av.Packet((tmp_path / "exr" / "000000.exr").read_bytes()))
    assert picture.format.name == "gbrpf16le"
    rows = [np.frombuffer(plane, np.float16).reshape(plane.height, -1)[:, : plane.width] for plane in picture.planes]
    light = light_from_codes(frames[0].image, probe(tmp_path / "plate.mkv").colour.transfer)
    np.testing.assert_array_equal(np.dstack([rows[2], rows[0], rows[1]]), light.astype(np.float16))


@pytest.mark.parametrize("codec", available_codecs())
def test_an_8_bit_plate_comes_back_within_the_codecs_loss(tmp_path: Path, codec: Codec) -> None:
    plate = make_clip(tmp_path / "plate.mp4", tags=(1, 1, 1, 1))
    frames = copy_through_writer(plate, output_of(tmp_path, codec), codec=codec)
    if codec == "exr":
        assert len(list((tmp_path / "copy").iterdir())) == 10
        return
    copies = list(read_frames(output_of(tmp_path, codec)))
    assert np.mean([np.abs(a.eight_bit.astype(int) - b.image).mean() for a, b in zip(copies, frames, strict=True)]) < 1.5
    if codec not in STILLS:
        assert seconds_of(copies) == seconds_of(frames)
        if not CODECS[codec].is_rgb:
            assert probe(output_of(tmp_path, codec)).colour == probe(plate).colour


@pytest.mark.parametrize("codec", ["prores_4444", "ffv1"])
def test_transparency_goes_with_the_picture(tmp_path: Path, codec: Codec) -> None:
    plate = make_clip(tmp_path / "plate.mp4", pixel_format="yuv420p10le", options={"profile": "high10"})
    alpha = np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16)
    with VideoWriter(output_of(tmp_path, codec), plate=plate, codec=codec, has_alpha=True) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame, alpha)
    copy = next(read_frames(output_of(tmp_path, codec)))
    assert copy.alpha is not None
    assert np.abs(copy.alpha.astype(int) - alpha).max() <= (64 if codec == "prores_4444" else 0)


def test_transparency_of_eight_bits_is_kept_to_the_code(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mp4")
    alpha = np.linspace(0, 255, 96 * 64).reshape(64, 96).astype(np.uint8)
    with VideoWriter(tmp_path / "copy.mkv", plate=plate, codec="ffv1", has_alpha=True) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame, alpha)
    for frame, copy in zip(read_frames(plate), read_frames(tmp_path / "copy.mkv"), strict=True):
        np.testing.assert_array_equal(copy.image, frame.image)
        np.testing.assert_array_equal(copy.alpha, alpha)


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("prores_422_hq", ".mov"), ("ffv1", ".mkv")])
@pytest.mark.parametrize("first", ["tff", "bff"])
def test_woven_fields_stay_woven_and_say_which_comes_first(tmp_path: Path, codec: Codec, suffix: str, first: str) -> None:
    plate = interlaced(tmp_path / "plate.mov", first)
    assert probe(plate).is_interlaced
    copy_through_writer(plate, tmp_path / f"copy{suffix}", codec=codec)
    copy = probe(tmp_path / f"copy{suffix}")
    assert copy.is_interlaced
    assert copy.is_bottom_field_first == probe(plate).is_bottom_field_first == (first == "bff")


def interlaced(path: Path, first: str) -> Path:
    """Ten frames of ProRes woven from two fields."""
    progressive = make_clip(path.with_name("progressive.mp4"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("prores_ks", rate=25, options={"flags": "+ildct"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv422p10le"
        stream.codec_context.field_order = 2 if first == "tff" else 3
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(width=96, height=64, format="yuv422p10le", time_base=Fraction(1, 25)),
            graph.add("setfield", f"mode={first}"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for frame in read_frames(progressive):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(format="yuv422p10le")
            picture.pts, picture.time_base = frame.index, Fraction(1, 25)
            graph.push(picture)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("prores_422_hq", ".mov"), ("ffv1", ".mkv")])
def test_the_timecode_is_the_plates(tmp_path: Path, codec: Codec, suffix: str) -> None:
    bare = make_clip(tmp_path / "bare.mov")
    with av.open(str(bare)) as source, av.open(str(tmp_path / "plate.mov"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.metadata["timecode"] = "10:02:03:04"
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert probe(tmp_path / "plate.mov").timecode == "10:02:03:04"
    told: list[str] = []
    copy_through_writer(tmp_path / "plate.mov", tmp_path / f"copy{suffix}", codec=codec, on_loss=told.append)
    assert probe(tmp_path / f"copy{suffix}").timecode == "10:02:03:04"
    assert not any("data track" in message for message in told)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_hdr_metadata_is_the_plates(tmp_path: Path, codec: Codec) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    plate = make_clip(
        tmp_path / "plate.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        tags=(9, 16, 9, 1),
        options={"x265-params": f"log-level=error:master-display={display}:max-cll=1000,400"},
    )
    copy_through_writer(plate, tmp_path / "copy.mp4", codec=codec)
    before, after = probe(plate), probe(tmp_path / "copy.mp4")
    assert before.hdr is not None
    assert after.hdr is not None
    assert after.colour == before.colour
    assert after.bits_per_channel == 10
    assert (after.hdr.max_content_nits, after.hdr.max_average_nits) == (1000, 400)
    assert after.hdr.chromaticities == pytest.approx(before.hdr.chromaticities, abs=1e-4)
    assert after.hdr.brightest_nits == pytest.approx(1000)


def test_what_a_codec_cannot_hold_is_told_with_what_can(tmp_path: Path) -> None:
    plate = make_clip(tmp_path / "plate.mov", codec="prores_ks", pixel_format="yuva444p10le", options={"profile": "4444"})
    told: list[str] = []
    copy_through_writer(plate, tmp_path / "copy.mp4", codec="vp9", on_loss=told.append)
    assert any("vp9 writes 8" in message and "ffv1" in message for message in told)
    assert any("alpha" in message and "prores_4444" in message for message in told)


def test_a_codec_without_encoder_lists_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = make_clip(tmp_path / "plate.mp4")
    monkeypatch.setattr("understudy.media.codecs.available_encoders", lambda names: ["libx264", "ffv1"])
    with pytest.raises(BadInput, match=r"av1.*choose h264, ffv1"):
        VideoWriter(tmp_path / "copy.mp4", plate=plate, codec="av1")


def test_a_folder_of_exrs_is_a_plate_whose_light_comes_back(tmp_path: Path) -> None:
    light = np.geomspace(0.002, 40, 64 * 48 * 3, dtype=np.float32).reshape(48, 64, 3)
    (tmp_path / "plate").mkdir()
    for number in range(2):
        (tmp_path / "plate" / f"{number:04d}.exr").write_bytes(exr_bytes(light * (number + 1)))
    info = probe(tmp_path / "plate")
    assert (info.width, info.height, info.bits_per_channel, info.colour.transfer) == (64, 48, 16, PQ)
    for number, frame in enumerate(read_frames(tmp_path / "plate")):
        back = scene_light(frame.image, info.colour)
        assert np.abs(back / (light * (number + 1)) - 1).max() < 2e-3
    copy_through_writer(tmp_path / "plate", tmp_path / "exr", codec="exr")
    again = [scene_light(frame.image, info.colour) for frame in read_frames(tmp_path / "exr")]
    assert np.abs(again[0] / light - 1).max() < 3e-3


def test_an_exr_that_is_damaged_huge_or_among_other_pictures_is_one_line(tmp_path: Path) -> None:
    light = np.full((48, 64, 3), 0.5, np.float32)
    data = exr_bytes(light)
    (tmp_path / "plate").mkdir()
    first, second = tmp_path / "plate/0000.exr", tmp_path / "plate/0001.exr"
    window = data.index(b"dataWindow") + len(b"dataWindow\0box2i\0") + 4
    huge = data[:window] + np.array([0, 0, 10**6, 10**6], "<i4").tobytes() + data[window + 16 :]
    damages = {"is not a whole|does not decode": data[:200], "larger than the limit": huge, "not a whole": data[:60]}
    for words, content in damages.items():
        first.write_bytes(content)
        with pytest.raises(BadInput, match=words):
            probe(tmp_path / "plate")
    first.write_bytes(data)
    second.with_suffix(".png").write_bytes(encode_png(np.full((48, 64, 3), 30000, np.uint16)))
    with pytest.raises(BadInput, match="one size, depth and kind"):
        list(read_frames(tmp_path / "plate"))
