"""The truth benchmark asks and answers the real thing, on excerpts of the bundled actors and for a few steps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.truth.__main__ import main
from benchmarks.truth.footage import code_sha256, find_footage
from benchmarks.truth.ladder import words
from benchmarks.truth.run import _declare_rendered
from benchmarks.truth.scorecards import BEGIN, END, compare, make_scorecard, read_scorecard, refresh_table, table_text
from short_clips import cut_footage
from understudy.store.hashing import sha256_of_footage
from understudy.trust.consent import require
from understudy.trust.records import read_record
from understudy.types import BadInput, Refused

SMALL = ("--set", "resolution_px=32", "--set", "width=0.25", "--set", "batch_size=4")


@pytest.mark.slow
def test_the_same_question_twice_has_the_same_figures(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    footage, work = cut_footage(sample, tmp_path / "pair", range(24), range(76, 82)), tmp_path / "work"
    asked = ["run", "--faces", "16", *SMALL, "--footage", str(footage), "--work", str(work)]
    cards = []
    for _ in range(2):
        assert main(asked) == 0
        cards.append(json.loads(Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8")))
        for made in ("models", "swaps", "reports", "results", "scorecards"):
            shutil.rmtree(work / made)
    first, second = ({name: value for name, value in card.items() if name != "cpu_seconds"} for card in cards)
    assert first == second
    assert first["faces_seen"] == [16]
    assert first["figures"]["psnr_db"]["value"] > first["floors"]["plate"]["psnr_db"]
    assert len(first["series"]["0"]["psnr_db"]["rows"]) == first["num_frames"] == 6
    assert first["network"]["psnr_db"]["value"] > 10
    assert cards[0]["cpu_seconds"].keys() == {"train", "network", "convert", "evaluate"}


# ---- scorecards -----------------------------------------------------------------------------------------------------------


def a_result(seed: int, psnr_db: np.ndarray[Any, Any]) -> dict[str, Any]:
    series = {"psnr_db": {"statistic": "mean", "rows": psnr_db.tolist()}}
    return {
        "seed": seed, "steps": 10, "faces_seen": 320, "cpu_seconds": {"train": 60.0}, "verdict": "", "frames_to_look_at": [],
        "num_frames": len(psnr_db), "num_compared": len(psnr_db), "floors": {"plate": {"psnr_db": 15.0}},
        "series": series, "network_series": series,
    }  # fmt: skip


def a_card(results: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    asked = {
        "recipe": "quick", "settings": {}, "convert": {"recipe": "truth-benchmark", "settings": {}},
        "footage": {"name": "sample", "replace": "abel", "with": "bea", "sha256": {}},
    }  # fmt: skip
    return make_scorecard(asked | changes, results)


def test_a_small_gain_in_every_frame_is_seen_through_frames_that_differ_much() -> None:
    hard_and_easy = 20 + 5 * np.sin(np.arange(60) / 5)
    first, second = (a_card([a_result(0, hard_and_easy + gain)]) for gain in (0, 0.1))
    found = compare(first, second)[0]
    assert (found.figure, found.words) == ("psnr_db", "better")
    assert found.difference.value == pytest.approx(0.1)
    assert found.difference.high - found.difference.low < 1e-6
    assert compare(second, first)[0].words == "worse"
    assert first["figures"]["psnr_db"]["high"] - first["figures"]["psnr_db"]["low"] > 1


def test_seeds_that_disagree_show_no_difference() -> None:
    flat = np.full(60, 20.0)
    first = a_card([a_result(seed, flat) for seed in range(4)])
    second = a_card([a_result(seed, flat + gain) for seed, gain in enumerate((-1.0, 1.5, -0.8, 0.9))])
    assert compare(first, second)[0].words == "no difference shown"


def test_scorecards_of_different_footage_are_not_compared() -> None:
    results = [a_result(0, np.full(40, 20.0))]
    other = a_card(results, footage={"name": "else", "replace": "abel", "with": "bea", "sha256": {}})
    with pytest.raises(BadInput, match="different footage"):
        compare(a_card(results), other)


def test_the_table_goes_between_its_markers_and_replaces_what_was_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n", encoding="utf-8")
    card = a_card([a_result(0, np.full(40, 21.5))])
    refresh_table(page, [card])
    refresh_table(page, [card])
    assert page.read_text(encoding="utf-8") == f"above\n{BEGIN}\n{table_text([card])}\n{END}\nbelow\n"
    assert "21.5 ± 0.0 (15.0)" in table_text([card])
    with pytest.raises(BadInput, match="expected the lines"):
        refresh_table(Path(__file__).with_name("conftest.py"), [card])


# ---- oracle ladder --------------------------------------------------------------------------------------------------------


def test_the_ladder_names_the_dearest_stage_first() -> None:
    heights = {"ceiling": 36.0, "our matte": 33.0, "our place": 32.5, "our face": 25.0, "whole": 23.5}
    said = words({name: {"psnr_db": height, "leak": 0.1, "detail": None} for name, height in heights.items()})
    assert "at 23.5 dB; with the true face, place and matte it would be at 36.0 dB" in said[0]
    costs = ["The network's face costs 11.0 dB", "The matte costs 3.0 dB", "The alignment costs 0.5 dB"]
    assert [sentence.split(" (")[0] for sentence in said[1:]] == costs


# ---- footage and bad input ------------------------------------------------------------------------------------------------


def test_performers_are_found_in_either_way_of_naming_clips(sample: Path, tmp_path: Path) -> None:
    found = find_footage(sample)
    assert (found.replace, found.with_, found.plate.name, found.truth.name) == ("abel", "bea", "abel_test.mp4", "bea_test.mp4")
    assert find_footage(sample, replace="bea").truth.name == "abel_test.mp4"
    for name in ("train_A", "test_A", "train_B", "test_B", "train_A_mask", "extra_C"):
        (tmp_path / f"{name}.mp4").touch()
    for name in ("test_A", "test_B"):
        (tmp_path / f"{name}.json").touch()
    assert list(find_footage(tmp_path).train) == ["A", "B"]


def test_footage_without_the_truth_beside_it_is_refused(tmp_path: Path) -> None:
    for name in ("one_train", "one_test", "two_train", "two_test"):
        (tmp_path / f"{name}.mp4").touch()
    with pytest.raises(BadInput, match="no true landmarks beside it"):
        find_footage(tmp_path)


def test_the_benchmark_consents_to_its_own_clips_alone(sample: Path, tmp_path: Path) -> None:
    footage, consent = find_footage(sample), tmp_path / "consent"
    _declare_rendered(footage, consent)
    mine = {name: (sha256_of_footage(clip),) for name, clip in footage.train.items()}
    assert {name: read_record(consent, name).record.footage.sha256 for name in mine} == mine
    random = np.random.default_rng(0)
    faces = {name: random.normal(size=128) / 11 + random.normal(size=(30, 128)) / 200 for name in mine}
    assert len(require(faces, "train", consent, footage_sha256=mine)) == 2
    others = {**mine, "bea": (*mine["bea"], sha256_of_footage(footage.test["bea"]))}
    with pytest.raises(Refused, match="bea"):
        require(faces, "train", consent, footage_sha256=others)
    with pytest.raises(Refused, match="abel"):
        require(faces, "convert", consent)


def test_the_benchmark_consents_for_nobody_without_a_rendered_truth(sample: Path, tmp_path: Path) -> None:
    for name in ("abel_train", "abel_test", "bea_train", "bea_test"):
        shutil.copy(sample / f"{name}.mp4", tmp_path)
    known = find_footage(sample)
    footage = replace(known, test={name: tmp_path / clip.name for name, clip in known.test.items()})
    with pytest.raises(BadInput, match=r"abel_test.mp4 has no true landmarks .* for rendered performers"):
        _declare_rendered(footage, tmp_path / "consent")
    assert not (tmp_path / "consent").exists()


def test_what_cannot_be_asked_is_said_in_one_line(tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--footage", str(tmp_path)]) == 2
    assert "expected NAME_train.mp4 and NAME_test.mp4" in capsys.readouterr().err
    assert main(["run", "--recipe", "quik"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
    assert main(["run", "--with", "cleo"]) == 2
    assert "found abel, bea" in capsys.readouterr().err
    (tmp_path / "no.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="not a scorecard"):
        read_scorecard(tmp_path / "no.json")


def test_only_code_that_can_change_a_figure_counts() -> None:
    extraction, everything = code_sha256("understudy.stages.extract"), code_sha256("understudy.stages.evaluate")
    assert extraction != everything
    assert code_sha256("understudy.trust.consent") == code_sha256("understudy.store.events"), "neither draws nor measures"
