"""What a picture can be written as: each codec's files, encoder, pixel formats and options, and what it cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import cv2

from understudy.media.encoders import available_encoders
from understudy.media.footage import FootageInfo, HdrMetadata
from understudy.settings import Codec
from understudy.types import BadInput

MOST_CRF = 51
"""The coarsest quality, as x264 counts; encoders that count to another number get their share of it."""

AVX512 = 13
"""What OpenCV calls AVX-512F (CV_CPU_AVX_512F); its Python names leave it out."""

STILLS = frozenset({"png", "tiff", "exr"})
"""Written as a folder of numbered pictures."""


@dataclass(frozen=True)
class CodecKind:
    """A codec as it is used here.

    suffixes: of the files that hold it, the usual one first; "" is a folder. depths: the bits a channel that it can have, and
    the pixel format for each. alpha: the same with transparency. odd: pixel formats for sizes that 4:2:0 cannot have.
    """

    encoder: str
    suffixes: tuple[str, ...]
    depths: Mapping[int, str]
    alpha: Mapping[int, str] = field(default_factory=dict)
    odd: Mapping[int, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    is_rgb: bool = False
    is_interlaceable: bool = False
    most_crf: int = 0


@dataclass(frozen=True)
class Track:
    """One picture track: where it goes, as what, and whether the plate's sound, subtitles and chapters go with it.

    has_alpha: frames come with transparency. is_grey: frames are (height, width), a matte. least_bits: the depth is the
    plate's, but at least this. Stills go to a folder `path`.
    """

    path: Path
    codec: Codec
    crf: int = 14
    metadata: Mapping[str, str] = field(default_factory=dict)
    has_sound: bool = True
    has_alpha: bool = False
    is_grey: bool = False
    least_bits: int = 8


_MOVIES = (".mp4", ".mov", ".mkv")
CODECS: Mapping[Codec, CodecKind] = {
    "h264": CodecKind(
        "libx264",
        _MOVIES,
        {8: "yuv420p", 10: "yuv420p10le"},
        odd={8: "yuv444p", 10: "yuv444p10le"},
        options={"preset": "fast"},
        is_interlaceable=True,
        most_crf=51,
    ),
    "h265": CodecKind(
        "libx265",
        _MOVIES,
        {8: "yuv420p", 10: "yuv420p10le"},
        odd={8: "yuv444p", 10: "yuv444p10le"},
        options={"preset": "fast"},
        most_crf=51,
    ),
    "prores_422_hq": CodecKind(
        "prores_ks", (".mov", ".mkv"), {10: "yuv422p10le"}, options={"profile": "hq", "vendor": "apl0"}, is_interlaceable=True
    ),
    "prores_4444": CodecKind(
        "prores_ks",
        (".mov", ".mkv"),
        {10: "yuv444p10le"},
        alpha={10: "yuva444p10le"},
        options={"profile": "4444", "vendor": "apl0", "alpha_bits": "16"},
        is_interlaceable=True,
    ),
    "ffv1": CodecKind(
        "ffv1",
        (".mkv",),
        {8: "bgr0", 16: "gbrp16le"},
        alpha={8: "bgra", 16: "gbrap16le"},
        options={"level": "3", "slicecrc": "1"},
        is_rgb=True,
        is_interlaceable=True,
    ),
    "vp9": CodecKind(
        "libvpx-vp9",
        (".mp4", ".mkv", ".webm"),
        {8: "yuv420p"},
        options={"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        most_crf=63,
    ),
    "av1": CodecKind(
        "libsvtav1", (".mp4", ".mkv", ".webm"), {8: "yuv420p", 10: "yuv420p10le"}, options={"preset": "8"}, most_crf=63
    ),
    "png": CodecKind("png", ("",), {8: "rgb24", 16: "rgb48be"}, is_rgb=True),
    "tiff": CodecKind("tiff", ("",), {16: "rgb48le"}, is_rgb=True),
    "exr": CodecKind("exr", ("",), {16: "gbrpf32le"}, is_rgb=True),
}


def available_codecs() -> list[Codec]:
    """The codecs whose encoder is on this machine."""
    encoders = available_encoders(sorted({kind.encoder for kind in CODECS.values()}))
    return [codec for codec in get_args(Codec) if CODECS[codec].encoder in encoders]


def check_codec(codec: Codec) -> None:
    """Raises BadInput, naming the choices, where this machine has no encoder for the codec."""
    if codec not in available_codecs():
        choices = ", ".join(available_codecs())
        raise BadInput(f"codec {codec}: this machine's media library has no {CODECS[codec].encoder} encoder; choose {choices}")


def depth_for(codec: Codec, bits_per_channel: int) -> int:
    """The bits a channel that a plate's picture is written with: the least that holds it, else the most there are."""
    depths = sorted(CODECS[codec].depths)
    return next((bits for bits in depths if bits >= bits_per_channel), depths[-1])


def pixel_format_for(track: Track, info: FootageInfo) -> str:
    """The pixel format in which a plate is written."""
    kind, depth = CODECS[track.codec], depth_for(track.codec, max(info.bits_per_channel, track.least_bits))
    if track.is_grey:
        return "gray16le"
    if track.has_alpha and depth in kind.alpha:
        return kind.alpha[depth]
    is_odd = bool(info.width % 2 or info.height % 2)
    return kind.odd[depth] if is_odd and depth in kind.odd else kind.depths[depth]


def unkept(codec: Codec, info: FootageInfo, is_matroska: bool, has_alpha: bool = False) -> Iterator[str]:
    """One sentence for each property of the plate's picture that the output cannot hold."""
    kind = CODECS[codec]
    written = depth_for(codec, info.bits_per_channel)
    if written < info.bits_per_channel:
        deeper = "h265, prores_422_hq or ffv1" if written == 8 else "ffv1, png or tiff"
        yield f"{info.path}: has {info.bits_per_channel} bits a channel, {codec} writes {written}; {deeper} keeps more"
    if info.has_alpha and not (kind.alpha and has_alpha):
        yield f"{info.path}: its alpha channel is not written; prores_4444 and ffv1 keep it"
    if info.has_unread_alpha:
        yield f"{info.path}: its alpha channel cannot be read; give PNG, ProRes 4444 or FFV1 to keep it"
    if info.is_interlaced and not kind.is_interlaceable:
        yield f"{info.path}: is interlaced; its frames are written as they are, marked progressive ({codec} has no fields here)"
    if codec in STILLS and not info.is_folder:
        yield f"{info.path}: a folder of pictures holds neither its frame times nor sound"
    if is_matroska and (info.time_base * 1000).denominator != 1:
        yield f"{info.path}: Matroska rounds frame times to milliseconds; write .mp4 or .mov to keep them exact"
    if info.hdr and codec not in ("h264", "h265", "av1"):
        yield f"{info.path}: its mastering display and light level are not written; h264, h265 and av1 keep them"


def options_for(track: Track, info: FootageInfo) -> dict[str, str]:
    """The encoder's options for a plate: quality, HDR metadata, fields."""
    codec, kind = track.codec, CODECS[track.codec]
    options = dict(kind.options)
    if kind.most_crf:
        options["crf"] = str(min(kind.most_crf, round(track.crf * kind.most_crf / MOST_CRF)))
    settings = _hdr_settings(codec, info)
    if codec == "h264" and _has_avx512():
        # x264's AVX-512 code now and then writes other bytes of the same pictures on a busy machine, in one thread or many.
        # What AVX2 writes is always the same, and what AVX-512 mostly writes, in 1.04 times the time (docs/log.md).
        settings = ["asm=avx2", *settings]
    if codec == "h264" and info.is_interlaced:
        settings = ["pic-struct=1", f"{'bff' if info.is_bottom_field_first else 'tff'}=1", *settings]
    if codec == "h265":
        settings = ["log-level=error", "repeat-headers=0", *settings]
    key = {"h264": "x264-params", "h265": "x265-params", "av1": "svtav1-params"}.get(codec)
    if key and settings:
        options[key] = ":".join(settings)
    return options


def _has_avx512() -> bool:
    return bool(cv2.checkHardwareSupport(AVX512))


def _hdr_settings(codec: Codec, info: FootageInfo) -> list[str]:
    """Mastering display and light level in the words of x264, x265 and SVT-AV1."""
    if not info.hdr or codec not in ("h264", "h265", "av1"):
        return []
    settings = []
    if display := _mastering_display(info.hdr, is_decimal=codec == "av1"):
        settings.append(f"{'master-display' if codec == 'h265' else 'mastering-display'}={display}")
    if info.hdr.max_content_nits:
        key = {"h264": "cll", "h265": "max-cll", "av1": "content-light"}[codec]
        settings.append(f"{key}={info.hdr.max_content_nits},{info.hdr.max_average_nits}")
    return settings


def _mastering_display(hdr: HdrMetadata, is_decimal: bool) -> str:
    """Green, blue, red, white and luminance; x264 and x265 count in 1/50,000 and 1/10,000 cd/m2."""
    if hdr.chromaticities is None or not hdr.brightest_nits:
        return ""

    def number(value: float, per_unit: int) -> str:
        return f"{value:.5f}" if is_decimal else str(round(value * per_unit))

    pairs = [",".join(number(value, 50_000) for value in hdr.chromaticities[at : at + 2]) for at in (2, 4, 0, 6)]
    light = ",".join(number(value, 10_000) for value in (hdr.brightest_nits, hdr.darkest_nits))
    return "G({})B({})R({})WP({})L({})".format(*pairs, light)
