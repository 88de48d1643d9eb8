"""Puts an XMP packet into mp4, mov, png and jpeg files and reads it back, without touching the picture's data.

Places: ISO media: a top-level `uuid` box (XMP specification part 3, 1.2.7.1); PNG: an iTXt chunk; JPEG: an APP1 segment.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from understudy.types import BadInput

_BOX_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_PNG_START, _PNG_KEYWORD = b"\x89PNG\r\n\x1a\n", b"XML:com.adobe.xmp\0\0\0\0\0"
_JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_PACKET_BYTES = 1_000_000
_MAX_PARTS = 100_000
"""No whole file has more boxes, chunks or segments; one made to have more is not searched further."""


def add_xmp(path: Path, packet: str) -> bool:
    """Adds the packet to a file in place; False where this kind of file has no place for it. Raises BadInput if damaged."""
    data = packet.encode()
    with path.open("rb+") as file:
        if _kind(file) == "iso":
            _append_box(path, file, data)
        elif not _insert_packet(file, data):
            return False
        file.flush()
        os.fsync(file.fileno())
    return True


def with_xmp(picture: bytes, packet: str) -> bytes:
    """An encoded JPEG or PNG with the packet in it. Raises ValueError for anything else."""
    file = BytesIO(picture)
    if not _insert_packet(file, packet.encode()):
        raise ValueError(f"expected a picture encoded as JPEG or PNG, got {len(picture)} bytes that begin with {picture[:8]!r}")
    return file.getvalue()


def read_xmp(path: Path) -> str | None:
    """The packet of a file, None where there is none; never raises for what a file holds."""
    try:
        with path.open("rb") as file:
            packets = {"iso": _iso_packets, "png": _png_packets, "jpeg": _jpeg_packets}.get(_kind(file) or "")
            found = next(packets(file), None) if packets else None
    except (OSError, struct.error, IndexError):
        return None
    return found.decode(errors="replace") if found else None


def _kind(file: BinaryIO) -> str | None:
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp":
        return "iso"
    if head.startswith(_PNG_START):
        return "png"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else None


def _insert_packet(file: BinaryIO, data: bytes) -> bool:
    """Into a PNG, behind its header, or a JPEG, behind its first segment; False where it is neither."""
    kind = _kind(file)
    if kind == "png":
        text = b"iTXt" + _PNG_KEYWORD + data
        _insert(file, 33, struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)))
    elif kind == "jpeg":
        body = _JPEG_HEADER + data
        _insert(file, _after_jfif(file), b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    return kind in ("png", "jpeg")


def _append_box(path: Path, file: BinaryIO, data: bytes) -> None:
    end = 0
    for start, size, _ in _boxes(file):
        end = start + size
    if end != file.seek(0, os.SEEK_END):
        raise BadInput(f"{path}: its boxes do not end where the file ends, so it was cut off; write it again")
    file.write(struct.pack(">I4s", len(data) + 24, b"uuid") + _BOX_UUID + data)


def _boxes(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(start, size, kind) of each top-level box."""
    start, total = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MAX_PARTS):
        if start + 8 > total:
            return
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if size < 8:  # 0: to the end of the file, where nothing can be appended; else damage
            return
        yield start, size, kind
        start += size


def _iso_packets(file: BinaryIO) -> Iterator[bytes]:
    for start, size, kind in _boxes(file):
        file.seek(start + 8)
        if kind == b"uuid" and size <= _MAX_PACKET_BYTES and file.read(16) == _BOX_UUID:
            yield file.read(size - 24)


def _png_packets(file: BinaryIO) -> Iterator[bytes]:
    start = 8
    for _ in range(_MAX_PARTS):
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"iTXt" and size <= _MAX_PACKET_BYTES:
            data = file.read(size)
            if data.startswith(_PNG_KEYWORD):
                yield data[len(_PNG_KEYWORD) :]
        start += size + 12


def _jpeg_packets(file: BinaryIO) -> Iterator[bytes]:
    start = 2
    for _ in range(_MAX_PARTS):
        file.seek(start)
        sync, marker, size = struct.unpack(">BBH", file.read(4))
        if sync != 0xFF or marker == 0xDA or size < 2:
            return
        data = file.read(size - 2) if marker == 0xE1 else b""
        if data.startswith(_JPEG_HEADER):
            yield data[len(_JPEG_HEADER) :]
        start += size + 2


def _after_jfif(file: BinaryIO) -> int:
    file.seek(2)
    marker, size = struct.unpack(">HH", file.read(4))
    return 4 + size if marker == 0xFFE0 else 2


def _insert(file: BinaryIO, offset: int, data: bytes) -> None:
    file.seek(offset)
    rest = file.read()
    file.seek(offset)
    file.write(data + rest)
