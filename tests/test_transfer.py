"""Transfer curves: published values, there and back for every 16-bit code, and the table that says the same."""

from __future__ import annotations

import numpy as np
import pytest

from understudy.imaging.transfer import HLG, LINEAR, PQ, SRGB, light_from_codes, light_from_signal, signal_from_light

CURVES = [1, 2, 4, 5, 6, 14, 15, LINEAR, SRGB, PQ, HLG]


@pytest.mark.parametrize("transfer", CURVES)
def test_every_16_bit_code_comes_back_to_a_twentieth_of_a_code(transfer: int) -> None:
    codes = np.arange(65536)
    back = signal_from_light(light_from_signal(codes / 65535, transfer), transfer)
    assert np.abs(back.astype(np.float64) * 65535 - codes).max() < 0.05


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),
    [
        (1, 0.5, 0.25959),  # ((0.5 + 0.0993) / 1.0993)^(1 / 0.45)
        (SRGB, 0.5, 0.21404),
        (PQ, 0.508078, 0.01),  # BT.2408: 100 cd/m2 lies at 50.8 %
        (PQ, 0.580689, 0.0203),  # and reference white, 203 cd/m2, at 58 %
        (HLG, 0.5, 1 / 12),
        (HLG, 0.75, 0.26496),  # BT.2408: reference white of HLG
    ],
)
def test_curves_pass_through_the_published_points(transfer: int, signal: float, light: float) -> None:
    assert float(light_from_signal(np.array(signal), transfer)) == pytest.approx(light, rel=1e-3)


@pytest.mark.parametrize("transfer", CURVES)
def test_curves_rise_from_black_to_white_and_mirror_below(transfer: int) -> None:
    light = light_from_signal(np.linspace(0, 1, 4097), transfer)
    assert light[0] == 0
    assert light[-1] == pytest.approx(1, abs=1e-6)
    assert (np.diff(light) >= 0).all()
    np.testing.assert_array_equal(light_from_signal(-np.linspace(0, 1, 4097), transfer), -light)


@pytest.mark.parametrize("transfer", CURVES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_table_says_the_same_as_the_curve(transfer: int, dtype: type[np.uint8] | type[np.uint16]) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (8, 9, 3), dtype)
    np.testing.assert_array_equal(light_from_codes(image, transfer), light_from_signal(image / np.iinfo(dtype).max, transfer))
