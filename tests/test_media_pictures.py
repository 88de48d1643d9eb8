"""Folders of pictures and single pictures: natural order, every kind, nothing that bursts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from clips import make_clip, number_in, picture, seconds_of
from understudy.media import VideoWriter, encode_jpeg, probe, read_frames, read_image, write_jpeg, write_png
from understudy.media.images import read_small_image
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, codecs and clips


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


def test_a_small_picture_keeps_what_is_asked_for(tmp_path):
    rows = np.linspace(20, 230, 400).astype(np.uint8)
    write_jpeg(tmp_path / "crop.jpg", np.repeat(np.repeat(rows[:, None, None], 440, axis=1), 3, axis=2))
    for least_px, height in ((401, 400), (400, 400), (200, 200), (150, 200), (60, 100), (50, 50), (1, 50)):
        small = read_small_image(tmp_path / "crop.jpg", least_px)
        assert small.shape[0] == height
        np.testing.assert_allclose(small[:, 0, 0], rows.reshape(height, -1).mean(axis=1), atol=2)
    with pytest.raises(BadInput, match=r"missing\.jpg"):
        read_small_image(tmp_path / "missing.jpg", 64)


# ---- transparency ---------------------------------------------------------------------------------------------------------


def see_through(number: int, dtype: type = np.uint8) -> np.ndarray:
    """A picture (height, width, 4), as OpenCV writes it, that is more opaque to the right, and less from number to number."""
    unit = 257 if dtype is np.uint16 else 1
    alpha = np.tile(np.linspace(255 - 10 * number, 0, 96)[::-1].astype(np.uint8), (64, 1))
    return np.dstack([picture(number)[:, :, ::-1], alpha]).astype(dtype) * dtype(unit)


def folder_of(folder: Path, suffix: str, pictures: Sequence[np.ndarray]) -> Path:
    folder.mkdir()
    for number, each in enumerate(pictures):
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # more than 100: without loss
        assert cv2.imwrite(str(folder / f"{number}{suffix}"), each, options)
    return folder


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".webp", np.uint8)])
def test_transparency_of_a_folder_of_pictures_is_read_and_written(tmp_path: Path, suffix: str, dtype: type) -> None:
    pictures = [see_through(number, dtype) for number in range(3)]
    plate = folder_of(tmp_path / "plate", suffix, [*pictures, see_through(3, dtype)[:, :, :3]])
    assert probe(plate).has_alpha
    told: list[str] = []
    with VideoWriter(tmp_path / "copy.mkv", plate=plate, codec="ffv1", has_alpha=True, on_loss=told.append) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame, frame.alpha)
    opaque = np.full((64, 96), np.iinfo(dtype).max, dtype)
    for frame, expected in zip(read_frames(tmp_path / "copy.mkv"), [*(each[..., 3] for each in pictures), opaque], strict=True):
        np.testing.assert_array_equal(frame.alpha, expected)
    assert not [message for message in told if "alpha" in message]


def test_transparency_that_only_later_pictures_have_is_told(tmp_path: Path) -> None:
    plate = folder_of(tmp_path / "plate", ".png", [see_through(0)[:, :, :3], see_through(1), see_through(2)])
    told: list[str] = []
    assert [frame.alpha for frame in read_frames(plate, on_loss=told.append)] == [None] * 3
    assert [message.split(": ", 1)[1] for message in told] == [
        "2 pictures have an alpha channel, which is not read because the first one has none"
    ]


def exr_with_alpha(folder: Path) -> Path:
    context = av.CodecContext.create("exr", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 96, 64, "gbrapf32le", Fraction(1, 25)
    frame = av.VideoFrame(96, 64, "gbrapf32le")
    for plane in frame.planes:
        plane.update(np.full((64, plane.line_size // 4), 0.5, np.float32).tobytes())
    frame.pts = 0
    folder.mkdir()
    (folder / "0.exr").write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return folder


@pytest.mark.parametrize("kind", ["tiff", "deep tiff", "exr", "vp9", "vp8"])
def test_transparency_that_cannot_be_read_is_told(tmp_path: Path, kind: str) -> None:
    if kind == "exr":
        plate = exr_with_alpha(tmp_path / "plate")
    elif "tiff" in kind:
        plate = folder_of(tmp_path / "plate", ".tif", [see_through(0, np.uint16 if kind == "deep tiff" else np.uint8)])
    else:
        codec, options = ("libvpx-vp9", {}) if kind == "vp9" else ("libvpx", {"auto-alt-ref": "0"})
        plate = make_clip(tmp_path / "plate.webm", codec=codec, pixel_format="yuva420p", options=options)
    told: list[str] = []
    with VideoWriter(tmp_path / "copy.mkv", plate=plate, codec="ffv1", on_loss=told.append) as writer:
        for frame in read_frames(plate):
            writer.write(frame.image, frame)
    assert len([message for message in told if "its alpha channel cannot be read" in message]) == 1


def tiff_of(rgba: np.ndarray, kind_of_alpha: int, order: str) -> bytes:
    """An uncompressed TIFF of one strip; kind_of_alpha: 1 multiplied into the colours, 2 not; order: `<` or `>`."""
    height, width, _ = rgba.shape
    bits, pixels = 8 * rgba.itemsize, rgba.astype(rgba.dtype.newbyteorder(order)).tobytes()
    after = 8 + len(pixels)
    tags = {256: width, 257: height, 258: after, 259: 1, 262: 2, 273: 8, 277: 4, 278: height, 279: len(pixels), 284: 1}
    tags[338] = kind_of_alpha
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, after + 8)
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        count, is_short = (4 if tag == 258 else 1), tag not in (258, 273, 279)
        number = struct.pack(f"{order}HH", value, 0) if is_short else struct.pack(f"{order}I", value)
        directory += struct.pack(f"{order}HHI", tag, 3 if is_short or tag == 258 else 4, count) + number
    return start + pixels + struct.pack(f"{order}4H", *[bits] * 4) + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind_of_alpha", [1, 2])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_the_alpha_of_a_tiff_is_dropped_and_darkens_nothing(
    tmp_path: Path, depth: type, kind_of_alpha: int, order: str
) -> None:
    rgba = np.full((6, 8, 4), (200, 100, 50, 128), depth) * depth(1 if depth is np.uint8 else 257)
    (tmp_path / "plate.tif").write_bytes(tiff_of(rgba, kind_of_alpha, order))
    assert (read_image(tmp_path / "plate.tif") == (200, 100, 50)).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".bmp"])
def test_nothing_is_told_of_pictures_without_transparency(tmp_path: Path, suffix: str) -> None:
    info = probe(folder_of(tmp_path / "plate", suffix, [picture(1)]))
    assert not info.has_alpha
    assert not info.has_unread_alpha
