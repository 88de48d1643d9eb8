"""The step of training: the 2017 recipe computes what it always did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from record_original_training import GOLDEN, record


def test_the_first_steps_of_the_original_recipe_are_those_that_were_recorded() -> None:
    golden, now = json.loads(GOLDEN.read_text()), record()
    assert [list(losses) for losses in now["losses"]] == [["abel", "bea"]] * 3
    for losses, recorded in zip(now["losses"], golden["losses"], strict=True):
        assert losses == pytest.approx(recorded, rel=1e-6)
    assert now["sums"] == pytest.approx(golden["sums"], rel=1e-6)
