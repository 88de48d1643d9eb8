"""Plates of more than 8 bits: read at their depth, full range, and never squeezed through 8 bits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from understudy.imaging.depth import codes_from_unit, eight_bit, sixteen_bit, unit_from_codes
from understudy.media import probe, read_frames, read_image

WIDTH, HEIGHT = 1024, 64


def write_gradient(path: Path, pixel_format: str, colour_range: int = 1) -> NDArray[np.int64]:
    """One lossless grey frame whose luma runs through every legal code; returns the codes (WIDTH,) and the legal range."""
    bits = av.VideoFormat(pixel_format).components[0].bits
    unit = 1 << (bits - 8)
    black, white = (0, (1 << bits) - 1) if colour_range == 2 else (16 * unit, 235 * unit)
    codes = np.rint(np.linspace(black, white, WIDTH)).astype(np.int64)
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    frame.pts, frame.colorspace, frame.color_range = 0, 1, colour_range
    for number, plane in enumerate(frame.planes):
        values = np.full((plane.height, plane.line_size // 2), (1 << bits) - 1 if number == 3 else 128 * unit, np.uint16)
        if number == 0:
            values[:, :WIDTH] = codes
        plane.update(values.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, colour_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return np.asarray((codes - black) / (white - black))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuva444p10le", "yuv444p12le"])
@pytest.mark.parametrize("colour_range", [1, 2])
def test_a_deep_plate_is_read_to_the_nearest_of_65536_codes(tmp_path: Path, pixel_format: str, colour_range: int) -> None:
    light = write_gradient(tmp_path / "gradient.mkv", pixel_format, colour_range)
    frame = next(read_frames(tmp_path / "gradient.mkv"))
    assert frame.image.dtype == np.uint16
    assert np.abs(frame.image[HEIGHT // 2] / 65535 - light[:, None]).max() < 1 / 65535
    assert len(np.unique(frame.image)) > 800
    assert probe(tmp_path / "gradient.mkv").bits_per_channel in (10, 12)


def test_whoever_only_looks_gets_the_same_picture_at_8_bits(tmp_path: Path) -> None:
    light = write_gradient(tmp_path / "gradient.mkv", "yuv420p10le")
    frame = next(read_frames(tmp_path / "gradient.mkv"))
    assert frame.eight_bit.dtype == np.uint8
    assert np.abs(frame.eight_bit[0].astype(float) - 255 * light[:, None]).max() <= 0.51


def test_the_transparency_of_a_plate_is_read_with_it(tmp_path: Path) -> None:
    write_gradient(tmp_path / "alpha.mkv", "yuva444p10le")
    write_gradient(tmp_path / "opaque.mkv", "yuv444p10le")
    alpha = next(read_frames(tmp_path / "alpha.mkv")).alpha
    assert alpha is not None
    assert alpha.shape == (HEIGHT, WIDTH)
    assert (alpha == 65535).all()
    assert next(read_frames(tmp_path / "opaque.mkv")).alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_pictures_of_16_bits_are_read_whole_and_looked_at_in_8(tmp_path: Path, suffix: str) -> None:
    picture = np.arange(64 * 96 * 3, dtype=np.uint16).reshape(64, 96, 3) * 3
    cv2.imwrite(str(tmp_path / f"deep{suffix}"), picture[..., ::-1])
    frame = next(read_frames(tmp_path))
    np.testing.assert_array_equal(frame.image, picture)
    np.testing.assert_array_equal(read_image(tmp_path / f"deep{suffix}"), eight_bit(picture))
    assert probe(tmp_path).bits_per_channel == 16


@given(st.integers(0, 255), st.integers(0, 65535))
def test_depths_change_into_each_other_without_loss(level: int, code: int) -> None:
    shallow, deep = np.full((1, 1, 3), level, np.uint8), np.full((1, 1, 3), code, np.uint16)
    assert (eight_bit(sixteen_bit(shallow)) == level).all()
    assert abs(int(eight_bit(deep)[0, 0, 0]) - code / 257) <= 0.5
    for picture in (shallow, deep):
        back = codes_from_unit(unit_from_codes(picture), like=picture)
        assert back.dtype == picture.dtype
        assert (back == picture).all()
