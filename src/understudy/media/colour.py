"""Turns decoded video frames into RGB pictures and back, at their own depth, with one and the same matrix and range both ways.

swscale only changes the sampling (chroma, size, bit depth); the matrix is applied here, because swscale's own conversion
shifts full-range colours by up to a level. Numbers are those of ITU-T H.273, which containers and codecs store: matrix
1 = BT.709, 5 and 6 = BT.601, 9 = BT.2020; 2 = not stated; range 1 = limited (16..235), 2 = full (0..255), 0 = not stated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import cast

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from understudy.imaging.depth import code_max, eight_bit, sixteen_bit
from understudy.types import AnyImage, AnyMatte, FloatArray

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

_STRIP_ROWS = 32
"""Colours are computed for so many rows at a time, so that the floats between stay in the processor's cache."""

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


def bits_of(frame: av.VideoFrame) -> int:
    """The bits of a frame's deepest colour channel; alpha does not count."""
    return max(component.bits for component in frame.format.components if not component.is_alpha)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether a decoded frame carries transparency; a palette's (GIF) is not counted."""
    return any(component.is_alpha for component in frame.format.components) and not frame.format.has_palette


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

    def image_from_frame(self, frame: av.VideoFrame, size_wh: tuple[int, int]) -> AnyImage:
        """An RGB picture (height, width, 3) of `size_wh`: uint8, or uint16 of a frame with more than 8 bits a channel.

        Full range, alpha left aside. HDR code values are kept as they are: the numbers are those of the plate's own curve.
        """
        tags, bits = tags_of(frame), bits_of(frame)
        dtype = np.uint8 if bits <= 8 else np.uint16
        if tags.is_rgb:
            picture = self._sampled(frame, size_wh, "rgb24" if bits <= 8 else "rgb48le")
            return np.ascontiguousarray(picture.to_ndarray())
        planes = self._planes(frame, size_wh, bits)
        # swscale widens codes of n bits to 16 by appending zeros: white is 2^16 - 2^(16-n).
        unit, code_max = (1, 255) if bits <= 8 else (256, ((1 << bits) - 1) << (16 - bits))
        rgb_max = 255 if bits <= 8 else 65535
        return _transformed(planes, _inverse(_ycc_from_rgb(tags, frame.width, frame.height, rgb_max, unit, code_max)), dtype)

    def alpha_from_frame(self, frame: av.VideoFrame, size_wh: tuple[int, int]) -> AnyMatte | None:
        """The frame's transparency (height, width), 0 = see-through, in the depth of its picture; None where it has none."""
        if not has_alpha(frame):
            return None
        bits = bits_of(frame)
        if not tags_of(frame).is_rgb and (frame.width, frame.height) == size_wh:  # a plane of its own, always full range
            codes = _plane(frame, 3, np.dtype(np.uint8) if bits <= 8 else np.dtype("<u2"))
            return codes if bits <= 8 else np.asarray(np.rint(codes * np.float32(65535 / ((1 << bits) - 1))), np.uint16)
        whole = self._sampled(frame, size_wh, "rgba" if bits <= 8 else "rgba64le").to_ndarray()
        return np.ascontiguousarray(whole[..., 3])

    def frame_from_image(
        self, image: AnyImage, pixel_format: str, tags: ColourTags, alpha: AnyMatte | None = None
    ) -> av.VideoFrame:
        """A frame in `pixel_format` with `tags`, of an RGB picture (height, width, 3) uint8 or uint16.

        The codes are rounded once, to the depth of the format; swscale then only thins out the chroma. alpha: (height, width)
        in the picture's depth, for formats that hold it (opaque where it is None).
        """
        height, width = image.shape[:2]
        target = av.VideoFormat(pixel_format)
        bits = max(component.bits for component in target.components if not component.is_alpha)
        alpha = alpha if any(component.is_alpha for component in target.components) else None
        if target.is_rgb:
            whole = _rgb_frame(image, alpha, bits)
        else:
            unit, top = (1 << (bits - 8)), (1 << bits) - 1
            matrix = _ycc_from_rgb(tags, width, height, code_max(image), unit, top)
            planes = np.minimum(_transformed(image, matrix, np.uint8 if bits <= 8 else np.uint16), top)
            whole = _frame_of_planes(planes, "yuv444p" if bits <= 8 else f"yuv444p{bits}le")
        frame = self._sampled(whole, (width, height), pixel_format)
        if alpha is not None and not target.is_rgb:
            _set_alpha(frame, alpha, bits)
        frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
        frame.colorspace, frame.color_range = tags.matrix, tags.range
        return frame

    def _planes(self, frame: av.VideoFrame, size_wh: tuple[int, int], bits: int) -> AnyImage:
        """Y, Cb and Cr of every pixel (height, width, 3); codes of more than 8 bits are shifted up to 16."""
        if bits <= 8:
            return _joined(self._sampled(frame, size_wh, "yuv444p"), np.dtype(np.uint8))
        if re.match(r"yuva?444p\d+le$", frame.format.name) and (frame.width, frame.height) == size_wh:
            # swscale would repeat bits here instead of appending zeros
            return np.left_shift(_joined(frame, np.dtype("<u2")), 16 - bits, dtype=np.uint16)
        return _joined(self._sampled(frame, size_wh, "yuv444p16le"), np.dtype("<u2"))

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


def _transformed(channels: AnyImage, matrix: FloatArray, dtype: type[np.uint8] | type[np.uint16]) -> AnyImage:
    """(height, width, 3) through a 3x4 affine matrix, rounded and clipped to the range of `dtype`."""
    codes = np.empty(channels.shape, dtype)
    depth = cv2.CV_8U if dtype is np.uint8 else cv2.CV_16U
    for row in range(0, len(channels), _STRIP_ROWS):
        strip = slice(row, row + _STRIP_ROWS)
        cv2.add(cv2.transform(channels[strip].astype(np.float32), matrix), 0.0, dst=codes[strip], dtype=depth)
    return cast(AnyImage, codes)


def _ycc_from_rgb(
    tags: ColourTags, width: int, height: int, rgb_max: int = 255, unit: int = 1, code_max: int = 255
) -> FloatArray:
    """3x4 affine matrix from RGB 0..rgb_max to Y Cb Cr codes (H.273, section 8.3); unit: codes to one step of 8 bits."""
    red, blue = LUMA_WEIGHTS.get(tags.matrix, LUMA_WEIGHTS[_guess_matrix(width, height)])
    luma = np.array([red, 1 - red - blue, blue])
    rows = np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)]) / rgb_max
    if tags.range == FULL:
        return np.column_stack([rows * code_max, [0, 128 * unit, 128 * unit]])
    scale = np.array([219, 224, 224]) * unit
    return np.column_stack([rows * scale[:, None], [16 * unit, 128 * unit, 128 * unit]])


def _joined(frame: av.VideoFrame, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> AnyImage:
    """Three planes of one size as a picture (height, width, 3)."""
    return cast(AnyImage, cv2.merge([_plane(frame, number, dtype) for number in range(3)]))


def _plane(frame: av.VideoFrame, number: int, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> AnyMatte:
    """The codes (height, width) of a plane that has the size of the picture, copied out of its padded rows."""
    plane = frame.planes[number]
    rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    return np.ascontiguousarray(rows[:, : plane.width])


def _frame_of_planes(planes: AnyImage, pixel_format: str) -> av.VideoFrame:
    """A 4:4:4 frame of codes (height, width, 3)."""
    height, width = planes.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    for number, plane in enumerate(frame.planes):
        _fill(plane, planes[..., number])
    return frame


def _rgb_frame(image: AnyImage, alpha: AnyMatte | None, bits: int) -> av.VideoFrame:
    """A packed frame at 8 or 16 bits, with the transparency where there is one."""
    picture = image if alpha is None else cast(AnyImage, np.dstack([image, alpha]))
    codes = np.ascontiguousarray(sixteen_bit(picture) if bits > 8 else eight_bit(picture))
    formats = ("rgb24", "rgb48le") if alpha is None else ("rgba", "rgba64le")
    return av.VideoFrame.from_ndarray(codes, format=formats[bits > 8])


def _set_alpha(frame: av.VideoFrame, alpha: AnyMatte, bits: int) -> None:
    top = (1 << bits) - 1
    codes = np.rint(alpha * np.float32(top / code_max(alpha)))
    _fill(frame.planes[3], codes.astype(np.uint8 if bits <= 8 else np.uint16))


def _fill(plane: VideoPlane, codes: AnyMatte) -> None:
    rows = np.zeros((plane.height, plane.line_size // codes.itemsize), codes.dtype)
    rows[:, : codes.shape[1]] = codes
    plane.update(rows.tobytes())


def _inverse(affine: FloatArray) -> FloatArray:
    linear = np.linalg.inv(affine[:, :3])
    return np.column_stack([linear, -linear @ affine[:, 3]])


def _guess_matrix(width: int, height: int) -> int:
    """BT.709 for high definition, else BT.601: the rule of mpv and most players for streams that do not say."""
    return BT709 if max(width, height) >= 1280 or min(width, height) > 576 else BT601
