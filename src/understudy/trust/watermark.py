"""Marks pictures with an invisible tile that carries a 48-bit identity through re-encoding, scaling and cropping.

The tile has 128x128 samples and is repeated over the picture, four times along its short side. It is a sum of waves of 6 to
30 cycles a tile: a third of them are the pilot that finds the tile again, the others carry 127 bits, a BCH code word of the
identity and its checksum. Its strength follows the picture's own texture. The pattern is public: anyone may verify, so anyone
determined can remove or forge it. After JAWS: Kalker et al. 1999, "A video watermarking system for broadcast monitoring".
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.depth import STEPS_PER_LEVEL, eight_bit
from understudy.trust import bch
from understudy.types import AnyImage, BadInput, FloatArray, Image

TILE = 128
TILES_PER_SHORT_SIDE = 4
REFERENCE_LINES = TILE * TILES_PER_SHORT_SIDE
PUBLIC_KEY = b"org.understudy.watermark.1"
LOWEST_CYCLES, HIGHEST_CYCLES = 6, 30
ID_BITS = 48
MAX_RMS = 1.85
"""The mark's largest root mean square over a picture, in 8-bit steps: 42.5 dB."""
EVEN_CYCLES = 12.0
"""Finer waves are weaker, in inverse proportion: scaling and compression take them first anyway."""
_BASE_GAIN, _TEXTURE_GAIN, _MAX_GAIN = 0.9, 0.13, 3.2
_GAIN_UNIT, _TILE_UNIT = 64.0, 64.0


@dataclass(frozen=True)
class Waves:
    """Which Fourier coefficients of a tile carry what.

    rows, columns: (K,) positions in `rfft2` of the tile; phases: (K,) unit complex numbers; bits: (K,) the bit that a wave
    carries, -1 for the pilot.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    phases: NDArray[np.complex128]
    bits: NDArray[np.intp]


def pack_identity(identity: int) -> int:
    """The 127-bit code word of an identity and its checksum."""
    if not 0 <= identity < 1 << ID_BITS:
        raise ValueError(f"expected an identity of {ID_BITS} bits, got {identity}")
    return bch.encode(identity << 16 | _checksum(identity))


def unpack_identity(word: int) -> tuple[int, int] | None:
    """The identity in a received word and the number of bits corrected; None where the code or the checksum fails."""
    decoded = bch.decode(word)
    if decoded is None:
        return None
    data, num_errors = decoded
    identity, checksum = data >> 16, data & 0xFFFF
    return (identity, num_errors) if checksum == _checksum(identity) else None


@cache
def waves(key: bytes = PUBLIC_KEY) -> Waves:
    """The waves of a key, the same on every machine and version (drawn from SHAKE-256)."""
    rows, columns = np.meshgrid(np.arange(TILE), np.arange(TILE // 2), indexing="ij")
    radius = np.hypot(signed_rows(rows), columns)
    is_used = (radius >= LOWEST_CYCLES) & (radius < HIGHEST_CYCLES) & ((columns > 0) | (signed_rows(rows) > 0))
    rows, columns = rows[is_used], columns[is_used]
    num_waves = len(rows)
    draws = np.frombuffer(hashlib.shake_256(key).digest(8 * num_waves), dtype="<u4").reshape(2, num_waves)
    phases = np.exp(2j * np.pi * draws[0] / 2**32)
    order = np.argsort(draws[1], kind="stable")
    num_pilot = num_waves // 3
    bits = np.empty(num_waves, dtype=np.intp)
    bits[order[:num_pilot]] = -1
    bits[order[num_pilot:]] = np.arange(num_waves - num_pilot) % bch.LENGTH
    return Waves(rows, columns, phases, bits)


def tile(identity: int, key: bytes = PUBLIC_KEY, oversampling: int = 1) -> FloatArray:
    """One tile of unit standard deviation, (128 n, 128 n) for `oversampling` n."""
    carried = waves(key)
    word = pack_identity(identity)
    signs = np.array([1.0] + [1.0 if word >> bit & 1 else -1.0 for bit in range(bch.LENGTH)])[carried.bits + 1]
    size = TILE * oversampling
    spectrum = np.zeros((size, size // 2 + 1), dtype=np.complex128)
    rows = np.where(carried.rows < TILE // 2, carried.rows, carried.rows - TILE + size)
    radius = np.hypot(signed_rows(carried.rows), carried.columns)
    spectrum[rows, carried.columns] = carried.phases * signs * np.minimum(1.0, EVEN_CYCLES / radius)
    samples = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray(samples / samples.std(), dtype=np.float32)


def signed_rows(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The frequency of each row of a tile's spectrum, negative in its second half."""
    return np.where(rows < TILE // 2, rows, rows - TILE)


def pattern(identity: int, width: int, height: int, key: bytes = PUBLIC_KEY) -> FloatArray:
    """The tile repeated over a picture of this size, (height, width) float32, unit standard deviation."""
    oversampled = tile(identity, key, 4)
    samples_per_px = oversampled.shape[0] * TILES_PER_SHORT_SIDE / min(width, height)
    columns = ((np.arange(width, dtype=np.float32) + 0.5) * samples_per_px - 0.5) % oversampled.shape[0]
    rows = ((np.arange(height, dtype=np.float32) + 0.5) * samples_per_px - 0.5) % oversampled.shape[0]
    padded = np.pad(oversampled, 1, mode="wrap")
    column_map, row_map = np.meshgrid(columns + 1, rows + 1)
    return cv2.remap(padded, column_map.astype(np.float32), row_map.astype(np.float32), cv2.INTER_LINEAR)


class Marker:
    """Marks pictures of one size with one identity; what does not depend on the picture is made once."""

    def __init__(self, identity: int, width: int, height: int, strength: float = 1.0) -> None:
        """Raises BadInput for a picture too small to carry the mark; `strength` 1 is for finished pictures."""
        if min(width, height) < 64:
            raise BadInput(f"expected footage of at least 64x64 pixels to carry the watermark, got {width}x{height}")
        self.identity = identity
        self._size = (width, height)
        self._strength = strength
        scaled = np.clip(np.rint(pattern(identity, width, height) * _TILE_UNIT), -255, 255)
        self._raise = np.maximum(scaled, 0).astype(np.uint8)
        self._lower = np.maximum(-scaled, 0).astype(np.uint8)

    def mark(self, frame: AnyImage, matte: FloatArray | None = None) -> AnyImage:
        """The marked picture, (height, width, 3) in its own depth; the mark is equally strong in 8 and in 16 bits.

        matte: (height, width) 0..1, marks only where it is above 0 and leaves every other pixel as it was; for intermediates.
        """
        width, height = self._size
        if frame.shape != (height, width, 3):
            raise BadInput(f"expected a picture of {width}x{height}, got {frame.shape[1]}x{frame.shape[0]}; mark at one size")
        gain = self._gain(eight_bit(frame))
        if matte is not None:
            gain = _within_matte(gain, matte)
        steps_per_level, depth = (1, cv2.CV_8U) if frame.dtype == np.uint8 else (STEPS_PER_LEVEL, cv2.CV_16U)
        scale = steps_per_level / (_GAIN_UNIT * _TILE_UNIT)
        added = cv2.multiply(gain, self._raise, scale=scale, dtype=depth)
        removed = cv2.multiply(gain, self._lower, scale=scale, dtype=depth)
        marked = cv2.add(frame, cv2.merge((added, added, added)))
        return cast(AnyImage, cv2.subtract(marked, cv2.merge((removed, removed, removed))))

    def _gain(self, frame: Image) -> NDArray[np.uint8]:
        """(height, width) strength in 1/64 steps, from the local texture at no more than the reference size."""
        width, height = self._size
        shrink = max(1.0, min(width, height) / REFERENCE_LINES)
        small = cv2.resize(frame, (round(width / shrink), round(height / shrink)), interpolation=cv2.INTER_LINEAR)
        gain = texture_gain(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)) * np.float32(self._strength)
        rms = float(np.sqrt(np.mean(np.square(gain))))
        gain *= np.float32(_GAIN_UNIT * min(1.0, MAX_RMS * self._strength / rms))
        return cv2.resize(gain.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)


def texture_gain(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How strong a mark the picture hides at each place, in 8-bit steps: more where it is busy."""
    values = luma.astype(np.float32)
    mean = cv2.boxFilter(values, -1, (9, 9))
    variance = cv2.boxFilter(values * values, -1, (9, 9)) - mean * mean
    gain = _BASE_GAIN + _TEXTURE_GAIN * np.sqrt(np.maximum(variance, 0.0))
    return np.minimum(gain, np.float32(_MAX_GAIN)).astype(np.float32)


def _within_matte(gain: NDArray[np.uint8], matte: FloatArray) -> NDArray[np.uint8]:
    return np.asarray(np.floor(gain * np.clip(matte, 0.0, 1.0)), dtype=np.uint8)


def _checksum(identity: int) -> int:
    return binascii.crc_hqx(identity.to_bytes(6, "big"), 0xFFFF)
