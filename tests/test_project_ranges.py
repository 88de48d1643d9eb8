"""Ranges of a plate with settings of their own, and several performers in one pass, as a project file asks for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from clips import make_clip, picture
from understudy.console import plan_text
from understudy.project import describe, plan, steps_of
from understudy.projectfile import read_project
from understudy.types import BadInput
from written_projects import PROJECT, finished, states, write_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_project(tmp_path)


RANGES = """
[[swap.range]]
frames = [10, 20]
set = { blend = "feather" }

[[swap.range]]
shot = 2
swapped = false
"""


def test_ranges_have_the_swaps_settings_but_for_their_own(folder: Path) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    (folder / "film.toml").write_text(PROJECT + RANGES)
    swap = read_project(folder / "film.toml").swaps[0]
    assert [(each.frames, each.shot, each.is_swapped) for each in swap.ranges] == [((10, 20), None, True), (None, 2, False)]
    assert swap.ranges[0].recipe == replace(swap.recipe, blend="feather")
    assert swap.ranges[1].recipe == swap.recipe


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (RANGES.replace("blend", "blent"), r"swap\.1: range\.1: setting 'blent'.*did you mean 'blend'"),
        (RANGES.replace("[10, 20]", "[20, 10]"), r"range\.1: range frames 20-10"),
        (RANGES.replace('blend = "feather"', 'codec = "ffv1"'), r"range\.1: .*codec holds for the whole swap"),
        (RANGES.replace("shot = 2", ""), r"range\.2: .*either frames or shot"),
        (RANGES.replace("swapped", "swaped"), "did you mean 'swapped'"),
        (RANGES.replace("[10, 20]", "[40, 60]"), r"film\.toml: swap\.1\.range\.1\.frames: 010\.mp4 has about 30 frames"),
    ],
)
def test_a_mistake_in_a_range_is_named(folder: Path, changed: str, words: str) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    (folder / "film.toml").write_text(PROJECT + changed)
    with pytest.raises(BadInput, match=words):
        read_project(folder / "film.toml")


def test_a_range_may_lie_in_frames_that_a_plate_s_header_tells_of(folder: Path) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    (folder / "film.toml").write_text(PROJECT + RANGES.replace("[10, 20]", "[29, 400]"))  # the end may be left open
    assert read_project(folder / "film.toml").swaps[0].ranges[0].frames == (29, 400)


def test_a_folder_of_pictures_has_exactly_as_many_frames_as_pictures(folder: Path) -> None:
    (folder / "shots/020").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"shots/020/{number:04}.png"), picture(number))
    pictures = (PROJECT + RANGES).replace("shots/010.mp4", "shots/020")
    (folder / "film.toml").write_text(pictures.replace("[10, 20]", "[2, 2]"))
    assert read_project(folder / "film.toml").swaps[0].ranges[0].frames == (2, 2)
    (folder / "film.toml").write_text(pictures.replace("[10, 20]", "[3, 3]"))
    with pytest.raises(BadInput, match=r"swap\.1\.range\.1\.frames: 020 has 3 frames, counted from 0"):
        read_project(folder / "film.toml")


def test_a_swap_replaces_several_performers_in_one_pass(folder: Path) -> None:
    both = PROJECT.replace('replace = "abel"\nwith = "bea"', 'replace = ["abel", "bea"]\nwith = ["bea", "abel"]')
    (folder / "film.toml").write_text(both, encoding="utf-8")
    *_, converted, evaluated = steps_of(read_project(folder / "film.toml"))
    assert (converted.arguments["replace"], converted.arguments["with_"]) == (("abel", "bea"), ("bea", "abel"))
    assert evaluated.arguments["performer"] == folder / "made/faces/bea"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ('replace = ["abel", "bea"]\nwith = "bea"', "replace names 2 and with 1 performers"),
        ('replace = ["abel", "abel"]\nwith = ["bea", "bea"]', "'abel' is replaced 2 times"),
        ('replace = ["bea"]\nwith = ["bea"]', "both 'bea'"),
        ("replace = []\nwith = []", "replace names 0"),
        ('replace = ["abel"]\nwith = ["bee"]', "no performer is called 'bee'; did you mean 'bea'"),
    ],
)
def test_pairs_of_performers_that_do_not_add_up_are_named(folder: Path, pairs: str, words: str) -> None:
    (folder / "film.toml").write_text(PROJECT.replace('replace = "abel"\nwith = "bea"', pairs), encoding="utf-8")
    with pytest.raises(BadInput, match=r"swap\.1.*" + words):
        read_project(folder / "film.toml")


def test_a_changed_range_redoes_its_swap_and_report_only(folder: Path) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    finished(folder)
    (folder / "film.toml").write_text(PROJECT + RANGES)
    planned = plan(read_project(folder / "film.toml"))
    assert [name for name, state in states(planned).items() if state != "up to date"] == ["swaps/010", "reports/010"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[10, 20]", "[12, 29]", "range 1: frames 10-20, now 12-29"),
        ('blend = "feather"', 'blend = "poisson"', "range 1: blend feather, now poisson"),
        ("swapped = false", "swapped = true", "range 2: swapped false, now true"),
        ("[[swap.range]]\nshot = 2\nswapped = false\n", "", "range 2: taken out"),
        ('colour = "none"', 'colour = "plate"', "colour: none, now plate"),
    ],
)
def test_a_changed_swap_is_told_by_what_changed_alone(folder: Path, old: str, new: str, reason: str) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    (folder / "film.toml").write_text(PROJECT + RANGES)
    finished(folder)
    assert old in PROJECT + RANGES
    (folder / "film.toml").write_text((PROJECT + RANGES).replace(old, new))
    assert plan(read_project(folder / "film.toml"))[3].reason == reason


def test_a_dry_run_names_ranges_by_their_place_and_what_they_set(folder: Path) -> None:
    make_clip(folder / "shots/010.mp4", times=range(30))
    (folder / "film.toml").write_text(PROJECT + RANGES)
    lines = plan_text([describe(steps_of(read_project(folder / "film.toml"))[3], "new")]).splitlines()
    shown = {line[:33].strip(): line[33:].strip() for line in lines[1:]}
    assert (shown["with"], shown["range 1"], shown["range 2"]) == (
        "bea",
        "frames 10-20: blend feather",
        "shot 2: not swapped",
    )
    assert "{" not in "".join(lines)
