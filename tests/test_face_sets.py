"""Face sets: what is stored comes back, nothing is lost to a kill, and what is none is refused."""

import math
import random
import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from killing import NUM_KILLS, kill, start, wait_for_changes
from understudy.store.faceset import FaceSet, SurveyedFrame, crop_location
from understudy.store.faceset_rows import ADDED
from understudy.types import BadInput, Box, Face


def a_face(frame: int = 0, source: str = "clip.mp4", seed: int = 0) -> Face:
    rng = np.random.default_rng([frame, seed])
    matrix = rng.normal(size=(2, 3))
    return Face(
        source=source,
        frame=frame,
        time_seconds=frame / 25,
        box=Box(10.5, 20.25, 110.125, 140.0),
        score=0.875,
        landmarks=rng.uniform(0, 1920, (468, 2)).astype(np.float32),
        face_from_frame=matrix,
        raw_face_from_frame=matrix + 0.125,
        pose=(1.5, -2.5, 3.5),
        embedding=rng.normal(size=128).astype(np.float32),
        sharpness=321.5,
        mouth_openness=0.25,
        eye_openness=0.375,
        brightness=0.5,
        exposure=0.125,
        occlusion=0.0625,
        irises=rng.uniform(0, 1920, (2, 2)).astype(np.float32),
        shot=1,
        track=2,
    )


def as_comparable(face: Face) -> dict[str, object]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(face).items()}


@pytest.fixture
def face_set(tmp_path: Path):
    with FaceSet.create(tmp_path / "abel", "abel") as made:
        yield made


def test_faces_come_back_exactly_as_stored(face_set: FaceSet):
    faces = [a_face(2), a_face(1), replace(a_face(1, seed=1), is_bridged=True, kept=False, reason="blurred", crop_size_px=256)]
    ids = face_set.add_faces(faces)
    expected = [replace(face, id=row) for face, row in zip(faces, ids, strict=True)]
    with FaceSet.open(face_set.folder) as again:
        stored = again.faces(kept_only=False)
        assert [as_comparable(face) for face in stored] == [as_comparable(expected[i]) for i in (1, 2, 0)]
        assert again.performer == "abel"
        assert len(again) == 3
    assert stored[0].face_from_frame.dtype == np.float64


def test_a_face_set_for_which_the_disk_has_no_room_is_one_line_and_begins_anew_once_there_is_some(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(BadInput, match=r"faces.sqlite cannot be used \(.*\); free disk space"):
            FaceSet.create(tmp_path / "faces", "abel")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with FaceSet.create(tmp_path / "faces", "abel") as face_set:
        assert len(face_set) == 0
    assert [path.name for path in (tmp_path / "faces").iterdir()] == ["faces.sqlite"]


def test_what_was_not_measured_stays_nan(face_set: FaceSet):
    bridged = replace(
        a_face(), score=math.nan, sharpness=math.nan, pose=(math.nan,) * 3, embedding=np.empty(0), is_bridged=True
    )
    face_set.add_faces([bridged])
    [stored] = face_set.faces()
    assert math.isnan(stored.score)
    assert math.isnan(stored.sharpness)
    assert np.isnan(stored.pose).all()
    assert stored.embedding.shape == (0,)


def test_irises_that_are_not_known_stay_so(face_set: FaceSet):
    unknown, half = np.full((2, 2), np.nan), np.array([[10.5, 20.5], [np.nan, np.nan]])
    face_set.add_faces([replace(a_face(number), irises=irises) for number, irises in enumerate((unknown, half))])
    for face, irises in zip(face_set.faces(), (unknown, half), strict=True):
        np.testing.assert_array_equal(face.irises, irises)


def test_the_digest_follows_the_irises_and_is_as_it_was_without_them(face_set: FaceSet, tmp_path: Path):
    face_set.add_faces([a_face(0)])
    digests = [face_set.sha256()]
    for number, irises in enumerate((np.full((2, 2), np.nan), a_face(0).irises + 1)):
        with FaceSet.create(tmp_path / f"{number}", "abel") as other:
            other.add_faces([replace(a_face(0), irises=irises)])
            digests.append(other.sha256())
    assert len(set(digests)) == 3
    assert digests[1] == "6694a2160696d41ac0ea59b5c2bfa35c00aafaf1ff8896bf5fb8f5a163922082", "what schema 2 had"


def test_the_frames_done_are_told_per_source(face_set: FaceSet):
    assert face_set.num_frames_done("a.mp4") == 0
    face_set.add_faces([a_face(source="b.mp4")], num_frames_done={"b.mp4": 10})
    face_set.add_faces([], num_frames_done={"a.mp4": 20, "b.mp4": 15})
    assert (face_set.num_frames_done("a.mp4"), face_set.num_frames_done("b.mp4")) == (20, 15)
    assert face_set.sources() == ("a.mp4", "b.mp4")
    assert len(face_set.faces(source="a.mp4")) == 0
    assert len(face_set.faces(source="b.mp4")) == 1


def test_every_frame_that_was_looked_through_is_remembered_with_its_thumbnail(face_set: FaceSet):
    thumbnails = np.random.default_rng(0).integers(0, 255, (3, 18, 32, 3), dtype=np.uint8)
    for frame in (2, 0, 1):
        face_set.add_frame("clip.mp4", SurveyedFrame(frame, frame / 25, thumbnails[frame]))
    face_set.add_frame("other.mp4", SurveyedFrame(7, 0.28, thumbnails[0]))
    frames = face_set.frames("clip.mp4")
    assert [(each.frame, each.time_seconds) for each in frames] == [(0, 0.0), (1, 0.04), (2, 0.08)]
    np.testing.assert_array_equal([each.thumbnail for each in frames], thumbnails)


def test_an_index_with_a_damaged_page_is_named(face_set: FaceSet):
    face_set.add_faces([a_face(frame) for frame in range(50)])
    face_set.close()
    path = face_set.folder / "faces.sqlite"
    data = bytearray(path.read_bytes())
    data[8 * 4096 :] = bytes(len(data) - 8 * 4096)
    path.write_bytes(data)
    with (
        FaceSet.open(face_set.folder) as damaged,
        pytest.raises(BadInput, match=r"faces\.sqlite is damaged .* extract it again"),
    ):
        damaged.faces()


def test_smoothing_replaces_the_alignment_and_keeps_what_was_measured(face_set: FaceSet):
    ids = face_set.add_faces([a_face(frame) for frame in range(5)])
    before = face_set.faces()
    smoothed = np.random.default_rng(1).normal(size=(5, 2, 3))
    face_set.replace_alignments(ids, smoothed, shots=[3] * 5, tracks=range(5))
    for index, (old, new) in enumerate(zip(before, face_set.faces(), strict=True)):
        expected = replace(old, face_from_frame=smoothed[index], shot=3, track=index)
        assert as_comparable(new) == as_comparable(expected)


def test_leaving_faces_out_can_be_taken_back(face_set: FaceSet):
    ids = face_set.add_faces([a_face(frame) for frame in range(3)])
    original = face_set.sha256()
    face_set.set_kept(ids[:2], False, "another person")
    assert [face.id for face in face_set.faces()] == [ids[2]]
    assert [face.reason for face in face_set.faces(kept_only=False)] == ["another person", "another person", ""]
    assert face_set.sha256() != original
    face_set.set_kept(ids[:2], True)
    assert len(face_set.faces()) == 3
    assert face_set.sha256() == original


def test_an_id_that_is_not_there_is_a_fault_and_changes_nothing(face_set: FaceSet):
    ids = face_set.add_faces([a_face()])
    with pytest.raises(ValueError, match="1 of 2 are not there"):
        face_set.set_kept([*ids, 99], False, "gone")
    assert face_set.faces()[0].kept


def test_writes_in_one_transaction_happen_together_or_not_at_all(face_set: FaceSet):
    with suppress(RuntimeError), face_set.transaction():
        face_set.add_faces([a_face()], num_frames_done={"clip.mp4": 1})
        face_set.set_note("linked", "yes")
        raise RuntimeError
    assert (len(face_set), face_set.num_frames_done("clip.mp4"), face_set.note("linked")) == (0, 0, None)
    face_set.set_note("linked", "yes")
    assert face_set.note("linked") == "yes"


def test_the_gallery_holds_measured_and_kept_identities_only(face_set: FaceSet):
    assert face_set.gallery().embeddings.shape == (0, 128)
    faces = [a_face(frame) for frame in range(4)]
    faces[1] = replace(faces[1], is_bridged=True)
    faces[2] = replace(faces[2], embedding=np.full(128, np.nan))
    faces[3] = replace(faces[3], kept=False)
    face_set.add_faces(faces)
    np.testing.assert_array_equal(face_set.gallery().embeddings, faces[0].embedding[None])
    both = face_set.gallery(kept_only=False)
    np.testing.assert_array_equal(both.embeddings, np.stack([faces[0].embedding, faces[3].embedding]))
    np.testing.assert_allclose(both.mean, both.embeddings.mean(axis=0))


def test_every_picture_counts_kept_or_not_and_one_that_is_gone_too(face_set: FaceSet):
    crops = [face_set.write_crop(f"clip_{number}", b"jpeg") for number in range(2)]
    ids = face_set.add_faces([a_face(), a_face(1)])
    face_set.set_crops(ids, crops, 256)
    original = face_set.pictures_sha256()
    face_set.set_kept(ids[1:], False, "blurred")
    assert face_set.pictures_sha256() == original
    digests = {original}
    for data in (b"jpe9", b""):
        face_set.write_crop("clip_1", data)
        digests.add(face_set.pictures_sha256())
    (face_set.folder / crops[1]).unlink()
    digests.add(face_set.pictures_sha256())
    face_set.set_crops(ids, crops[::-1], 256)
    assert len(digests) == 4
    assert face_set.pictures_sha256() in digests, "which face a picture shows is sha256's to say"


def test_crops_lie_in_256_folders_under_names_that_every_system_takes(face_set: FaceSet):
    crop = face_set.write_crop("clip_000001_0", b"jpeg")
    face_set.set_crops(face_set.add_faces([a_face()]), [crop], 256)
    [face] = face_set.faces()
    assert face.crop == crop
    assert face.crop_size_px == 256
    assert face_set.crop_path(face).read_bytes() == b"jpeg"
    folders = {Path(crop_location(f"clip_{n}")).parent.name for n in range(5000)}
    assert folders == {f"{n:02x}" for n in range(256)}
    assert crop_location("a/b") != crop_location("a_b") != crop_location("a\\b")


@given(st.text(min_size=1))
def test_any_name_gives_a_crop_inside_the_face_set(name: str):
    first, second, file = crop_location(name).split("/")
    assert (first, len(second)) == ("crops", 2)
    assert file.isascii()
    assert len(file) < 130
    assert not file.startswith(".")


@pytest.mark.parametrize("crop", ["", "/etc/passwd", "crops/../../secret.jpg", 7, b"crops"])
def test_a_crop_that_leads_out_of_the_face_set_or_is_no_name_is_refused(face_set: FaceSet, crop: object):
    with pytest.raises(BadInput, match="no usable crop"):
        face_set.crop_path(replace(a_face(), crop=crop))


def test_a_folder_that_is_no_face_set_is_refused_with_the_remedy(tmp_path: Path):
    with pytest.raises(BadInput, match=r"not a face set .* understudy extract FOOTAGE --performer NAME --out"):
        FaceSet.open(tmp_path)
    (tmp_path / "faces.sqlite").write_text("this was a database once" * 100)
    with pytest.raises(BadInput, match="damaged or not a face set"):
        FaceSet.open(tmp_path)


def test_another_performer_and_a_newer_schema_are_refused(face_set: FaceSet):
    with pytest.raises(BadInput, match="faces of abel, not of bea"):
        FaceSet.create(face_set.folder, "bea")
    FaceSet.create(face_set.folder, "abel").close()
    with sqlite3.connect(face_set.folder / "faces.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(BadInput, match="schema 99"):
        FaceSet.open(face_set.folder)


OLDER = [(1, tuple(ADDED)), (2, ("irises",))]
"""Former schemas and what their faces lacked."""


def make_an_old_face_set(folder: Path, schema: int, lacking: tuple[str, ...]) -> None:
    """What former versions left, without the measures that came later."""
    with FaceSet.create(folder, "abel") as face_set:
        face_set.add_faces([a_face(0), a_face(1)])
    connection = sqlite3.connect(folder / "faces.sqlite")
    for column in lacking:
        connection.execute(f"ALTER TABLE faces DROP COLUMN {column}")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(schema),))
    connection.commit()
    connection.close()


@pytest.mark.parametrize(("schema", "lacking"), OLDER)
def test_an_older_face_set_is_brought_up_to_date_with_its_faces(tmp_path: Path, schema: int, lacking: tuple[str, ...]):
    make_an_old_face_set(tmp_path, schema, lacking)
    with FaceSet.open(tmp_path) as face_set:
        for face in face_set.faces():
            assert math.isnan(face.brightness) == ("brightness" in lacking)
            assert np.isnan(face.irises).all()
        face_set.add_faces([replace(a_face(2), brightness=0.5, occlusion=0.25)])
    with FaceSet.open(tmp_path) as again:
        faces = again.faces()
        assert (faces[2].brightness, faces[2].occlusion) == (0.5, 0.25)
        np.testing.assert_array_equal(faces[0].landmarks, a_face(0).landmarks)
        np.testing.assert_array_equal(faces[2].irises, a_face(2).irises)


@pytest.mark.parametrize(("schema", "lacking"), OLDER)
def test_an_older_face_set_that_cannot_be_written_to_is_read_as_it_is(
    tmp_path: Path, monkeypatch, schema: int, lacking: tuple[str, ...]
):
    make_an_old_face_set(tmp_path, schema, lacking)
    before = (tmp_path / "faces.sqlite").read_bytes()
    monkeypatch.setattr("understudy.store.faceset._is_writable", lambda path: False)
    with FaceSet.open(tmp_path) as face_set:
        for face in face_set.faces():
            assert math.isnan(face.occlusion) == ("occlusion" in lacking)
            assert np.isnan(face.irises).all()
    assert (tmp_path / "faces.sqlite").read_bytes() == before


def write_faces(folder: Path) -> None:
    with FaceSet.create(folder, "abel") as face_set:
        while True:
            frame = face_set.num_frames_done("clip.mp4")
            faces = [a_face(frame + n) for n in range(3)]
            crops = [face_set.write_crop(f"clip_{face.frame:06d}", b"j" * 20_000) for face in faces]
            with face_set.transaction():
                face_set.set_crops(face_set.add_faces(faces, num_frames_done={"clip.mp4": frame + 3}), crops, 256)


def test_an_index_is_whole_from_its_first_moment(tmp_path: Path):
    process = start(write_faces, tmp_path)
    while not (tmp_path / "faces.sqlite").exists():
        assert process.is_alive()
    kill(process)
    with FaceSet.open(tmp_path) as face_set:
        assert face_set.performer == "abel"


def test_a_killed_writer_leaves_every_face_with_its_frame_and_crop(tmp_path: Path):
    moments, previous = random.Random(0), 0
    for _ in range(NUM_KILLS):
        process = start(write_faces, tmp_path)
        wait_for_changes(tmp_path, moments.randrange(1, 8), process)
        kill(process)
        with FaceSet.create(tmp_path, "abel") as face_set:
            faces, num_done = face_set.faces(), face_set.num_frames_done("clip.mp4")
            assert [face.frame for face in faces] == list(range(num_done))
            assert num_done >= previous
            assert all(face_set.crop_path(face).stat().st_size == 20_000 for face in faces)
        previous = num_done
    connection = sqlite3.connect(tmp_path / "faces.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert previous > 0
