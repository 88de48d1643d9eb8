"""Every refusal reaches the commands: exit status 3, one line that says what to do, and nothing is left that could be used."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_faces import draw_face_set
from short_clips import write_pictures
from tiny_training import DARK_SKIN, LIGHT_SKIN
from understudy.cli import run_command
from understudy.media import read_frames
from understudy.model.identity import write_identity_model
from understudy.perception.survey import load_networks, survey
from understudy.stages.convert import convert
from understudy.store.json_files import write_json
from understudy.trust import gate, standing
from understudy.trust.consent import create_record, revoke, sign_record
from understudy.trust.identity import bind_identity
from understudy.trust.records import Footage, read_record
from understudy.types import Event, FloatArray, Refused

pytestmark = pytest.mark.slow  # real networks and clips

SCORING = (
    "import json, sys; print(json.dumps({'gate': 'test', 'sha256': '00'}), flush=True)\n"
    "for line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'score': 0.9, 'label': 'synthetic'}), flush=True)"
)
LONG_AGO = datetime.date(2020, 1, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the command is typed, with keys of its own; the records lie in `consent` there."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("UNDERSTUDY_CONSENT", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("abel", "bea"):
        create_record(tmp_path / "consent", name, "signed")
    return tmp_path


# ---- what can be wrong ----------------------------------------------------------------------------------------------------


def no_record(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "consent" / "bea.toml").unlink()


def an_expired_record(folder: Path, _: pytest.MonkeyPatch) -> None:
    no_record(folder, _)
    create_record(folder / "consent", "bea", "signed", today=LONG_AGO)


def a_revoked_record(folder: Path, _: pytest.MonkeyPatch) -> None:
    revoke(folder / "consent", "bea", "asked to")


def a_changed_record(folder: Path, _: pytest.MonkeyPatch) -> None:
    path = folder / "consent" / "bea.toml"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def a_forged_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_record(folder, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setenv("UNDERSTUDY_KEYS", str(folder / "keys of somebody else"))
        create_record(folder / "consent", "bea", "signed")


def somebody_under_age(folder: Path, _: pytest.MonkeyPatch) -> None:
    record = read_record(folder / "consent", "bea").record
    sign_record(folder / "consent", replace(record, person=replace(record.person, age="minor")))


def somebody_of_doubtful_age(folder: Path, _: pytest.MonkeyPatch) -> None:
    record = read_record(folder / "consent", "bea").record
    sign_record(folder / "consent", replace(record, person=replace(record.person, age="doubtful")))


def another_persons_record(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "consent" / "bea.identity.json").unlink(missing_ok=True)
    bind_identity(read_record(folder / "consent", "bea"), np.random.default_rng(99).normal(size=(1, 128)))


def nude_material(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synthetic score from a gate that is no detector."""
    monkeypatch.setattr(gate, "default_command", lambda: [sys.executable, "-c", SCORING])


def no_gate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "weights_path", lambda: folder / "no weights here.onnx")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


Wrong = Callable[[Path, pytest.MonkeyPatch], None]
ABOUT_RECORDS: list[tuple[Wrong, str]] = [
    (no_record, r"no consent record of 'bea'; make one with `understudy consent new bea"),
    (an_expired_record, r"consent ended on 202\d-\d\d-\d\d, today is .*; ask for a new record"),
    (a_revoked_record, r"consent was revoked on \d{4}-\d\d-\d\d; stop, and delete"),
    (a_changed_record, r"bea\.toml"),
    (a_forged_record, r"bea\.toml"),
    (somebody_under_age, r"declared under age; minors are never"),
    (somebody_of_doubtful_age, r"age is doubtful; a person must check a document"),
    (another_persons_record, r"bea: 100% of the faces .*distance \d"),
]
ABOUT_PICTURES: list[tuple[Wrong, str]] = [
    (nude_material, r"refused by the content gate: it sees nude material here \(score 0\.90\)"),
    (no_gate, r"the content gate is missing, and nothing is trained or converted without it"),
]


def assert_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*arguments, "--json"]) == 3
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "refused" in line.lower() or re.search(words, line)]
    assert re.search(words, line), line
    assert printed.out == "" or "error" in json.loads(printed.out)


# ---- training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "words"), [*ABOUT_RECORDS, *ABOUT_PICTURES])
def test_a_training_is_refused_and_leaves_no_model(
    wrong: Wrong, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = [draw_face_set(folder / name, name, skin, 4) for name, skin in (("abel", LIGHT_SKIN), ("bea", DARK_SKIN))]
    wrong(folder, monkeypatch)
    asked = ["train", *map(str, faces), "--out", "model", "--recipe", "quick", "--steps", "1"]
    assert_refused(asked, words, capsys)
    assert not list(folder.glob("model/checkpoints/*"))
    assert not (folder / "model" / "manifest.json").exists()


# ---- converting -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of abel, as pictures."""
    return write_pictures(sample / "abel_test.mp4", tmp_path_factory.mktemp("clip") / "abel", 4)


@pytest.fixture(scope="module")
def abel(clip: Path) -> FloatArray:
    """(1, 128): abel's face to the identity network."""
    first = next(survey(read_frames(clip), "clip", load_networks()))
    return np.asarray(first.faces[0].embedding)[None]


@pytest.mark.parametrize(("wrong", "words"), [*ABOUT_RECORDS, *ABOUT_PICTURES])
def test_a_conversion_is_refused_and_leaves_no_picture(
    wrong: Wrong,
    words: str,
    clip: Path,
    abel: FloatArray,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = model_of(folder, {"abel": abel, "bea": -abel})
    wrong(folder, monkeypatch)
    assert_refused(conversion(clip, model), words, capsys)
    assert not left_pictures(folder)


def test_a_plate_that_a_limited_record_does_not_name_is_refused(
    clip: Path, abel: FloatArray, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(folder, {"abel": abel, "bea": -abel})
    record = read_record(folder / "consent", "abel").record
    sign_record(folder / "consent", replace(record, footage=Footage(("11" * 32,))))
    write_json(model / "gate.json", {"abel": {"footage_sha256": ["11" * 32]}})
    bind_identity(read_record(folder / "consent", "abel"), abel)
    assert_refused(
        conversion(clip, model), r"abel\.toml: consent is limited to named footage, and footage [0-9a-f]{16}", capsys
    )
    assert not left_pictures(folder)


def test_a_plate_of_somebody_else_is_refused_with_the_distance(
    clip: Path, abel: FloatArray, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plate's face is near enough to the one that the model knows as abel, not to the one that the record is bound to."""
    away = np.random.default_rng(3).normal(size=128) / np.sqrt(128)
    bind_identity(read_record(folder / "consent", "abel"), abel + 0.6 * away)
    bind_identity(read_record(folder / "consent", "bea"), -abel)
    model = write_identity_model(folder / "model", {"abel": abel + 0.3 * away, "bea": -abel})
    assert_refused(conversion(clip, model), r"abel: 100% of the faces .*distance 0\.[56]", capsys)
    assert not left_pictures(folder)


@pytest.mark.parametrize("message", ["looking for faces", "swapping"])
def test_a_conversion_ends_at_once_when_a_record_is_revoked_meanwhile(
    message: str, clip: Path, abel: FloatArray, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "SECONDS_BETWEEN_LOOKS", 0.0)
    model, heard = model_of(folder, {"abel": abel, "bea": -abel}), []

    def tell(event: Event) -> None:
        heard.append(event.message)
        if event.message == message:
            revoke(folder / "consent", "bea")

    with pytest.raises(Refused, match=r"stopped, and nothing more is saved: .*'bea': consent was revoked"):
        convert(clip, model, "abel", "bea", folder / "swap", report=tell)
    assert heard[-1] == message
    assert not left_pictures(folder)
    assert not (folder / "swap/segments").exists()


def model_of(folder: Path, galleries: dict[str, FloatArray]) -> Path:
    """A model that gives back its input, whose performers' records are bound to the faces that it knows."""
    for name, embeddings in galleries.items():
        bind_identity(read_record(folder / "consent", name), embeddings)
    return write_identity_model(folder / "model", galleries)


def conversion(clip: Path, model: Path) -> list[str]:
    return ["convert", str(clip), "--model", str(model), "--replace", "abel", "--with", "bea", "--out", "swap"]


def left_pictures(folder: Path) -> list[Path]:
    """What a refused conversion left that shows a swapped picture."""
    suffixes = {".mp4", ".mov", ".mkv", ".jpg", ".html"}
    made = [path for path in (folder / "swap").rglob("*") if path.suffix in suffixes or path.name == "manifest.json"]
    return [path for path in made if "plate" not in path.relative_to(folder).parts]
