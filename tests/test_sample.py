"""The bundled sample is small, whole and readable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from understudy.media import probe, read_frames, read_image

PERFORMERS = ("abel", "bea")


def test_the_sample_takes_no_more_than_6_megabytes(sample: Path) -> None:
    assert sum(path.stat().st_size for path in sample.rglob("*") if path.is_file()) <= 6_000_000


def test_the_sample_carries_its_attribution(sample: Path) -> None:
    text = (sample / "README.md").read_text(encoding="utf-8")
    assert "CC0 1.0" in text
    assert "makehumancommunity" in text


@pytest.mark.parametrize("name", PERFORMERS)
def test_clips_have_the_frames_that_the_readme_says(sample: Path, name: str) -> None:
    assert probe(sample / f"{name}_train.mp4").num_frames_estimate == 300
    assert sum(1 for _ in read_frames(sample / f"{name}_test.mp4")) == 120


@pytest.mark.parametrize("name", PERFORMERS)
def test_the_truth_has_landmarks_and_a_mask_for_each_frame(sample: Path, name: str) -> None:
    truth = json.loads((sample / f"{name}_test.json").read_text(encoding="utf-8"))
    assert (truth["clip"], truth["fps"], truth["size"]) == (f"{name}_test", 25, [512, 512])
    assert [frame["frame"] for frame in truth["frames"]] == list(range(120))
    assert all(np.shape(frame["landmarks"]) == (68, 2) and len(frame["visible"]) == 68 for frame in truth["frames"])
    masks = sorted((sample / f"{name}_test_mask").glob("*.png"))
    assert [mask.name for mask in masks] == [f"{index:04d}.png" for index in range(120)]


@pytest.mark.parametrize("name", PERFORMERS)
def test_true_landmarks_lie_on_the_face_that_the_mask_shows(sample: Path, name: str) -> None:
    truth = json.loads((sample / f"{name}_test.json").read_text(encoding="utf-8"))
    nose_x, nose_y = np.array(truth["frames"][0]["landmarks"])[30]
    mask = read_image(sample / f"{name}_test_mask" / "0000.png")
    assert mask[int(nose_y), int(nose_x)].min() == 255
    assert mask[5, 5].max() == 0
