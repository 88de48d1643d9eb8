"""What an evaluation says in words, on figures made up for the purpose."""

from __future__ import annotations

import numpy as np

from understudy.imaging.metrics_statistics import Interval
from understudy.stages import _evaluation_words as words

BLURRED = {"psnr_db": 24.0, "plate_psnr_db": 15.0, "leak": 0.05, "inner_detail": 0.6, "inner_contrast": 0.4}


def test_what_chance_may_have_made_is_not_blamed() -> None:
    late = {"lag_frames": 1.0}
    assert words.judge(late, {"lag_frames": Interval(1.0, 0.0, 2.0)}) == ([], [])
    assert words.judge(late, {"lag_frames": Interval(1.0, 1.0, 2.0)})[1] == ["It is +1 frames out of time."]
    assert words.unsettled(late, {"lag_frames": Interval(1.0, 0.0, 2.0)}) == ["lag_frames"]


def test_a_small_leak_is_not_praised_without_a_word_where_it_is_a_blurs() -> None:
    assert "any blur" in words.judge(BLURRED)[0][0]
    assert "any blur" not in words.judge({**BLURRED, "inner_contrast": 1.0})[0][0]


def test_a_soft_face_is_called_so_though_blotches_give_it_contrast() -> None:
    blotchy = {**BLURRED, "inner_contrast": 1.1, "contrast": 1.0, "edge_gain": 0.35}
    assert "only 35 % of the truth's edges" in str(words.blur_warning(blotchy))
    assert any(sentence.startswith("It is soft: 35%") for sentence in words.judge(blotchy)[1])
    assert words.blur_warning({**blotchy, "edge_gain": 0.9}) is None


def test_the_verdict_tells_the_blur_and_the_worst_fault() -> None:
    said = words.verdict(BLURRED, *words.judge({**BLURRED, "seam_step": 9.0}), 20, 18)
    assert said.startswith("The swap is 9.0 dB nearer to the truth than the plate is. Bought with blur:")
    assert "Its worst fault: an edge shows where the face meets the plate" in said
    assert said.endswith("2 of 20 frames could not be compared.")


def test_a_fault_of_the_whole_clip_has_its_worst_frame_shown_though_none_stands_out() -> None:
    columns = {"detail": np.linspace(0.2, 0.25, 40)}
    assert words.suspects(columns) == []
    (found,) = words.suspects(columns, ["detail"])
    assert found == words.Suspect(0, "features do not match: detail 0.20, usually 0.23, and bad throughout")


def test_what_an_eye_would_not_notice_does_not_stand_out() -> None:
    columns = {"psnr_db": np.full(40, 24.0)}
    columns["psnr_db"][::2] += 0.05
    columns["psnr_db"][20] = 23.5
    assert words.suspects(columns) == []
    columns["psnr_db"][20] = 20.0
    assert [each.frame for each in words.suspects(columns)] == [20]


def test_the_few_frames_with_something_in_front_of_the_face_are_found() -> None:
    columns = {"occluder_error": np.full(40, np.nan)}
    columns["occluder_error"][[17, 18]] = 30.0, 50.0
    (found,) = words.suspects(columns, ["occluder_error"])
    assert found.frame == 18
    assert "painted over: 50 levels" in found.reason


def test_what_is_wrong_with_neighbouring_frames_is_told_together() -> None:
    columns = {name: np.full(40, 1.0) for name in ("leak", "seam_step")}
    columns["leak"][20], columns["seam_step"][22] = 5.0, 9.0
    (found,) = words.suspects(columns)
    assert "an edge shows" in found.reason
    assert "λ 5.00" in found.reason


def test_too_much_contrast_is_called_harsh_and_too_little_blurred() -> None:
    assert words.judge({"contrast": 1.6})[1][0].startswith("Light and dark are too strong: contrast 1.60")
    assert words.judge({"contrast": 0.4})[1] == ["Light and dark are too weak: contrast 0.40, where the truth has 1."]
    (found,) = words.suspects({"contrast": np.linspace(1.6, 1.7, 40)}, ["contrast"])
    assert found.frame == 39
    assert found.reason.startswith("harsh")


def test_the_worst_fault_is_named_first() -> None:
    good, bad = words.judge({"lag_frames": 3.0, "seam_step": 4.5, "leak": 0.05})
    assert bad[0].startswith("It is +3 frames out of time")
    assert [sentence.split(" (")[0] for sentence in good] == ["Almost nothing of the plate's face is left"]


def test_what_is_not_known_goes_unsaid() -> None:
    assert words.judge({"leak": float("nan")}) == ([], [])


def test_blur_is_only_blamed_where_the_scores_look_better_than_the_picture() -> None:
    scores = {"psnr_db": 24.0, "plate_psnr_db": 15.0, "leak": 0.1, "inner_detail": 0.6}
    assert "only 40 %" in str(words.blur_warning({**scores, "inner_contrast": 0.4}))
    assert words.blur_warning({**scores, "inner_contrast": 0.9}) is None
    assert words.blur_warning({**scores, "inner_contrast": 0.4, "psnr_db": 15.5}) is None


def test_frames_that_stand_out_are_listed_worst_first_with_the_reason_and_not_twice() -> None:
    random = np.random.default_rng(0)
    columns = {
        "leak": 0.15 + 0.01 * random.normal(size=60),
        "seam_step": 1.0 + 0.1 * random.normal(size=60),  # good everywhere, whatever its spread
    }
    columns["leak"][[30, 31, 50]] = 0.9, 0.8, 0.5
    found = words.suspects(columns)
    assert [suspect.frame for suspect in found] == [30, 50]
    assert "shows through" in found[0].reason
    assert words.suspects({"leak": np.full(60, np.nan)}) == []
