"""Consent records: signed, bound to a face, and refused on every path that should be."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.trust import consent, form, identity, keys, records
from understudy.trust.records import Footage, Grant, Person, Review
from understudy.types import BadInput, FloatArray, Refused

TODAY = datetime.date(2026, 11, 22)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    return tmp_path / "consent"


def faces_of(person: int, num_faces: int = 40, seed: int = 0, spread: float = 0.025) -> FloatArray:
    """Embeddings as far apart as dlib's: about 0.3 within a person, over 0.7 between two."""
    centre = np.random.default_rng(1000 + person).normal(0, 0.06, 128)
    return centre + np.random.default_rng(seed).normal(0, spread, (num_faces, 128))


def signed_with(folder: Path, **changes: object) -> records.SignedRecord:
    """A record of bea, signed anew after changing fields of `grant`, `person`, `review` or `footage`."""
    if not (folder / "bea.toml").exists():
        consent.create_record(folder, "bea", "signed", today=TODAY)
    record = records.read_record(folder, "bea").record
    return consent.sign_record(folder, replace(record, **changes))


def bea_grant(**changes: object) -> Grant:
    days = datetime.timedelta(days=30)
    return replace(Grant(granted_by="Bea", valid_from=TODAY, valid_until=TODAY + days), **changes)


# ---- records --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", records.KINDS)
def test_a_new_record_of_each_kind_permits_training_and_converting(folder: Path, kind: records.Kind) -> None:
    signed = consent.create_record(folder, "bea", kind, today=TODAY)
    consent.check(signed, "train", TODAY)
    consent.check(signed, "convert", TODAY)
    assert signed.record.kind == kind


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(name=TEXT, project=TEXT, media=st.lists(TEXT, max_size=3), is_transferable=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_a_record_comes_back_as_it_was(
    folder: Path, name: str, project: str, media: list[str], is_transferable: bool
) -> None:
    grant = bea_grant(project=project, media=tuple(media), transferable=is_transferable)
    written = signed_with(folder, person=Person(name=name), grant=grant)
    assert records.read_record(folder, "bea").record == written.record
    assert written.record.person.name == name
    assert written.record.grant == grant


@given(content=st.binary(max_size=300) | TEXT.map(str.encode) | st.just(b"a=" + b"[" * 5000))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_that_someone_signed_are_refused_in_one_line(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bea.toml"
    path.write_bytes(content)
    records.signature_path(path).write_text(keys.signing_key().sign(content, "fuzz"))
    with pytest.raises(Refused) as refused:
        records.read_record(folder, "bea")
    assert "\n" not in str(refused.value)


@given(text=st.text(max_size=400))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_place_of_the_signature_is_refused(folder: Path, text: str) -> None:
    path = folder / "bea.toml" if folder.exists() else signed_with(folder).path
    records.signature_path(path).write_text(text, errors="ignore")
    with pytest.raises(Refused, match="signature is not good"):
        records.read_record(folder, "bea")


@pytest.mark.parametrize("name", ["../bea", "a/b", ".bea", "", "b" * 65, "bea\n", "C:x"])
def test_a_name_that_could_leave_the_folder_is_bad_input(folder: Path, name: str) -> None:
    with pytest.raises(BadInput, match="performer name"):
        consent.create_record(folder, name, "self")


def test_a_record_in_force_is_not_overwritten_but_a_revoked_one_is_replaced(folder: Path) -> None:
    first = consent.create_record(folder, "bea", "self", today=TODAY)
    with pytest.raises(BadInput, match="has a record already"):
        consent.create_record(folder, "bea", "self", today=TODAY)
    consent.revoke(folder, "bea", today=TODAY)
    second = consent.create_record(folder, "bea", "self", today=TODAY)
    consent.check(second, "train", TODAY)
    assert second.record.id != first.record.id
    assert len(list((folder / "ended").iterdir())) == 2


def test_a_record_that_cannot_be_read_here_is_not_overwritten(folder: Path) -> None:
    signed = signed_with(folder)
    signed.path.write_text("schema = 1")
    with pytest.raises(BadInput, match="move the file away"):
        consent.create_record(folder, "bea", "self", today=TODAY)
    assert signed.path.read_text() == "schema = 1"


def test_a_record_is_described_with_what_it_permits(folder: Path) -> None:
    described = consent.describe(signed_with(folder, grant=bea_grant(uses=("convert",))), TODAY)
    assert described["convert"] == "permitted"
    assert "not for train" in str(described["train"])
    assert json.loads(json.dumps(described))["record"]["grant"]["valid_until"] == "2026-12-22"


def test_minisign_accepts_our_signature_and_we_accept_its_key_file(folder: Path, tmp_path: Path) -> None:
    signed = signed_with(folder)
    public = tmp_path / "keys" / "signing_key.pub"
    assert keys.parse_public_key(public.read_text()) == signed.signer
    try:
        done = subprocess.run(
            ["minisign", "-V", "-p", str(public), "-m", str(signed.path)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("minisign is not installed")
    assert done.returncode == 0, done.stderr


# ---- refusals -------------------------------------------------------------------------------------------------------------


def test_no_record_is_refused_and_the_command_that_makes_one_is_named(folder: Path) -> None:
    with pytest.raises(Refused, match="understudy consent new bea"):
        consent.require({"bea": faces_of(1)}, "train", folder)


def test_each_changed_byte_of_a_record_is_refused(folder: Path) -> None:
    signed = signed_with(folder)
    original = signed.path.read_bytes()
    for position in range(0, len(original), 7):
        changed = bytearray(original)
        changed[position] ^= 1
        signed.path.write_bytes(bytes(changed))
        with pytest.raises(Refused, match="signature is not good"):
            records.read_record(folder, "bea")


def test_a_changed_comment_in_a_signature_is_refused(folder: Path) -> None:
    signed = signed_with(folder)
    beside = records.signature_path(signed.path)
    beside.write_text(beside.read_text().replace("trusted comment: consent record", "trusted comment: another record"))
    with pytest.raises(Refused, match="the signature is not good"):
        records.read_record(folder, "bea")


def test_changed_line_endings_are_refused(folder: Path) -> None:
    signed = signed_with(folder)
    signed.path.write_bytes(signed.path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(Refused, match="not those that were signed"):
        records.read_record(folder, "bea")


def test_a_record_without_its_signature_is_refused(folder: Path) -> None:
    records.signature_path(signed_with(folder).path).unlink()
    with pytest.raises(Refused, match="is not signed"):
        records.read_record(folder, "bea")


def test_a_record_forged_with_another_key_is_refused_until_the_key_is_accepted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = signed_with(folder)
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "somebody else"))
    keys.signing_key()
    with pytest.raises(Refused, match="signed by another key"):
        records.read_record(folder, "bea")
    (folder / "keys").mkdir()
    (folder / "keys" / "bea.pub").write_text(f"untrusted comment: bea's own\n{signed.signer}\n")
    assert records.read_record(folder, "bea").signer == signed.signer


def test_a_record_of_another_performer_under_this_name_is_refused(folder: Path) -> None:
    signed = signed_with(folder)
    for path in (signed.path, records.signature_path(signed.path)):
        path.rename(path.with_name(path.name.replace("bea", "abel")))
    with pytest.raises(Refused, match="it is one of 'bea'"):
        records.read_record(folder, "abel")


DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"person": Person("Bea", age="minor")}, "under age"),
        ({"person": Person("Bea", age="doubtful")}, "a person must check a document"),
        ({"grant": bea_grant(valid_until=TODAY - DAY)}, "consent ended on 2026-11-21"),
        ({"grant": bea_grant(valid_from=TODAY + DAY)}, "consent begins on 2026-11-23"),
        ({"grant": bea_grant(delete_model_by=TODAY - DAY)}, "had to be deleted by"),
        ({"grant": bea_grant(uses=("convert",))}, "not for train"),
        ({"grant": bea_grant(uses=())}, "consent is for nothing"),
        ({"grant": bea_grant(granted_by="")}, "does not say who granted"),
        ({"grant": bea_grant(excluded=("political",))}, "must exclude nudity, sexual, minor-character"),
        ({"footage": Footage(("ab" * 32,))}, "limited to named footage"),
    ],
)
def test_a_record_that_does_not_permit_this_is_refused(folder: Path, changes: dict[str, object], words: str) -> None:
    signed_with(folder, **changes)
    with pytest.raises(Refused, match=words) as refused:
        consent.require({"bea": faces_of(1)}, "train", folder, footage_sha256={"bea": ["cd" * 32]}, on=TODAY)
    assert refused.value.exit_status == 3
    assert "\n" not in str(refused.value)


def test_a_doubtful_age_is_accepted_after_a_human_review_is_signed_into_the_record(folder: Path) -> None:
    review = Review(reviewed_by="M. Okafor, production lawyer", reviewed_on=TODAY, document="passport, seen in person")
    signed = signed_with(folder, person=Person("Bea", age="doubtful"), review=review)
    consent.check(signed, "train", TODAY)


def test_a_review_does_not_help_a_declared_minor(folder: Path) -> None:
    review = Review(reviewed_by="anyone", reviewed_on=TODAY, document="any")
    with pytest.raises(Refused, match="under age"):
        consent.check(signed_with(folder, person=Person("Bea", age="minor"), review=review), "train", TODAY)


def test_the_first_and_the_last_day_of_a_term_are_in_it(folder: Path) -> None:
    signed = signed_with(folder, grant=bea_grant())
    grant, day = signed.record.grant, datetime.timedelta(days=1)
    for permitted in (grant.valid_from, grant.valid_until):
        consent.check(signed, "train", permitted)
    for refused in (grant.valid_from - day, grant.valid_until + day):
        with pytest.raises(Refused, match=r"consent (begins|ended) on"):
            consent.check(signed, "train", refused)


def test_a_revoked_record_is_refused_even_where_the_revocation_is_garbled(folder: Path) -> None:
    signed = signed_with(folder)
    path = consent.revoke(folder, "bea", "changed her mind", today=TODAY)
    with pytest.raises(Refused, match="revoked on 2026-11-22"):
        consent.check(signed, "convert", TODAY)
    path.write_text("{")
    (keys.keys_folder() / "revoked" / path.name).write_text("{")
    with pytest.raises(Refused, match="revoked on an unreadable date"):
        consent.check(signed, "convert", TODAY)


def test_a_copy_of_a_revoked_record_in_another_folder_is_revoked_too(folder: Path, tmp_path: Path) -> None:
    signed_with(folder)
    shutil.copytree(folder, tmp_path / "copy")
    consent.revoke(folder, "bea", today=TODAY)
    for place in (tmp_path / "copy", folder):
        shutil.rmtree(place / "revoked", ignore_errors=True)  # as in a folder that was brought back from before
        with pytest.raises(Refused, match="revoked on 2026-11-22"):
            consent.check(records.read_record(place, "bea"), "train", TODAY)
    beside = consent.revoke(tmp_path / "copy", "bea", today=TODAY + datetime.timedelta(days=5))
    assert json.loads(beside.read_text())["revoked"] == "2026-11-22"


def test_a_revocation_that_lies_beside_the_record_alone_counts(folder: Path) -> None:
    signed = signed_with(folder)
    consent.revoke(folder, "bea", today=TODAY)
    shutil.rmtree(keys.keys_folder() / "revoked")
    with pytest.raises(Refused, match="revoked on 2026-11-22"):
        consent.check(signed, "train", TODAY)


# ---- faces ----------------------------------------------------------------------------------------------------------------


def test_the_first_training_binds_the_face_and_later_footage_of_the_same_person_passes(folder: Path) -> None:
    consent.create_record(folder, "abel", "synthetic", today=TODAY)
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    consent.require({"abel": faces_of(1), "bea": faces_of(2)}, "train", folder, on=TODAY)
    again = consent.require({"abel": faces_of(1, seed=5), "bea": faces_of(2, seed=6)}, "convert", folder, on=TODAY)
    assert [reference.performer for reference in again] == ["abel", "bea"]
    assert all(0 < reference.identity_distance < identity.MAX_DISTANCE for reference in again if reference.identity_distance)


def test_another_persons_faces_are_refused_with_the_distance(folder: Path) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)
    with pytest.raises(Refused, match=r"100% of the faces are not of the person .* \(distance 0\.\d\d"):
        consent.require({"bea": faces_of(3)}, "train", folder, on=TODAY)


def test_a_few_tracks_of_another_person_in_a_face_set_are_found(folder: Path) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)
    mixed = np.concatenate([faces_of(2, 60, seed=3), faces_of(3, 6, seed=4)])
    tracks = np.array([0] * 30 + [1] * 30 + [2] * 6)
    with pytest.raises(Refused, match="9% of the faces"):
        consent.require({"bea": mixed}, "train", folder, tracks={"bea": tracks}, on=TODAY)


def test_two_records_with_the_same_face_are_refused(folder: Path) -> None:
    for name in ("abel", "bea"):
        consent.create_record(folder, name, "synthetic", today=TODAY)
    with pytest.raises(Refused, match="as near to bea's"):
        consent.require({"abel": faces_of(2), "bea": faces_of(2, seed=9)}, "train", folder, on=TODAY)


def test_no_face_is_bound_where_the_training_is_refused(folder: Path) -> None:
    for name in ("abel", "bea"):
        consent.create_record(folder, name, "synthetic", today=TODAY)
    crowd = np.concatenate([faces_of(person, 5, seed=person) for person in range(8)])
    for faces in (faces_of(2, seed=9), crowd):
        with pytest.raises(Refused):
            consent.require({"abel": faces_of(2), "bea": faces}, "train", folder, on=TODAY)
    assert not list(folder.glob("*.identity.json*"))


def test_faces_of_several_people_cannot_be_bound(folder: Path) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    crowd = np.concatenate([faces_of(person, 5, seed=person) for person in range(8)])
    two_thirds = np.concatenate([faces_of(1, 40), faces_of(2, 20)])
    for mixed in (crowd, two_thirds):
        with pytest.raises(Refused, match="not all of one person"):
            consent.require({"bea": mixed}, "train", folder, on=TODAY)


def test_converting_with_a_record_that_no_face_was_bound_to_is_refused(folder: Path) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    with pytest.raises(Refused, match="train with this record first"):
        consent.require({"bea": faces_of(2)}, "convert", folder, on=TODAY)


def test_an_exchanged_face_is_refused(folder: Path) -> None:
    signed = consent.create_record(folder, "bea", "synthetic", today=TODAY)
    consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)
    path = identity.identity_path(signed)
    path.write_text(path.read_text().replace("0.0", "0.1", 1))
    with pytest.raises(Refused, match="face may have been exchanged"):
        consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)


def test_a_face_that_was_bound_to_another_record_does_not_count_for_this_one(folder: Path) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)
    signed_with(folder, grant=bea_grant(project="another film"))
    with pytest.raises(Refused, match="belongs to an earlier record of 'bea'"):
        consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)


@pytest.mark.parametrize("embeddings", [np.zeros((0, 128)), np.full((3, 128), np.nan), np.zeros((3, 64))])
def test_missing_embeddings_fail_closed(folder: Path, embeddings: FloatArray) -> None:
    consent.create_record(folder, "bea", "synthetic", today=TODAY)
    with pytest.raises(Refused, match="extract the face set anew"):
        consent.require({"bea": embeddings}, "train", folder, on=TODAY)


def test_the_reference_in_a_manifest_holds_no_private_data(folder: Path) -> None:
    person = Person("Beatrice Longname", contact="bea@example.org")
    signed = signed_with(folder, person=person, grant=bea_grant(project="Film X"))
    (reference,) = consent.require({"bea": faces_of(2)}, "train", folder, on=TODAY)
    text = str(reference.as_json())
    assert signed.sha256 in text
    assert not any(word in text for word in ("Beatrice", "example.org", "Film X"))


def test_records_are_looked_for_where_the_user_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert consent.consent_folder() == Path("consent")
    assert consent.consent_folder(project=tmp_path / "film.toml") == tmp_path / "consent"
    monkeypatch.setenv("UNDERSTUDY_CONSENT", "/records")
    assert consent.consent_folder() == Path("/records")
    assert consent.consent_folder(Path("here"), tmp_path / "film.toml") == Path("here")


# ---- the form -------------------------------------------------------------------------------------------------------------


def test_the_printable_form_says_what_the_record_says_and_escapes_it(folder: Path) -> None:
    signed = signed_with(folder, person=Person("Bea <script>"), grant=bea_grant(project="Film & X", uses=("convert",)))
    page = form.consent_form(signed)
    assert "Bea &lt;script&gt;" in page
    assert "<script>" not in page
    assert "Film &amp; X" in page
    assert signed.sha256 in page
    assert "2026-11-22 to 2026-12-22" in page
    assert "put into footage" in page
    assert "learns the face from footage</dd>" not in page
    assert "Not for nudity, sexual content, the part of a minor" in page
    assert "Tell the contact above; the production runs understudy consent revoke bea. Then:" in page
