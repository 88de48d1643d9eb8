"""Turns pictures into the packets of a video codec, or into the bytes of a still picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
import av.filter
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from understudy.imaging.depth import code_max, eight_bit, sixteen_bit
from understudy.imaging.transfer import PQ, light_from_codes
from understudy.media.codecs import CODECS, Track, options_for, pixel_format_for
from understudy.media.colour import ColourTags, Converter, tags_for_rgb, tags_for_yuv
from understudy.media.footage import FootageInfo
from understudy.media.images import encode_png, encode_tiff
from understudy.settings import Codec
from understudy.types import AnyImage, AnyMatte, FloatArray

PQ_UNIT_NITS = 100
"""What 1.0 stands for in an EXR of a PQ plate: 100 cd/m2, so that an SDR picture's white stays near 1."""


def configure(context: VideoCodecContext, track: Track, info: FootageInfo) -> ColourTags:
    """Sets an encoder up for pictures of this plate, as they lie in the file not yet turned; returns their colour tags."""
    kind = CODECS[track.codec]
    tags = tags_for_rgb(info.colour) if kind.is_rgb else tags_for_yuv(info.colour, info.width, info.height)
    context.width, context.height = stored_size(info)
    context.pix_fmt = pixel_format_for(track, info)
    context.time_base, context.framerate = info.time_base, info.frame_rate
    aspect = info.sample_aspect_ratio
    context.sample_aspect_ratio = 1 / aspect if info.is_transposed else aspect
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.colorspace, context.color_range = tags.matrix, tags.range
    context.options = options_for(track, info)
    context.flags |= Flags.global_header
    if track.codec == "av1":
        os.environ.setdefault("SVT_LOG", "1")  # its encoder otherwise tells its whole set-up on stderr
    if track.codec == "h265":
        context.codec_tag = "hvc1"  # players of Apple's refuse hev1
    if has_fields(track.codec, info):
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        context.field_order = 3 if info.is_bottom_field_first else 2
    return tags


def has_fields(codec: Codec, info: FootageInfo) -> bool:
    """Whether the output says that its frames are woven from two fields."""
    return info.is_interlaced and CODECS[codec].is_interlaceable


def stored_size(info: FootageInfo) -> tuple[int, int]:
    """(width, height) as they lie in the file, before its display matrix turns them."""
    return (info.height, info.width) if info.is_transposed else (info.width, info.height)


class PictureEncoder:
    """An encoder for one closed stretch of pictures: what comes out of one can be joined to what comes out of the next."""

    def __init__(self, track: Track, info: FootageInfo) -> None:
        self._context = cast(VideoCodecContext, av.CodecContext.create(CODECS[track.codec].encoder, "w"))
        self._tags = configure(self._context, track, info)
        self._context.open()
        self._converter = Converter()
        self._weave = _FieldOrder(info, self._context.pix_fmt) if has_fields(track.codec, info) else None

    def encode(
        self, image: AnyImage, pts: int, time_base: Fraction, alpha: AnyMatte | None = None
    ) -> Sequence[Packet[VideoStream]]:
        """The packets that are ready after this picture: (height, width, 3), or (height, width) for a grey track."""
        if image.ndim == 2:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(sixteen_bit(image)), format="gray16le")
        else:
            frame = self._converter.frame_from_image(image, str(self._context.pix_fmt), self._tags, alpha)
        frame.pts, frame.time_base = pts, time_base
        return self._context.encode(self._weave(frame) if self._weave else frame)

    def flush(self) -> Sequence[Packet[VideoStream]]:
        """What the encoder still holds; nothing can be encoded after it."""
        return self._context.encode(None)


class _FieldOrder:
    """Marks frames as woven from two fields: only a filter can set that flag."""

    def __init__(self, info: FootageInfo, pixel_format: str | None) -> None:
        width, height = stored_size(info)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(width=width, height=height, format=pixel_format, time_base=info.time_base)
        mark = self._graph.add("setfield", f"mode={'bff' if info.is_bottom_field_first else 'tff'}")
        sink = self._graph.add("buffersink")
        source.link_to(mark)
        mark.link_to(sink)
        self._graph.configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph.push(frame)
        return cast(av.VideoFrame, self._graph.pull())


# ---- stills ---------------------------------------------------------------------------------------------------------------


def still_bytes(track: Track, image: AnyImage, info: FootageInfo) -> bytes:
    """A picture (height, width, 3) or (height, width): PNG in its depth, TIFF at 16 bits, EXR in linear light as half float."""
    if track.codec == "png":
        is_deep = max(info.bits_per_channel, track.least_bits) > 8 or track.is_grey
        return encode_png(sixteen_bit(image) if is_deep else eight_bit(image))
    if track.codec == "tiff":
        return encode_tiff(sixteen_bit(image))
    is_matte = image.ndim == 2
    values = image.astype(np.float32) / np.float32(code_max(image)) if is_matte else scene_light(image, info.colour)
    return exr_bytes(values)


def scene_light(image: AnyImage, colour: ColourTags) -> FloatArray:
    """Linear light (height, width, 3) float32, as it is written to EXR: 1 is the plate's white; for PQ it is 100 cd/m2."""
    unit = 10_000 / PQ_UNIT_NITS if colour.transfer == PQ else 1.0
    transfer = tags_for_rgb(colour).transfer
    return np.asarray(light_from_codes(image, transfer) * np.float32(unit))


def exr_bytes(values: FloatArray) -> bytes:
    """An EXR, half float, ZIP-compressed, of values (height, width, 3) in R G B or (height, width) in Y."""
    half = np.asarray(values, np.float16).astype(np.float32)  # rounded here: the encoder would cut off
    context = cast(VideoCodecContext, av.CodecContext.create("exr", "w"))
    context.height, context.width = half.shape[:2]
    context.pix_fmt, context.time_base = "gbrpf32le" if half.ndim == 3 else "grayf32le", Fraction(1, 25)
    context.options = {"format": "half", "compression": "zip16"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(half), format=context.pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
