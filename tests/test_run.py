"""A small project goes the whole way with the real stages, skips what is done, and redoes what has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from understudy.media import read_frames, write_png
from understudy.trust.consent import create_record

PROJECT = """
[project]
name = "small"
out = "made"

[performers.abel]
footage = ["abel"]

[performers.bea]
footage = ["bea"]

[train]
steps = 2
set = { batch_size = 2, warmup_steps = 0 }

[[swap]]
plate = "plate"
replace = "abel"
with = "bea"
truth = "truth"
set = { colour = "none" }
"""


def write_frames(clip: Path, folder: Path, num: int) -> None:
    folder.mkdir()
    for frame in read_frames(clip, stop=num):
        write_png(folder / f"{frame.index:04d}.png", frame.image)


def run_in(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", "from understudy.cli import main; main()", "run", "small.toml", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_a_project_goes_the_whole_way_and_then_does_only_what_has_changed(sample: Path, tmp_path: Path) -> None:
    for name, clip, num in (
        ("abel", "abel_train", 26),
        ("bea", "bea_train", 26),
        ("plate", "abel_test", 6),
        ("truth", "bea_test", 6),
    ):
        write_frames(sample / f"{clip}.mp4", tmp_path / name, num)
    (tmp_path / "small.toml").write_text(PROJECT, encoding="utf-8")

    for name in ("abel", "bea"):
        create_record(tmp_path / "consent", name, "synthetic")

    first = run_in(tmp_path)
    assert (first["num_done"], first["num_up_to_date"]) == (5, 0)
    swap = first["swaps"]["plate"]
    assert swap["num_frames"] == 6
    assert swap["num_swapped"] + swap["num_without_face"] + swap["num_failed"] == 6
    assert {"psnr_db", "plate_psnr_db", "leak", "detail", "contrast"} <= set(swap)
    assert Path(tmp_path, swap["swap"]).is_file()
    assert Path(tmp_path, swap["report"]).is_file()

    second = run_in(tmp_path)
    assert (second["num_done"], second["num_up_to_date"]) == (0, 5)
    assert second["swaps"] == first["swaps"]

    (tmp_path / "small.toml").write_text(PROJECT.replace('"none"', '"plate"'), encoding="utf-8")
    third = run_in(tmp_path)
    assert (third["num_done"], third["num_up_to_date"]) == (2, 3)
    assert len(list(tmp_path.glob("made/previous/*/swaps/plate/swap.mp4"))) == 1
