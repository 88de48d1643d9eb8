"""Evaluations of small clips whose right answer is known: drawn pairs for the pictures, the bundled actors for the networks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from drawn_faces import draw_face_set
from drawn_pairs import NUM_FRAMES, Pair, draw_pair, drawn_swap
from understudy.imaging.similarity import compose, invert, similarity_from_parameters
from understudy.imaging.warp import warp_image
from understudy.media import read_frames, read_image, write_png
from understudy.stages._evaluation_clips import (
    ChangeMeter,
    Clip,
    faces_as_whereabouts,
    open_clip,
    read_frame_sets,
    true_whereabouts,
)
from understudy.stages.evaluate import _changes, evaluate
from understudy.store.manifest import describe_input
from understudy.store.runs import open_run
from understudy.trust import label
from understudy.types import BadInput, Box, Event, Face, StageResult

pytestmark = pytest.mark.slow  # real networks, codecs and clips

PROMISED = {
    *("psnr_db", "ssim", "leak", "detail", "contrast", "plate_psnr_db", "landmark_error_percent", "expression_gain"),
    *("identity_score", "jitter_ratio", "free_jitter_ratio", "flicker", "pulsing", "lag_frames"),
}

# ---- drawn pairs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return draw_pair(tmp_path_factory.mktemp("pair"))


def figures(result: StageResult) -> dict[str, float]:
    return {name: value for name, value in result.figures.items() if isinstance(value, int | float)}


def test_the_truth_at_the_plates_place_is_a_perfect_swap(pair: Pair, tmp_path: Path) -> None:
    result = evaluate(drawn_swap(pair, tmp_path / "swap", pair.true_face), pair.plate, tmp_path / "out", truth=pair.truth)
    found = figures(result)
    assert found["psnr_db"] > found["plate_psnr_db"] + 15
    assert found["leak"] == pytest.approx(0, abs=0.02)
    assert found["detail"] == pytest.approx(1, abs=0.01)
    assert found["contrast"] == pytest.approx(1, abs=0.03)
    assert found["flicker"] < 3
    assert found["pulsing"] < 0.5
    assert found["num_compared"] == found["num_frames"] == NUM_FRAMES
    assert not result.figures["warnings"]


def test_a_clip_that_is_its_own_truth_is_infinitely_near_which_counts_as_a_hundred_decibels(pair: Pair, tmp_path: Path) -> None:
    found = figures(evaluate(pair.plate, pair.plate, tmp_path / "out", truth=pair.plate))
    assert found["psnr_db"] == 100
    assert (found["ssim"], found["detail"], found["contrast"]) == pytest.approx((1, 1, 1))
    assert found["flicker"] == found["pulsing"] == 0


def test_the_plate_as_swap_leaks_itself_and_has_no_seam(pair: Pair, tmp_path: Path) -> None:
    result = evaluate(pair.plate, pair.plate, tmp_path / "out", truth=pair.truth)
    found = figures(result)
    assert found["leak"] == pytest.approx(1)
    assert found["psnr_db"] == found["plate_psnr_db"]
    assert result.figures["seam_step"] is None
    assert "no nearer to the truth" in str(result.figures["verdict"])
    assert "The plate's own face shows through" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8").replace(
        "&#39;", "'"
    )


def test_a_blurred_swap_is_called_bought_with_blur(pair: Pair, tmp_path: Path) -> None:
    blurred = cv2.GaussianBlur(pair.true_face, (0, 0), 9)
    result = evaluate(drawn_swap(pair, tmp_path / "swap", blurred), pair.plate, tmp_path / "out", truth=pair.truth)
    assert figures(result)["contrast"] < 0.7
    assert abs(figures(result)["leak"]) < 0.2
    assert "Bought with blur" in str(result.figures["verdict"])


def test_the_result_has_every_promised_key_and_stands_in_files(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate(pair.plate, pair.plate, out, truth=pair.truth)
    assert set(result.as_json()) >= PROMISED
    json.dumps(result.as_json(), allow_nan=False)
    lines = [json.loads(line) for line in (out / "per_frame.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["frame"] for line in lines] == list(range(NUM_FRAMES))
    assert all(line["is_compared"] and line["leak"] == pytest.approx(1) for line in lines)
    report = (out / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", report)
    assert pictures
    assert all(label.DIGITAL_SOURCE_TYPE.encode() in base64.b64decode(each) for each in pictures)
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", report), "the report needs nothing but itself"
    written = (out / "manifest.json").stat().st_mtime_ns
    assert evaluate(pair.plate, pair.plate, out, truth=pair.truth).as_json() == result.as_json()
    assert (out / "manifest.json").stat().st_mtime_ns == written, "the second call had nothing to do"


def test_without_a_truth_what_needs_one_is_left_out_with_the_reason(pair: Pair, tmp_path: Path) -> None:
    result = evaluate(drawn_swap(pair, tmp_path / "swap", pair.true_face), pair.plate, tmp_path / "out")
    assert result.figures["reference"] == "plate"
    assert result.figures["psnr_db"] is None
    left_out = result.figures["left_out"]
    assert isinstance(left_out, dict)
    assert "--truth" in left_out["psnr_db"]
    assert "--performer" in left_out["identity_score"]


def test_a_swap_that_ends_early_is_compared_as_far_as_it_goes_and_says_so(pair: Pair, tmp_path: Path) -> None:
    swap = drawn_swap(pair, tmp_path / "swap", pair.true_face)
    (swap / f"{NUM_FRAMES - 1:04d}.png").unlink()
    events: list[Event] = []
    result = evaluate(swap, pair.plate, tmp_path / "out", truth=pair.truth, report=events.append)
    assert result.figures["num_frames"] == NUM_FRAMES - 1
    assert any(f"The plate has {NUM_FRAMES} frames" in warning for warning in result.figures["warnings"])  # type: ignore[attr-defined]
    told = [event.message for event in events if event.kind == "warning"]
    assert told == [each for each in result.figures["warnings"] if each not in str(result.figures["verdict"])]  # type: ignore[attr-defined]
    assert any(f"The plate has {NUM_FRAMES} frames" in warning for warning in told)


def test_what_was_painted_over_an_occluder_is_counted(pair: Pair, tmp_path: Path) -> None:
    plate, careless = tmp_path / "plate", drawn_swap(pair, tmp_path / "careless", pair.true_face)
    for k in range(NUM_FRAMES):
        folders = (pair.plate, pair.plate.with_name("plate_mask"), careless)
        image, mask, swap = (read_image(folder / f"{k:04d}.png") for folder in folders)
        for picture, level in ((image, 60), (mask, 0), (swap, 60)):
            picture[:, 85:105] = level  # a bar passes in front
        for folder, picture in ((plate, image), (tmp_path / "plate_mask", mask), (tmp_path / "careful", swap)):
            write_png(folder / f"{k:04d}.png", picture)
    (tmp_path / "plate.json").write_bytes(pair.plate.with_name("plate.json").read_bytes())
    found = {
        name: figures(evaluate(tmp_path / name, plate, tmp_path / f"{name}_out", truth=pair.truth))["occluder_error"]
        for name in ("careless", "careful")
    }
    assert found["careless"] > 30
    assert found["careful"] < 0.1


# ---- some frames alone ----------------------------------------------------------------------------------------------------


def converted_alone(swap: Path, plate: Path, out: Path, shown: range) -> Path:
    """The folder of a conversion that shows some frames of `swap` alone, as stills."""
    with open_run(out, "convert", {"frames": [shown.start, shown.stop - 1]}, {"plate": describe_input(plate)}) as run:
        for record in read_frames(swap, shown.start, shown.stop):
            write_png(out / "frames" / f"{record.index:06d}.png", record.image)
        run.finish({}, {"swap": out / "frames"})
    return out


def test_frames_shown_alone_are_compared_with_those_of_the_same_numbers(pair: Pair, tmp_path: Path) -> None:
    swap = drawn_swap(pair, tmp_path / "swap", pair.true_face)
    alone = converted_alone(swap, pair.plate, tmp_path / "alone", range(2, 4))
    for given in (alone, alone / "frames"):
        out = tmp_path / f"out_of_{given.name}"
        result = evaluate(given, pair.plate, out, truth=pair.truth)
        assert figures(result)["leak"] == pytest.approx(0, abs=0.02)
        assert figures(result)["detail"] == pytest.approx(1, abs=0.01)
        assert not result.figures["warnings"]
        lines = [json.loads(line) for line in (out / "per_frame.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["frame"] for line in lines] == [2, 3]
        assert "Frame 2 (0.08 s)" in (out / "report.html").read_text(encoding="utf-8")


def test_frames_shown_alone_that_the_plate_lacks_are_refused(pair: Pair, tmp_path: Path) -> None:
    alone = converted_alone(pair.truth, pair.plate, tmp_path / "alone", range(2, 4))
    short = tmp_path / "short"
    for record in read_frames(pair.plate, 2, 4):
        write_png(short / f"{record.index:04d}.png", record.image)
    with pytest.raises(BadInput, match=r"short: has no frame 2, with which the swap begins.*give the whole plate"):
        evaluate(alone, short, tmp_path / "out")


def test_the_frames_of_a_conversion_are_known_for_it_also_as_the_current_folder(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = converted_alone(pair.plate, pair.plate, tmp_path / "alone", range(2, 4))
    monkeypatch.chdir(alone / "frames")
    with pytest.raises(BadInput, match=rf"truth: is not the plate that {alone / 'frames'} was made from"):
        evaluate(Path("."), pair.truth, tmp_path / "out")


def test_another_plate_than_a_swap_was_made_from_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "swap"
    with open_run(out, "convert", {}, {"plate": describe_input(pair.plate)}) as run:
        drawn_swap(pair, out / "frames", pair.true_face)
        run.finish({}, {"swap": out / "frames"})
    for given in (out, out / "frames"):
        with pytest.raises(BadInput, match=rf"truth: is not the plate that {given} was made from; give {pair.plate}, which"):
            evaluate(given, pair.truth, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    assert evaluate(out, pair.plate, tmp_path / "right", truth=pair.truth).figures["num_frames"] == NUM_FRAMES


# ---- bad input ------------------------------------------------------------------------------------------------------------


def test_a_swap_of_another_size_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    swap = tmp_path / "small"
    write_png(swap / "0.png", np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(BadInput, match=r"small: expected the size of plate, 160x160, got 60x40"):
        evaluate(swap, pair.plate, tmp_path / "out", truth=pair.truth)


def test_a_swap_of_another_size_is_refused_before_faces_are_looked_for(pair: Pair, tmp_path: Path) -> None:
    swap, plate = tmp_path / "small", tmp_path / "plate"
    write_png(swap / "0.png", np.zeros((40, 60, 3), np.uint8))
    plate.symlink_to(pair.plate)  # without the landmarks beside it
    with pytest.raises(BadInput, match=r"small: expected the size of plate, 160x160, got 60x40"):
        evaluate(swap, plate, tmp_path / "out")


def test_a_mask_without_a_truth_is_refused(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--mask was given without --truth"):
        evaluate(pair.plate, pair.plate, tmp_path / "out", mask=pair.plate)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothere", "nothere: "),
        ("empty", "empty: holds no pictures"),
        ("notes.txt", "notes.txt: "),
        ("small", "small: expected the size of truth, 160x160, got 60x40"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_before_any_work(pair: Pair, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    write_png(tmp_path / "small/0.png", np.zeros((40, 60, 3), np.uint8))
    events: list[Event] = []
    with pytest.raises(BadInput, match=words):
        evaluate(pair.plate, pair.plate, tmp_path / "out", truth=pair.truth, mask=tmp_path / name, report=events.append)
    assert not events


def test_a_mask_beside_a_clip_that_does_not_fit_it_is_refused_before_any_work(pair: Pair, tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    plate.symlink_to(pair.plate)
    write_png(tmp_path / "plate_mask/0.png", np.zeros((40, 60, 3), np.uint8))
    events: list[Event] = []
    with pytest.raises(BadInput, match=r"plate_mask: expected the size of plate, 160x160, got 60x40"):
        evaluate(pair.plate, plate, tmp_path / "out", report=events.append)
    assert not events


def test_a_conversion_that_is_not_finished_is_told_as_such_with_what_to_do(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "swap"
    with open_run(out, "convert", {}, {"plate": describe_input(pair.plate)}):
        write_png(out / "segments/000000/swap/000000.png", np.zeros((160, 160, 3), np.uint8))
    for given in (out, out / "swap.mp4", out / "frames"):
        with pytest.raises(BadInput, match=rf"{out}: its conversion is not finished; give the same convert command again"):
            evaluate(given, pair.plate, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("text", ['{"frames": 3}', '{"frames": [{"landmarks": [[1, 2]]}]}', '{"clip": "x"}', '{"frames": [1]}'])
def test_landmarks_in_another_form_are_refused_by_file(pair: Pair, tmp_path: Path, text: str) -> None:
    clip = tmp_path / "clip"
    write_png(clip / "0.png", np.zeros((160, 160, 3), np.uint8))
    (tmp_path / "clip.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"clip\.json: expected"):
        evaluate(pair.plate, clip, tmp_path / "out")


# ---- the bundled actors, through the networks -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def excerpt(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of both actors' test clips around the smile, as folders, with landmarks and masks."""
    folder, frames = tmp_path_factory.mktemp("excerpt"), range(70, 78)
    for name in ("abel_test", "bea_test"):
        for source, target in ((sample / f"{name}.mp4", folder / name), (sample / f"{name}_mask", folder / f"{name}_mask")):
            for record in read_frames(source, frames.start, frames.stop):
                write_png(target / f"{record.index:04d}.png", record.image)
        known = json.loads((sample / f"{name}.json").read_text(encoding="utf-8"))["frames"]
        (folder / f"{name}.json").write_text(json.dumps({"frames": [known[k] for k in frames]}), encoding="utf-8")
    return folder


def test_the_networks_tell_a_perfect_swap_of_the_actors_from_none(excerpt: Path, tmp_path: Path) -> None:
    plate, truth = excerpt / "abel_test", excerpt / "bea_test"
    swap = perfect_swap(open_clip(plate), open_clip(truth), tmp_path / "swap")
    perfect, none = (figures(evaluate(each, plate, tmp_path / f"{each.name}_out", truth=truth)) for each in (swap, plate))
    assert perfect["psnr_db"] > 30
    assert perfect["leak"] < 0.1
    assert perfect["identity_score"] > 0.3 > -0.3 > none["identity_score"]
    assert perfect["landmark_error_percent"] < 0.6 * none["landmark_error_percent"]
    assert none["skin_delta_e"] > 8 > 2 > perfect["skin_delta_e"]


def perfect_swap(plate: Clip, truth: Clip, folder: Path) -> Path:
    """The truth's face, brought to the plate's alignment, where both masks show a face."""
    assert plate.true_points is not None
    assert truth.true_points is not None
    plate_faces, true_faces = true_whereabouts(plate.true_points), true_whereabouts(truth.true_points)
    for frames in read_frame_sets(plate, plate, truth):
        assert frames.truth is not None
        assert frames.truth_mask is not None
        assert frames.plate_mask is not None
        place = compose(invert(plate_faces.alignment(frames.index)), true_faces.alignment(frames.index))
        size = (frames.plate.shape[1], frames.plate.shape[0])
        mask = np.minimum(frames.plate_mask, warp_image(frames.truth_mask, place, size, border="black"))[..., None]
        picture = mask * warp_image(frames.truth, place, size) + (1 - mask) * frames.plate
        write_png(folder / f"{frames.index:04d}.png", (picture + 0.5).astype(np.uint8))
    return folder


def test_faces_are_found_where_no_landmarks_lie_beside_the_clips(excerpt: Path, tmp_path: Path) -> None:
    for name in ("abel_test", "bea_test"):
        (tmp_path / name).symlink_to(excerpt / name)
    abel, bea = tmp_path / "abel_test", tmp_path / "bea_test"
    stranger = draw_face_set(tmp_path / "stranger", "stranger", (200, 150, 120), num_faces=2)
    result = evaluate(abel, abel, tmp_path / "out", truth=bea, performer=stranger)
    assert result.figures["num_compared"] == 8
    assert figures(result)["identity_distance"] > 2, "the face set says whose face it should be"
    assert figures(result)["leak"] == pytest.approx(1)
    assert 10 < figures(result)["psnr_db"] < 20


def test_faces_of_frames_shown_alone_are_found_in_those_frames(excerpt: Path, tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    plate.symlink_to(excerpt / "abel_test")  # without the landmarks beside it
    alone = converted_alone(plate, plate, tmp_path / "alone", range(3, 6))
    result = evaluate(alone, plate, tmp_path / "out", truth=plate)
    assert (result.figures["num_compared"], result.figures["num_frames"]) == (3, 3)
    assert figures(result)["psnr_db"] == 100, "the same pictures"


def test_of_several_people_the_one_whom_the_swap_altered_is_looked_at() -> None:
    plate = np.full((100, 200, 3), 90, np.uint8)
    swap = plate.copy()
    swap[20:60, 120:160] += 30
    meter = ChangeMeter()
    meter.add(swap, plate)
    large, altered = a_face(Box(10, 10, 90, 90), track=0), a_face(Box(120, 20, 160, 60), track=1)
    for order in ([large, altered], [altered, large]):
        found = faces_as_whereabouts(order, 1, meter.of).detections[0]
        assert found is not None
        assert found.box == altered.box
    unchanged = faces_as_whereabouts([altered, large], 1, None).detections[0]
    assert unchanged is not None
    assert unchanged.box == large.box, "without a hint, the largest"


def test_what_a_swap_altered_is_measured_alike_at_any_depth(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 120, (60, 80, 3)).astype(np.uint8)
    deep = picture.astype(np.uint16) * 257
    altered = deep.copy()
    altered[20:40, 30:50] += 100 * 257
    for name, image in (("plate", deep), ("same", picture), ("altered", altered)):
        write_png(tmp_path / name / "0.png", image)
    face = a_face(Box(32, 22, 47, 37), track=0)
    for name, change in (("same", 0), ("altered", 100)):
        assert _changes({"swap": Clip(tmp_path / name), "plate": Clip(tmp_path / "plate")}).of(face) == pytest.approx(change)


def test_what_a_swap_altered_is_remembered_in_few_numbers() -> None:
    plate = np.zeros((1080, 1920, 3), np.uint8)
    swap = plate.copy()
    swap[500:600, 900:1000] = 80
    meter = ChangeMeter()
    meter.add(swap, plate)
    assert meter.of(a_face(Box(910, 510, 990, 590), track=0)) == pytest.approx(80, abs=8)
    assert meter.of(a_face(Box(100, 510, 180, 590), track=1)) == 0
    assert sum(each.nbytes for each in meter._differences) < 20_000


def a_face(box: Box, track: int) -> Face:
    """A face of frame 0 whose landmarks fill its box."""
    landmarks = np.linspace((box.left, box.top), (box.right, box.bottom), 468)
    where = similarity_from_parameters(0.0, 0.0, 0.0, 0.0)
    return Face("clip", 0, 0.0, box, 1.0, landmarks, where, where, (0, 0, 0), np.zeros(128), 1.0, track=track)
