"""The transparency of still pictures: read from PNG and WebP, and noticed where it cannot be read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from understudy.media.exr import exr_has_alpha
from understudy.media.images import picture_kind, tiff_tags
from understudy.types import AnyMatte

SAMPLES_PER_PIXEL, PHOTOMETRIC = 277, 262
COLOURS_OF_PHOTOMETRIC = {0: 1, 1: 1, 2: 3, 3: 1}
"""Samples of a pixel's colour by TIFF 6.0's PhotometricInterpretation (grey, grey, RGB, palette); one more is its alpha."""


def read_transparency(path: Path) -> AnyMatte | None:
    """The alpha of a PNG or WebP (height, width), 0 = see-through, in the picture's depth; None where it has none."""
    data = path.read_bytes()
    kind = picture_kind(data)
    if not ((kind == "PNG" and _png_has_alpha(data)) or (kind == "WebP" and _webp_has_alpha(data))):
        return None
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    return cast(AnyMatte, np.ascontiguousarray(picture[..., 3]))


def has_unread_transparency(path: Path) -> bool:
    """Whether a TIFF or an EXR has an alpha channel: it may be multiplied into the colours, so it is not read."""
    data = path.read_bytes()
    kind = picture_kind(data)
    try:
        return (kind == "TIFF" and _tiff_has_alpha(data)) or (kind == "EXR" and exr_has_alpha(data))
    except (struct.error, IndexError, ValueError):
        return False


def _png_has_alpha(data: bytes) -> bool:
    """By its colour type (grey or RGB with alpha), or by a transparent colour, which is told before the pixels."""
    return data[25] in (4, 6) or b"tRNS" in data[: data.find(b"IDAT")]


def _webp_has_alpha(data: bytes) -> bool:
    if data[12:16] == b"VP8X":
        return bool(data[20] & 0x10)
    return data[12:16] == b"VP8L" and bool(data[24] & 0x10)


def _tiff_has_alpha(data: bytes) -> bool:
    tags = tiff_tags(data)
    return tags.get(SAMPLES_PER_PIXEL, 1) > COLOURS_OF_PHOTOMETRIC.get(tags.get(PHOTOMETRIC, -1), 4)
