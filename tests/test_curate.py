"""Curation leaves out what is plainly unusable, says why, and can always be taken back."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import understudy
from drawn_faces import FRAME_PX, draw_face, draw_face_set
from understudy.cli import run_command
from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.meanface import mean_face
from understudy.imaging.similarity import apply, compose, invert, similarity_from_parameters
from understudy.media import encode_jpeg
from understudy.recipes import curate_recipe
from understudy.stages._training_faces import load_performers
from understudy.store.faceset import FaceSet
from understudy.store.manifest import read_manifest
from understudy.store.runs import locked
from understudy.store.selection import BY_HAND, set_by_hand
from understudy.trust.permission import may_train
from understudy.types import BadInput, Box, Face, FloatArray, Image, StageResult

SKIN = {"abel": (205, 160, 140), "bea": (140, 100, 80)}
NUM_FACES = 40
BLURRED, SHAKEN, BURNT, DARK, SLIPPED, LOST, SMALL, STRANGER, DOUBLE = range(3, 30, 3)


def embedding(performer: str, seed: int) -> FloatArray:
    """Near the performer's own (0.15), far from everybody else's (0.9)."""
    own = np.random.default_rng(len(performer)).normal(size=128)
    noise = np.random.default_rng(1000 + seed).normal(size=128)
    return np.asarray(0.65 * own / np.linalg.norm(own) + 0.1 * noise / np.linalg.norm(noise), np.float32)


def a_face(performer: str, number: int, yaw: float) -> tuple[Face, Image]:
    """Face and picture: skin with pores, a mouth that opens and shuts, a landmark mesh that is a head's."""
    picture = draw_face(SKIN[performer], openness=(number % 10) / 9).astype(np.float32)
    rng = np.random.default_rng(number)
    picture += cv2.GaussianBlur(rng.normal(scale=25, size=(FRAME_PX, FRAME_PX, 1)).astype(np.float32), (0, 0), 1.5)[..., None]
    picture += 6 * np.sin(number + np.linspace(0, 3, FRAME_PX))[:, None, None]  # no two frames alike
    face_from_frame = invert(crop_from_face(STORED, FRAME_PX))
    head = mean_face() @ turned(yaw).T
    points = apply(invert(face_from_frame), head[:, :2] + rng.normal(scale=0.002, size=(468, 2)))
    return (
        Face(
            source=f"{performer}.mp4",
            frame=number,
            time_seconds=number / 2,
            box=Box(40, 40, 150, 150),
            score=1.0,
            landmarks=points.astype(np.float32),
            face_from_frame=face_from_frame,
            raw_face_from_frame=face_from_frame,
            pose=(yaw, 3.0 * np.sin(number), 0.0),
            embedding=embedding(performer, number),
            sharpness=100.0,
            mouth_openness=0.01 + 0.016 * (number % 10),
            eye_openness=0.3,
            brightness=0.5,
            exposure=0.0,
            crop_size_px=FRAME_PX,
        ),
        np.clip(picture, 0, 255).astype(np.uint8),
    )


def turned(yaw_degrees: float) -> FloatArray:
    cosine, sine = np.cos(np.radians(yaw_degrees)), np.sin(np.radians(yaw_degrees))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def write_face_set(folder: Path, performer: str, faces: list[tuple[Face, Image]]) -> Path:
    with FaceSet.create(folder, performer) as face_set:
        for number, (face, picture) in enumerate(faces, 1):
            crop = face_set.write_crop(f"{performer}_{number}", encode_jpeg(picture))
            face_set.add_faces([replace(face, crop=crop)], num_frames_done={face.source: number})
    return folder


def good_faces(performer: str, low: float, high: float) -> list[tuple[Face, Image]]:
    return [a_face(performer, number, yaw) for number, yaw in enumerate(np.linspace(low, high, NUM_FACES))]


@pytest.fixture
def bea(tmp_path: Path) -> Path:
    """Faces from one profile to the other."""
    return write_face_set(tmp_path / "bea", "bea", good_faces("bea", -75, 75))


@pytest.fixture
def abel(tmp_path: Path) -> Path:
    """Faces to the front, without a fault."""
    return write_face_set(tmp_path / "abel", "abel", good_faces("abel", -20, 20))


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Abel's faces with one of each fault; ids are the places in this list, from 1."""
    faces = good_faces("abel", -20, 20)
    blur = cv2.GaussianBlur(faces[BLURRED][1], (0, 0), 4.0)
    faces[BLURRED] = (faces[BLURRED][0], blur)
    shake = cv2.blur(faces[SHAKEN][1], (15, 1))
    faces[SHAKEN] = (faces[SHAKEN][0], shake)
    faces[BURNT] = (replace(faces[BURNT][0], brightness=0.97, exposure=0.8), faces[BURNT][1])
    faces[DARK] = (replace(faces[DARK][0], brightness=0.03, exposure=0.2), faces[DARK][1])
    points = faces[SLIPPED][0].landmarks + np.random.default_rng(0).normal(scale=0.03 * FRAME_PX / STORED.side, size=(468, 2))
    faces[SLIPPED] = (replace(faces[SLIPPED][0], landmarks=points.astype(np.float32)), faces[SLIPPED][1])
    shifted = compose(similarity_from_parameters(0, 0, 0.3, 0), np.asarray(faces[LOST][0].raw_face_from_frame, np.float64))
    faces[LOST] = (replace(faces[LOST][0], raw_face_from_frame=shifted), faces[LOST][1])
    far = compose(np.asarray(faces[SMALL][0].face_from_frame, np.float64), similarity_from_parameters(np.log(4), 0, 0, 0))
    near_points = (faces[SMALL][0].landmarks / 4).astype(np.float32)
    small = replace(faces[SMALL][0], face_from_frame=far, raw_face_from_frame=far, landmarks=near_points)
    faces[SMALL] = (small, faces[SMALL][1])
    faces[STRANGER] = (replace(faces[STRANGER][0], embedding=embedding("bea", 7), track=9), faces[STRANGER][1])
    faces.append((replace(faces[DOUBLE][0], frame=99), faces[DOUBLE][1]))
    return write_face_set(tmp_path / "abel", "abel", faces)


def states(folder: Path) -> dict[int, tuple[bool, str]]:
    with FaceSet.open(folder) as face_set:
        return {face.id: (face.kept, face.reason) for face in face_set.faces(kept_only=False)}


def kinds(result: StageResult) -> dict[int, str]:
    left_out = result.figures["left_out"]
    assert isinstance(left_out, dict)
    return {int(number): reason.split(":")[0] for number, reason in left_out.items()}


# ---- what is left out -----------------------------------------------------------------------------------------------------


def test_each_fault_is_found_and_called_by_its_name(faulty: Path, bea: Path) -> None:
    result = understudy.curate(faulty, against=bea)
    found = kinds(result)
    doubles = {number for number, kind in found.items() if kind == "near-duplicate"}
    assert doubles in ({DOUBLE + 1}, {NUM_FACES + 1}), "one of the two, not both"
    assert {number: kind for number, kind in found.items() if number not in doubles} == {
        BLURRED + 1: "blurred",
        SHAKEN + 1: "blurred",
        BURNT + 1: "over-exposed",
        DARK + 1: "under-exposed",
        SLIPPED + 1: "misaligned",
        LOST + 1: "misaligned",
        SMALL + 1: "too small",
        STRANGER + 1: "wrong person",
    }
    assert states(faulty)[BLURRED + 1][0] is False
    assert re.fullmatch(r"curate: blurred: \d+% of the usual fine detail", states(faulty)[BLURRED + 1][1])
    assert result.figures["num_of_other_performer"] == 1
    assert "1 face is of bea in the set of abel" in str(result.figures["warnings"])


def test_a_set_without_faults_stays_whole(abel: Path) -> None:
    result = understudy.curate(abel)
    assert (result.figures["num_left_out"], result.figures["num_kept"]) == (0, NUM_FACES)
    assert result.figures["verdict"] == f"{NUM_FACES} of {NUM_FACES} faces of abel are kept."


def test_what_every_face_of_the_footage_has_is_no_fault(tmp_path: Path) -> None:
    """Old film: all of it soft, dark and small."""
    faces = []
    for face, picture in good_faces("abel", -20, 20):
        shrink = similarity_from_parameters(np.log(6), 0, 0, 0)
        far = compose(np.asarray(face.face_from_frame, np.float64), shrink)
        points = (face.landmarks / 6).astype(np.float32)
        dim = cv2.GaussianBlur(picture, (0, 0), 3.0) // 9
        faces.append((replace(face, brightness=0.05, face_from_frame=far, raw_face_from_frame=far, landmarks=points), dim))
    folder = write_face_set(tmp_path / "abel", "abel", faces)
    found = kinds(understudy.curate(folder, recipe=curate_recipe({"alike_levels": 0})))
    assert found == {}


def test_a_soft_clip_beside_a_sharp_one_is_judged_by_its_own_sharpness(tmp_path: Path) -> None:
    sharp = good_faces("abel", -20, 20)
    soft = [
        (replace(face, source="soft.mp4", frame=face.frame + 100), cv2.GaussianBlur(picture, (0, 0), 1.0))
        for face, picture in good_faces("abel", -20, 20)
    ]
    soft[5] = (soft[5][0], cv2.GaussianBlur(soft[5][1], (0, 0), 5.0))
    folder = write_face_set(tmp_path / "abel", "abel", sharp + soft)
    found = kinds(understudy.curate(folder, recipe=curate_recipe({"alike_levels": 0})))
    assert found == {NUM_FACES + 6: "blurred"}


def test_of_a_run_of_alike_faces_the_sharpest_is_kept(tmp_path: Path) -> None:
    faces = good_faces("abel", -20, 20)
    held = [
        (replace(faces[0][0], frame=200 + number), cv2.GaussianBlur(faces[0][1], (0, 0), 0.3 + 0.1 * abs(number - 2)))
        for number in range(5)
    ]
    folder = write_face_set(tmp_path / "abel", "abel", faces[1:] + held)
    found = kinds(understudy.curate(folder))
    first = NUM_FACES
    assert found == dict.fromkeys([first, first + 1, first + 3, first + 4], "near-duplicate")


def test_faces_that_the_extraction_left_out_stay_left_out(abel: Path) -> None:
    with FaceSet.open(abel) as face_set:
        face_set.set_kept([3], False, "other person")
    understudy.curate(abel)
    understudy.curate(abel, is_undo=True)
    assert states(abel)[3] == (False, "other person")


# ---- taking it back -------------------------------------------------------------------------------------------------------


def test_undo_restores_the_face_set_to_the_letter(faulty: Path) -> None:
    with FaceSet.open(faulty) as face_set:
        before = face_set.sha256()
    index = states(faulty)
    num_left_out = understudy.curate(faulty).figures["num_left_out"]
    with FaceSet.open(faulty) as face_set:
        assert face_set.sha256() != before, "training must see that its faces have changed"
    assert understudy.curate(faulty, is_undo=True).figures["num_restored"] == num_left_out
    with FaceSet.open(faulty) as face_set:
        assert face_set.sha256() == before
    assert states(faulty) == index
    assert not (faulty / "curation").exists()


def test_undo_refuses_while_a_curation_is_at_work(faulty: Path) -> None:
    understudy.curate(faulty)
    index = states(faulty)
    with locked(faulty / "curation"), pytest.raises(BadInput, match=f"curation is in use by process {os.getpid()}"):
        understudy.curate(faulty, is_undo=True)
    assert states(faulty) == index
    assert read_manifest(faulty / "curation") is not None


def test_the_same_command_again_has_nothing_to_do_and_changes_nothing(faulty: Path, bea: Path) -> None:
    first = understudy.curate(faulty, against=bea)
    after, manifest = states(faulty), (faulty / "curation/manifest.json").read_bytes()
    written = (faulty / "curation/report.html").stat().st_mtime_ns
    again = understudy.curate(faulty, against=bea)
    assert again == first
    assert (states(faulty), (faulty / "curation/manifest.json").read_bytes()) == (after, manifest)
    assert (faulty / "curation/report.html").stat().st_mtime_ns == written


def test_two_sets_can_be_curated_in_either_order_with_the_same_result(faulty: Path, bea: Path, tmp_path: Path) -> None:
    first = [understudy.curate(faulty, against=bea), understudy.curate(bea, against=faulty)]
    understudy.curate(faulty, is_undo=True)
    understudy.curate(bea, is_undo=True)
    second = [understudy.curate(bea, against=faulty), understudy.curate(faulty, against=bea)]
    assert [result.figures for result in first] == [result.figures for result in reversed(second)]


def test_another_setting_judges_anew(faulty: Path) -> None:
    understudy.curate(faulty)
    found = kinds(understudy.curate(faulty, recipe=curate_recipe({"blur_fraction": 0, "alike_levels": 0})))
    assert "blurred" not in found.values()
    assert states(faulty)[BLURRED + 1] == (True, "")
    assert set(found.values()) == {"over-exposed", "under-exposed", "misaligned", "too small", "wrong person"}


def test_what_a_person_set_stays_whatever_the_rules_say(faulty: Path) -> None:
    understudy.curate(faulty)
    result = understudy.curate(faulty, keep=[BLURRED + 1], leave_out=[1, 2])
    assert states(faulty)[BLURRED + 1] == (True, BY_HAND)
    assert [states(faulty)[number] for number in (1, 2)] == [(False, BY_HAND)] * 2
    assert result.figures["num_by_hand"] == 3
    understudy.curate(faulty, recipe=curate_recipe({"blur_fraction": 0.9}))
    understudy.curate(faulty, is_undo=True)
    assert states(faulty)[BLURRED + 1] == (True, BY_HAND)
    assert [states(faulty)[number] for number in (1, 2)] == [(False, BY_HAND)] * 2


def test_a_face_set_back_by_another_tool_counts_as_set_by_hand(faulty: Path) -> None:
    understudy.curate(faulty)
    with FaceSet.open(faulty) as face_set:
        face_set.set_kept([BLURRED + 1], True)
    result = understudy.curate(faulty)
    assert BLURRED + 1 not in kinds(result)
    assert states(faulty)[BLURRED + 1] == (True, BY_HAND)


def test_a_chosen_face_stands_for_those_that_double_it(faulty: Path) -> None:
    for chosen, other in ((DOUBLE + 1, NUM_FACES + 1), (NUM_FACES + 1, DOUBLE + 1)):
        understudy.curate(faulty, is_undo=True)
        with FaceSet.open(faulty) as face_set:
            face_set.set_kept([other], True)
            set_by_hand(face_set, [chosen], True)
        assert kinds(understudy.curate(faulty))[other] == "near-duplicate"


def test_a_kill_between_choosing_and_the_report_is_made_good_by_the_same_command(
    faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("understudy.stages.curate.write_curation_report", killed)
        with pytest.raises(KeyboardInterrupt):
            understudy.curate(faulty)
    assert read_manifest(faulty / "curation") is None
    assert kinds(understudy.curate(faulty))[BLURRED + 1] == "blurred"
    assert read_manifest(faulty / "curation") is not None


# ---- one performer against the other --------------------------------------------------------------------------------------


def test_what_one_shows_and_the_other_lacks_is_said_in_words(abel: Path, bea: Path) -> None:
    figures = understudy.curate(abel, against=bea).figures
    gaps = {(gap["lacking"], gap["trait"]): gap for gap in figures["gaps"]}  # type: ignore[attr-defined]
    left, right = gaps["abel", "left profiles"], gaps["abel", "right profiles"]
    assert (left["num"], left["num_having"]) == (0, right["num_having"])
    assert re.match(r"bea has \d+ left profiles, abel none; nearest frames of abel: 0, ", left["words"])
    assert "as bea in bea.mp4, frames 0 to" in left["words"]
    assert right["nearest"][0]["frame"] == NUM_FACES - 1, "the face turned furthest to that side"
    assert not {trait for lacking, trait in gaps if lacking == "bea" and "profile" in trait}


def test_the_other_face_set_is_not_changed(abel: Path, bea: Path) -> None:
    before = states(bea)
    understudy.curate(abel, against=bea)
    assert states(bea) == before
    assert not (bea / "curation").exists()


def test_frames_without_a_face_are_named(abel: Path) -> None:
    from understudy.store.faceset import SurveyedFrame

    with FaceSet.open(abel) as face_set:
        for frame in range(NUM_FACES + 3):
            face_set.add_frame("abel.mp4", SurveyedFrame(frame, frame / 2, np.zeros((18, 32, 3), np.uint8)))
    figures = understudy.curate(abel).figures
    assert figures["missing"] == ["abel.mp4: 3 of 43 frames have no face: frames 40 to 42"]
    assert figures["num_frames_without_face"] == 3


# ---- the report -----------------------------------------------------------------------------------------------------------


def test_the_report_is_one_file_that_needs_no_network_and_shows_each_reason(faulty: Path, bea: Path) -> None:
    result = understudy.curate(faulty, against=bea)
    html = result.outputs["report"].read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "default-src 'none'" in html
    for title in (
        "wrong person (1)",
        "misaligned (2)",
        "blurred (2)",
        "over-exposed (1)",
        "near-duplicate (1)",
        "too small (1)",
    ):
        assert f"Left out: {title}" in html
    assert html.count("<svg") == 6, "two maps of poses, four histograms"
    assert re.search(r"bea has \d+ left profiles, abel none", html)
    assert result.outputs["contact_sheet"].stat().st_size > 10_000


# ---- the border -----------------------------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_names_it(abel: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a face set"):
        understudy.curate(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds faces of abel too"):
        understudy.curate(abel, against=abel)
    with pytest.raises(BadInput, match="has no face with the number 999"):
        understudy.curate(abel, keep=[999])
    with pytest.raises(BadInput, match="face 3 is to be kept and to be left out"):
        understudy.curate(abel, keep=[3], leave_out=[3])
    (abel / "recipe.json").write_text("{}")
    with pytest.raises(BadInput, match="extraction is not finished"):
        understudy.curate(abel)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_face_set_that_cannot_be_written_to_is_named(abel: Path) -> None:
    abel.chmod(0o500)
    with pytest.raises(BadInput, match=str(abel)):
        understudy.curate(abel)
    abel.chmod(0o700)


def test_a_missing_picture_names_the_file(abel: Path) -> None:
    next(abel.glob("crops/*/*.jpg")).unlink()
    with pytest.raises(BadInput, match="jpg"):
        understudy.curate(abel)


def test_an_empty_face_set_is_said_to_be_empty(tmp_path: Path, bea: Path) -> None:
    FaceSet.create(tmp_path / "empty", "abel").close()
    figures = understudy.curate(tmp_path / "empty", against=bea).figures
    assert figures["verdict"] == "There is no face of abel to choose from."


def test_the_command_line_curates_and_prints_one_json_object(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["curate", str(faulty), "--set", "alike_levels=0", "--keep", "10,12-13", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_by_hand"] == 3
    assert printed["num_near_duplicate"] == 0
    assert Path(printed["report"]).is_file()
    assert run_command(["curate", str(faulty), "--undo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_restored"] > 0


def test_the_command_line_says_in_words_what_was_left_out_and_what_is_missing(
    faulty: Path, bea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["curate", str(faulty), "--against", str(bea)]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"\d+ of 41 faces of abel are kept. Left out: 1 of another person, 2 misaligned, 2 blurred, ", printed)
    assert "\n1 face is of bea in the set of abel; left out\n" in printed
    assert re.search(r"\nbea has \d+ left profiles, abel none; nearest frames of abel: \d+", printed)
    assert f"report                     {faulty / 'curation/report.html'}" in printed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "blur_fractoin=1"], "did you mean 'blur_fraction'"),
        (["--set", "blur_fraction=2"], "expected 0 to 1"),
        (["--keep", "twelve"], "--keep: expected numbers of faces"),
        (["--keep", "5-3"], "got '5-3'"),
        (["--undo", "--keep", "3"], "--undo takes no other options"),
    ],
)
def test_a_mistake_on_the_command_line_changes_nothing(
    abel: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["curate", str(abel), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not (abel / "curation").exists()


def test_a_dry_run_prints_the_recipe_and_does_nothing(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = states(faulty)
    assert run_command(["curate", str(faulty), "--dry-run"]) == 0
    assert "blur_fraction" in capsys.readouterr().out
    assert states(faulty) == before


# ---- training afterwards --------------------------------------------------------------------------------------------------


def test_training_sees_the_selection_and_consent_still_holds(consented: Path, tmp_path: Path) -> None:
    folders = [draw_face_set(tmp_path / name, name, skin) for name, skin in SKIN.items()]
    may_train(folders, consented)
    with FaceSet.open(folders[0]) as face_set:
        before = face_set.sha256()
    understudy.curate(folders[0], recipe=curate_recipe({"alike_levels": 0}), leave_out=[1, 2, 3])
    references = may_train(folders, consented)
    assert [reference.performer for reference in references] == ["abel", "bea"]
    abel, bea = load_performers(folders, understudy.TrainRecipe(resolution_px=64))
    assert (len(abel.crops), len(bea.crops)) == (29, 32)
    with FaceSet.open(folders[0]) as face_set:
        assert face_set.sha256() != before, "a model states which selection it learned from"
        set_by_hand(face_set, [1, 2, 3], True)
        assert face_set.sha256() == before
