"""Writes curves in TensorBoard's event files, without TensorBoard: `tensorboard --logdir MODEL` shows them.

Format: TFRecord (tensorflow/core/lib/io/record_writer.h: length, its checksum, data, its checksum, little-endian) of `Event`
messages (tensorflow/core/util/event.proto) in the encoding of protocol buffers.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path

from understudy.store.atomic import writing_to

TENSORBOARD_FOLDER = "tensorboard"
_CRC32C = 0x82F63B78
"""The Castagnoli polynomial, bits reversed (RFC 3720, B.4)."""


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (_CRC32C if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class ScalarLog:
    """Appends scalars to a file of this session's own in `folder/tensorboard`; a torn last record is what readers expect."""

    def __init__(self, folder: Path) -> None:
        now = time.time()
        self._path = folder / TENSORBOARD_FOLDER / f"events.out.tfevents.{int(now * 1000):014d}.understudy"
        with writing_to(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._append(_double(1, now) + _bytes(3, b"brain.Event:2"))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        summary = b"".join(_bytes(1, _bytes(1, name.encode()) + _float(2, value)) for name, value in values.items())
        self._append(_double(1, time.time()) + _varint(2 << 3) + _varint(step) + _bytes(5, summary))

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        record = length + _masked(length) + event + _masked(event)
        with writing_to(self._path), open(self._path, "ab", buffering=0) as file:
            file.write(record)


def _masked(data: bytes) -> bytes:
    """The checksum as TFRecord stores it, turned and shifted (record_writer.h)."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
