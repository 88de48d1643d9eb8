"""How often each face is shown in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from understudy.imaging.sampling import MOST_OFTEN, balanced_shares


def test_rare_blinks_are_shown_as_often_as_open_eyes() -> None:
    openness = np.concatenate([np.full(80, 0.3), np.full(20, 0.1)])
    shares = balanced_shares(openness[:, None])
    assert shares[:80].sum() == pytest.approx(0.5)
    assert shares[80:].sum() == pytest.approx(0.5)


def test_a_handful_of_pictures_is_not_shown_without_limit() -> None:
    openness = np.concatenate([np.linspace(0.28, 0.3, 990), np.full(10, 0.1)])
    shares = balanced_shares(openness[:, None])
    assert 1.01 < shares[-1] * 1000 <= MOST_OFTEN


def test_a_face_that_is_rare_in_one_measure_gets_a_part_of_what_that_asks_for() -> None:
    yaw, mouth = np.tile([-30.0, 30.0], 50), np.concatenate([np.zeros(90), np.ones(10)])
    alone, both = balanced_shares(mouth[:, None]), balanced_shares(np.stack([yaw, mouth], axis=1))
    assert 0.01 < both[-1] < alone[-1]


def test_a_measure_that_is_unknown_or_never_varies_asks_for_nothing() -> None:
    measures = np.stack([np.full(10, np.nan), np.full(10, 0.3)], axis=1)
    np.testing.assert_allclose(balanced_shares(measures), 0.1)


@given(arrays(np.float64, (30, 2), elements=st.floats(-1e6, 1e6) | st.just(float("nan"))))
def test_every_face_keeps_a_share_and_they_add_up_to_one(measures: np.ndarray) -> None:
    shares = balanced_shares(measures)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()
