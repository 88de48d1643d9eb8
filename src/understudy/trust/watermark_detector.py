"""Finds the watermark in pictures that were re-encoded, scaled or cropped, and reads its identity.

Pictures are brought to the reference size, flattened (high-pass, divided by the local contrast) and averaged; then, for each of
a range of scales, folded to one tile and correlated with the pilot over all shifts. The highest peak, in standard deviations of
its surroundings, is `z`; the peak gives scale and shift, at which the bits are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.trust import bch
from understudy.trust.watermark import (
    HIGHEST_CYCLES,
    LOWEST_CYCLES,
    PUBLIC_KEY,
    REFERENCE_LINES,
    TILE,
    Waves,
    unpack_identity,
    waves,
)
from understudy.types import FloatArray, Image

SCALES = tuple(float(scale) for scale in np.geomspace(0.74, 1.35, 92))
"""How much of the reference size a cropped picture may be stretched to."""
Z_PRESENT = 7.8
"""A peak this high is a mark (measured in docs/trust.md)."""
Z_WITH_IDENTITY = 5.5
"""A peak this high is a mark if the identity's code and checksum hold as well."""
FALSE_POSITIVE_RATE = 1e-6
"""The bound that both rules keep, for each clip searched."""
NUM_WEAK_BITS = 6
MAX_ASPECT = 6
"""Of a longer or higher picture only the beginning is searched, so that a strip of pixels cannot ask for endless memory."""
_PART_SHIFTS = (-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45)
_FINE_STEPS = (-0.006, -0.003, 0.0, 0.003, 0.006)


@dataclass(frozen=True)
class Detection:
    """What was found: the peak's height, whether that means a mark, and the identity where it could be read."""

    z: float
    is_present: bool
    identity: int | None
    num_errors: int | None
    num_pictures: int


@dataclass(frozen=True)
class Evidence:
    """Pictures averaged at the reference size: (height, width) float32, and how many."""

    residual: FloatArray
    num_pictures: int


def gather(pictures: Iterable[Image]) -> Evidence | None:
    """The average flattened picture; all must have one size (others are left out). None without any."""
    total: FloatArray | None = None
    num_pictures = 0
    for picture in pictures:
        flat = _flatten(picture)
        if total is None:
            total = np.zeros_like(flat)
        if flat.shape != total.shape:
            continue
        total += flat
        num_pictures += 1
    return None if total is None else Evidence(total / np.float32(num_pictures), num_pictures)


def detect(evidence: Evidence, key: bytes = PUBLIC_KEY) -> Detection:
    """Searches scales and shifts for the mark of a key and reads its identity."""
    coarse = [_Peak.of(_fold(evidence.residual, scale, scale), key, scale, scale) for scale in SCALES]
    best = max(coarse, key=lambda peak: peak.z)
    across, down = best.across, best.down
    fine = [
        _Peak.of(_fold(evidence.residual, across * (1 + i), down * (1 + j)), key, across * (1 + i), down * (1 + j))
        for i in _FINE_STEPS
        for j in _FINE_STEPS
    ]
    best = max([best, *fine], key=lambda peak: peak.z)
    found = best.read_identity(key) if best.z >= Z_WITH_IDENTITY else None
    return Detection(
        z=best.z,
        is_present=best.z >= Z_PRESENT or found is not None,
        identity=found[0] if found else None,
        num_errors=found[1] if found else None,
        num_pictures=evidence.num_pictures,
    )


def peak_heights(evidence: Evidence, keys: Sequence[bytes], scales: Sequence[float] = SCALES) -> FloatArray:
    """(N,) the highest z of each key at these scales: what pictures give for keys they were not marked with."""
    spectra = [_fold(evidence.residual, scale, scale) for scale in scales]
    return np.array([max(_Peak.of(spectrum, key, 1.0, 1.0).z for spectrum in spectra) for key in keys])


@dataclass(frozen=True)
class _Peak:
    """The highest correlation at one scale: its height, the shift (row, column) and the whitened spectrum it was found in."""

    z: float
    shift: tuple[int, int]
    spectrum: NDArray[np.complex128]
    across: float
    down: float

    @staticmethod
    def of(spectrum: NDArray[np.complex128], key: bytes, across: float, down: float) -> _Peak:
        surface = np.fft.irfft2(spectrum * np.conj(_pilot(key)), s=(TILE, TILE))
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        z = float((surface[row, column] - surface.mean()) / (surface.std() + 1e-12))
        return _Peak(z, (int(row), int(column)), spectrum, across, down)

    def soft_bits(self, key: bytes) -> FloatArray:
        """(127,) one number a bit, positive for 1: the sum over its waves, weighed by how well the pilot near each is kept."""
        carried = waves(key)
        is_pilot = carried.bits < 0
        values = max((self._values(key, row, column) for row in _PART_SHIFTS for column in _PART_SHIFTS),
                     key=lambda each: float(each[is_pilot].sum()))  # fmt: skip
        weighed = values * _kept(_radius_of(carried), is_pilot, values)
        return np.bincount(carried.bits[~is_pilot], weighed[~is_pilot], bch.LENGTH).astype(np.float64)

    def read_identity(self, key: bytes) -> tuple[int, int] | None:
        """The identity and the number of bits corrected, trying both values of the weakest bits (Chase 1972, algorithm 2)."""
        bits = self.soft_bits(key)
        word = sum(1 << bit for bit, value in enumerate(bits) if value > 0)
        weakest = [int(bit) for bit in np.argsort(np.abs(bits))[:NUM_WEAK_BITS]]
        for num_turned in range(NUM_WEAK_BITS + 1):
            for turned in combinations(weakest, num_turned):
                found = unpack_identity(word ^ sum(1 << bit for bit in turned))
                if found:
                    return found[0], found[1] + num_turned
        return None

    def _values(self, key: bytes, part_row: float, part_column: float) -> FloatArray:
        """(K,) how much of each wave is there, if the tile is shifted by the peak and these parts of a sample."""
        carried = waves(key)
        row, column = self.shift[0] + part_row, self.shift[1] + part_column
        turned = np.exp(2j * np.pi * (_signed(carried.rows) * row + carried.columns * column) / TILE)
        return np.real(self.spectrum[carried.rows, carried.columns] * turned * np.conj(carried.phases))


def _kept(radius: FloatArray, is_pilot: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """(K,) the mean of the pilot's waves of about the same frequency: compression takes the fine ones first."""
    nearness = np.exp(-0.5 * ((radius[:, None] - radius[is_pilot][None, :]) / 2.5) ** 2)
    return np.maximum(nearness @ values[is_pilot] / nearness.sum(axis=1), 0.02)


def _radius_of(carried: Waves) -> FloatArray:
    return np.hypot(_signed(carried.rows), carried.columns)


def _signed(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.where(rows < TILE // 2, rows, rows - TILE)


def _flatten(picture: Image) -> FloatArray:
    """The fine structure of a picture's luminance at the reference size, divided by its local contrast, clipped."""
    longest = MAX_ASPECT * min(picture.shape[:2])
    picture = np.ascontiguousarray(picture[:longest, :longest])
    height, width = picture.shape[:2]
    scale = REFERENCE_LINES / min(width, height)
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    size = (max(TILE, round(width * scale)), max(TILE, round(height * scale)))
    values = cv2.resize(luma.astype(np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(values, (0, 0), 0.7) - cv2.GaussianBlur(values, (0, 0), 4.0)
    contrast = np.sqrt(np.maximum(cv2.boxFilter(fine * fine, -1, (17, 17)), 0.0))
    return np.asarray(np.clip(fine / (contrast + 0.7), -2.0, 2.0))


def _fold(residual: FloatArray, across: float, down: float) -> NDArray[np.complex128]:
    """The whitened spectrum of all tiles laid upon each other, if a tile is 128 times this scale in the picture."""
    height, width = residual.shape
    size = (max(TILE, round(width / across)), max(TILE, round(height / down)))
    scaled = cv2.resize(residual, size, interpolation=cv2.INTER_LINEAR)
    rows, columns = -(-size[1] // TILE), -(-size[0] // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), dtype=np.float32)
    padded[: size[1], : size[0]] = scaled
    folded = padded.reshape(rows, TILE, columns, TILE).sum(axis=(0, 2))
    return _whiten(np.fft.rfft2(folded))


def _whiten(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Divides each ring of equal frequency by its mean magnitude, outside of the mark's band by infinity; caps outliers."""
    rings, is_used = _rings()
    magnitude = np.abs(spectrum)
    mean = np.bincount(rings.ravel(), magnitude.ravel()) / np.bincount(rings.ravel())
    relative = magnitude / (mean[rings] + 1e-12)
    cap = np.minimum(relative, 2.0)
    return np.asarray(np.where(is_used, spectrum / (magnitude + 1e-12) * cap, 0.0))


@cache
def _rings() -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    rows, columns = np.meshgrid(np.arange(TILE), np.arange(TILE // 2 + 1), indexing="ij")
    radius = np.hypot(_signed(rows), columns)
    return radius.round().astype(np.intp), (radius >= LOWEST_CYCLES) & (radius < HIGHEST_CYCLES)


@cache
def _pilot(key: bytes) -> NDArray[np.complex128]:
    carried = waves(key)
    is_pilot = carried.bits < 0
    spectrum = np.zeros((TILE, TILE // 2 + 1), dtype=np.complex128)
    # Coarse waves weigh more: they survive compression and scaling better.
    weights = 1.0 / (1.0 + (_radius_of(carried) / 16.0) ** 2)
    spectrum[carried.rows[is_pilot], carried.columns[is_pilot]] = (carried.phases * weights)[is_pilot]
    return spectrum
