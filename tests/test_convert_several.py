"""Convert with several performers: each gets whom was asked for, and one who cannot be replaced keeps no other back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from painted_plates import LOSSLESS, NUM_FRAMES, Mirror, Painter, a_face, planned, surveyed, write_plate
from understudy.media.footage import probe
from understudy.media.reader import read_frames
from understudy.stages import _swapping
from understudy.stages._compositing import composite_face
from understudy.stages._swap_ledger import counts_of, ledger_line
from understudy.stages._swap_plan import Replacement, replacements_of
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import _check_all_swapped, swap_footage
from understudy.trust.credentials import Lineage
from understudy.types import UnfinishedFrames


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "plate")


def test_several_performers_are_replaced_in_one_pass_each_by_whom_was_asked_for(plate):
    class Palette(Painter):
        def swap(self, crops, from_performer, to_performer, *told):
            self.colour = {"bea": (0.9, 0.1, 0.1), "cesar": (0.1, 0.1, 0.9)}[to_performer]
            return super().swap(crops, from_performer, to_performer)

    galleries = {name: np.full((3, 128), value) for name, value in (("abel", 0), ("dora", 0.5), ("bea", 1), ("cesar", -1))}
    faces = [
        a_face(frame, track=track, x=x, size=30, embedding=value)
        for frame in range(NUM_FRAMES)
        for track, x, value in ((0, 60.0, 0.0), (1, 180.0, 0.5), (2, 120.0, 5.0))
        if not (track == 1 and frame > 9)
    ]
    roles = replacements_of(["abel", "dora"], ["bea", "cesar"], tuple(galleries))
    plan = planned(plate, faces, Palette(galleries=galleries), LOSSLESS, roles=roles)
    finished = list(swapped_frames(read_frames(plate), plan))
    assert [len(frame.faces) for frame in finished] == [2] * 10 + [1] * 6
    assert np.all(finished[4].image[80, 60] == [230, 26, 26])
    assert np.all(finished[4].image[80, 180] == [26, 26, 230])
    assert np.array_equal(finished[4].image[80, 120], next(read_frames(plate, 4)).image[80, 120])


TWO_ROLES = (Replacement("abel", "bea"), Replacement("bea", "abel"))


def two_performers(spoiled: dict[str, object]):
    """Abel on the left and bea on the right of every frame; `spoiled`: what of bea's face is wrong in frame 4."""
    left = [a_face(frame, track=0, x=60.0, size=30) for frame in range(NUM_FRAMES)]
    right = [a_face(frame, track=1, x=180.0, size=30, embedding=1.0) for frame in range(NUM_FRAMES)]
    right[4] = replace(right[4], **spoiled)
    return [*left, *right]


@pytest.mark.parametrize(
    "spoiled",
    [{"face_from_frame": np.full((2, 3), np.nan)}, {"landmarks": np.full((468, 2), np.nan)}],
    ids=["alignment", "landmarks"],
)
def test_one_face_that_fails_leaves_the_others_of_its_frame_replaced_and_is_named(plate, spoiled):
    plan = planned(plate, two_performers(spoiled), Painter(), LOSSLESS, roles=TWO_ROLES)
    finished = list(swapped_frames(read_frames(plate), plan))
    assert [frame.status for frame in finished] == ["swapped"] * NUM_FRAMES
    assert np.all(finished[4].image[80, 60] == [230, 26, 26])
    assert np.array_equal(finished[4].image[80, 180], finished[4].record.image[80, 180])
    assert [frame.record.index for frame in finished if frame.reason] == [4]
    assert finished[4].reason.startswith("bea is not replaced: the face's")
    assert (len(finished[4].faces), len(finished[4].layers), len(finished[4].drawn)) == (2, 1, 1)
    assert counts_of([ledger_line(frame) for frame in finished])["num_partly_swapped"] == 1


def test_an_answer_or_a_fault_spoils_the_face_that_it_is_about_and_no_other(plate, monkeypatch):
    class Broken(Painter):
        def swap(self, crops, from_performer, to_performer, *told):
            answer = super().swap(crops, from_performer, to_performer)
            if from_performer == "abel":
                answer[0] = np.nan
            return answer

    def broken(plate, around, place, plan):
        if (around[place].face.frame, around[place].face.track) == (5, 1):
            raise IndexError("off by one")
        return composite_face(plate, around, place, plan)

    monkeypatch.setattr(_swapping, "composite_face", broken)
    recipe = replace(LOSSLESS, batch_size=16, matte_seconds=0)
    finished = list(swapped_frames(read_frames(plate), planned(plate, two_performers({}), Broken(), recipe, roles=TWO_ROLES)))
    assert [frame.reason for frame in finished[:5]] == ["abel is not replaced: the network's answer is not finite"] + [""] * 4
    assert np.all(finished[0].image[80, 180] == [230, 26, 26])
    assert finished[5].reason == "bea is not replaced: a fault of Understudy: IndexError: off by one"
    assert np.all(finished[5].image[80, 60] == [230, 26, 26])
    assert counts_of([ledger_line(frame) for frame in finished])["num_faults"] == 1


@pytest.mark.parametrize("on_missing", ["black", "blur"])
def test_a_face_that_fails_and_must_not_be_seen_hides_its_whole_frame(plate, on_missing):
    faces = two_performers({"face_from_frame": np.zeros((2, 3))})
    plan = planned(plate, faces, Painter(), replace(LOSSLESS, on_missing=on_missing), roles=TWO_ROLES)
    finished = list(swapped_frames(read_frames(plate), plan))
    assert [frame.record.index for frame in finished if frame.status == "failed"] == [4]
    assert finished[4].reason == "bea is not replaced: the face's alignment is unusable"
    assert finished[4].image.std() < 0.5 * finished[4].record.image.std()


def test_a_frame_in_which_one_of_two_is_not_replaced_is_written_and_not_enough_for_strict(plate, tmp_path):
    faces = two_performers({"face_from_frame": np.full((2, 3), np.nan)})
    plan = planned(plate, faces, Mirror(), LOSSLESS, roles=TWO_ROLES)
    figures, _ = swap_footage(probe(plate), surveyed(faces), plan, tmp_path, Lineage({}, ()))
    assert (figures["num_swapped"], figures["num_partly_swapped"]) == (NUM_FRAMES, 1)
    assert "bea is not replaced" in (tmp_path / "report.html").read_text()
    with pytest.raises(UnfinishedFrames, match="1 of 16 frames"):
        _check_all_swapped(figures, tmp_path)
