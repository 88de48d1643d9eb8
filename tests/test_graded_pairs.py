"""Morphs between performers, and the table of how a model does on them."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.graded import __main__ as pairs
from benchmarks.graded.__main__ import COLUMNS, DISTANCE, main, table
from benchmarks.graded.render import morph
from understudy.types import BadInput, silent

LEAN: dict[str, Any] = {
    "shape": {"nose": 0.4, "male": 1.0},
    "skin": [("pale", 0.6), ("both", 0.4)],
    "skin_gain": (1.0, 0.8, 0.6),
    "brow_rgb": (0.1, 0.1, 0.1),
    "pore": 1.0,
    "brow_alpha": 1.0,
    "hair_tex": "short",
}
ROUND: dict[str, Any] = {
    **LEAN,
    "shape": {"cheek": 0.8, "nose": 0.2},
    "skin": [("both", 0.5), ("dark", 0.5)],
    "gloss": 0.6,
    "hair_tex": "long",
}


def test_a_morph_has_its_share_of_both_weights() -> None:
    shape = morph(LEAN, ROUND, 0.25)["shape"]
    assert shape == pytest.approx({"nose": 0.35, "male": 0.75, "cheek": 0.2})


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_skins_of_a_morph_still_add_up_to_one(share: float) -> None:
    skin = dict(morph(LEAN, ROUND, share)["skin"])
    assert sum(skin.values()) == pytest.approx(1)
    assert skin["pale"] == pytest.approx(0.6 * (1 - share))


def test_a_morph_keeps_the_first_performers_hair() -> None:
    assert morph(LEAN, ROUND, 0.9)["hair_tex"] == "short"


def test_what_a_performer_does_not_say_is_what_the_renderer_takes() -> None:
    assert morph(LEAN, ROUND, 0.5)["gloss"] == pytest.approx((0.52 + 0.6) / 2)


def test_the_table_goes_from_the_stranger_to_the_near_relative() -> None:
    rows = {name: {**dict.fromkeys(COLUMNS, 0.5), DISTANCE: distance} for name, distance in (("near", 0.3), ("far", 0.8))}
    lines = table(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| far", "| near"]
    assert "| far | 0.80 |" in lines[2]


def test_a_folder_without_a_model_is_named_with_the_remedy(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(tmp_path), "truth.mp4", "plate.mp4", "--replace", "abel", "--with", "bea"]
    assert main(asked) == 2
    assert "train a model there first" in capsys.readouterr().err


def test_footage_whose_true_landmarks_nobody_knows_is_refused(sample: Path, tmp_path: Path) -> None:
    """Whoever is seen is taken for a performer: so the clip must be one that shows nobody."""
    plate = Path(shutil.copy(sample / "abel_test.mp4", tmp_path / "somebody.mp4"))
    with pytest.raises(BadInput, match="no true landmarks"):
        pairs._ready(plate, tmp_path, argparse.Namespace(), silent)
