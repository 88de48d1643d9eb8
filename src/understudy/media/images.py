"""Reads and writes still pictures, and lists the pictures of a folder in natural order."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from understudy.imaging.depth import eight_bit
from understudy.media.exr import MAGIC, codes_from_exr, exr_size
from understudy.types import AnyImage, BadInput, Image

MAX_PIXELS = 8192 * 8192
"""No frame or picture larger than this is decoded: a file of a few kB can otherwise claim gigabytes of memory."""

_REDUCTIONS = {
    **dict.fromkeys((2, 3), cv2.IMREAD_REDUCED_COLOR_2),
    **dict.fromkeys((4, 5, 6, 7), cv2.IMREAD_REDUCED_COLOR_4),
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""How OpenCV is asked for a picture of one n-th of its size, by the largest n that is wanted."""

EXTRA_SAMPLES, UNASSOCIATED_ALPHA = 338, 2
"""TIFF 6.0, section 18: the tag that says what a fourth sample is, and its value for alpha that is not multiplied in."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".exr")


def read_image(path: Path) -> Image:
    """An RGB picture (height, width, 3) uint8, upright (Exif turn applied), alpha dropped; raises BadInput naming the file."""
    return eight_bit(read_deep_image(path))


def read_deep_image(path: Path) -> AnyImage:
    """The same at the file's own depth: uint16 where it has more than 8 bits a channel; an EXR's light as codes of PQ."""
    return _read(path, least_px=None)


def read_small_image(path: Path, least_px: int) -> Image:
    """`read_image` at a half, quarter or eighth of its size where both sides keep `least_px`: half the time for a JPEG."""
    return eight_bit(_read(path, least_px))


def _read(path: Path, least_px: int | None) -> AnyImage:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    kind = picture_kind(data)
    size = kind and _size_px(kind, data)
    if not size:
        raise BadInput(f"{path}: is not a whole PNG, JPEG, TIFF, BMP, WebP or EXR picture; export it again")
    if size[0] * size[1] > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise BadInput(f"{path}: {size[0]}x{size[1]} is larger than the limit of {limit}; scale the picture down")
    depth = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    reduction = depth if least_px is None else _REDUCTIONS.get(min(8, min(size) // max(least_px, 1)), depth)
    picture = codes_from_exr(data) if kind == "EXR" else _decoded(_with_colours_as_stored(kind, data), reduction)
    if picture is None:
        raise BadInput(f"{path}: the {kind} picture is damaged or of an unusual depth and does not decode; export it again")
    return picture


def _decoded(data: bytes, how: int) -> AnyImage | None:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        return None
    return cast(AnyImage, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def encode_jpeg(image: Image, quality: int = 95) -> bytes:
    """A JPEG without chroma subsampling (4:4:4) of an RGB picture (height, width, 3) uint8."""
    full_chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *full_chroma])


def encode_png(image: AnyImage) -> bytes:
    """A PNG of an RGB picture (height, width, 3), or of one channel (height, width); uint8 or uint16."""
    return _encode(".png", image, [])


def encode_tiff(image: AnyImage) -> bytes:
    """A TIFF of the same, deflated without loss."""
    return _encode(".tiff", image, [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE])


def write_jpeg(path: Path, image: Image, quality: int = 95) -> None:
    """Writes `encode_jpeg(image)` atomically."""
    _write(path, encode_jpeg(image, quality))


def write_png(path: Path, image: AnyImage) -> None:
    """Writes `encode_png(image)` atomically."""
    _write(path, encode_png(image))


def footage_images(folder: Path) -> list[Path]:
    """The pictures of a folder by natural name order (frame9 before frame10); raises BadInput where there are none."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    if not images:
        raise BadInput(f"{folder}: holds no pictures ({', '.join(IMAGE_SUFFIXES)}); give a folder of frames or a video file")
    return sorted(images, key=_natural_order)


def is_exr(path: Path) -> bool:
    """Whether the picture is an EXR, by its first bytes."""
    with path.open("rb") as file:
        return picture_kind(file.read(32)) == "EXR"


def picture_kind(data: bytes) -> str | None:
    """ "PNG", "JPEG", "TIFF", "BMP", "WebP" or "EXR" by the first bytes; None for anything else. Names are not trusted."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data.startswith(b"BM") and len(data) > 26 and data[6:10] == b"\0\0\0\0":
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return "EXR" if data.startswith(MAGIC) else None


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write a file to; renamed to `path` when the block ends well, removed when it fails.

    The file is flushed to disk before it gets its name, so that a kill leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(suffix: str, image: AnyImage, options: list[int]) -> bytes:
    codes = np.ascontiguousarray(image)
    is_done, data = cv2.imencode(suffix, cv2.cvtColor(codes, cv2.COLOR_RGB2BGR) if image.ndim == 3 else codes, options)
    if not is_done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as {suffix}")
    return data.tobytes()


def _write(path: Path, data: bytes) -> None:
    with written_beside(path) as partial:
        partial.write_bytes(data)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", path.name)]


# ---- sizes without decoding: cv2 has no such call, and decoding is what a picture bomb waits for ------------------------


def _size_px(kind: str, data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a picture; None where the header is incomplete."""
    readers = {"PNG": _png_size, "JPEG": _jpeg_size, "TIFF": _tiff_size, "BMP": _bmp_size, "WebP": _webp_size, "EXR": exr_size}
    try:
        return readers[kind](data)
    except (struct.error, IndexError, ValueError):
        return None


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    found = tiff_tags(data)
    return (found[256], found[257]) if {256, 257} <= found.keys() else None


def tiff_tags(data: bytes) -> dict[int, int]:
    """The numbers in the first directory of a TIFF by tag, where there is one alone. Raises struct.error for a broken one."""
    order, found = _tiff_order(data), {}
    for tag, kind, place in _tiff_entries(data):
        (found[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, place)
    return found


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(tag, kind of number, where its value stands) for each entry of the first directory."""
    order = _tiff_order(data)
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (num_entries,) = struct.unpack_from(f"{order}H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
        yield *struct.unpack_from(f"{order}HH", data, entry), entry + 8


def _tiff_order(data: bytes) -> str:
    return "<" if data.startswith(b"II") else ">"


def _with_colours_as_stored(kind: str | None, data: bytes) -> bytes:
    """A TIFF whose alpha is declared to be of an unspecified kind where it is unassociated; any other file as it is.

    OpenCV multiplies unassociated alpha into the colours of 8-bit files, which darkens them; ours is to drop it.
    """
    if kind != "TIFF":
        return data
    for tag, _, place in _tiff_entries(data):
        unassociated = struct.pack(f"{_tiff_order(data)}H", UNASSOCIATED_ALPHA)
        if tag == EXTRA_SAMPLES and data[place : place + 2] == unassociated:
            return data[:place] + bytes(2) + data[place + 2 :]
    return data


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
