"""Extract: the real networks on the bundled actors, two persons in one picture, and a process killed at random."""

import sqlite3
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import killing
from understudy.imaging.expression import read_expressions
from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.similarity import apply, compose
from understudy.imaging.warp import warp_image
from understudy.media.images import read_image, write_png
from understudy.media.reader import read_frames
from understudy.perception.survey import CUT_OFF
from understudy.stages._extraction_report import write_contact_sheet
from understudy.stages.extract import _gate, extract
from understudy.store.faceset import FaceSet
from understudy.store.manifest import read_manifest
from understudy.store.packages import weights_folder
from understudy.trust.gate import NudeMaterial, Sample, judge, weights_path
from understudy.types import BadInput, Event, Refused

pytestmark = pytest.mark.slow  # real networks, codecs and clips

NUM_KILLS = 20

FIRST, LAST = 78, 97
"""Frames of the sample's test clip in which a bar passes: it hides the face during some of them."""


def clip_of(folder, pictures):
    """Footage: a folder of pictures in the order given."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        write_png(folder / f"{number:03d}.png", picture)
    return folder


def frames_of(path, start, stop):
    return [record.image for record in read_frames(path, start, stop)]


@pytest.fixture(scope="module")
def passing_bar(sample, tmp_path_factory):
    """Twenty frames of abel during which a bar hides his face."""
    return clip_of(tmp_path_factory.mktemp("footage") / "bar", frames_of(sample / "abel_test.mp4", FIRST, LAST + 1))


@pytest.fixture(scope="module")
def extracted(passing_bar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "abel"
    return folder, extract([passing_bar], "abel", folder)


def all_faces(folder):
    with FaceSet.open(folder) as face_set:
        return face_set.faces(kept_only=False)


# ---- one performer --------------------------------------------------------------------------------------------------------


def test_every_frame_is_accounted_for(extracted):
    folder, result = extracted
    figures = result.figures
    faces = all_faces(folder)
    assert figures["num_frames"] == 20
    assert figures["num_frames_with_face"] + figures["num_frames_without_face"] == 20
    assert figures["num_faces"] == figures["num_kept"] == sum(face.kept for face in faces) >= 15
    assert figures["num_tracks"] == 1
    assert figures["num_other_faces"] == 0
    assert sorted(face.frame for face in faces) == list(range(20))


def test_a_face_behind_a_bar_is_interpolated_and_not_trained_on(extracted):
    folder, result = extracted
    bridged = [face for face in all_faces(folder) if face.is_bridged]
    assert 0 < len(bridged) == result.figures["num_bridged"]
    for face in bridged:
        assert not face.kept
        assert face.reason == "not seen: interpolated"
        assert face.score == 0
        assert np.isnan(face.embedding).all()
        assert np.isfinite(face.face_from_frame).all()
        assert (folder / face.crop).is_file()


def test_irises_are_stored_of_every_face_also_of_one_behind_a_bar(extracted):
    for face in all_faces(extracted[0]):
        irises, points = (apply(face.face_from_frame, each) for each in (face.irises, face.landmarks))
        middles = np.stack([points[[33, 133]].mean(axis=0), points[[362, 263]].mean(axis=0)])
        assert np.linalg.norm(irises - middles, axis=1).max() < 0.06, f"frame {face.frame}, in face units"
    assert np.isfinite(read_expressions(all_faces(extracted[0]))).all()


def test_what_hides_a_face_is_estimated(extracted):
    hidden = {face.frame + FIRST: face.occlusion for face in all_faces(extracted[0])}
    assert min(hidden[frame] for frame in (82, 83, 84, 85)) > 0.3
    assert max(hidden[frame] for frame in (78, 79, 92, 95)) < 0.1


def test_each_face_is_measured(extracted):
    for face in all_faces(extracted[0]):
        if not face.is_bridged:
            assert 0.2 < face.brightness < 0.8
            assert face.exposure < 0.05
            assert 0.05 < face.eye_openness < 0.6
            assert 0 <= face.mouth_openness < 0.4


def test_the_alignment_is_steadier_than_measured_and_the_measured_one_is_kept(extracted):
    folder, result = extracted
    assert result.figures["jitter_after_px"] < result.figures["jitter_before_px"] / 3
    assert all(np.any(face.face_from_frame != face.raw_face_from_frame) for face in all_faces(folder) if not face.is_bridged)


def test_a_stored_crop_is_the_frame_seen_through_its_alignment(extracted, passing_bar):
    folder, _ = extracted
    face = all_faces(folder)[0]
    crop = read_image(folder / face.crop)
    size_px = face.crop_size_px
    assert crop.shape == (size_px, size_px, 3)
    frame = read_image(passing_bar / f"{face.frame:03d}.png")
    expected = warp_image(frame, compose(crop_from_face(STORED, size_px), face.face_from_frame), (size_px, size_px))
    assert np.abs(crop.astype(float) - expected).mean() < 1.5  # what JPEG costs
    eyes = apply(compose(crop_from_face(STORED, size_px), face.face_from_frame), face.landmarks[[33, 263]])
    assert eyes[0, 0] < eyes[1, 0]
    assert abs(eyes[0, 1] - eyes[1, 1]) < 0.05 * size_px


def test_what_came_of_it_is_told_in_words_and_pictures(extracted):
    folder, result = extracted
    html = (folder / "report.html").read_text(encoding="utf-8")
    figures = result.figures
    assert f"{figures['num_faces']} faces of abel in {figures['num_frames_with_face']} of 20 frames" in html
    assert "interpolated from the frames around" in html
    assert read_image(folder / "contact_sheet.jpg").shape[1] > 1000
    manifest = read_manifest(folder)
    assert manifest.figures["num_faces"] == figures["num_faces"]
    assert manifest.licences["face_identity"] == "CC0-1.0"
    assert "AGPL" in manifest.licences["content_gate"]
    with FaceSet.open(folder) as face_set:
        assert manifest.figures["gate"]["pictures_sha256"] == face_set.pictures_sha256(), "its answer is for these pictures"


def test_the_contact_sheet_tells_faces_by_the_numbers_that_curation_takes(extracted, tmp_path):
    folder, _ = extracted
    with FaceSet.open(folder) as face_set:
        face = face_set.faces()[0]
        sheets = [write_contact_sheet(face_set, [replace(face, id=number)], tmp_path / "sheet.jpg") for number in (7, 7, 8)]
    assert sheets[0] == sheets[1] != sheets[2]
    assert "the face&#39;s #number" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_finished_extraction_is_not_done_again(extracted, passing_bar):
    folder, result = extracted
    events = []
    before = (folder / "faces.sqlite").stat().st_mtime_ns
    again = extract([passing_bar], "abel", folder, report=events.append)
    assert again.as_json() == result.as_json()
    assert events == []
    assert (folder / "faces.sqlite").stat().st_mtime_ns == before


def test_another_performer_into_the_same_folder_is_refused(extracted, passing_bar):
    with pytest.raises(BadInput, match="performer: abel there, bea now"):
        extract([passing_bar], "bea", extracted[0])


# ---- several persons ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_actors(sample, tmp_path_factory):
    """Six frames: abel at the left in all, bea at the right in the last four; and a picture of bea from elsewhere."""
    left, right = (frames_of(sample / f"{name}_test.mp4", 0, 6) for name in ("abel", "bea"))
    right[:2] = [np.full_like(picture, 90) for picture in right[:2]]
    folder = tmp_path_factory.mktemp("both")
    picture_of_bea = folder / "bea.png"
    write_png(picture_of_bea, frames_of(sample / "bea_test.mp4", 24, 25)[0])
    return clip_of(folder / "clip", [np.hstack(pair) for pair in zip(left, right, strict=True)]), picture_of_bea


def test_the_person_like_the_picture_is_picked_and_the_others_are_counted(both_actors, tmp_path):
    clip, picture_of_bea = both_actors
    result = extract([clip], "bea", tmp_path / "bea", like=[picture_of_bea])
    faces = all_faces(tmp_path / "bea")
    kept = [face for face in faces if face.kept]
    assert [face.frame for face in kept] == [2, 3, 4, 5]
    assert all(face.box.left > 512 for face in kept)
    others = [face for face in faces if not face.kept]
    assert len(others) == result.figures["num_other_faces"] == 6
    assert {(face.reason, face.crop) for face in others} == {("other person", "")}
    assert "6 faces are of other people" in (tmp_path / "bea" / "report.html").read_text(encoding="utf-8")


def test_without_a_picture_the_most_frequent_person_is_kept(both_actors, tmp_path):
    events: list[Event] = []
    result = extract([both_actors[0]], "abel", tmp_path / "abel", report=events.append)
    assert (result.figures["num_faces"], result.figures["num_other_faces"]) == (6, 4)
    assert all(face.box.right < 512 for face in all_faces(tmp_path / "abel") if face.kept)
    (warning,) = [event.message for event in events if event.kind == "warning"]
    assert "person in most frames, 6; another person is in 4: if the wrong one was taken, give --like IMAGE" in warning
    assert warning in (tmp_path / "abel" / "report.html").read_text(encoding="utf-8")


def test_of_two_people_in_as_many_frames_none_is_taken_in_silence(sample, both_actors, tmp_path):
    clips = [clip_of(tmp_path / name, frames_of(sample / f"{name}_test.mp4", 0, 6)) for name in ("abel", "bea")]
    events: list[Event] = []
    extract(clips, "bea", tmp_path / "unsaid", report=events.append)
    (warning,) = [event.message for event in events if event.kind == "warning"]
    assert "two people are in about as many frames (6 and 6), and bea was taken for one of them by chance" in warning
    events.clear()
    extract(clips, "bea", tmp_path / "said", like=[both_actors[1]], report=events.append)
    assert {face.source for face in all_faces(tmp_path / "said") if face.kept} == {"bea"}
    assert not [event for event in events if event.kind == "warning"]


def test_two_people_who_change_places_at_a_cut_are_told_apart_in_every_frame(both_actors, sample, tmp_path):
    """Overlap alone would hand each of them the other's place."""
    abel, bea = (frames_of(sample / f"{name}_test.mp4", 0, 8) for name in ("abel", "bea"))
    pairs = [(a, b) if frame < 4 else (b, a) for frame, (a, b) in enumerate(zip(abel, bea, strict=True))]
    clip = clip_of(tmp_path / "clip", [np.hstack(pair) for pair in pairs])
    extract([clip], "bea", tmp_path / "bea", like=[both_actors[1]])
    faces = all_faces(tmp_path / "bea")
    for is_bea in (True, False):
        boxes = [face.box for face in faces if face.kept == is_bea]
        assert [box.left > 512 for box in boxes] == [is_bea] * 4 + [not is_bea] * 4


# ---- nothing to find ------------------------------------------------------------------------------------------------------


def test_footage_without_a_face_ends_well_and_says_so(tmp_path):
    clip = clip_of(tmp_path / "grey", [np.full((90, 160, 3), 120, np.uint8)] * 3)
    events: list[Event] = []
    result = extract([clip], "abel", tmp_path / "faces", report=events.append)
    assert (result.figures["num_frames"], result.figures["num_faces"], result.figures["num_tracks"]) == (3, 0, 0)
    warnings = [event.message for event in events if event.kind == "warning"]
    assert warnings == ["no face of abel was found in 3 frames: there is nothing to train on"]
    assert "No face of abel was found in 3 frames" in (tmp_path / "faces" / "report.html").read_text(encoding="utf-8")


def test_a_face_that_leaves_the_picture_is_not_trained_on_and_the_report_says_why(sample, tmp_path):
    whole = frames_of(sample / "abel_test.mp4", 0, 6)
    cut_off = [np.ascontiguousarray(picture[:, :256]) for picture in whole]
    result = extract([clip_of(tmp_path / "edge", cut_off)], "abel", tmp_path / "faces")
    assert result.figures["num_faces"] == 6
    assert result.figures["num_kept"] == 0
    assert {face.reason for face in all_faces(tmp_path / "faces")} == {CUT_OFF}
    html = (tmp_path / "faces" / "report.html").read_text(encoding="utf-8")
    assert "Not kept: 6 cut off by the picture" in html


def test_a_picture_without_a_face_is_refused_by_name(tmp_path):
    clip = clip_of(tmp_path / "grey", [np.full((90, 160, 3), 120, np.uint8)])
    with pytest.raises(BadInput, match=r"000\.png: expected a picture of the performer, found no face"):
        extract([clip], "abel", tmp_path / "faces", like=[clip / "000.png"])


def test_a_folder_for_a_picture_is_refused_and_a_picture_of_somebody_else_is_suspected(passing_bar, both_actors, tmp_path):
    with pytest.raises(BadInput, match="expected a picture of the performer, got a folder; give --like for each picture in it"):
        extract([passing_bar], "abel", tmp_path / "none", like=[passing_bar])
    events: list[Event] = []
    result = extract([passing_bar], "abel", tmp_path / "faces", like=[both_actors[1]], report=events.append)
    assert result.figures["num_faces"] == 0
    (warning,) = [event.message for event in events if event.kind == "warning"]
    assert "faces are of other people: if one of them is abel, give another --like IMAGE and another --out" in warning


def test_no_footage_unknown_detectors_and_unusable_names_are_refused(tmp_path, passing_bar):
    with pytest.raises(BadInput, match=r"performer name: expected letters.* got 'Abel\.jr'"):
        extract([passing_bar], "Abel.jr", tmp_path / "faces")
    with pytest.raises(BadInput, match="at least one video"):
        extract([], "abel", tmp_path / "faces")
    with pytest.raises(BadInput, match="expected a detector out of mediapipe, mtcnn, dlib, dlib-cnn, got 'magic'"):
        extract([passing_bar], "abel", tmp_path / "other", detector="magic")
    with pytest.raises(BadInput, match="expected landmarks out of mediapipe, dlib-68, got '68'"):
        extract([passing_bar], "abel", tmp_path / "other", landmarks="68")


def test_a_clip_has_a_name_wherever_the_user_stands_and_is_taken_once(tmp_path, monkeypatch):
    grey = np.full((90, 160, 3), 120, np.uint8)
    clip = clip_of(tmp_path / "take 1", [grey, grey + np.uint8(10)])
    clip_of(clip / "below", [grey])
    monkeypatch.chdir(clip)
    for number, asked in enumerate((".", "below/..", "../take 1")):
        extract([Path(asked)], "abel", tmp_path / f"faces{number}")
        with FaceSet.open(tmp_path / f"faces{number}") as face_set:
            assert face_set.sources() == ("take 1",)
    result = extract([Path(), clip, Path("below"), Path("../take 1")], "abel", tmp_path / "faces")
    assert result.figures["num_frames"] == 3
    with FaceSet.open(tmp_path / "faces") as face_set:
        assert face_set.sources() == ("below", "take 1")


# ---- the content gate -----------------------------------------------------------------------------------------------------


def test_a_gate_that_was_missing_does_not_stop_the_next_try(passing_bar, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    for path in weights_folder().iterdir():
        if path != weights_path():
            (tmp_path / "weights" / path.name).symlink_to(path)
    with monkeypatch.context() as patch:
        patch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
        patch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(Refused, match="the content gate is missing"):
            extract([passing_bar], "abel", tmp_path / "faces")
    with FaceSet.open(tmp_path / "faces") as face_set, _gate(face_set) as gate:
        assert gate


def test_nude_material_stays_refused(tmp_path):
    with FaceSet.create(tmp_path / "faces", "abel") as face_set:
        with pytest.raises(NudeMaterial, match="frame 7"), _gate(face_set):
            judge([Sample("frame 7", 0, 0.9)], Counter())
        with pytest.raises(Refused, match="frame 7: refused by the content gate"), _gate(face_set):
            pass


def test_an_interrupted_extraction_shows_the_gate_what_it_had_surveyed(passing_bar, tmp_path, monkeypatch):
    def interrupt(event):
        if event.kind == "progress" and event.done == 15:
            raise KeyboardInterrupt

    monkeypatch.setattr("understudy.stages._extraction_progress.SECONDS_BETWEEN_EVENTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        extract([passing_bar], "abel", tmp_path / "faces", report=interrupt)
    extract([passing_bar], "abel", tmp_path / "faces")
    assert read_manifest(tmp_path / "faces").figures["gate"]["num_samples"] >= 2  # frames 0 and 13, both surveyed before


# ---- killed ---------------------------------------------------------------------------------------------------------------


def rows_and_crops(folder):
    """All that an extraction leaves, comparable to the last bit."""
    with sqlite3.connect(folder / "faces.sqlite") as connection:
        rows = [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("faces", "frames", "sources", "meta")
        ]
    connection.close()
    return rows, {path.name: path.read_bytes() for path in (folder / "crops").rglob("*.jpg")}


def how_far(folder):
    """Frames looked through, crops cut out and faces examined for what hides them."""
    if not (folder / "faces.sqlite").exists():
        return 0
    with sqlite3.connect(f"file:{folder / 'faces.sqlite'}?mode=ro", uri=True) as connection:
        try:
            faces = "SELECT COUNT(*) FROM faces WHERE"
            queries = ("SELECT COUNT(*) FROM frames", f"{faces} crop != ''", f"{faces} occlusion IS NOT NULL")
            done = sum(connection.execute(query).fetchone()[0] for query in queries)
        except sqlite3.OperationalError:  # the tables are not there yet
            done = 0
    connection.close()
    return done


@pytest.mark.slow
def test_an_extraction_killed_at_random_ends_with_the_same_face_set(extracted, passing_bar, tmp_path):
    random = np.random.default_rng()
    moments = sorted(random.integers(1, 59, NUM_KILLS).tolist())
    folder = tmp_path / "faces"
    for moment in moments:
        process = killing.start(extract, [passing_bar], "abel", folder)
        while process.is_alive() and how_far(folder) < moment:
            time.sleep(0.005)
        process.kill()
        process.join()
    extract([passing_bar], "abel", folder)
    rows, crops = rows_and_crops(folder)
    expected_rows, expected_crops = rows_and_crops(extracted[0])
    assert crops == expected_crops, moments
    assert rows == expected_rows, moments
