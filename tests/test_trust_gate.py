"""The content gate: harmless pictures pass; synthetic scores above the thresholds stop the run, and so does any fault of it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from understudy.media import read_frames
from understudy.trust import gate
from understudy.trust.gate import ContentGate, NudeMaterial, Sample, judge
from understudy.trust.gate_nudenet import EXPOSED, exposure, network_input
from understudy.types import Box, Image, Refused

SAMPLE = Path(__file__).parents[1] / "src" / "understudy" / "sample"
GREY: Image = np.full((64, 96, 3), 128, np.uint8)


def program(*lines: str) -> list[str]:
    """A gate that is a small Python program; `ask` reads a request, `say` answers."""
    head = [
        "import json, sys",
        "def say(**answer): print(json.dumps(answer), flush=True)",
        "def ask(): return json.loads(sys.stdin.readline())",
        "say(gate='test', sha256='00')",
    ]
    return [sys.executable, "-c", "\n".join([*head, *lines])]


def scoring(*scores: float) -> list[str]:
    return program(f"for score in {list(scores)}: say(id=ask()['id'], score=score, label='synthetic')", "sys.stdin.read()")


def look_at_pictures(command: list[str], num_pictures: int) -> None:
    with ContentGate(command, answer_seconds=3.0) as opened:
        for number in range(num_pictures):
            opened.look(GREY, f"frame {number}")
        opened.result()


def samples(*scores_and_shots: tuple[float, int]) -> list[Sample]:
    return [Sample("clip", shot, score) for score, shot in scores_and_shots]


# ---- the rule -------------------------------------------------------------------------------------------------------------


def test_one_weak_hit_a_shot_passes() -> None:
    judge(samples((0.5, 0), (0.1, 0), (0.5, 1), (0.39, 1)), Counter())


def test_one_strong_hit_is_refused_with_exit_status_3() -> None:
    with pytest.raises(NudeMaterial, match=r"clip: refused by the content gate.*score 0\.60") as refused:
        judge(samples((0.1, 0), (0.6, 0)), Counter())
    assert refused.value.exit_status == 3


def test_two_weak_hits_in_one_shot_are_refused() -> None:
    with pytest.raises(Refused, match="content gate"):
        judge(samples((0.45, 7), (0.1, 7), (0.45, 7)), Counter())


# ---- the process ----------------------------------------------------------------------------------------------------------


def test_a_strong_score_stops_the_run_at_the_latest_at_the_end() -> None:
    with pytest.raises(Refused, match=r"frame 1: refused.*0\.90"):
        look_at_pictures(scoring(0.0, 0.9), 2)


def test_two_weak_scores_in_a_shot_stop_the_run_and_the_result_names_the_rule() -> None:
    with ContentGate(scoring(0.5, 0.0, 0.5)) as opened:
        for shot in (0, 0, 1):
            opened.look(GREY, "clip", shot)
        result = opened.result()
    assert result.as_json() == {
        "gate": "test", "weights_sha256": "00", "num_samples": 3, "highest_score": 0.5,
        "hit_score": 0.4, "strong_score": 0.6, "hits_in_a_shot": 2,
    }  # fmt: skip
    with pytest.raises(Refused, match=r"score 0\.50"):
        look_at_pictures(scoring(0.5, 0.5), 2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/gate"], "does not start"),
        ([sys.executable, "-c", "raise SystemExit(1)"], "stopped"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "gave no answer"),
        (program("ask()"), "stopped"),
        (program("ask(); print('fine')", "sys.stdin.read()"), "not JSON"),
        (program("say(id=ask()['id'], label='no score')", "sys.stdin.read()"), "not of its protocol"),
        (program("say(id=ask()['id'], score=float('nan'))", "sys.stdin.read()"), "not of its protocol"),
        (program("say(id=ask()['id'] + 1, score=0.0)", "sys.stdin.read()"), "not of its protocol"),
        (program("print('[' * 3)", "sys.stdin.read()"), "not JSON"),
        (program("ask(); print('[]')", "sys.stdin.read()"), "not of its protocol"),
    ],
)
def test_a_gate_that_fails_in_any_way_refuses_the_work(command: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        look_at_pictures(command, 1)
    assert not isinstance(refused.value, NudeMaterial)


def test_a_gate_that_was_shown_nothing_refuses_the_work() -> None:
    with ContentGate(scoring(0.0)) as opened, pytest.raises(Refused, match="saw no picture"):
        opened.result()


def test_missing_weights_that_cannot_be_fetched_refuse_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(Refused, match="the content gate is missing"):
        ContentGate()


def test_changed_weights_refuse_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    gate.weights_path().parent.mkdir(parents=True)
    gate.weights_path().write_bytes(b"not the weights")
    with pytest.raises(Refused, match="sha256 differs"):
        ContentGate()


# ---- sampling -------------------------------------------------------------------------------------------------------------


def test_two_pictures_a_second_and_the_first_of_each_shot_are_looked_at_and_a_crop_round_each_face() -> None:
    face = Box(40, 10, 50, 20)
    with ContentGate(scoring(*[0.0] * 20)) as opened:
        for frame in range(50):
            opened.consider(GREY, f"frame {frame}", frame / 25, shot=int(frame >= 30))
        assert opened.result().num_samples == 5  # 0.0, 0.52, 1.04, the cut at 1.2, 1.72
        opened.consider(GREY, "face", 2.4, 1, [face])
        assert opened.result().num_samples == 7


def test_a_close_up_whose_surroundings_are_the_whole_picture_is_sent_once_and_counts_twice() -> None:
    height, width = GREY.shape[:2]
    close_up = Box(width * 0.3, height * 0.3, width * 0.7, height * 0.7)
    with ContentGate(scoring(0.0, 0.5)) as opened:
        opened.consider(GREY, "calm", 0.0, faces=[close_up])
        assert opened.result().num_samples == 1

        def look_and_wait() -> None:  # the answer may come in the midst of either
            opened.consider(GREY, "close-up", 0.5, faces=[close_up])
            opened.result()

        with pytest.raises(NudeMaterial, match="close-up"):
            look_and_wait()


def test_frames_that_are_timed_close_together_hide_nothing() -> None:
    with ContentGate(scoring(*[0.0] * 4)) as opened:
        seen = [frame for frame in range(100) if opened.consider(GREY, f"frame {frame}", frame / 1000)]
        assert seen == [0, 31, 62, 93]
        assert opened.result().num_samples == 4


def test_photographs_in_a_folder_are_all_looked_at_and_film_that_moves_is_not() -> None:
    photographs = [np.full_like(GREY, level) for level in range(0, 255, 50)]
    photographs[-1][:, :12] = 200
    with ContentGate(scoring(*[0.0] * 7)) as opened:
        assert all(opened.consider(picture, f"picture {k}", k / 25) for k, picture in enumerate(photographs))
        moving = [np.roll(photographs[-1], 3 * k, axis=1) for k in range(1, 6)]
        assert not any(opened.consider(picture, f"frame {k}", k / 25 + 0.24) for k, picture in enumerate(moving))
        assert opened.consider(photographs[0], "after a cut", 0.45)
        opened.result()


def test_a_clip_of_less_than_one_frame_a_second_is_looked_at_whole() -> None:
    with ContentGate(scoring(*[0.0] * 3)) as opened:
        for frame in range(3):
            opened.consider(GREY, "slow", frame * 4.0)
        assert opened.result().num_samples == 3


# ---- the detector ---------------------------------------------------------------------------------------------------------


def test_the_detector_finds_nothing_in_the_virtual_actors() -> None:
    if not gate.weights_path().is_file():
        pytest.skip("the gate's weights are not in the cache: run `understudy doctor --fetch`")
    with ContentGate() as opened:
        for name in ("abel_test.mp4", "bea_test.mp4"):
            gate.gate_footage(read_frames(SAMPLE / name, stop=26), name, opened, faces={0: [Box(200, 150, 300, 280)]})
        result = opened.result()
    assert result.num_samples == 8
    assert result.highest_score < 0.2
    assert result.weights_sha256 == gate.NUDENET.sha256


def test_only_the_classes_of_bare_skin_count() -> None:
    scores = np.full((18, 5), 0.9)
    scores[list(EXPOSED)] = 0.1
    scores[4, 2] = 0.3
    assert exposure(scores) == (0.3, "genitalia")


def test_a_picture_reaches_the_network_upright_in_rgb_and_in_its_proportions() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, :20, 0] = 255  # a red upper left quarter
    blob = network_input(picture)
    assert blob.shape == (1, 3, 320, 320)
    assert blob[0, 0, 40, 80] == 1.0
    assert blob[0, :, 40, 240].max() == 0.0
    assert blob[0, :, 240, :].max() == 0.0
    assert blob[0, 2].max() == 0.0


def test_a_module_in_the_working_folder_is_not_taken_for_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Footage comes with folders of strangers; what lies in them must not run, least of all in place of the gate."""
    for module in ("understudy/trust/gate_nudenet.py", "cv2.py", "numpy.py"):
        path = tmp_path / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import pathlib; pathlib.Path('ran').touch()\n")
    for package in ("understudy", "understudy/trust"):
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    with ContentGate() as opened:
        opened.look(np.zeros((64, 64, 3), np.uint8), "a black picture", ("clip", 0))
        assert opened.result().highest_score < 0.4
    assert not (tmp_path / "ran").exists()
