"""The age model that a user may install, here a small program that really runs: in doubt or in trouble the work is refused."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from drawn_faces import draw_face_set
from understudy.trust import age
from understudy.trust.age import AGE_MODEL_FILE, MOST_PICTURES, installed_age_model
from understudy.trust.consent import check, create_record, sign_record
from understudy.trust.permission import check_age_of, may_train
from understudy.trust.records import Review
from understudy.types import Refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A consent folder with records of abel and bea."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    for name in ("abel", "bea"):
        create_record(tmp_path / "consent", name, "synthetic")
    return tmp_path / "consent"


@pytest.fixture
def face_sets(tmp_path: Path) -> list[Path]:
    return [draw_face_set(tmp_path / name, name, skin) for name, skin in (("abel", (200, 160, 140)), ("bea", (120, 80, 60)))]


def install(folder: Path, *lines: str) -> None:
    """An age model that is a small Python program, in the key folder."""
    head = [
        "import base64, json, sys",
        "def say(**answer): print(json.dumps(answer), flush=True)",
        "say(age_model='stand-in', sha256='00')",
    ]
    (folder.parent / "keys" / AGE_MODEL_FILE).write_text(
        json.dumps({"command": [sys.executable, "-c", "\n".join([*head, *lines])]})
    )


def seeing(folder: Path, years: float, deviation_years: float = 3.0) -> None:
    """A model that reads every picture, checks its size and says this age."""
    install(
        folder,
        "for line in sys.stdin:",
        "    asked = json.loads(line)",
        "    assert len(base64.b64decode(asked['rgb'])) == 3 * asked['width'] * asked['height']",
        f"    say(id=asked['id'], years={years}, deviation_years={deviation_years})",
    )


def test_without_a_model_nothing_is_asked(folder: Path, face_sets: list[Path]) -> None:
    assert installed_age_model() is None
    assert len(may_train(face_sets, folder)) == 2


def test_a_model_that_sees_adults_agrees(folder: Path, face_sets: list[Path]) -> None:
    seeing(folder, 40.0)
    may_train(face_sets, folder)
    judged = check_age_of(face_sets[0], folder, installed_age_model() or [])
    assert (judged.model, judged.years, judged.num_pictures) == ("stand-in", 40.0, MOST_PICTURES)


def test_a_doubtful_age_is_refused_until_a_review_is_signed_into_the_record(folder: Path, face_sets: list[Path]) -> None:
    seeing(folder, 21.0)
    with pytest.raises(Refused, match=r"abel: the age model stand-in sees 21 years .*answer `unsure`") as refused:
        may_train(face_sets, folder)
    assert refused.value.exit_status == 3
    for name in ("abel", "bea"):
        record = create_record(folder.parent / "other", name, "synthetic").record
        review = Review("M. Okafor, production lawyer", datetime.date.today(), "passport, seen in person")
        sign_record(folder, replace(record, person=replace(record.person, age="doubtful"), review=review))
        (folder / f"{name}.identity.json").unlink(missing_ok=True)
    assert len(may_train(face_sets, folder)) == 2


@pytest.mark.parametrize("lacking", [{"reviewed_by": ""}, {"reviewed_on": None}, {"document": ""}])
def test_a_review_that_lacks_who_when_or_which_document_has_not_happened(folder: Path, lacking: dict[str, object]) -> None:
    review = replace(Review("M. Okafor", datetime.date.today(), "passport"), **lacking)
    record = create_record(folder.parent / "other", "abel", "synthetic").record
    doubtful = replace(record, person=replace(record.person, age="doubtful"), review=review)
    signed = sign_record(folder, doubtful)
    with pytest.raises(Refused, match="the performer's age is doubtful"):
        check(signed, "train", datetime.date.today())


def test_a_model_that_can_err_by_as_much_as_is_lacking_leaves_a_doubt_and_no_verdict(
    folder: Path, face_sets: list[Path]
) -> None:
    seeing(folder, 17.0)  # give or take 3
    with pytest.raises(Refused, match="leaves a doubt about full age"):
        may_train(face_sets, folder)
    seeing(folder, 14.0)
    with pytest.raises(Refused, match="which is under age"):
        may_train(face_sets, folder)


def test_who_looks_under_age_is_refused_whatever_was_signed(folder: Path, face_sets: list[Path]) -> None:
    seeing(folder, 12.0)
    record = create_record(folder.parent / "other", "abel", "synthetic").record
    sign_record(folder, replace(record, review=Review("anyone", datetime.date.today(), "any")))
    with pytest.raises(Refused, match="which is under age"):
        may_train(face_sets, folder)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("sys.exit(1)",), "stopped after 0 of 16 answers"),
        (("say(id=0, years=40, deviation_years=3)",), "stopped after 1 of 16 answers"),
        (("for n in range(16): print('fine')",), "not JSON"),
        (("for n in range(16): say(id=n + 1, years=40, deviation_years=3)",), "not of its protocol"),
        (("for n in range(16): say(id=n, years='old', deviation_years=3)",), "not of its protocol"),
        (("for n in range(16): say(id=n, years=float('nan'), deviation_years=3)",), "not of its protocol"),
        (("import time; time.sleep(60)",), "gave no answer"),
    ],
)
def test_a_model_that_fails_in_any_way_refuses_the_work(
    lines: tuple[str, ...], words: str, folder: Path, face_sets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in lines[0]:
        monkeypatch.setattr(age, "ANSWER_SECONDS", 2.0)
    install(folder, *lines)
    with pytest.raises(Refused, match=words):
        may_train(face_sets, folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"command": []}', '{"command": [7]}', '{"command": ["/nowhere/model"]}'])
def test_a_model_that_cannot_be_started_refuses_the_work(content: str, folder: Path, face_sets: list[Path]) -> None:
    (folder.parent / "keys" / AGE_MODEL_FILE).write_text(content)
    with pytest.raises(Refused, match="age"):
        may_train(face_sets, folder)
