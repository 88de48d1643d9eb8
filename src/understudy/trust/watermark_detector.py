"""Finds the watermark in pictures that were re-encoded, scaled or cropped, and reads its identity.

Pictures are brought to the reference size, flattened (high-pass, divided by the local contrast) and averaged, then folded to
one tile, each repetition whitened before, and correlated with the pilot. The whole picture is tried first, where scale and
shift are nearly known; then a range of scales and all shifts, for cropped ones. `z` is the highest peak in standard deviations
of its surroundings.

How likely an unmarked clip gives as much follows from the pattern being random: at a wrong place each wave's part of the sum is
its magnitude times the cosine of a uniform angle, so `z` spreads no more than a normal variable, and the energy of the 127
bits, on which the choice of the place does not depend, no more than chi-square. Both are put together by Fisher's method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    signed_rows,
    unpack_identity,
    waves,
)
from understudy.types import FloatArray, Image

SCALES = tuple(float(scale) for scale in np.geomspace(0.74, 1.35, 92))
"""How much of the reference size a cropped picture may be stretched to."""
P_PRESENT = 1e-7
"""So unlikely is what is called a mark, in an unmarked clip, for each of the four searches that `verify` makes at most."""
Z_WITH_IDENTITY = 5.0
"""From here on the identity is tried; its code and checksum accept a random word once in 4e7 times."""
FALSE_POSITIVE_RATE = 1e-6
"""The bound that all of this keeps, for each clip."""
NUM_PLACES_WHOLE, NUM_PLACES_SEARCHED = 1_000, 2_000_000
"""Scales times shifts that are tried, rounded up: the chance of a peak is at most so many times that of a place."""
WHOLE_SHIFT = 2
"""How many samples (of 512 on the short side) a whole picture may be shifted by rounding of its size."""
NUM_WEAK_BITS = 6
MAX_ASPECT = 6
"""Of a longer or higher picture only the beginning is searched, so that a strip of pixels cannot ask for endless memory."""
_PART_SHIFTS = (-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45)
_FINE_STEPS = (-0.006, -0.003, 0.0, 0.003, 0.006)
_MOST_OF_ONE, _MOST_OF_ALL = 2.0, 1.0
"""How far above its ring's mean a wave may stand: in one repetition of the tile, and in all laid upon each other."""


@dataclass(frozen=True)
class Detection:
    """What was found: the peak's height, the chance that an unmarked clip gives as much, if that is a mark, its identity."""

    z: float
    p: float
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
    """Searches for the mark of a key and reads its identity."""
    found = _judged(_refined(evidence, 1.0, 1.0, key, WHOLE_SHIFT), NUM_PLACES_WHOLE, key, evidence.num_pictures)
    if found.identity is not None:
        return found
    coarse = max((_Peak.of(_fold(evidence.residual, scale, scale), key, scale, scale) for scale in SCALES), key=_height)
    best = max(coarse, _refined(evidence, coarse.across, coarse.down, key), key=_height)
    searched = _judged(best, NUM_PLACES_SEARCHED, key, evidence.num_pictures)
    return max(found, searched, key=lambda each: (each.identity is not None, -each.p))


def _refined(evidence: Evidence, across: float, down: float, key: bytes, within: int | None = None) -> _Peak:
    """The highest peak at scales about this one; `within`: of all shifts only those up to so many samples."""
    scales = [(across * (1 + i), down * (1 + j)) for i in _FINE_STEPS for j in _FINE_STEPS]
    return max((_Peak.of(_fold_evenly(evidence.residual, *scale), key, *scale, within) for scale in scales), key=_height)


def _height(peak: _Peak) -> float:
    return peak.z


def _judged(peak: _Peak, num_places: int, key: bytes, num_pictures: int) -> Detection:
    strengths = peak.strengths(key)
    p = _both(min(1.0, num_places * 0.5 * math.erfc(peak.z / math.sqrt(2))), _energy_tail(float(np.sum(strengths.bits**2))))
    identity = _identity_in(strengths.soft_bits) if peak.z >= Z_WITH_IDENTITY or p < P_PRESENT else None
    read, num_errors = identity or (None, None)
    return Detection(peak.z, p, p < P_PRESENT or read is not None, read, num_errors, num_pictures)


def _both(p: float, q: float) -> float:
    """The chance of two independent findings as unlikely as these together (Fisher 1925)."""
    product = max(p * q, 1e-300)
    return product * (1 - math.log(product))


def _energy_tail(energy: float) -> float:
    """The chance that 128 squared normal variables sum up to this much: 64 terms of the exponential series."""
    half = energy / 2
    logs = [number * math.log(max(half, 1e-9)) - math.lgamma(number + 1) - half for number in range((bch.LENGTH + 1) // 2)]
    return min(1.0, sum(map(math.exp, logs)))


@dataclass(frozen=True)
class _Strengths:
    """How much of each bit is there, (127,), positive for 1: for decoding, and in standard deviations of a wrong place."""

    soft_bits: FloatArray
    bits: FloatArray


@dataclass(frozen=True)
class _Peak:
    """The highest correlation at one scale: its height, the shift (row, column) and the whitened spectrum it was found in."""

    z: float
    shift: tuple[int, int]
    spectrum: NDArray[np.complex128]
    across: float
    down: float

    @staticmethod
    def of(spectrum: NDArray[np.complex128], key: bytes, across: float, down: float, within: int | None = None) -> _Peak:
        surface = np.fft.irfft2(spectrum * np.conj(_pilot(key)), s=(TILE, TILE))
        spread = float(surface.std()) + 1e-12  # its mean is 0: the pilot has no constant part
        if within is not None:
            surface = np.where(_is_near(within), surface, -np.inf)
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        return _Peak(float(surface[row, column]) / spread, (int(row), int(column)), spectrum, across, down)

    def strengths(self, key: bytes) -> _Strengths:
        """Each bit is the sum over its waves, weighed by how well the pilot near each is kept."""
        carried = waves(key)
        is_pilot = carried.bits < 0
        values = max((self._values(key, row, column) for row in _PART_SHIFTS for column in _PART_SHIFTS),
                     key=lambda each: float(each[is_pilot].sum()))  # fmt: skip
        kept = _kept(_radius_of(carried), is_pilot, values)
        soft = np.bincount(carried.bits[~is_pilot], (values * kept)[~is_pilot], bch.LENGTH).astype(np.float64)
        # A wave at a wrong place: magnitude times the cosine of a uniform angle, whose mean square is a half.
        power = (np.abs(self.spectrum[carried.rows, carried.columns]) * kept)[~is_pilot] ** 2 / 2
        variance = np.bincount(carried.bits[~is_pilot], power, bch.LENGTH)
        return _Strengths(soft, soft / np.sqrt(variance + 1e-12))

    def _values(self, key: bytes, part_row: float, part_column: float) -> FloatArray:
        """(K,) how much of each wave is there, if the tile is shifted by the peak and these parts of a sample."""
        carried = waves(key)
        row, column = self.shift[0] + part_row, self.shift[1] + part_column
        turned = np.exp(2j * np.pi * (signed_rows(carried.rows) * row + carried.columns * column) / TILE)
        return np.real(self.spectrum[carried.rows, carried.columns] * turned * np.conj(carried.phases))


def _identity_in(soft_bits: FloatArray) -> tuple[int, int] | None:
    """The identity and the number of bits corrected, trying both values of the weakest bits (Chase 1972, algorithm 2)."""
    word = sum(1 << bit for bit, value in enumerate(soft_bits) if value > 0)
    weakest = [int(bit) for bit in np.argsort(np.abs(soft_bits))[:NUM_WEAK_BITS]]
    for num_turned in range(NUM_WEAK_BITS + 1):
        for turned in combinations(weakest, num_turned):
            found = unpack_identity(word ^ sum(1 << bit for bit in turned))
            if found:
                return found[0], found[1] + num_turned
    return None


def _kept(radius: FloatArray, is_pilot: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """(K,) the mean of the pilot's waves of about the same frequency: compression takes the fine ones first."""
    nearness = np.exp(-0.5 * ((radius[:, None] - radius[is_pilot][None, :]) / 2.5) ** 2)
    return np.maximum(nearness @ values[is_pilot] / nearness.sum(axis=1), 0.02)


def _radius_of(carried: Waves) -> FloatArray:
    return np.hypot(signed_rows(carried.rows), carried.columns)


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
    return _spectrum(_whiten(_waves_of(_tiles(residual, across, down).sum(axis=0)[None]), _MOST_OF_ALL)[0])


def _fold_evenly(residual: FloatArray, across: float, down: float) -> NDArray[np.complex128]:
    """The same, each tile whitened first, so that a picture's busy parts do not drown the others; several times as slow."""
    tiles = _tiles(residual, across, down)
    shares = np.sqrt(np.mean(tiles != 0, axis=(1, 2)))  # the last ones are cut off by the picture's edge
    even = shares @ _whiten(_waves_of(tiles), _MOST_OF_ONE)
    return _spectrum(_whiten(even[None], _MOST_OF_ALL)[0])


def _tiles(residual: FloatArray, across: float, down: float) -> FloatArray:
    """(N, 128, 128): the picture cut into tiles, if a tile is 128 times this scale in it; 0 beyond its edge."""
    height, width = residual.shape
    size = (max(TILE, round(width / across)), max(TILE, round(height / down)))
    scaled = cv2.resize(residual, size, interpolation=cv2.INTER_LINEAR)
    rows, columns = -(-size[1] // TILE), -(-size[0] // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), dtype=np.float32)
    padded[: size[1], : size[0]] = scaled
    return padded.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)


def _waves_of(tiles: FloatArray) -> NDArray[np.complex128]:
    """(N, K): of each tile the Fourier coefficients in the mark's band."""
    rows, columns, _ = _band()
    return np.fft.rfft2(tiles)[:, rows, columns]


def _spectrum(band: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The whole spectrum, (128, 65), of which these (K,) are the band; 0 outside."""
    rows, columns, _ = _band()
    spectrum = np.zeros((TILE, TILE // 2 + 1), dtype=np.complex128)
    spectrum[rows, columns] = band
    return spectrum


def _whiten(band: NDArray[np.complex128], most: float) -> NDArray[np.complex128]:
    """Divides each ring of equal frequency by its mean magnitude, and caps outliers; (N, K), each of N by itself."""
    _, _, rings = _band()
    magnitude = np.abs(band)
    num_waves = np.bincount(rings)
    of_all = rings + len(num_waves) * np.arange(len(band))[:, None]
    means = np.bincount(of_all.ravel(), magnitude.ravel()).reshape(len(band), -1) / np.maximum(num_waves, 1)
    relative = magnitude / (means[:, rings] + 1e-12)
    return np.asarray(band / (magnitude + 1e-12) * np.minimum(relative, most))


@cache
def _band() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """(K,) row, column and ring of each coefficient that may carry the mark."""
    rows, columns = np.meshgrid(np.arange(TILE), np.arange(TILE // 2 + 1), indexing="ij")
    radius = np.hypot(signed_rows(rows), columns)
    is_used = (radius >= LOWEST_CYCLES) & (radius < HIGHEST_CYCLES)
    return rows[is_used], columns[is_used], radius[is_used].astype(np.intp)


@cache
def _is_near(within: int) -> NDArray[np.bool_]:
    """Which of a tile's shifts are at most so many samples, to either side."""
    distance = np.abs(signed_rows(np.arange(TILE)))
    return np.asarray((distance[:, None] <= within) & (distance[None, :] <= within))


@cache
def _pilot(key: bytes) -> NDArray[np.complex128]:
    carried = waves(key)
    is_pilot = carried.bits < 0
    spectrum = np.zeros((TILE, TILE // 2 + 1), dtype=np.complex128)
    # Coarse waves weigh more: they survive compression and scaling better.
    weights = 1.0 / (1.0 + (_radius_of(carried) / 16.0) ** 2)
    spectrum[carried.rows[is_pilot], carried.columns[is_pilot]] = (carried.phases * weights)[is_pilot]
    return spectrum
