"""Transfer curves: from a picture's code values to linear light and back, where mixing two pictures means mixing their light.

Convention: signals are code values between 0 (black) and 1 (white). Curves go by the transfer number of ITU-T H.273, which
files carry: 1, 6, 14, 15 = BT.709, BT.601 and BT.2020; 13 = sRGB; 16 = PQ; 18 = HLG; 8 = linear. Light is 0 to 1 too: for PQ,
1 is 10,000 cd/m2; for HLG it is the scene's light at the brightest code. Values beyond 0 and 1 follow the curve, below 0 its
mirror image, so that what a filter overshoots comes back as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from understudy.types import AnyImage, FloatArray

Picture = NDArray[np.float32]

LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
GAMMAS = {4: 2.2, 5: 2.8}


def light_from_signal(signal: FloatArray, transfer: int) -> Picture:
    """Linear light (...) float32 of code values (...) in 0..1; a curve that is not known or not stated counts as BT.709."""
    light = _LIGHT.get(transfer, _bt709_light)
    return _odd(light, signal)


def signal_from_light(light: FloatArray, transfer: int) -> Picture:
    """Code values (...) float32 of linear light (...): the inverse of `light_from_signal`, to 1/20 of a 16-bit code."""
    signal = _SIGNAL.get(transfer, _bt709_signal)
    return _odd(signal, light)


def light_from_codes(image: AnyImage, transfer: int) -> Picture:
    """Linear light (..., 3) float32 of a picture, uint8 or uint16: the same by a table, many times faster."""
    return np.take(_table(transfer, np.iinfo(image.dtype).max), image)


def _odd(curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], values: FloatArray) -> Picture:
    """The curve on magnitudes, with the sign put back. Works in float64: PQ takes differences of nearly equal numbers."""
    exact = np.asarray(values, np.float64)
    return np.asarray(np.copysign(curve(np.abs(exact)), exact), np.float32)


@cache
def _table(transfer: int, top: int) -> Picture:
    table = light_from_signal(np.arange(top + 1) / top, transfer)
    table.setflags(write=False)
    return table


# ---- the curves, for values of 0 and more ---------------------------------------------------------------------------------

_BT709_ALPHA, _BT709_BETA = 1.09929682680944, 0.018053968510807
"""ITU-R BT.2020-2, table 4, at full precision, so that the two parts meet; BT.709 rounds them to 1.099 and 0.018."""


def _bt709_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.power((signal + (_BT709_ALPHA - 1)) / _BT709_ALPHA, 1 / 0.45)
    return np.where(signal < 4.5 * _BT709_BETA, signal / 4.5, power)


def _bt709_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light < _BT709_BETA, 4.5 * light, _BT709_ALPHA * np.power(light, 0.45) - (_BT709_ALPHA - 1))


def _srgb_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1."""
    return np.where(signal <= 0.04045, signal / 12.92, np.power((signal + 0.055) / 1.055, 2.4))


def _srgb_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light <= 0.04045 / 12.92, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, equation 4.1."""
    root = np.power(signal, 1 / _M2)
    return np.power(np.maximum(root - _C1, 0) / (_C2 - _C3 * root), 1 / _M1)


def _pq_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, equation 5.2."""
    root = np.power(light, _M1)
    return np.power((_C1 + _C2 * root) / (1 + _C3 * root), _M2)


_HLG_A = 0.17883277
_HLG_B, _HLG_C = 1 - 4 * _HLG_A, 0.5 - _HLG_A * np.log(4 * _HLG_A)


def _hlg_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100-2, table 5, the inverse of the OETF."""
    return np.where(signal <= 0.5, signal * signal / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def _hlg_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _HLG_A * np.log(np.maximum(12 * light - _HLG_B, 1e-9)) + _HLG_C
    return np.where(light <= 1 / 12, np.sqrt(3 * light), above)


def _gamma(exponent: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda values: np.power(values, exponent)


_LIGHT = {
    LINEAR: _gamma(1.0),
    SRGB: _srgb_light,
    PQ: _pq_light,
    HLG: _hlg_light,
    **{number: _gamma(exponent) for number, exponent in GAMMAS.items()},
}
_SIGNAL = {
    LINEAR: _gamma(1.0),
    SRGB: _srgb_signal,
    PQ: _pq_signal,
    HLG: _hlg_signal,
    **{number: _gamma(1 / exponent) for number, exponent in GAMMAS.items()},
}
