"""What is made of the faces that a survey finds: plausible or not, bridged, told apart, cropped."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from understudy.imaging.meanface import align_mesh, mean_face
from understudy.imaging.similarity import apply, compose, invert, scale_of, similarity_from_parameters, translation
from understudy.imaging.smoothing import CENTRE, FACE_POINTS
from understudy.imaging.tracking import thumbnail
from understudy.media.footage import FrameRecord
from understudy.media.reader import read_frames
from understudy.perception.follow import OUT_OF_ITS_TRACK, jitter_px, link_and_smooth
from understudy.perception.iris import RefinedEyes
from understudy.perception.landmarks import Landmarks
from understudy.perception.persons import most_frequent_person, num_frames_of_persons, second_looks, select_performer
from understudy.perception.plausible import (
    believable_mesh,
    continued_mesh,
    detection_from_mesh,
    is_plausible,
    misfit,
    turn,
)
from understudy.perception.survey import (
    CUT_OFF,
    FrameFaces,
    Networks,
    face_from_mesh,
    load_networks,
    read_ahead,
    survey,
)
from understudy.stages.extract import crop_size_px
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, and clips


def frames_of(path, start, stop):
    return [record.image for record in read_frames(path, start, stop)]


def a_mesh(turn_radians=0.0, is_mirrored=False):
    """The mean head, 120 px to a face unit at (300, 200), as landmarks (468, 3)."""
    points = mean_face() * [-1 if is_mirrored else 1, 1, 1]
    frame_from_face = similarity_from_parameters(np.log(120), turn_radians, 300, 200)
    return np.column_stack([apply(frame_from_face, points[:, :2]), 120 * points[:, 2]])


def test_a_mesh_that_fits_is_plausible_even_on_its_head():
    for angle in (0.0, np.pi):
        assert is_plausible(Landmarks(a_mesh(angle), 0.9, a_mesh(angle)), detection_from_mesh(a_mesh(angle), 0.9))


def test_a_mesh_that_is_upside_down_mirrored_crumpled_or_unsure_is_not_plausible():
    seen = detection_from_mesh(a_mesh(), 0.9)
    upright = a_mesh()
    upside_down = a_mesh(np.pi)
    upside_down[:, :2] += (upright - upside_down)[:, :2].mean(axis=0)
    crumpled = upright + np.random.default_rng(0).normal(0, 25, upright.shape)
    mirrored = a_mesh(is_mirrored=True)
    mirrored[:, :2] += (upright - mirrored)[:, :2].mean(axis=0)
    for mesh, presence in ((upside_down, 0.9), (crumpled, 0.9), (mirrored, 0.9), (upright, 0.3)):
        assert not is_plausible(Landmarks(mesh, presence, mesh), seen)


def test_a_turned_detection_is_another_way_up_around_the_same_middle():
    seen = detection_from_mesh(a_mesh(), 0.9)
    np.testing.assert_allclose(turn(turn(seen, 1.0), -1.0).keypoints, seen.keypoints)
    left_eye, right_eye = turn(seen, np.pi).keypoints[:2]
    assert left_eye[0] > right_eye[0]


def a_wrong_and_a_right_mesh():
    """The mean head upside down and upright around one middle, (468, 3) each."""
    meshes = []
    for angle in (np.pi, 0.0):
        points = a_mesh(angle)
        points[:, :2] += np.array([300, 200]) - points[:, :2].mean(axis=0)
        meshes.append(points)
    return meshes


def test_a_mesh_that_jumped_is_sought_again_where_the_face_was():
    upside_down, upright = a_wrong_and_a_right_mesh()
    asked = []

    def result(presence_of_jumped, found, presence):
        def look(image, detection):
            asked.append(detection)
            return Landmarks(found, presence, found)

        jumped = Landmarks(upside_down, presence_of_jumped, upside_down)
        return continued_mesh(None, jumped, align_mesh(upright), look).points

    np.testing.assert_array_equal(result(0.999, upright, 1.0), upright)
    np.testing.assert_allclose(asked[0].keypoints, detection_from_mesh(upright, 1.0).keypoints, atol=0.2 * 120)
    np.testing.assert_array_equal(result(0.999, upright, 0.999), upside_down)  # as sure of the one as of the other
    np.testing.assert_array_equal(result(0.999, upside_down, 1.0), upside_down)  # it is there that it stands on its head
    np.testing.assert_array_equal(result(1.0, upright, 1.0), upside_down)  # it was wrong before and is right now
    steady = Landmarks(upright, 0.999, upright)
    assert continued_mesh(None, steady, align_mesh(upright), None) is steady


def test_the_way_up_that_the_network_is_sure_of_is_believed_and_none_where_it_is_sure_of_none():
    """Shape does not decide: behind a hand, the lock that is upside down fits the mean head better than the face does."""
    upside_down, upright = a_wrong_and_a_right_mesh()
    grimace = upright + np.random.default_rng(0).normal(0, 3, upright.shape)
    assert misfit(grimace) > misfit(upside_down)

    def believed(first, presence, turned, presence_of_turned, presence_at_first_sight=0.99):
        def look(image, detection):
            return Landmarks(turned, presence_of_turned, turned)

        def first_look(image, detections):
            return [presence_at_first_sight for _ in detections]

        seen = detection_from_mesh(first, 0.9)
        return believable_mesh(None, seen, Landmarks(first, presence, first), look, first_look)

    np.testing.assert_array_equal(believed(grimace, 1.0, upside_down, 0.999).points, grimace)
    np.testing.assert_array_equal(believed(upside_down, 0.999, grimace, 1.0).points, grimace)
    np.testing.assert_array_equal(believed(grimace, 0.9, upside_down, 0.999).points, grimace)
    np.testing.assert_array_equal(believed(upside_down, 0.3, grimace, 1.0).points, grimace)
    assert believed(grimace, 0.3, upside_down, 0.999) is None
    np.testing.assert_array_equal(believed(upside_down, 0.999, grimace, 1.0, 0.4).points, upside_down)  # nothing to see there


def test_a_mesh_that_stands_on_its_head_for_three_frames_is_put_right_and_not_kept():
    frames = surveyed(range(30), 30)
    middle = apply(invert(frames[0].faces[0].face_from_frame), CENTRE)[0]
    for number in (14, 15, 16):
        (face,) = frames[number].faces
        x, y = middle + np.array([3.0 * number, 0])
        half_turn = compose(similarity_from_parameters(0, np.pi, 0, 0), translation(-x, -y))
        turn_about = compose(translation(x, y), half_turn)
        wrong = compose(face.raw_face_from_frame, turn_about)
        face = replace(
            face,
            landmarks=apply(turn_about, face.landmarks),
            irises=apply(turn_about, face.irises),
            face_from_frame=wrong,
            raw_face_from_frame=wrong,
            pose=(0, 0, 179),
            id=number,
        )
        frames[number] = replace(frames[number], faces=(face,))
    clean, linked = link_and_smooth(surveyed(range(30), 30)), link_and_smooth(frames)
    assert [face.frame for face in linked if not face.kept] == [14, 15, 16]
    assert {face.reason for face in linked if not face.kept} == {OUT_OF_ITS_TRACK}
    assert [face.id for face in linked if not face.kept] == [14, 15, 16]
    for face, expected in zip(linked, clean, strict=True):
        np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=0.1)
        np.testing.assert_allclose(face.face_from_frame, expected.face_from_frame, atol=1e-3)
        assert abs(face.pose[2]) < 5
    assert jitter_px(linked)[0] < 0.01


@pytest.mark.parametrize("frame", [0, 12, 24, 96])
def test_a_face_upside_down_is_aligned_as_well_as_upright(sample, frame):
    """In the later frames the mesh that lies wrongly on it fits the mean head better than many faces do."""
    picture = frames_of(sample / "abel_test.mp4", frame, frame + 1)[0]
    networks = load_networks()
    upright, upside_down = (
        next(survey([FrameRecord(0, 0.0, 0, Fraction(1, 25), each)], "clip", networks)).faces[0]
        for each in (picture, np.ascontiguousarray(picture[::-1, ::-1]))
    )
    box, turned_box = (apply(invert(face.face_from_frame), FACE_POINTS) for face in (upright, upside_down))
    np.testing.assert_allclose(512 - turned_box, box, atol=0.04 * scale_of(invert(upright.face_from_frame)))


IRISES = a_mesh()[[159, 386], :2]


def surveyed(frames_with_face, num_frames, shift_px=3.0, scene=lambda frame: 0, person=0, has_irises=lambda frame: True):
    """A face that moves to the right through `num_frames` frames and is seen in some of them."""
    picture = np.full((400, 1600, 3), 100, np.uint8)
    result = []
    for frame in range(num_frames):
        record = FrameRecord(frame, frame / 25, frame, Fraction(1, 25), picture)
        points = a_mesh() + np.array([shift_px * frame, 0, 0])
        eyes = RefinedEyes(points, (IRISES if has_irises(frame) else np.full((2, 2), np.nan)) + [shift_px * frame, 0])
        face = replace(
            face_from_mesh(record, "clip", detection_from_mesh(points, 0.9), points, eyes),
            embedding=np.full(128, float(person)),
        )
        small = thumbnail(np.full((90, 160, 3), 100 + 100 * scene(frame), np.uint8))
        result.append(FrameFaces(frame, frame / 25, small, (face,) if frame in frames_with_face else ()))
    return result


def test_a_gap_of_twelve_frames_is_bridged_and_one_of_thirteen_is_left_open():
    for num_missing, num_linked in ((12, 40), (13, 27)):
        seen = [frame for frame in range(40) if not 10 <= frame < 10 + num_missing]
        faces = link_and_smooth(surveyed(seen, 40, shift_px=1.0))
        assert len(faces) == num_linked
        assert [face.frame for face in faces if face.is_bridged] == ([*range(10, 22)] if num_missing == 12 else [])


def test_a_bridged_face_lies_on_the_way_between_its_neighbours():
    faces = link_and_smooth(surveyed([*range(10), *range(18, 30)], 30))
    bridged = faces[13]
    assert bridged.is_bridged
    assert bridged.time_seconds == pytest.approx(13 / 25)
    np.testing.assert_allclose(bridged.landmarks, a_mesh()[:, :2] + [39, 0], atol=0.1)
    np.testing.assert_allclose(bridged.irises, IRISES + np.array([39, 0]), atol=0.1)
    np.testing.assert_allclose(apply(bridged.face_from_frame, bridged.landmarks), mean_face()[:, :2], atol=0.01)


def test_a_bridged_head_turns_the_short_way_round():
    seen = [replace(each, faces=tuple(replace(face, pose=(0.0, 0.0, 170.0)) for face in each.faces)) for each in gap()]
    seen[20:] = [
        replace(each, faces=tuple(replace(face, pose=(0.0, 0.0, -170.0)) for face in each.faces)) for each in seen[20:]
    ]
    rolls = [face.pose[2] % 360 for face in link_and_smooth(seen) if face.is_bridged]
    assert len(rolls) == 10
    assert all(170 < roll < 190 for roll in rolls)


def gap():
    return surveyed([*range(10), *range(20, 30)], 30, shift_px=1.0)


def test_irises_are_smoothed_where_all_of_a_track_are_known_and_else_none_are():
    """A survey that an older version began knows half of them."""
    seen, faces = [*range(10), *range(18, 30)], {}
    for name, has_irises in (("all", lambda frame: True), ("half", lambda frame: frame > 5)):
        faces[name] = link_and_smooth(surveyed(seen, 30, has_irises=has_irises))
    assert all(np.isfinite(face.irises).all() for face in faces["all"])
    assert all(np.isnan(face.irises).all() for face in faces["half"])
    for known, unknown in zip(faces["all"], faces["half"], strict=True):
        np.testing.assert_array_equal(known.landmarks, unknown.landmarks)


def test_nothing_is_bridged_across_a_cut():
    faces = link_and_smooth(surveyed([*range(10), *range(14, 30)], 30, scene=lambda frame: int(frame >= 12)))
    assert [face.frame for face in faces] == [*range(10), *range(14, 30)]
    assert [(face.shot, face.track) for face in faces] == [(0, 0)] * 10 + [(1, 1)] * 16


def unrelated(num_frames, moved=lambda frame: 90.0 * (frame % 3) + 10 * frame, is_known=lambda frame: True):
    """One person in pictures that do not follow one another: the face is anywhere."""
    pictures = []
    for frame, each in enumerate(surveyed(range(num_frames), num_frames, shift_px=0)):
        face = each.faces[0]
        points = a_mesh() + np.array([moved(frame), 0, 0])
        matrix = align_mesh(points)
        box = replace(face.box, left=face.box.left + moved(frame), right=face.box.right + moved(frame))
        known = face.embedding if is_known(frame) else np.full(128, np.nan)
        face = replace(
            face, box=box, landmarks=points[:, :2], face_from_frame=matrix, raw_face_from_frame=matrix, embedding=known
        )
        pictures.append(replace(each, faces=(face,)))
    return pictures


def test_photographs_are_aligned_as_measured_and_each_is_a_track_of_its_own():
    """Smoothed like film, each crop would show what lies between the faces of three pictures."""
    faces = link_and_smooth(unrelated(10), first_track=5)
    assert [face.track for face in faces] == [*range(5, 15)]
    assert not any(face.is_bridged or not face.kept for face in faces)
    for face in faces:
        np.testing.assert_array_equal(face.face_from_frame, face.raw_face_from_frame)
        np.testing.assert_allclose(apply(face.face_from_frame, face.landmarks), mean_face()[:, :2], atol=1e-6)


def test_a_face_in_a_time_lapse_is_who_it_was_until_its_identity_is_measured_again():
    faces = link_and_smooth(unrelated(10, moved=lambda frame: 30.0 * (frame % 2), is_known=lambda frame: frame % 5 == 0))
    assert [face.track for face in faces] == [0] * 5 + [1] * 5
    assert select_performer(faces, np.zeros((1, 128))) == {0, 1}


def test_a_face_that_runs_through_the_picture_is_film():
    faces = link_and_smooth(surveyed([*range(10), *range(13, 20)], 20, shift_px=50.0))
    assert len(faces) == 20
    assert {face.track for face in faces} == {0}


def test_a_steady_motion_has_no_jitter():
    before, after = jitter_px(link_and_smooth(surveyed(range(30), 30)))
    assert before < 0.01
    assert after < 0.01
    assert link_and_smooth([]) == []
    assert jitter_px([]) == (0.0, 0.0)


def test_nobody_is_twice_in_a_frame():
    faces = link_and_smooth(surveyed(range(5), 5))
    twin = [replace(face, track=1, embedding=face.embedding + 0.01) for face in faces]
    assert select_performer(faces + twin, np.zeros((1, 128))) == {0}
    assert select_performer(faces + twin, np.full((1, 128), 0.01)) == {1}
    elsewhere = [replace(face, frame=face.frame + 10) for face in twin]
    assert select_performer(faces + elsewhere, np.zeros((1, 128))) == {0, 1}


def aside(box):
    """The box where another face may be."""
    return replace(box, left=box.left + 400, right=box.right + 400)


def test_a_second_look_at_the_same_face_does_not_displace_its_track():
    faces = link_and_smooth(surveyed(range(9), 9))
    second = [replace(face, track=1, embedding=np.zeros(128)) for face in faces[3:5]]
    main = [replace(face, embedding=np.full(128, 0.01)) for face in faces]
    assert second_looks(main + second) == {1}
    assert select_performer(main + second, np.zeros((1, 128))) == {0}
    assert second_looks(main + [replace(face, box=aside(face.box)) for face in second]) == set()
    crossing = [*second, *(replace(face, track=1, box=aside(face.box)) for face in faces[5:8])]
    assert second_looks(main + crossing) == set()


def test_a_second_look_at_the_same_face_does_not_make_its_person_the_most_frequent():
    faces = link_and_smooth(surveyed(range(20), 20))
    often = [replace(face, embedding=np.full(128, 1.0)) for face in faces]
    seldom = [replace(face, track=1, embedding=np.zeros(128), box=aside(face.box)) for face in faces[:16]]
    again = [replace(face, track=2) for face in seldom[:8]]
    assert num_frames_of_persons(often + seldom + again) == [20, 16]
    np.testing.assert_array_equal(most_frequent_person(often + seldom + again), np.full((1, 128), 1.0))


def test_where_nobody_was_all_of_the_frame_is_looked_at_now_and_then(sample):
    asked = []
    nobody = Networks(None, lambda images: [[] for _ in images], lambda image: asked.append(image) or [], None, None)
    grey = np.full((90, 160, 3), 120, np.uint8)
    records = [FrameRecord(frame, frame / 25, frame, Fraction(1, 25), grey + np.uint8(frame // 6)) for frame in range(12)]
    assert all(not found.faces for found in survey(records, "clip", nobody))
    assert [image.mean() for image in asked] == [120, 120, 121]  # frames 0, 5 and 10


def test_a_face_that_the_edge_cuts_off_is_not_kept_and_a_close_up_without_a_forehead_is():
    """The mean head lies from 286 to 434 across and from 166 to 348 down."""
    for rows, columns, is_kept in (
        (slice(None), slice(None), True),
        (slice(180, None), slice(None), True),
        (slice(None), slice(None, 390), False),
        (slice(None), slice(330, None), False),
        (slice(None, 250), slice(None), False),
    ):
        picture = np.full((400, 600, 3), 100, np.uint8)[rows, columns]
        points = a_mesh() - np.array([columns.start or 0, rows.start or 0, 0])
        record = FrameRecord(0, 0.0, 0, Fraction(1, 25), picture)
        face = face_from_mesh(record, "clip", detection_from_mesh(points, 0.9), points)
        assert (face.kept, face.reason) == (is_kept, "" if is_kept else CUT_OFF)
    linked = link_and_smooth(
        [replace(each, faces=(replace(each.faces[0], kept=False, reason=CUT_OFF),)) for each in surveyed(range(9), 9)]
    )
    assert {(face.kept, face.reason) for face in linked} == {(False, CUT_OFF)}


def test_a_face_that_is_followed_has_its_identity_measured_on_every_fifth_frame(sample):
    records = [record for record in read_frames(sample / "abel_test.mp4", 2, 12)]
    found = [each.faces[0] for each in survey(records, "clip", load_networks())]
    assert [face.frame for face in found if np.isfinite(face.embedding).all()] == [2, 5, 10]


def test_strangers_are_not_selected():
    faces = link_and_smooth(surveyed(range(5), 5))
    assert select_performer(faces, np.full((3, 128), 0.1)) == set()
    assert select_performer([], most_frequent_person([])) == set()


def test_crops_keep_the_frames_resolution_within_bounds():
    sizes = [crop_size_px(similarity_from_parameters(-np.log(unit_px), 0.3, 5, 5)) for unit_px in (20, 100, 150, 1000)]
    assert sizes == [128, 320, 448, 1024]


def test_reading_ahead_gives_the_same_frames_and_passes_errors_on():
    def broken():
        yield from range(3)
        raise BadInput("clip.mp4: broken")

    assert list(read_ahead(iter(range(50)))) == list(range(50))
    frames = read_ahead(broken())
    assert [next(frames) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BadInput, match="broken"):
        next(frames)
    endless = read_ahead(iter(int, 1))
    next(endless)
    endless.close()
