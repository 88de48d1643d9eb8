"""Curation leaves out what is plainly unusable, says why, and can always be taken back."""

from __future__ import annotations

import os
import re
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

import curated_faces
import understudy
from curated_faces import (
    BLURRED,
    BURNT,
    DARK,
    DOUBLE,
    LOST,
    NUM_FACES,
    SHAKEN,
    SLIPPED,
    SMALL,
    STRANGER,
    good_faces,
    kinds,
    states,
    write_face_set,
)
from understudy.imaging.similarity import compose, similarity_from_parameters
from understudy.recipes import curate_recipe
from understudy.stages._curation_coverage import TRAITS
from understudy.stages._curation_faults import _wrong_person, identity_distances, own_embeddings
from understudy.stages._curation_measure import Measures
from understudy.store.faceset import FaceSet
from understudy.store.manifest import read_manifest
from understudy.store.runs import locked
from understudy.store.selection import BY_HAND, set_by_hand
from understudy.types import BadInput


@pytest.fixture
def bea(tmp_path: Path) -> Path:
    """Faces from one profile to the other."""
    return curated_faces.bea_in(tmp_path)


@pytest.fixture
def abel(tmp_path: Path) -> Path:
    """Faces to the front, without a fault."""
    return curated_faces.abel_in(tmp_path)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Abel's faces with one of each fault; ids are the places in this list, from 1."""
    return curated_faces.faulty_in(tmp_path)


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


def test_a_face_of_which_a_tenth_is_hidden_is_left_out_and_one_in_a_shadow_is_not(tmp_path: Path) -> None:
    hidden = {3: 0.06, 5: 0.11, 7: 0.5}
    faces = [
        (replace(face, occlusion=hidden.get(number, 0.01 + 0.002 * (number % 3))), picture)
        for number, (face, picture) in enumerate(good_faces("abel", -20, 20))
    ]
    folder = write_face_set(tmp_path / "abel", "abel", faces)
    assert kinds(understudy.curate(folder)) == {6: "occluded", 8: "occluded"}
    assert states(folder)[6] == (False, "curate: occluded: about 11% of the face is hidden")


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


def test_a_clip_that_is_out_of_focus_throughout_is_left_out_whole(tmp_path: Path) -> None:
    sharp = good_faces("abel", -20, 20)
    unsharp = [
        (replace(face, source="unsharp.mp4", frame=face.frame + 100), cv2.GaussianBlur(picture, (0, 0), 5.0))
        for face, picture in sharp[:20]
    ]
    folder = write_face_set(tmp_path / "abel", "abel", sharp + unsharp)
    found = kinds(understudy.curate(folder, recipe=curate_recipe({"alike_levels": 0})))
    assert found == dict.fromkeys(range(NUM_FACES + 1, NUM_FACES + 21), "blurred")


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


def test_of_faces_named_by_hand_only_those_with_a_picture_are_the_performers(faulty: Path) -> None:
    """Numbers run through all faces of the footage, so a range holds other people's, who have no picture."""
    with FaceSet.open(faulty) as face_set:
        stranger = replace(face_set.faces()[0], id=0, crop="", kept=False, reason="other person")
        [number] = face_set.add_faces([stranger])
    result = understudy.curate(faulty, keep=[number - 1, number], leave_out=[1])
    assert states(faulty)[number - 1] == (True, BY_HAND)
    assert states(faulty)[number] == (False, "other person")
    assert result.figures["num_by_hand"] == 2
    for asked in ({"keep": [number]}, {"leave_out": [number]}):
        with pytest.raises(BadInput, match=f"face {number} has no picture .*other person.*nothing to train on"):
            understudy.curate(faulty, **asked)
    assert states(faulty)[number] == (False, "other person")


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


def test_a_face_set_that_lost_pictures_is_refused_with_the_remedy(faulty: Path) -> None:
    before = states(faulty)
    with FaceSet.open(faulty) as face_set:
        lost = [face_set.crop_path(face) for face in face_set.faces()[:2]]
    for path in lost:
        path.unlink()
    with pytest.raises(BadInput, match=r"2 of its 41 pictures of faces are missing, crops/.*extract it into a new folder"):
        understudy.curate(faulty)
    assert states(faulty) == before


def test_few_faces_are_counted_in_words(tmp_path: Path) -> None:
    for num, words in ((1, "only 1 face is kept of abel"), (2, "only 2 faces are kept of abel")):
        folder = write_face_set(tmp_path / str(num), "abel", good_faces("abel", -20, 20)[: 4 * num : 4])
        assert words in understudy.curate(folder).figures["warnings"][0]


# ---- who is who -----------------------------------------------------------------------------------------------------------


def of_embeddings(embeddings: np.ndarray) -> Measures:
    """Faces of a track each, of which only the identities matter."""
    faces = [replace(curated_faces.a_face("abel", 0, 0.0)[0], track=number) for number in range(len(embeddings))]
    nothing = np.full(len(faces), np.nan)
    columns = {field.name: nothing for field in fields(Measures)} | {"performer": "abel", "faces": tuple(faces)}
    return Measures(**{**columns, "embedding": np.asarray(embeddings)})  # type: ignore[arg-type]


def corners_of_a_simplex(num: int, apart: float) -> np.ndarray:
    """Embeddings (num, 128) that are all equally far from each other."""
    return np.eye(num, 128) * apart / np.sqrt(2)


def test_a_stranger_is_not_taken_in_by_way_of_look_alikes() -> None:
    """Reach 0.5 takes in neighbours up to 0.4 away; a chain of faces at 0.45 would lead anywhere."""
    own = corners_of_a_simplex(5, 0.1)
    for step, num_own in ((0.35, 6), (0.45, 5)):
        chain = own.mean(axis=0) + np.eye(1, 128, 100) * step
        assert len(own_embeddings(of_embeddings(np.vstack([own, chain])), 0.5)) == num_own


def test_a_face_is_compared_with_others_and_not_with_itself() -> None:
    for num, distance in ((1, 0.0), (2, 0.3), (5, 0.3)):
        embeddings = corners_of_a_simplex(num, 0.3)
        np.testing.assert_allclose(identity_distances(of_embeddings(embeddings), embeddings), distance, atol=1e-6)


def test_a_face_that_was_not_measured_is_as_far_as_the_nearest_of_its_track_that_was() -> None:
    embeddings = np.full((6, 128), np.nan)
    embeddings[[0, 5]] = np.eye(2, 128)
    measures = of_embeddings(embeddings)
    faces = tuple(replace(face, track=0, frame=number) for number, face in enumerate(measures.faces))
    distances = identity_distances(replace(measures, faces=faces), np.eye(1, 128) * 0.5)
    np.testing.assert_allclose(distances, [0.5] * 3 + [np.sqrt(1.25)] * 3)


def test_a_face_is_the_other_performers_only_within_the_distance_at_which_a_person_ends() -> None:
    """A stranger who happens to be nearer to bea than to abel is nobody's, and must not be called bea."""
    abel, bea = corners_of_a_simplex(6, 0.1), np.roll(corners_of_a_simplex(6, 0.1), 20, axis=1)
    stranger = bea.mean(axis=0) + np.eye(1, 128, 100) * 0.6
    measures, other = of_embeddings(np.vstack([abel, stranger])), replace(of_embeddings(bea), performer="bea")
    theirs = identity_distances(measures, bea)[6]
    assert theirs < identity_distances(measures, abel)[6]
    for limit, is_other in ((theirs, False), (theirs + 1e-9, True)):
        ((row, fault),) = _wrong_person(measures, replace(curate_recipe(), identity_distance=limit), other)
        assert (row, fault.kind, fault.is_other_performer) == (6, "wrong person", is_other)


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


def test_the_nearest_frames_that_a_gap_names_are_a_second_apart(abel: Path, bea: Path) -> None:
    gaps = understudy.curate(abel, against=bea).figures["gaps"]
    named = [[face["frame"] for face in gap["nearest"]] for gap in gaps if gap["lacking"] == "abel"]
    assert max(map(len, named)) == 3
    for frames in named:  # there are two a second
        assert all(abs(one - other) >= 2 for one, other in combinations(frames, 2))


def test_a_face_is_of_one_kind_in_each_group_also_on_the_line_between_two() -> None:
    edges = sorted({edge for trait in TRAITS for low_high in trait.bounds.values() for edge in low_high if np.isfinite(edge)})
    values = np.array([*edges, -1e3, 1e3])
    columns = dict.fromkeys(("yaw", "pitch", "mouth", "eyes", "brightness", "light_side"), values)
    for group in {trait.group for trait in TRAITS}:
        shown = np.array([trait.shown(columns) for trait in TRAITS if trait.group == group])
        np.testing.assert_array_equal(shown.sum(axis=0), 1)


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
