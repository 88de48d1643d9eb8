"""An evaluation that was stopped goes on where it was, ends with the same report, and uses nothing that is stale."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from clips import make_damaged_clip, number_in
from drawn_pairs import NUM_FRAMES, Pair, draw_pair, drawn_swap
from killing import start
from understudy.media import read_frames, write_png
from understudy.stages import evaluate as stage
from understudy.stages._evaluation_clips import Clip
from understudy.stages._evaluation_kept import progress_folder
from understudy.stages.evaluate import evaluate
from understudy.store.frame_rows import FrameRow, FrameRows
from understudy.store.manifest import read_manifest
from understudy.types import BadInput, Event

pytestmark = pytest.mark.slow  # real networks, codecs and clips

COMPARING = "comparing"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return draw_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def actors(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Ten frames of a swap, plate and truth without landmarks beside them: all is found by the networks."""
    folder = tmp_path_factory.mktemp("actors")
    for name in ("abel_test", "bea_test"):
        for record in read_frames(sample / f"{name}.mp4", 70, 80):
            write_png(folder / name / f"{record.index:04d}.png", record.image)
            if name == "abel_test":
                write_png(folder / "swap" / f"{record.index:04d}.png", cv2.GaussianBlur(record.image, (0, 0), 2))
    return folder / "swap", folder / "abel_test", folder / "bea_test"


def stop_at(message: str, done: float, told: list[Event] | None = None) -> Callable[[Event], None]:
    """A listener that stops the work as Ctrl-C does once so much is done."""

    def tell(event: Event) -> None:
        if told is not None:
            told.append(event)
        if event.kind == "progress" and event.message == message and event.done >= done:
            raise KeyboardInterrupt

    return tell


def counts(events: list[Event], message: str) -> list[float]:
    return [event.done for event in events if event.kind == "progress" and event.message == message]


def left_in(out: Path) -> dict[str, object]:
    """All that an evaluation leaves but when it was made."""
    files = {name: (out / name).read_bytes() for name in ("series.json", "per_frame.jsonl", "report.html")}
    manifest = read_manifest(out)
    assert manifest is not None
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*files, ".lock", "events.jsonl", "manifest.json", "recipe.json"]
    )
    return {**files, "figures": manifest.figures}


def test_an_evaluation_stopped_at_any_pass_goes_on_there_and_ends_with_the_same_report(
    actors: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    swap, plate, truth = actors
    whole: list[Event] = []
    evaluate(swap, plate, tmp_path / "whole", truth=truth, report=whole.append)
    passes = list(dict.fromkeys(event.message for event in whole if event.kind == "progress"))
    assert len(passes) == 6
    told: list[Event] = []
    for message in passes:
        for done in (2, 5, 6) if message == COMPARING else (6,):
            with pytest.raises(KeyboardInterrupt):
                evaluate(swap, plate, tmp_path / "stopped", truth=truth, report=stop_at(message, done, told))
    evaluate(swap, plate, tmp_path / "stopped", truth=truth)
    for message in ("finding the plate's face", "finding the truth's face", COMPARING):
        assert counts(told, message) == counts(whole, message), "no frame is looked at again"
    assert left_in(tmp_path / "stopped") == left_in(tmp_path / "whole")


def evaluate_until_killed(swap: Path, pair: Pair, out: Path) -> None:
    def kill_at_the_third(event: Event) -> None:
        if event.message == COMPARING and event.done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    evaluate(swap, pair.plate, out, truth=pair.truth, report=kill_at_the_third)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_an_evaluation_that_is_killed_loses_no_frame_that_it_has_measured(pair: Pair, tmp_path: Path) -> None:
    swap, out = drawn_swap(pair, tmp_path / "swap", pair.true_face), tmp_path / "killed"
    process = start(evaluate_until_killed, swap, pair, out)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    events: list[Event] = []
    evaluate(swap, pair.plate, out, truth=pair.truth, report=events.append)
    assert counts(events, COMPARING) == [NUM_FRAMES]
    evaluate(swap, pair.plate, tmp_path / "whole", truth=pair.truth)
    assert left_in(out) == left_in(tmp_path / "whole")


def test_what_was_measured_by_other_code_or_of_other_clips_is_not_used(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, out = drawn_swap(pair, tmp_path / "swap", pair.true_face), tmp_path / "out"

    def frames_measured(truth: Path | None = pair.truth) -> list[float]:
        events: list[Event] = []
        with pytest.raises(KeyboardInterrupt):
            evaluate(swap, pair.plate, out, truth=truth, report=stop_at(COMPARING, 3, events))
        return counts(events, COMPARING)

    assert frames_measured() == [1, 2, 3]
    monkeypatch.setattr(stage, "code_sha256", lambda: "another")
    assert frames_measured() == [1, 2, 3]
    assert frames_measured(truth=None) == [1, 2, 3], "a folder in which nothing is finished is free for other work"
    monkeypatch.setattr(stage, "_detectors", lambda networks, has_truth: {"mediapipe": networks.detect})
    assert frames_measured(truth=None) == [1, 2, 3], "other detectors may see other faces"
    write_png(swap / "0000.png", np.zeros((160, 160, 3), np.uint8))
    assert frames_measured(truth=None) == [1, 2, 3], "the swap was made again meanwhile"


@pytest.mark.parametrize("left", [b"another key", b"\xff damaged"])
def test_what_was_kept_under_another_key_is_never_taken_even_where_it_cannot_be_removed(
    left: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "progress/frames.sqlite"
    rows.parent.mkdir()
    rows.touch()
    (tmp_path / "progress/key").write_bytes(left)

    def closed(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", closed)
        for _ in range(2):
            with pytest.raises(BadInput, match="progress cannot be written"):
                progress_folder(tmp_path, "key")
    assert progress_folder(tmp_path, "key") == tmp_path / "progress"
    assert not rows.exists()


def test_progress_left_by_a_run_killed_after_its_manifest_goes_at_the_next_call(pair: Pair, tmp_path: Path) -> None:
    evaluate(pair.plate, pair.plate, tmp_path / "out")
    (tmp_path / "out/progress").mkdir()
    evaluate(pair.plate, pair.plate, tmp_path / "out")
    left_in(tmp_path / "out")


def test_clips_of_which_nothing_can_be_compared_leave_no_folder_behind(tmp_path: Path) -> None:
    write_png(tmp_path / "plate" / "0.png", np.zeros((160, 160, 3), np.uint8))
    with pytest.raises(BadInput, match=r"no frame of it could be compared; the face was not found in the plate"):
        evaluate(tmp_path / "plate", tmp_path / "plate", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frames_shown_alone_of_a_damaged_plate_are_counted_as_they_decode_wherever_it_goes_on(tmp_path: Path) -> None:
    """The swap of them has lost the same frame."""
    part = Clip(make_damaged_clip(tmp_path / "damaged.mov", lost=6, num_frames=12)).cut(3, 10)
    counted = [(0, 3), (1, 4), (2, 5), (3, 7), (4, 8), (5, 9)]
    for first in (0, 2, 5):
        assert [(each.index, number_in(each.image)) for each in part.read(first)] == counted[first:]


# ---- rows -----------------------------------------------------------------------------------------------------------------


def test_rows_come_back_in_order_and_to_the_last_bit(tmp_path: Path) -> None:
    values = [np.random.default_rng(number).normal(size=(2, 3)) for number in range(3)]
    values[1][0, 0] = np.nan
    with FrameRows(tmp_path / "rows") as rows:
        for value in values[:2]:
            rows.append(FrameRow({"swap": ["psnr_db"]}, {"face": value}))
    with FrameRows(tmp_path / "rows") as rows:
        assert len(rows) == 2
        rows.append(FrameRow({}, {"face": values[2]}))
        assert [row.arrays["face"].tobytes() for row in rows] == [value.tobytes() for value in values]
        assert [row.names for row in rows] == [{"swap": ["psnr_db"]}] * 2 + [{}]


@pytest.mark.parametrize("damage", [b"no database", b""])
def test_rows_in_a_damaged_file_begin_anew(tmp_path: Path, damage: bytes) -> None:
    with FrameRows(tmp_path / "rows") as rows:
        rows.append(FrameRow({}, {"face": np.zeros(3)}))
    (tmp_path / "rows").write_bytes(damage)
    with FrameRows(tmp_path / "rows") as rows:
        assert len(rows) == 0


def test_rows_that_cannot_be_written_are_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(BadInput, match=r"rows cannot be used \(.*\); free disk space, or remove .*, then run again"):
        FrameRows(tmp_path / "rows")
