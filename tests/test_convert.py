"""Convert: the whole clip through the real media code, with a model that returns its input and faces whose place is known."""

import json
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from painted_plates import (
    AS_BEA,
    HEIGHT,
    LOSSLESS,
    NUM_FRAMES,
    WIDTH,
    Mirror,
    Painter,
    a_face,
    converted,
    planned,
    soft_texture,
    surveyed,
    write_plate,
    written,
)
from understudy.imaging.meanface import raise_forehead
from understudy.media.footage import FrameRecord, probe
from understudy.media.reader import read_frames
from understudy.stages import _swapping
from understudy.stages._compositing import composite_face
from understudy.stages._plate_looks import measured
from understudy.stages._swap_plan import Replacement, replacements_of, track_ends
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import (
    check_no_faults,
    make_plan,
)
from understudy.types import (
    BadInput,
    FaultInFrames,
)


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "plate")


def test_a_model_that_returns_its_input_gives_the_plate_back(plate, tmp_path):
    figures, ledger, frames = converted(plate, [a_face(frame) for frame in range(NUM_FRAMES)])
    assert figures["num_swapped"] == figures["num_frames"] == NUM_FRAMES
    for record, frame in zip(read_frames(plate), frames, strict=True):
        assert np.abs(frame.astype(float) - record.image).mean() < 0.5
        assert np.abs(frame.astype(float) - record.image).max() < 12
    assert [line["status"] for line in ledger] == ["swapped"] * NUM_FRAMES


def test_the_new_face_lies_on_the_face_and_nowhere_else(plate, tmp_path):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    _, _, frames = converted(plate, faces, Painter())
    for face, record, frame in zip(faces, read_frames(plate), frames, strict=True):
        is_changed = np.any(frame != record.image, axis=2)
        outline = raise_forehead(face.landmarks)
        inside = cv2.fillConvexPoly(
            np.zeros((HEIGHT, WIDTH), np.uint8), cv2.convexHull(outline.astype(np.float32)).astype(np.int32), 1
        )
        assert not np.any(is_changed & (cv2.dilate(inside, np.ones((5, 5))) == 0))
        assert is_changed.sum() > 0.8 * inside.sum()
        ys, xs = np.nonzero(np.all(frame == [230, 26, 26], axis=2))
        centre = (outline.min(axis=0) + outline.max(axis=0)) / 2
        assert np.abs([xs.mean() + 0.5, ys.mean() + 0.5] - centre).max() < 4


def test_every_frame_is_accounted_for(plate, tmp_path):
    faces = [a_face(frame) for frame in range(8)] + [a_face(frame, track=1, embedding=1.0) for frame in range(8, 12)]
    figures, ledger, frames = converted(plate, faces, Painter())
    assert [line["status"] for line in ledger] == ["swapped"] * 8 + ["other_person"] * 4 + ["no_face"] * 4
    assert [line["frame"] for line in ledger] == list(range(NUM_FRAMES))
    counts = [figures[f"num_{name}"] for name in ("frames", "swapped", "other_person", "without_face", "failed")]
    assert counts == [16, 8, 4, 4, 0]
    for record, frame in list(zip(read_frames(plate), frames, strict=True))[8:]:
        assert np.array_equal(frame, record.image)


def test_a_frame_that_fails_shows_the_plate_and_is_listed_with_its_reason(plate, tmp_path):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    faces[3] = replace(faces[3], face_from_frame=np.zeros((2, 3)))
    faces[5] = replace(faces[5], landmarks=np.full((468, 2), np.nan))
    figures, ledger, frames = converted(plate, faces, Painter(), replace(LOSSLESS, colour="plate"))
    assert figures["num_failed"] == 2
    assert figures["num_swapped"] == NUM_FRAMES - 2
    for frame, record in enumerate(read_frames(plate)):
        assert (ledger[frame]["status"] == "failed") == (frame in (3, 5))
        assert bool(ledger[frame]["reason"]) == (frame in (3, 5))
        assert np.array_equal(frames[frame], record.image) == (frame in (3, 5))


@pytest.mark.parametrize("alignment", [np.full((2, 3), np.nan), np.zeros((2, 3))], ids=["not finite", "flat"])
def test_a_face_that_lies_nowhere_does_not_keep_the_plate_from_being_written_to_its_end(plate, tmp_path, alignment):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    faces[3] = replace(faces[3], face_from_frame=alignment)
    figures = written(plate, faces, tmp_path / "swap")
    assert (figures["num_failed"], figures["num_swapped"]) == (1, NUM_FRAMES - 1)
    assert len(list(read_frames(tmp_path / "swap/frames"))) == NUM_FRAMES
    lines = [json.loads(line) for line in (tmp_path / "swap/passes/alignment.jsonl").read_text().splitlines()]
    assert [len(line["faces"]) for line in lines] == [1, 1, 1, 0] + [1] * 12
    assert "disable {{curve K x0 0 x3 1 x4 0 x16 1}}" in (tmp_path / "swap/passes/alignment.nk").read_text()


def test_an_answer_that_is_not_finite_fails_its_frame_and_spoils_no_other(plate, tmp_path):
    class Broken(Painter):
        def swap(self, crops, from_performer, to_performer, *told):
            answer = super().swap(crops, from_performer, to_performer)
            answer[0] = np.nan
            return answer

    recipe = replace(LOSSLESS, colour="plate", batch_size=4)
    figures, _, _ = converted(plate, [a_face(frame) for frame in range(NUM_FRAMES)], Broken(), recipe)
    assert (figures["num_failed"], figures["num_swapped"]) == (4, 12)


@pytest.mark.parametrize(("on_missing", "expected"), [("black", 0.0), ("blur", None)])
def test_frames_without_a_swap_can_be_hidden(plate, tmp_path, on_missing, expected):
    faces = [a_face(frame) for frame in range(NUM_FRAMES) if frame > 3]
    _, _, frames = converted(plate, faces, recipe=replace(LOSSLESS, on_missing=on_missing))
    assert frames[0].std() < 0.5 * soft_texture(0).std()
    if expected is not None:
        assert np.all(frames[0] == expected)
    assert frames[6].std() > 10


def test_matching_colour_gives_the_new_face_the_plates_colour_without_flicker(plate, tmp_path):
    class Tinted(Mirror):
        def swap(self, crops, from_performer, to_performer, *told):
            answer = super().swap(crops, from_performer, to_performer)
            answer[..., :3] = np.clip(answer[..., :3] * np.float32([0.8, 0.9, 0.7]) + np.float32(0.1), 0, 1)
            return answer

    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    _, _, own = converted(plate, faces, Tinted())
    _, _, matched = converted(plate, faces, Tinted(), replace(LOSSLESS, colour="plate", colour_method="mkl"))
    error = [
        [np.abs(f.astype(float) - r.image).mean() for f, r in zip(fs, read_frames(plate), strict=True)] for fs in (own, matched)
    ]
    assert np.mean(error[1]) < 0.25 * np.mean(error[0])
    assert np.std(error[1]) < 0.1


def test_a_track_too_short_for_a_regular_sample_is_matched_too_and_one_out_of_the_picture_does_no_harm(plate, tmp_path):
    faces = [a_face(frame, track=frame // 2) for frame in range(1, 7)]
    faces += [a_face(frame, track=9, x=-300.0) for frame in range(8, 16)]
    plan = planned(plate, faces, Mirror(), replace(LOSSLESS, colour="plate"))
    assert set(plan.looks) == {0, 1, 2, 3, 9}
    figures, ledger, _ = converted(plate, faces, recipe=replace(LOSSLESS, colour="plate"))
    assert figures["num_swapped"] == 6
    assert ledger[10]["reason"] == "bea's face is nowhere visible"


def test_a_face_that_drops_out_fades_and_one_that_is_cut_off_does_not():
    faces = {frame: [a_face(frame)] for frame in range(5, 10)}
    roles = dict.fromkeys((0, 1), Replacement("abel", "bea"))
    within = track_ends(faces, dict.fromkeys(range(16), 0), roles)[0]
    assert (within.is_faded_in, within.is_faded_out) == (True, True)
    at_cuts = track_ends(faces, {frame: int(frame >= 5) + int(frame >= 10) for frame in range(16)}, roles)[0]
    assert (at_cuts.is_faded_in, at_cuts.is_faded_out) == (False, False)
    relayed = faces | {10: [a_face(10, track=1)]}
    assert track_ends(relayed, dict.fromkeys(range(16), 0), roles)[0].is_faded_out is False
    beside_another = roles | {1: Replacement("bea", "abel")}
    assert track_ends(relayed, dict.fromkeys(range(16), 0), beside_another)[0].is_faded_out is True


def test_a_fade_rises_and_falls_over_a_few_frames(plate):
    faces = [a_face(frame) for frame in range(3, 13)]
    plan = planned(plate, faces, Painter(), replace(LOSSLESS, fade_seconds=0.12))
    shares = [float(finished.matte.max()) for finished in swapped_frames(read_frames(plate), plan)]
    assert shares == pytest.approx([0] * 3 + [0.25, 0.5, 0.75] + [1] * 4 + [0.75, 0.5, 0.25] + [0] * 3, abs=0.01)


def test_nobody_is_twice_in_a_frame(plate):
    faces = [a_face(frame, track=t, x=x, size=30) for frame in range(NUM_FRAMES) for t, x in ((0, 60.0), (1, 180.0))]
    plan = planned(plate, faces, Painter(), LOSSLESS)
    assert len(plan.ends) == 1


@pytest.mark.parametrize("blend", ["direct", "alpha", "hard", "feather", "poisson", "multiband", "relief"])
def test_every_blend_runs_through_the_whole_stage_and_gives_the_plate_back(plate, tmp_path, blend):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    figures, _, frames = converted(plate, faces, recipe=replace(LOSSLESS, blend=blend, colour="plate"))
    assert figures["num_swapped"] == NUM_FRAMES
    assert np.mean([np.abs(f.astype(float) - r.image).mean() for f, r in zip(frames, read_frames(plate), strict=True)]) < 1


def test_a_fault_of_ours_is_told_from_a_bad_frame_and_ends_with_an_error(plate, monkeypatch):
    def broken(plate, around, place, plan):
        if around[place].face.frame == 6:
            raise IndexError("off by one")
        return composite_face(plate, around, place, plan)

    monkeypatch.setattr(_swapping, "composite_face", broken)
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    faces[3] = replace(faces[3], face_from_frame=np.zeros((2, 3)))
    figures, ledger, frames = converted(plate, faces, Painter())
    assert (figures["num_failed"], figures["num_faults"], figures["num_swapped"]) == (2, 1, NUM_FRAMES - 2)
    assert "IndexError: off by one" in ledger[6]["reason"]
    assert 'raise IndexError("off by one")' in ledger[6]["fault"]
    assert "fault" not in ledger[3]
    assert np.array_equal(frames[6], next(read_frames(plate, 6)).image)
    with pytest.raises(FaultInFrames, match=r"1 of 16 frames.*ledger\.jsonl"):
        check_no_faults(figures, plate)


def test_a_film_in_which_no_frame_could_be_given_a_new_face_is_refused_and_its_folder_stays_free(plate, tmp_path):
    eroded, out = replace(LOSSLESS, erode_fraction=1.0), tmp_path / "swap"
    why = r"\(12 failed, most for this: bea's face is nowhere visible; 4 without a face\).*erode_fraction"
    with pytest.raises(BadInput, match=f"plate: none of its 16 frames could be given a new face {why}"):
        written(plate, [a_face(frame) for frame in range(12)], out, eroded)
    assert [path.name for path in out.iterdir()] == ["ledger.jsonl"]
    assert {json.loads(line)["status"] for line in (out / "ledger.jsonl").read_text().splitlines()} == {"failed", "no_face"}


def test_a_film_of_which_faults_of_ours_left_no_new_face_is_not_signed_and_its_tracebacks_are_kept(
    plate, tmp_path, monkeypatch
):
    def broken(plate, around, place, plan):
        raise IndexError("off by one")

    monkeypatch.setattr(_swapping, "composite_face", broken)
    with pytest.raises(FaultInFrames, match=r"16 of 16 frames .*ledger\.jsonl has the tracebacks\. No frame has a new face"):
        written(plate, [a_face(frame) for frame in range(NUM_FRAMES)], tmp_path / "swap")
    assert not (tmp_path / "swap/frames").exists()
    assert "IndexError: off by one" in json.loads((tmp_path / "swap/ledger.jsonl").read_text().splitlines()[0])["fault"]


@pytest.mark.parametrize(
    "changed", [{"num_crops": 3}, {"flow_blend_fraction": 0.3}, {"is_light_linear": True}, {"matte_seconds": 0.1}]
)
def test_quality_settings_leave_a_perfect_model_perfect(plate, changed):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    figures, _, frames = converted(plate, faces, recipe=replace(LOSSLESS, **changed))
    assert figures["num_swapped"] == NUM_FRAMES
    assert np.mean([np.abs(f.astype(float) - r.image).mean() for f, r in zip(frames, read_frames(plate), strict=True)]) < 0.6


@pytest.mark.parametrize("changed", [{}, {"is_light_linear": True}, {"colour": "plate", "blend": "multiband"}])
def test_a_deep_plate_stays_deep(plate, changed):
    ramp = np.tile(np.linspace(9000, 52000, WIDTH)[None, :, None], (HEIGHT, 1, 3)).astype(np.uint16)
    records = [FrameRecord(k, k / 25, k, Fraction(1, 25), ramp) for k in range(NUM_FRAMES)]
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    plan = make_plan(probe(plate), surveyed(faces), Mirror(), AS_BEA, replace(LOSSLESS, **changed))
    plan = measured(plan, lambda: iter(records), Path(tempfile.mkdtemp(dir=plate.parent)))
    finished = list(swapped_frames(records, plan))[8]
    assert (finished.image.dtype, finished.status) == (np.uint16, "swapped")
    inside = finished.matte > 0
    assert np.array_equal(finished.image[~inside], ramp[~inside])
    assert np.abs(finished.image.astype(float) - ramp)[inside].max() < 80
    row = finished.image[80, finished.matte[80] > 0.99, 0]
    assert len(np.unique(row)) > 0.95 * len(row)
    assert np.any(row % 257 != 0)


def test_the_finished_clip_says_that_it_is_made_by_a_computer(plate, tmp_path):
    written(plate, [a_face(0)], tmp_path / "swap", replace(LOSSLESS, codec="h264"))
    with av.open(str(tmp_path / "swap" / "swap.mp4")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert "AI-manipulated" in tags["comment"]


def test_passes_and_report_cover_every_frame(plate, tmp_path):
    written(plate, [a_face(frame) for frame in range(4)], tmp_path / "swap")
    lines = [json.loads(line) for line in (tmp_path / "swap/passes/alignment.jsonl").read_text().splitlines()]
    assert [len(line["faces"]) for line in lines] == [1] * 4 + [0] * 12
    assert np.allclose(lines[2]["faces"][0]["face_from_frame"], a_face(2).face_from_frame, atol=1e-12)
    report = (tmp_path / "swap/report.html").read_text()
    assert "bea in place of abel" in report
    assert "4-15" in report


def test_the_transparency_of_a_folder_of_pictures_comes_through(tmp_path):
    (plate := tmp_path / "plate").mkdir()
    alpha = np.tile(np.arange(WIDTH).astype(np.uint8), (HEIGHT, 1))
    for frame in range(NUM_FRAMES):
        cv2.imwrite(str(plate / f"{frame:04d}.png"), np.dstack([soft_texture(0), alpha]))
    written(plate, [a_face(frame) for frame in range(NUM_FRAMES)], tmp_path / "swap", replace(LOSSLESS, codec="ffv1"))
    for frame in read_frames(tmp_path / "swap/swap.mkv"):
        assert np.array_equal(frame.alpha, alpha)


def test_performers_who_are_unknown_or_do_not_pair_up_are_named():
    for replaced, with_, words in (
        ("cesar", "bea", "abel, bea"),
        ("bea", "bea", "two performers"),
        (["abel", "bea"], ["bea"], "in pairs"),
        (["abel", "abel"], ["bea", "bea"], "2 times"),
    ):
        with pytest.raises(BadInput, match=words):
            replacements_of(replaced, with_, ("abel", "bea"))
