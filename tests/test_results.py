"""What a stage came to, as it is printed: an answer first, few lines, no dump of figures, and where the files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.results import result_text, run_text
from understudy.stages._evaluation_short import ASPECTS
from understudy.stages._evaluation_words import JUDGEMENTS
from understudy.types import StageResult

GOOD = {
    **{"psnr_db": 30.0, "plate_psnr_db": 15.0, "leak": 0.04, "detail": 0.9, "contrast": 1.0, "edge_gain": 0.9},
    **{"inner_contrast": 1.0, "skin_delta_e": 1.0, "identity_score": 0.8, "landmark_error_percent": 1.0},
    **{
        "expression_gain": 0.95,
        "free_jitter_ratio": 1.0,
        "pulsing": 0.5,
        "lag_frames": 0,
        "seam_step": 0.5,
        "sharpness_ratio": 0.9,
    },
    **{f"leak_{part}": 0.03 for part in ("brows", "eyes", "nose", "mouth", "jaw", "rest")},
    **{"num_frames": 120, "num_compared": 120, "reference": "truth", "verdict": "The swap is 15.0 dB nearer."},
}
REPORT = {"report": Path("out/report.html"), "per_frame": Path("out/per_frame.jsonl"), "series": Path("out/series.json")}


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def evaluated(**other: object) -> list[str]:
    return result_text(StageResult("evaluate", {**GOOD, **other}, REPORT)).splitlines()


def test_an_evaluation_prints_its_answer_first_and_a_line_for_each_thing_that_a_viewer_sees() -> None:
    lines = evaluated()
    assert lines[0] == "A good swap: no fault was found."
    assert [line[2:16].strip() for line in lines[1:]] == [*ASPECTS, "report", "all figures"]
    assert lines[2] == "  old identity  good: next to nothing of the plate's face is left"
    assert lines[-1] == "  all figures   out/manifest.json"


def test_what_is_bad_is_named_in_the_answer_and_said_first_in_its_line() -> None:
    suspects = [{"frame": 91, "reason": "flickers"}, {"frame": 5, "reason": "soft"}]
    lines = evaluated(pulsing=9.0, free_jitter_ratio=1.5, leak=0.3, num_compared=115, frames_to_look_at=suspects)
    assert lines[0] == "A swap with faults: old identity and steadiness are poor."
    assert "  old identity  poor: 30% of the plate's face shows through" in lines
    place = lines.index("  steadiness    poor: flickers by 9.0 levels from frame to frame; trembles 1.5")
    assert lines[place + 1] == "                times as much as the original"
    assert "  frames        5 of 120 could not be compared" in lines
    assert "  look first at frames 91, 5" in lines
    assert all(len(line) <= 80 for line in lines)


def test_expressions_that_go_the_other_way_have_no_strength_left() -> None:
    assert "  performance   poor: stiff, 0% of the expressions' strength" in evaluated(expression_gain=-0.26)


def test_a_fault_that_is_not_sure_is_fair_and_a_leak_that_blur_flatters_says_so() -> None:
    lines = evaluated(free_jitter_ratio=2.0, intervals={"free_jitter_ratio": [1.1, 3.0]}, edge_gain=0.4)
    assert lines[0] == "A swap with faults: likeness is poor."
    assert any(line.startswith("  steadiness    fair: trembles 2.0 times") for line in lines)
    assert "is left; but the blur flatters this" in " ".join(" ".join(lines).split())


def test_without_a_truth_what_is_not_known_is_said() -> None:
    known = {name: None for name in ("identity_score", "psnr_db", "plate_psnr_db", "leak", "detail", "contrast", "edge_gain")}
    lines = evaluated(**known, reference="plate")
    assert not any(line.startswith("  old identity") for line in lines)
    assert any(line.startswith("  not known     nearness to the truth and what is left of the old identity") for line in lines)


def test_each_figure_that_is_judged_is_said_in_short_too() -> None:
    said = {name for sayings in ASPECTS.values() for name in sayings}
    assert said == {each.figure for each in JUDGEMENTS}
    for each in JUDGEMENTS:
        saying = next(sayings[each.figure] for sayings in ASPECTS.values() if each.figure in sayings)
        assert saying.low or each.good[0] <= 0
        assert saying.high or each.good[1] >= 1


def test_a_conversion_prints_how_many_frames_are_swapped_what_failed_and_where_it_is() -> None:
    figures = {"num_frames": 120, "num_swapped": 115, "num_failed": 5, "identity_distance": 0.3, "seam_p95": 0.2}
    places = {name: Path("out") / name for name in ("swap", "ledger", "alignment", "report")}
    assert result_text(StageResult("convert", figures, places)).splitlines() == [
        "115 of 120 frames are swapped.",
        "  frames        115 swapped, 5 failed",
        "  swap          out/swap",
        "  ledger        out/ledger",
        "  report        out/report",
        "  all figures   out/manifest.json",
    ]
    whole = result_text(StageResult("convert", {**figures, "num_swapped": 120, "num_failed": 0}, places)).splitlines()
    assert [line[2:16].strip() for line in whole[1:]] == ["swap", "report", "all figures"]


def test_paths_stay_whole_however_narrow_the_terminal_is() -> None:
    place = Path("a long folder name with blanks/" * 4, "report.html")
    lines = result_text(StageResult("evaluate", GOOD, {"report": place})).splitlines()
    assert f"  report        {place}" in lines


def test_a_curation_prints_its_verdict_and_the_first_of_what_is_lacking() -> None:
    gaps = [
        {"words": f"bea has {number} faces lit from the left, abel none; shoot or extract some more of them"}
        for number in "12345678"
    ]
    figures = {"verdict": "89 of 100 faces are kept.", "warnings": ["few are lit"], "missing": [], "gaps": gaps}
    lines = result_text(StageResult("curate", figures, {"report": Path("c/report.html")})).splitlines()
    assert lines[:2] == ["89 of 100 faces are kept.", "  few are lit"]
    assert lines[-3:] == ["  2 more in the report", "  report        c/report.html", "  all figures   c/manifest.json"]
    assert all(len(line) <= 80 for line in lines)


def test_training_and_extraction_print_an_answer_and_no_dump() -> None:
    trained = {"step": 1200, "num_faces_seen": 38400, "faces_per_second": 640.2, "verdict": "still improving", "eyes_r2": 0.3}
    assert result_text(StageResult("train", trained, {"model": Path("m")})).splitlines() == [
        "Still improving.",
        "  trained       1,200 steps, 38,400 faces at 640 a second",
        "  model         m",
    ]
    undone = {"num_kept": 98, "num_restored": 12}
    assert result_text(StageResult("curate", undone, {"faces": Path("f")})).splitlines() == [
        "98 faces are kept, 12 of them again.",
        "  faces         f",
    ]
    found = {"num_faces": 98, "num_frames": 100, "num_frames_without_face": 2, "num_other_faces": 1, "jitter_after_px": 0.1}
    assert result_text(StageResult("extract", found, {"faces": Path("f")})).splitlines() == [
        "98 faces in 100 frames.",
        "  no face       in 2 frames",
        "  left out      1 face of other people",
        "  faces         f",
    ]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"num_swapped": 120}, "120: 120 swapped"),
        (
            {"num_swapped": 99, "num_partly_swapped": 2, "num_without_face": 5, "num_other_person": 9, "num_left_out": 7},
            "120: 99 swapped (2 of them in part), 5 without a face, 9 with other people alone, 7 left out",
        ),
        ({"num_swapped": 0, "num_left_out": 110, "num_failed": 10}, "120: none is swapped, 110 left out, 10 failed"),
    ],
)
def test_what_became_of_a_swaps_frames_adds_up_and_none_swapped_comes_first(counts: dict[str, int], line: str) -> None:
    swap = {**GOOD, "report": "out/report.html", "swap": "out/swap.mp4", **counts}
    figures = {"num_done": 1, "num_up_to_date": 0, "swaps": {"plate": swap}}
    lines = run_text(StageResult("run", figures, {})).splitlines()
    assert lines[0] == "1 stage done, 0 were up to date."
    assert lines[2] == "plate: A good swap: no fault was found."
    assert any(each.startswith(f"  frames        {line[:60]}") for each in lines)
    assert lines[3].startswith("  likeness" if counts["num_swapped"] else "  frames")
    assert lines[-1] == "  all figures   out/manifest.json"
