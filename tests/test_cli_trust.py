"""Consent and verification as typed: questions, refusals, exit statuses, exactly one JSON object."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path

import numpy as np
import pytest

import understudy
from understudy.cli import run_command
from understudy.machine import doctor, doctor_text
from understudy.media import write_png
from understudy.trust.gate import weights_path
from understudy.trust.records import read_record
from understudy.types import BadInput


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the records; the current folder is beside it, and the keys are new."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("UNDERSTUDY_CONSENT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "consent"


def type_in(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))


def make(performer: str = "bea", *arguments: str) -> int:
    return run_command(["consent", "new", performer, "--kind", "signed", *arguments])


# ---- consent without questions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["signed", "self", "synthetic", "public-domain-archive"])
def test_a_record_made_with_yes_is_in_force_and_can_be_printed(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["consent", "new", "bea", "--kind", kind, "--yes", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["performer"], made["kind"], made["train"], made["convert"]) == ("bea", kind, "permitted", "permitted")
    assert made["record"]["grant"]["territory"] == "world"
    assert "bea" in Path(made["form"]).read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {"bea.toml", "bea.toml.minisig", "bea.html"}
    assert run_command(["consent", "check", "bea"]) == 0


def test_the_folder_is_the_option_then_the_environment_then_consent(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("bea", "--yes") == 0
    monkeypatch.setenv("UNDERSTUDY_CONSENT", str(tmp_path / "named"))
    assert make("abel", "--yes") == 0
    assert make("cy", "--yes", "--consent", str(tmp_path / "chosen")) == 0
    places = (folder / "bea.toml", tmp_path / "named" / "abel.toml", tmp_path / "chosen" / "cy.toml")
    assert all(place.is_file() for place in places)
    assert run_command(["consent", "show", "cy", "--consent", str(tmp_path / "chosen")]) == 0
    assert run_command(["consent", "show", "cy"]) == 3
    assert "consent new cy" in capsys.readouterr().err


def test_a_record_is_shown_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    make("bea", "--yes")
    capsys.readouterr()
    assert run_command(["consent", "show", "bea"]) == 0
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["convert"].strip() == "permitted"
    assert shown["face"].strip() == "not bound yet; the first training binds it"
    assert "nudity" in shown["grant excluded"]


def test_a_key_folder_that_cannot_be_made_is_named_and_no_record_is_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "notes.txt" / "keys"))
    assert run_command(["consent", "new", "bea", "--kind", "self", "--yes"]) == 2
    assert "notes.txt/keys cannot be written: a file stands where a folder is needed" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["consent"], "Missing command"),
        (["consent", "nwe"], "No such command 'nwe'"),
        (["consent", "new", "bea"], "--kind"),
        (["consent", "new", "bea", "--kind", "sworn", "--json"], "--kind: expected one of signed, self, synthetic"),
        (["consent", "new", "../bea", "--kind", "self", "--json"], "performer name: expected letters"),
        (["consent", "check", "bea", "--for", "fun", "--json"], "--for: expected train or convert, got 'fun'"),
        (["consent", "new", "bea", "--kind", "self", "--yes", "--consent", "notes.txt"], "notes.txt cannot be written: a file"),
        (["consent", "new", "bea", "--kind", "self", "--yes", "--consent", "notes.txt/in"], "notes.txt/in cannot be written"),
        (["verify", "--json"], "FILE"),
        (["verify", "nowhere.mp4", "--json"], "nowhere.mp4: no such file"),
        (["verify", "notes.txt", "--json"], "notes.txt: is a text file"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.png").touch()
    (tmp_path / "notes.txt").write_text("some notes\n", encoding="utf-8")
    assert run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_what_does_not_permit_the_work_is_refused_with_exit_status_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["consent", "check", "bea", "--json"]) == 3
    make("bea", "--yes")
    record = folder / "bea.toml"
    record.write_bytes(record.read_bytes().replace(b'"world"', b'"World"'))
    capsys.readouterr()
    assert run_command(["consent", "check", "bea", "--json"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "the bytes are not those that were signed" in err


def test_a_record_in_force_is_not_replaced_but_a_revoked_one_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("bea", "--yes")
    assert make("bea") == 2, "before any question"
    assert "consent revoke bea" in capsys.readouterr().err
    assert run_command(["consent", "revoke", "bea", "--reason", "asked to", "--json"]) == 0
    revoked = json.loads(capsys.readouterr().out)
    assert revoked["revoked"] == datetime.date.today().isoformat()
    assert json.loads(Path(revoked["revocation"]).read_text(encoding="utf-8"))["reason"] == "asked to"
    assert run_command(["consent", "revoke", "bea", "--reason", "again"]) == 0
    assert json.loads(Path(revoked["revocation"]).read_text(encoding="utf-8"))["reason"] == "asked to"
    assert run_command(["consent", "check", "bea", "--for", "train"]) == 3
    assert "revoked" in capsys.readouterr().err
    assert make("bea", "--yes") == 0
    assert run_command(["consent", "check", "bea"]) == 0


# ---- the questions --------------------------------------------------------------------------------------------------------


def test_what_is_answered_stands_in_the_record_and_stdout_is_the_result_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last_day = (datetime.date.today() + datetime.timedelta(days=40)).isoformat()
    who = ["Bea Müller", "bea@example.org", "maybe", "yes", "Ann Lee, passport"]
    what = ["", "The Film", "two scenes", "Europe", "tomorrow", "2020-01-01", last_day]
    type_in([*who, *what], monkeypatch)
    assert make("bea", "--json") == 0
    assert json.loads(capsys.readouterr().out)["train"] == "permitted"
    record = read_record(folder, "bea").record
    assert (record.person.name, record.person.contact) == ("Bea Müller", "bea@example.org")
    assert (record.person.age, record.person.age_checked_by) == ("adult", "Ann Lee, passport")
    assert (record.grant.granted_by, record.grant.project, record.grant.description) == ("Bea Müller", "The Film", "two scenes")
    assert (record.grant.territory, record.grant.valid_until.isoformat()) == ("Europe", last_day)


def test_an_under_age_declaration_is_refused_and_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(["Bea", "", "no"], monkeypatch)
    assert make("bea", "--json") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "minors are never trained on or converted" in err
    assert not folder.exists()


def test_a_doubtful_age_needs_somebody_who_has_seen_a_document(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(["Bea", "", "unsure", ""], monkeypatch)
    assert make("bea") == 3
    assert not folder.exists()
    type_in(["Bea", "", "unsure", "Ann Lee", "", "passport", *[""] * 5], monkeypatch)
    assert make("bea") == 0
    record = read_record(folder, "bea").record
    assert (record.person.age, record.review.reviewed_by, record.review.document) == ("doubtful", "Ann Lee", "passport")
    assert "Ann Lee" in (folder / "bea.html").read_text(encoding="utf-8")


def test_a_declared_minor_is_refused_from_python_too(folder: Path) -> None:
    from understudy.trust.records import Person

    with pytest.raises(understudy.Refused, match="under age"):
        understudy.consent_new("bea", kind="signed", person=Person("Bea", age="minor"))
    assert not folder.exists()


@pytest.mark.parametrize("lines", [[], ["Bea", "", "yes"], ["B\x07ea", "B" * 500]])
def test_questions_that_nobody_answers_end_in_one_line(
    lines: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(lines, monkeypatch)
    assert make("bea") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("answer them in a terminal, or give --yes")
    assert not folder.exists()


# ---- verification ---------------------------------------------------------------------------------------------------------


def test_one_file_gives_its_verdict_and_several_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plain.png"
    write_png(picture, np.full((32, 32, 3), 90, dtype=np.uint8))
    assert run_command(["verify", str(picture), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["credentials"], verdict["watermark"], verdict["made_by_understudy"]) == ("absent", "absent", "false")
    assert run_command(["verify", str(picture), str(picture), "--json"]) == 0
    several = json.loads(capsys.readouterr().out)
    assert several["files"] == [verdict, verdict]
    assert (several["num_files"], several["num_made_by_understudy"], several["num_broken_credentials"]) == (2, 0, 0)
    assert run_command(["verify", str(picture)]) == 0
    first, *sentences = capsys.readouterr().out.splitlines()
    assert first == f"{picture}: nothing of Understudy's was found."
    assert len(sentences) == 2


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_that_cannot_be_examined_hides_no_other_s_verdict(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for picture in pictures:
        write_png(picture, np.full((32, 32, 3), 90, dtype=np.uint8))
    text, missing = tmp_path / "words.txt", tmp_path / "missing.mp4"
    text.write_text("words", encoding="utf-8")
    files = [*pictures[:place], text, missing, *pictures[place:]]
    assert run_command(["verify", *map(str, files)]) == 2
    told = capsys.readouterr()
    heads = [paragraph.splitlines()[0] for paragraph in told.out.split("\n\n")]
    assert [head.startswith(f"{file}: ") for head, file in zip(heads, files, strict=True)] == [True] * 4
    assert heads[files.index(missing)] == f"{missing}: no such file or folder; check the path"
    assert told.err == f"understudy: 2 of 4 files could not be examined: {text}, {missing}\n"
    assert run_command(["verify", *map(str, files), "--json"]) == 2
    several = json.loads(capsys.readouterr().out)
    assert (several["num_files"], several["num_unread"]) == (4, 2)
    assert [each["file"] for each in several["files"]] == [str(file) for file in files]
    assert ["error" in each for each in several["files"]] == [file in (text, missing) for file in files]


# ---- the gate's weights ---------------------------------------------------------------------------------------------------


def test_doctor_lists_the_gate_and_says_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    found = doctor()
    (gate,) = [weight for weight in found.figures["weights"] if weight["name"] == "content_gate"]
    assert (gate["licence"], gate["is_present"]) == ("AGPL-3.0", False)
    assert "content_gate         MISSING  AGPL-3.0" in doctor_text(found)
    assert "process of its own" in doctor_text(found)


def test_doctor_says_where_the_keys_are_and_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "mine"))
    found = doctor()
    assert found.outputs["keys_folder"] == tmp_path / "mine"
    assert f"keys             {tmp_path / 'mine'}" in doctor_text(found)
    assert not (tmp_path / "mine").exists()


def test_fetching_brings_the_gate_s_weights_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a registry, so that it fails at once; a changed file is named."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BadInput, match=r"nudenet .* could not be fetched"):
        doctor(fetch=True)
    weights_path().parent.mkdir(parents=True)
    weights_path().write_bytes(b"something else")
    with pytest.raises(BadInput, match="is not the content gate's weights"):
        doctor(fetch=True)
