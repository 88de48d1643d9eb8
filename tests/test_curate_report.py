"""What curation tells: its report, the command line, mistakes in one line, and what training sees afterwards."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import curated_faces
import understudy
from curated_faces import SKIN, states
from drawn_faces import draw_face_set
from understudy.cli import run_command
from understudy.recipes import curate_recipe
from understudy.stages._training_faces import load_performers
from understudy.store.faceset import FaceSet
from understudy.store.selection import set_by_hand
from understudy.trust.permission import may_train
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


def test_the_faces_that_are_kept_and_left_out_add_up_also_by_hand(faulty: Path) -> None:
    verdict = str(understudy.curate(faulty, keep=[3], leave_out=[1, 2]).figures["verdict"])
    kept, num, *left_out = (int(number) for number in re.findall(r"\d+", verdict.partition(" stays")[0])[:-1])
    assert "2 by hand." in verdict
    assert "1 stays because set by hand." in verdict
    assert kept + sum(left_out) == num


# ---- the border -----------------------------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_names_it(abel: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a face set"):
        understudy.curate(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=f"is not a face set, but has some in it; name one of them: {abel}"):
        understudy.curate(abel.parent)
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
    printed = " ".join(capsys.readouterr().out.split())
    assert re.match(r"\d+ of 41 faces of abel are kept. Left out: 1 of another person, 2 misaligned, 2 blurred, ", printed)
    assert " 1 face is of bea in the set of abel; left out " in printed
    assert re.search(r" bea has \d+ left profiles, abel none; nearest frames of abel: \d+", printed)
    assert f"report {faulty / 'curation/report.html'}" in printed


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
