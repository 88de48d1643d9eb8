"""Event files as TensorBoard reads them: checksums, records and messages."""

from __future__ import annotations

import struct
from pathlib import Path

from understudy.store.tensorboard import ScalarLog, crc32c


def test_the_checksum_is_that_of_the_standards_examples() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_a_file_holds_a_version_and_then_a_record_for_each_step(tmp_path: Path) -> None:
    log = ScalarLog(tmp_path)
    log.add(300, {"loss": 0.5, "gradient_norm": 2.0})
    (path,) = (tmp_path / "tensorboard").iterdir()
    version, point = records(path.read_bytes())
    assert version.endswith(b"\x1a\x0dbrain.Event:2")
    assert point[9:12] == b"\x10\xac\x02", "field 2, the step: 300 in seven bits a byte"
    assert b"\x0a\x04loss\x15" + struct.pack("<f", 0.5) in point
    assert b"\x0a\x0dgradient_norm\x15" + struct.pack("<f", 2.0) in point


def records(data: bytes) -> list[bytes]:
    """The records of a file whose checksums are right."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        for checked, stored in ((data[:8], data[8:12]), (body, data[12 + length : 16 + length])):
            turned = (struct.unpack("<I", stored)[0] - 0xA282EAD8) & 0xFFFFFFFF
            assert ((turned << 15) | (turned >> 17)) & 0xFFFFFFFF == crc32c(checked)
        found.append(body)
        data = data[16 + length :]
    return found
