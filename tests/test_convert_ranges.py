"""Convert by parts: ranges with settings of their own, renders that were cut short, and only what has changed."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import understudy.stages.convert as convert_stage
from painted_plates import (
    AS_BEA,
    LOSSLESS,
    NUM_FRAMES,
    Mirror,
    Painter,
    a_face,
    planned,
    surveyed,
    write_plate,
)
from understudy.media.footage import probe
from understudy.media.images import read_image
from understudy.media.reader import read_frames
from understudy.media.segments import SegmentedWriter
from understudy.settings import RangeSettings
from understudy.stages import _marked_output, _swapping
from understudy.stages._compositing import composite_face
from understudy.stages._drawing import frames_to_read
from understudy.stages._plate_survey import PlateSurvey
from understudy.stages._segment_keys import segment_keys
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import (
    counts_of,
    frame_bytes,
    ledger_line,
    make_plan,
    measure_looks,
    swap_footage,
)
from understudy.trust.credentials import Lineage
from understudy.types import BadInput, Event


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "plate")


def test_a_range_has_settings_of_its_own_or_is_left_as_it_is(plate):
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    ranges = (
        RangeSettings(replace(LOSSLESS, blend="direct"), frames=(4, 9)),
        RangeSettings(LOSSLESS, frames=(8, 10), is_swapped=False),
    )
    whole = list(swapped_frames(read_frames(plate), planned(plate, faces, Painter(), LOSSLESS)))
    parts = list(swapped_frames(read_frames(plate), planned(plate, faces, Painter(), LOSSLESS, ranges)))
    is_equal = [np.array_equal(a.image, b.image) for a, b in zip(whole, parts, strict=True)]
    assert is_equal == [True] * 4 + [False] * 7 + [True] * 5
    assert [frame.status for frame in parts] == ["swapped"] * 8 + ["left_out"] * 3 + ["swapped"] * 5
    assert parts[5].matte.sum() > 1.3 * whole[5].matte.sum()
    assert counts_of([ledger_line(frame) for frame in parts])["num_left_out"] == 3


def test_a_shot_has_settings_of_its_own(plate):
    shots = {frame: int(frame >= 8) for frame in range(NUM_FRAMES)}
    survey = PlateSurvey([a_face(frame) for frame in range(NUM_FRAMES)], shots)
    left_out = (RangeSettings(LOSSLESS, shot=1, is_swapped=False),)
    plan = make_plan(probe(plate), survey, Painter(), AS_BEA, LOSSLESS, left_out)
    finished = list(swapped_frames(read_frames(plate), plan))
    assert [frame.status for frame in finished] == ["swapped"] * 8 + ["left_out"] * 8
    with pytest.raises(BadInput, match="2 shots"):
        make_plan(probe(plate), survey, Painter(), AS_BEA, LOSSLESS, (RangeSettings(LOSSLESS, shot=2),))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (RangeSettings(replace(LOSSLESS, codec="ffv1"), frames=(0, 3)), "codec holds for the whole swap"),
        (RangeSettings(LOSSLESS, frames=(5, 3)), "frames 5-3"),
        (RangeSettings(LOSSLESS), "either frames or shot"),
    ],
)
def test_a_range_that_cannot_be_is_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        settings.check(LOSSLESS)


def test_a_range_read_by_itself_comes_out_as_in_the_whole_film(plate):
    class Trembling(Mirror):
        def swap(self, crops, from_performer, to_performer, *told):
            answer = super().swap(crops, from_performer, to_performer)
            answer[..., 3] *= np.float32(0.8) + np.float32(0.002) * (crops.mean(axis=3, dtype=np.float32) % np.float32(50))
            return answer

    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    recipe = replace(LOSSLESS, mask="learned", matte_seconds=0.1, flow_blend_fraction=0.3)
    plan = planned(plate, faces, Trembling(), recipe)
    whole = [frame.image for frame in swapped_frames(read_frames(plate), plan)]
    for start in (0, 6, 13):
        todo = range(start, start + 3)
        read = frames_to_read(todo, plan, frame_bytes(probe(plate)))
        part = list(swapped_frames(read_frames(plate, read.start, read.stop), plan, todo))
        assert [frame.record.index for frame in part] == list(range(start, start + 3))
        for frame in part:
            assert np.array_equal(frame.image, whole[frame.record.index])


def test_a_clip_cut_short_anywhere_comes_out_the_same_as_at_one_go(plate, tmp_path, monkeypatch):
    class KillError(Exception):
        pass

    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    faces = [a_face(frame) for frame in range(NUM_FRAMES) if frame != 7]
    recipe = replace(LOSSLESS, colour="plate", batch_size=4)

    def write(out: Path, killed_at: float = np.inf) -> dict[str, object]:
        def tell(event: Event) -> None:
            if event.message == "swapping" and event.done >= killed_at:
                raise KillError

        out.mkdir(exist_ok=True)
        plan = measure_looks(probe(plate), make_plan(probe(plate), surveyed(faces), Mirror(), AS_BEA, recipe), out / "plate")
        return swap_footage(probe(plate), surveyed(faces), plan, out, Lineage({}, ()), tell)[0]

    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)
    whole = write(tmp_path / "whole")
    for killed_at in (2, 8, 14):
        with pytest.raises(KillError):
            write(tmp_path / "cut", killed_at)
    cut = write(tmp_path / "cut")
    assert {**cut, "gate": None} == {**whole, "gate": None, "output_sha256": cut["output_sha256"]}
    for name in ("ledger.jsonl", "passes/alignment.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for frame in range(NUM_FRAMES):
        first, second = (read_image(tmp_path / name / f"frames/{frame:06d}.png") for name in ("cut", "whole"))
        assert np.array_equal(first, second)
    assert not (tmp_path / "cut/segments").exists()


def test_new_faces_in_what_a_killed_run_left_count_where_the_rest_of_the_film_has_none(plate, tmp_path, monkeypatch):
    class KillError(Exception):
        pass

    def kill(event: Event) -> None:
        if event.message == "swapping" and event.done >= 8:
            raise KillError

    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)
    faces = [a_face(frame) for frame in range(3)]
    plan = planned(plate, faces, Painter(), LOSSLESS)
    with pytest.raises(KillError):
        swap_footage(probe(plate), surveyed(faces), plan, tmp_path, Lineage({}, ()), kill)
    figures, _ = swap_footage(probe(plate), surveyed(faces), plan, tmp_path, Lineage({}, ()))
    assert (figures["num_swapped"], figures["num_without_face"]) == (3, 13)


@pytest.mark.parametrize(("codec", "notice"), [("png", "corner"), ("ffv1", "corner"), ("h264", "end-card")])
def test_frames_shown_alone_that_were_cut_short_anywhere_go_on_and_come_out_the_same(
    plate, tmp_path, monkeypatch, codec, notice
):
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "FRAMES_PER_SEGMENT", 3)
    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)
    shown, faces = range(2, 14), [a_face(frame) for frame in range(NUM_FRAMES)]
    recipe = replace(LOSSLESS, codec=codec, notice=notice, batch_size=2, passes="none")

    def write(name: str, last: int | None = None) -> list[int]:
        """The frames that are swapped by a run that is stopped after the frame `last`."""
        swapped = []

        def tell(event: Event) -> None:
            swapped.append(int(event.done) - 1)
            if swapped[-1] == last:
                raise KeyboardInterrupt

        (tmp_path / name).mkdir(exist_ok=True)
        plan = planned(plate, faces, Mirror(), recipe)
        with suppress(KeyboardInterrupt):
            swap_footage(probe(plate), surveyed(faces), plan, tmp_path / name, Lineage({}, ()), tell, shown)
        return swapped

    assert write("whole") == [*shown]
    assert [write("cut", last)[0] for last in (3, 9, 12)] == [2, 2, 8], "segments begin at 2, 5, 8 and 11"
    assert write("cut", 13) == [11, 12, 13]
    assert write("cut") == [], "stopped when all was swapped"
    whole, cut = ([*read_frames(_marked_output.output_path(tmp_path / name, codec))] for name in ("whole", "cut"))
    assert [frame.pts for frame in cut] == [frame.pts for frame in whole]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(cut, whole, strict=True))
    for name in ("ledger.jsonl", "passes/alignment.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_only_the_parts_of_a_film_that_a_changed_range_touches_are_rendered_again(plate, tmp_path, monkeypatch):
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "FRAMES_PER_SEGMENT", 3)
    faces, recipe = (
        [a_face(frame) for frame in range(NUM_FRAMES)],
        replace(LOSSLESS, batch_size=2, matte_seconds=0, codec="ffv1"),
    )
    rendered = []

    def finish(window, place, plan):
        rendered.append(window[place].frame)
        return finish_frame(window, place, plan)

    finish_frame = _swapping._finish
    monkeypatch.setattr(_swapping, "_finish", finish)
    left, hard = RangeSettings(recipe, (6, 6), is_swapped=False), RangeSettings(replace(recipe, blend="hard"), (6, 7))

    def render(name: str, ranges, earlier: str) -> list[int]:
        rendered.clear()
        plan = planned(plate, faces, Painter(), recipe, ranges)
        (tmp_path / name).mkdir()
        lineage = Lineage({}, (), marked_recipe_sha256="all but the ranges")
        figures, _ = swap_footage(
            probe(plate), surveyed(faces), plan, tmp_path / name, lineage, earlier=tmp_path / earlier if earlier else None
        )
        assert figures["num_frames"] == NUM_FRAMES
        return sorted(rendered)

    assert render("first", [left], "none yet") == list(range(NUM_FRAMES))
    assert render("same", [left], "first") == [15]  # the end always
    assert render("second", [hard], "first") == [6, 7, 8, 15]
    assert render("fresh", [hard], "") == list(range(NUM_FRAMES))
    assert not (tmp_path / "fresh/segments").exists()
    assert (tmp_path / "second/swap.mkv").read_bytes() == (tmp_path / "fresh/swap.mkv").read_bytes()
    assert (tmp_path / "second/swap.mkv").read_bytes() != (tmp_path / "first/swap.mkv").read_bytes()
    assert (tmp_path / "second/ledger.jsonl").read_bytes() == (tmp_path / "fresh/ledger.jsonl").read_bytes()


@pytest.mark.parametrize("earlier", [None, "none yet"])
def test_the_same_command_tries_frames_again_that_a_fault_spoiled_and_keeps_the_rest(plate, tmp_path, monkeypatch, earlier):
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "FRAMES_PER_SEGMENT", 3)
    recipe = replace(LOSSLESS, batch_size=2, matte_seconds=0, codec="ffv1")
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    rendered, spoiled = [], {4, 13}

    def composite(image, around, place, plan):
        rendered.append(around[place].face.frame)
        if rendered[-1] in spoiled:
            raise MemoryError("for now")
        return composite_face(image, around, place, plan)

    monkeypatch.setattr(_swapping, "composite_face", composite)

    def render(name: str) -> tuple[dict[str, object], list[int]]:
        rendered.clear()
        (tmp_path / name).mkdir(exist_ok=True)
        plan, lineage = planned(plate, faces, Painter(), recipe), Lineage({}, (), marked_recipe_sha256="one for all")
        before = tmp_path / earlier if earlier else None
        figures, _ = swap_footage(probe(plate), surveyed(faces), plan, tmp_path / name, lineage, earlier=before)
        return figures, sorted(rendered)

    assert render("swap")[0]["num_faults"] == 2
    spoiled.remove(4)
    figures, again = render("swap")
    assert (figures["num_faults"], again) == (1, [3, 4, 5, 12, 13, 14, 15])
    spoiled.clear()
    figures, again = render("swap")
    assert (figures["num_faults"], figures["num_swapped"], again) == (0, NUM_FRAMES, [12, 13, 14, 15])
    assert (tmp_path / "swap/segments").exists() == bool(earlier)
    render("at one go")
    assert (tmp_path / "swap/swap.mkv").read_bytes() == (tmp_path / "at one go/swap.mkv").read_bytes()


@pytest.mark.parametrize(("every", "changed"), [(4, 1), (4, 13), (5, 1), (16, 9)])
def test_a_film_of_which_a_part_is_rendered_again_ends_with_the_same_card(plate, tmp_path, monkeypatch, every, changed):
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=every))
    monkeypatch.setattr(convert_stage, "FRAMES_PER_SEGMENT", every)
    recipe = replace(LOSSLESS, batch_size=2, matte_seconds=0, codec="h264", notice="end-card", passes="none")
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]

    def times(name: str, ranges, earlier: str) -> list[float]:
        (tmp_path / name).mkdir()
        plan, lineage = planned(plate, faces, Painter(), recipe, ranges), Lineage({}, (), marked_recipe_sha256="but the ranges")
        swap_footage(probe(plate), surveyed(faces), plan, tmp_path / name, lineage, earlier=tmp_path / earlier)
        return [record.time_seconds for record in read_frames(tmp_path / name / "swap.mp4")]

    whole = times("first", [], "none yet")
    assert whole == pytest.approx([frame / 25 for frame in range(NUM_FRAMES + 50)])
    assert times("second", [RangeSettings(recipe, (changed, changed), is_swapped=False)], "first") == whole


def test_settings_of_the_whole_film_and_faces_that_moved_render_all_of_it_again(plate, tmp_path):
    faces, recipe = [a_face(frame) for frame in range(NUM_FRAMES)], replace(LOSSLESS, batch_size=2, matte_seconds=0)
    moved = [a_face(frame, x=91.5) if frame == 10 else a_face(frame) for frame in range(NUM_FRAMES)]

    def keys(faces, recipe, identity="id"):
        return segment_keys(planned(plate, faces, Mirror(), recipe), NUM_FRAMES, 3, 1, identity)

    first = keys(faces, recipe)
    assert len(first) == NUM_FRAMES // 3
    assert keys(faces, recipe) == first
    assert [a == b for a, b in zip(keys(moved, recipe), first, strict=True)] == [True, True, True, False, True]
    assert not set(keys(faces, replace(recipe, feather_fraction=0.04))) & set(first)
    assert not set(keys(faces, recipe, "another")) & set(first)
