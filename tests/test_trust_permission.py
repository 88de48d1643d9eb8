"""May these performers be trained on and this plate be converted: on real face sets, and on the virtual actors' own faces."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from drawn_faces import draw_face_set
from understudy.media import read_frames
from understudy.perception.survey import load_networks
from understudy.recipes import convert_recipe
from understudy.settings import ConvertRecipe
from understudy.stages.convert import convert
from understudy.store.faceset import FaceSet
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import InputFile, Manifest, write_manifest
from understudy.trust import certificates, notice, permission
from understudy.trust.consent import ConsentReference, create_record, revoke, sign_record
from understudy.trust.gate import ContentGate
from understudy.trust.identity import bind_identity, check_identity
from understudy.trust.permission import (
    MOST_GATED_CROPS,
    VIRTUAL_ACTORS,
    check_plate_faces,
    check_plate_footage,
    footage_behind,
    gate_face_set,
    gate_face_sets,
    may_convert_model,
    may_train,
    record_virtual_actors,
    still_permitted,
)
from understudy.trust.records import Footage
from understudy.types import BadInput, Face, FloatArray, Json, Refused


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


def faces_in(path: Path) -> list[Face]:
    with FaceSet.open(path) as face_set:
        return face_set.faces()


def galleries_of(face_sets: list[Path]) -> dict[str, FloatArray]:
    return {path.name: np.stack([face.embedding for face in faces_in(path)]) for path in face_sets}


def may_convert(face_sets: list[Path], plate_faces: list[Face], folder: Path) -> tuple[ConsentReference, ...]:
    """What a conversion asks, in its order."""
    references = may_convert_model(galleries_of(face_sets), folder, {})
    check_plate_faces("abel", plate_faces, folder)
    return references


def test_training_and_converting_are_permitted_with_both_records(folder: Path, face_sets: list[Path]) -> None:
    trained = may_train(face_sets, folder)
    converted = may_convert(face_sets, faces_in(face_sets[0]), folder)
    assert [reference.performer for reference in trained] == ["abel", "bea"]
    assert [reference.record_sha256 for reference in trained] == [reference.record_sha256 for reference in converted]


def test_a_face_set_without_a_face_is_named_before_anybodys_face_is_compared(folder: Path, face_sets: list[Path]) -> None:
    with FaceSet.open(face_sets[1]) as face_set:
        face_set.set_kept([face.id for face in face_set.faces()], False, "blurred")
    with pytest.raises(BadInput, match=r"bea holds no face of bea to train on; its report\.html"):
        may_train(face_sets, folder)


def test_one_missing_or_revoked_record_stops_both(folder: Path, face_sets: list[Path]) -> None:
    may_train(face_sets, folder)
    revoke(folder, "bea")
    with pytest.raises(Refused, match="'bea': consent was revoked"):
        may_train(face_sets, folder)
    with pytest.raises(Refused, match="'bea': consent was revoked"):
        may_convert(face_sets, faces_in(face_sets[0]), folder)
    (folder / "bea.toml").unlink()
    with pytest.raises(Refused, match="no consent record of 'bea'"):
        may_train(face_sets, folder)


def test_a_plate_of_somebody_else_is_refused(folder: Path, face_sets: list[Path]) -> None:
    may_train(face_sets, folder)
    stranger = np.random.default_rng(9).normal(size=128)
    plate = [replace(face, embedding=stranger) for face in faces_in(face_sets[0])]
    with pytest.raises(Refused, match=r"abel: 100% of the faces are not of the person .* \(distance \d"):
        may_convert(face_sets, plate, folder)


def extracted_from(face_set: Path, *sha256: str, figures: Json | None = None) -> None:
    """Leave the manifest of an extraction from this footage."""
    given = {f"footage {number}.mp4": InputFile(f"{number}.mp4", each) for number, each in enumerate(sha256)}
    write_manifest(face_set, Manifest("extract", given, "", figures or {}, {}))


ELEVEN, TWENTY_TWO = "11" * 32, "22" * 32


@pytest.fixture
def limited(folder: Path, tmp_path: Path) -> Path:
    """The consent folder, with bea's record limited to one clip."""
    record = create_record(tmp_path / "other", "bea", "self").record
    sign_record(folder, replace(record, footage=Footage((ELEVEN,))))
    return folder


def test_consent_for_named_footage_permits_no_other(limited: Path, face_sets: list[Path]) -> None:
    with pytest.raises(Refused, match=r"the face set of bea must still be there"):
        may_train(face_sets, limited)
    extracted_from(face_sets[1], ELEVEN)
    may_train(face_sets, limited)
    extracted_from(face_sets[1], ELEVEN, TWENTY_TWO)
    with pytest.raises(Refused, match="footage 2222222222222222"):
        may_train(face_sets, limited)


def test_a_model_is_converted_only_where_named_footage_is_known_to_be_behind_it(limited: Path, face_sets: list[Path]) -> None:
    extracted_from(face_sets[1], ELEVEN)
    may_train(face_sets, limited)
    galleries = galleries_of(face_sets)
    may_convert_model(galleries, limited, {"bea": [ELEVEN]})
    with pytest.raises(Refused, match=r"bea\.toml: .* the face set of bea must still be there"):
        may_convert_model(galleries, limited, {})
    with pytest.raises(Refused, match="footage 2222222222222222"):
        may_convert_model(galleries, limited, {"bea": [TWENTY_TWO]})


def test_a_plate_that_is_not_among_the_named_footage_is_refused(limited: Path) -> None:
    check_plate_footage(["abel", "bea"], ELEVEN, limited)
    check_plate_footage(["abel"], TWENTY_TWO, limited)  # whose record names no footage
    with pytest.raises(Refused, match=r"bea\.toml: .* footage 2222222222222222"):
        check_plate_footage(["abel", "bea"], TWENTY_TWO, limited)


def test_a_cut_of_a_virtual_actors_clip_is_a_plate(folder: Path) -> None:
    clips = list(next(iter(read_json(VIRTUAL_ACTORS)["actors"].values())).values())
    record_virtual_actors(folder.parent / "fresh", {"abel": clips[:1]})
    check_plate_footage(["abel"], TWENTY_TWO, folder.parent / "fresh")


def test_a_certificate_that_cannot_sign_outputs_stops_a_conversion_before_it_begins(
    folder: Path, face_sets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_train(face_sets, folder)
    monkeypatch.setattr(certificates, "ExtendedKeyUsageOID", SimpleNamespace(EMAIL_PROTECTION=ExtendedKeyUsageOID.CODE_SIGNING))
    with pytest.raises(BadInput, match="credentials: outputs cannot be signed with this certificate"):
        may_convert_model(galleries_of(face_sets), folder, {})


def test_virtual_actors_need_no_record_and_their_face_is_bound_once_all_is_permitted(
    folder: Path, face_sets: list[Path]
) -> None:
    clips = list(read_json(VIRTUAL_ACTORS)["actors"].values())
    footage = {name: list(known.values())[:1] for name, known in zip(("abel", "bea"), clips, strict=False)}
    fresh, galleries = folder.parent / "fresh", galleries_of(face_sets)
    with pytest.raises(Refused, match="no consent record of 'bea'"):
        may_convert_model(galleries, fresh, {"abel": footage["abel"]})
    assert not list(fresh.glob("*.identity.json"))
    for _ in range(2):
        references = may_convert_model(galleries, fresh, footage)
        assert [reference.kind for reference in references] == ["synthetic", "synthetic"]
    assert len(list(fresh.glob("*.identity.json"))) == 2


def test_a_model_states_the_footage_that_it_was_learned_from_wherever_the_face_sets_are_now(tmp_path: Path) -> None:
    answers = {"abel": {"footage_sha256": [ELEVEN], "gate": {}}, "bea": {"gate": {}}, "cleo": "damaged"}
    write_json(tmp_path / "gate.json", answers)
    assert footage_behind(tmp_path) == {"abel": [ELEVEN]}
    assert footage_behind(tmp_path / "no model") == {}


def test_a_face_set_whose_extraction_has_no_answer_of_the_gate_is_looked_at(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    extracted_from(face_sets[0], ELEVEN, figures={"gate": {"num_samples": 3, "pictures_sha256": pictures_of(face_sets[0])}})
    assert gate_face_sets(face_sets[:1], tmp_path)["abel"]
    for gated in ({}, {"num_samples": 3}):  # without an answer, or from before it held for certain pictures
        extracted_from(face_sets[0], ELEVEN, figures={"gate": gated})
        (tmp_path / "gate.json").unlink(missing_ok=True)
        with pytest.raises(Refused, match="the content gate is missing"):
            gate_face_sets(face_sets[:1], tmp_path)


def test_an_extraction_of_before_is_looked_at_once_and_its_footage_stays_known(
    face_sets: list[Path], tmp_path: Path, looked_at: list[Path]
) -> None:
    extracted_from(face_sets[0], ELEVEN, figures={"gate": {"num_samples": 3}})
    for _ in range(2):
        gate_face_sets(face_sets[:1], tmp_path / "model")
    assert looked_at == face_sets[:1]
    assert footage_behind(tmp_path / "model") == {"abel": [ELEVEN]}


def test_pictures_that_were_exchanged_since_their_extraction_are_refused(
    face_sets: list[Path], tmp_path: Path, looked_at: list[Path]
) -> None:
    """Neither the gate's answer nor the footage that the manifest names is about them."""
    extracted_from(face_sets[0], ELEVEN, figures={"gate": {"num_samples": 3, "pictures_sha256": pictures_of(face_sets[0])}})
    gate_face_sets(face_sets[:1], tmp_path / "model")
    exchange_a_picture(face_sets[0])
    with pytest.raises(Refused, match=r"abel: its pictures are not those that were extracted.*; restore them from a copy"):
        gate_face_sets(face_sets[:1], tmp_path / "model")
    assert not looked_at


def pictures_of(path: Path) -> str:
    with FaceSet.open(path) as face_set:
        return face_set.pictures_sha256()


def exchange_a_picture(path: Path) -> None:
    with FaceSet.open(path) as face_set:
        one, other = (face_set.crop_path(face_set.faces()[number]) for number in (3, 30))
    one.write_bytes(other.read_bytes())


def test_the_gate_looks_at_the_pictures_of_a_face_set(face_sets: list[Path]) -> None:
    program = (
        "import json, sys\nprint(json.dumps({'gate': 'test', 'sha256': ''}), flush=True)\n"
        "for line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'score': 0.0}), flush=True)"
    )
    with ContentGate([sys.executable, "-c", program]) as gate:
        gate_face_set(face_sets[0], gate)
        assert gate.result().num_samples == MOST_GATED_CROPS == 16


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The face sets that the gate looks at while a test runs."""
    found: list[Path] = []

    def look(path: Path, gate: ContentGate) -> None:
        found.append(path)
        gate_face_set(path, gate)

    monkeypatch.setattr(permission, "gate_face_set", look)
    return found


def test_a_face_set_that_was_changed_since_the_gate_saw_it_is_looked_at_again(
    face_sets: list[Path], tmp_path: Path, looked_at: list[Path]
) -> None:
    for _ in range(2):
        gate_face_sets(face_sets[:1], tmp_path / "model")
    assert looked_at == face_sets[:1]
    with FaceSet.open(face_sets[0]) as face_set:
        face_set.set_kept([1], is_kept=False, reason="by hand")
    gate_face_sets(face_sets[:1], tmp_path / "model")
    assert looked_at == face_sets[:1] * 2
    exchange_a_picture(face_sets[0])
    gate_face_sets(face_sets[:1], tmp_path / "model")
    assert looked_at == face_sets[:1] * 3, "its index is the same, and what training reads is not"


def test_footage_that_is_not_all_of_one_virtual_actor_makes_no_record(folder: Path) -> None:
    clips = [list(known.values()) for known in list(read_json(VIRTUAL_ACTORS)["actors"].values())[:2]]
    fresh = folder.parent / "fresh"
    for used in ([*clips[0][:1], ELEVEN], [clips[0][0], clips[1][0]], []):
        assert not record_virtual_actors(fresh, {"abel": used})
    assert not list(fresh.glob("*.toml"))


def test_the_virtual_actors_are_told_apart_by_their_real_embeddings(folder: Path, sample: Path) -> None:
    networks = load_networks()
    embeddings = {}
    for name in ("abel", "bea"):
        found = []
        for frame in list(read_frames(sample / f"{name}_test.mp4", stop=28))[::4]:
            (detection,) = networks.detect(frame.image)
            found.append(networks.embed(frame.image, networks.landmarks(frame.image, detection).points))
        embeddings[name] = np.stack(found)
    abel = bind_identity(create_record(folder.parent / "fresh", "abel", "synthetic"), embeddings["abel"][::2])
    assert check_identity(abel, embeddings["abel"][1::2]) < 0.4
    with pytest.raises(Refused, match=r"distance 0\.\d\d, expected at most 0\.48"):
        check_identity(abel, embeddings["bea"])


# ---- the visible notice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", notice.TEXTS)
def test_the_notice_is_readable_in_each_language_and_leaves_the_rest_of_the_picture(language: str) -> None:
    frame = np.full((360, 640, 3), 90, np.uint8)
    marked = notice.with_corner_notice(frame, language)
    changed = (marked != frame).any(axis=2)
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    letters = (marked > 200).all(axis=2).any(axis=1).nonzero()[0]
    assert rows[0] > 360 * 0.8
    assert rows[-1] < 360
    assert columns[-1] < 640 * 0.7
    assert np.ptp(letters) >= 0.05 * 360 - 2
    assert frame.max() == 90
    assert notice.end_card(640, 360, language).max() == 255


def test_the_notice_fits_into_a_narrow_picture() -> None:
    frame = np.zeros((640, 96, 3), np.uint8)
    assert (notice.with_corner_notice(frame) > 100).any()
    assert notice.end_card(96, 640).shape == (640, 96, 3)


def test_an_unknown_language_is_bad_input() -> None:
    with pytest.raises(BadInput, match="expected one of en, de"):
        notice.end_card(640, 360, "tlh")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (replace(ConvertRecipe(), notice_language="tlh"), "setting notice_language: expected one of en, de.*got 'tlh'"),
        (
            replace(ConvertRecipe(), notice=cast("Literal['corner']", "none")),
            "setting notice: expected one of corner, end-card",
        ),
    ],
)
def test_a_conversion_without_a_notice_that_can_be_read_is_refused_before_anything_is_opened(
    recipe: ConvertRecipe, words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=words):
        convert(tmp_path / "no.mp4", tmp_path / "no model", "abel", "bea", tmp_path / "swap", recipe=recipe)
    assert not (tmp_path / "swap").exists()


def test_a_language_of_the_notice_is_checked_where_settings_are_read() -> None:
    with pytest.raises(BadInput, match=r"setting notice_language: expected one of en, de.*got 'tlh'"):
        convert_recipe("delivery", {"notice_language": "tlh"})


def test_a_model_that_holds_somebody_who_revoked_is_of_no_use_for_others_either(folder: Path, face_sets: list[Path]) -> None:
    may_train(face_sets, folder)
    bea = {"bea": galleries_of(face_sets)["bea"]}
    still_permitted(bea, folder, {})
    revoke(folder, "bea")
    with pytest.raises(Refused, match="'bea': consent was revoked"):
        still_permitted(bea, folder, {})
