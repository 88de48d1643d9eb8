"""Turns decoded video frames into RGB pictures and back, with one and the same matrix and range both ways.

swscale only changes the sampling (chroma, size, bit depth); the matrix is applied here, because swscale's own conversion
shifts full-range colours by up to a level. Numbers are those of ITU-T H.273, which containers and codecs store: matrix
1 = BT.709, 5 and 6 = BT.601, 9 = BT.2020; 2 = not stated; range 1 = limited (16..235), 2 = full (0..255), 0 = not stated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from understudy.types import FloatArray, Image

UNSTATED = 2
BT709, SRGB_TRANSFER, RGB_MATRIX, BT601 = 1, 13, 0, 6
LIMITED, FULL = 1, 2

# (Kr, Kb): what red and blue contribute to luma, by matrix number (H.273, table 4).
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}

SAMPLING = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class ColourTags:
    """What a stream says about its colours (H.273 numbers, see the top of this file); `is_rgb`: it stores RGB, not YCbCr."""

    primaries: int
    transfer: int
    matrix: int
    range: int
    is_rgb: bool


def tags_of(frame: av.VideoFrame) -> ColourTags:
    """The colour tags of a decoded frame, as stated, nothing guessed."""
    return ColourTags(
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        matrix=int(frame.colorspace),
        range=int(frame.color_range),
        is_rgb=frame.format.is_rgb or frame.format.name.startswith(("pal", "xyz")),
    )


def tags_for_yuv(tags: ColourTags, width: int, height: int) -> ColourTags:
    """The tags under which a plate is written as YCbCr: its own, or for an RGB plate stated ones (sRGB pictures)."""
    if not tags.is_rgb:
        return tags
    return ColourTags(
        primaries=BT709 if tags.primaries == UNSTATED else tags.primaries,
        transfer=SRGB_TRANSFER if tags.transfer == UNSTATED else tags.transfer,
        matrix=_guess_matrix(width, height),
        range=LIMITED,
        is_rgb=False,
    )


def tags_for_rgb(tags: ColourTags) -> ColourTags:
    """The tags under which a plate is written as RGB: primaries and transfer stay."""
    return replace(tags, matrix=RGB_MATRIX, range=FULL, is_rgb=True)


class Converter:
    """Converts frames; one object per stream, because it keeps the scaler between frames."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def image_from_frame(self, frame: av.VideoFrame, size_wh: tuple[int, int]) -> Image:
        """An RGB picture (height, width, 3) uint8 of `size_wh`; alpha is dropped, HDR code values are kept as they are."""
        tags = tags_of(frame)
        if tags.is_rgb:
            return np.ascontiguousarray(self._sampled(frame, size_wh, "rgb24").to_ndarray())
        bits = max(component.bits for component in frame.format.components)
        planes = self._sampled(frame, size_wh, "yuv444p" if bits <= 8 else "yuv444p16le").to_ndarray(channel_last=True)
        # swscale widens codes of n bits to 16 by appending zeros (in 4:4:4 by repeating bits: up to a quarter level more).
        unit = 1 if bits <= 8 else 256
        code_max = 255 if bits <= 8 else ((1 << bits) - 1) << (16 - bits)
        return _transformed(planes, _inverse(_ycc_from_rgb(tags, frame.width, frame.height, unit, code_max)))

    def frame_from_image(self, image: Image, pixel_format: str, tags: ColourTags) -> av.VideoFrame:
        """A frame in `pixel_format` (8 bit) with `tags`, of an RGB picture (height, width, 3) uint8."""
        height, width = image.shape[:2]
        if tags.is_rgb:
            whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        else:
            planes = _transformed(image, _ycc_from_rgb(tags, width, height))
            whole = av.VideoFrame.from_ndarray(planes, format="yuv444p", channel_last=True)
        frame = self._sampled(whole, (width, height), pixel_format)
        frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
        frame.colorspace, frame.color_range = tags.matrix, tags.range
        return frame

    def _sampled(self, frame: av.VideoFrame, size_wh: tuple[int, int], pixel_format: str) -> av.VideoFrame:
        """The same colours in another size, chroma sampling or bit depth.

        Both ranges are called full whatever they are: swscale then converts none, nor grey and yuvj, which it holds for full.
        """
        width, height = size_wh
        return self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format=pixel_format,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=SAMPLING,
        )


def _transformed(channels: Image, matrix: FloatArray) -> Image:
    """(height, width, 3) through a 3x4 affine matrix, rounded and clipped to uint8."""
    values = cv2.transform(channels.astype(np.float32), matrix)
    return np.asarray(cv2.add(values, 0.0, dtype=cv2.CV_8U), dtype=np.uint8)


def _ycc_from_rgb(tags: ColourTags, width: int, height: int, unit: int = 1, code_max: int = 255) -> FloatArray:
    """3x4 affine matrix from RGB 0..255 to Y Cb Cr codes (H.273, section 8.3); unit: codes to one step of 8 bits."""
    red, blue = LUMA_WEIGHTS.get(tags.matrix, LUMA_WEIGHTS[_guess_matrix(width, height)])
    luma = np.array([red, 1 - red - blue, blue])
    rows = np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)]) / 255
    if tags.range == FULL:
        return np.column_stack([rows * code_max, [0, 128 * unit, 128 * unit]])
    scale = np.array([219, 224, 224]) * unit
    return np.column_stack([rows * scale[:, None], [16 * unit, 128 * unit, 128 * unit]])


def _inverse(affine: FloatArray) -> FloatArray:
    linear = np.linalg.inv(affine[:, :3])
    return np.column_stack([linear, -linear @ affine[:, 3]])


def _guess_matrix(width: int, height: int) -> int:
    """BT.709 for high definition, else BT.601: the rule of mpv and most players for streams that do not say."""
    return BT709 if max(width, height) >= 1280 or min(width, height) > 576 else BT601
