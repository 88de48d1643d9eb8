"""Makes, checks and revokes consent records, and says whether performers may be trained on or converted.

Records are found by one rule: the folder the user names (`--consent DIR`), else $UNDERSTUDY_CONSENT, else `consent/` beside
the project file, or in the current folder where there is no project file.
"""

from __future__ import annotations

import datetime
import json
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from understudy.store.atomic import atomic_write_text, make_folder
from understudy.store.json_files import as_plain
from understudy.trust.identity import (
    Identity,
    bind_identity,
    check_identity,
    distances,
    enrolled_identity,
    identity_path,
    read_identity,
)
from understudy.trust.keys import keys_folder, read_limited, signing_key
from understudy.trust.records import (
    KINDS,
    NEVER_GRANTED,
    SCHEMA,
    ConsentRecord,
    Footage,
    Grant,
    Kind,
    Person,
    Purpose,
    Review,
    SignedRecord,
    read_record,
    record_path,
    signature_path,
    to_toml,
)
from understudy.types import BadInput, FloatArray, Json, Refused

DEFAULT_DAYS: Mapping[Kind, int] = {"signed": 365, "self": 365, "synthetic": 3650, "public-domain-archive": 365}
OTHER_PERSON_MARGIN = 0.05
"""Faces must be nearer to their own record's face than to the other performer's by this much."""


@dataclass(frozen=True)
class ConsentReference:
    """What a manifest keeps of a consent record: its hash and terms, no name but the performer's short one."""

    performer: str
    record_sha256: str
    kind: Kind
    signed_by: str
    evidence: str
    valid_until: str
    identity_distance: float | None

    def as_json(self) -> Json:
        """A flat object for manifests."""
        return asdict(self)


def consent_folder(chosen: Path | None = None, project: Path | None = None) -> Path:
    """Where records are looked for; `chosen` is the user's option, `project` the project file if there is one."""
    if chosen:
        return chosen
    if named := os.environ.get("UNDERSTUDY_CONSENT"):
        return Path(named)
    return (project.parent if project else Path()) / "consent"


def create_record(
    folder: Path,
    performer: str,
    kind: Kind,
    *,
    person: Person | None = None,
    grant: Grant | None = None,
    review: Review = Review(),  # noqa: B008 (frozen)
    footage: Footage = Footage(),  # noqa: B008 (frozen)
    today: datetime.date | None = None,
) -> SignedRecord:
    """Writes and signs a new record; without `person` and `grant`, one that the operator declares, for `DEFAULT_DAYS`.

    Raises what `check_creatable` raises, and Refused for somebody under age or of a doubtful age that nobody has reviewed.
    """
    now = today or datetime.date.today()
    check_creatable(folder, performer, kind, now)
    path = record_path(folder, performer)
    record = ConsentRecord(
        schema=SCHEMA,
        id=uuid.uuid4(),
        performer=performer,
        kind=kind,
        created=now,
        signed_by="production",
        person=person or default_person(performer, kind),
        grant=grant or default_grant(performer, kind, now),
        review=review,
        footage=footage,
    )
    _check_age(f"{path}: {performer!r}", record)
    _set_aside(path)
    return sign_record(folder, record)


def check_creatable(folder: Path, performer: str, kind: str, today: datetime.date | None = None) -> None:
    """Raises BadInput for an unknown kind, an unusable name, or a record of this performer that is not revoked or expired."""
    if kind not in KINDS:
        raise BadInput(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    path = record_path(folder, performer)
    if not path.exists():
        return
    try:
        signed = read_record(folder, performer)
    except Refused as error:
        raise BadInput(f"{error}; or move the file away to make a new one") from error
    if revocation_of(signed) is None and (today or datetime.date.today()) <= signed.record.grant.valid_until:
        raise BadInput(f"{path}: {performer!r} has a record already; revoke it first: `understudy consent revoke {performer}`")


def default_person(performer: str, kind: Kind) -> Person:
    """An adult of this name, as the operator declares."""
    checked = {
        "synthetic": "declared by the operator: no such person exists; the character is an adult",
        "self": "declared by the operator, who is the person shown",
    }
    return Person(name=performer, age_checked_by=checked.get(kind, "declared by the operator; no document was checked"))


def default_grant(performer: str, kind: Kind, today: datetime.date) -> Grant:
    """Training and converting, worldwide, for `DEFAULT_DAYS`, as the operator declares."""
    granted_by = {"synthetic": "the makers of the character", "public-domain-archive": "declared to be in the public domain"}
    grant = Grant(
        granted_by=granted_by.get(kind, performer),
        valid_from=today,
        valid_until=today + datetime.timedelta(days=DEFAULT_DAYS[kind]),
    )
    return replace(grant, evidence="the character is synthetic") if kind == "synthetic" else grant


def sign_record(folder: Path, record: ConsentRecord) -> SignedRecord:
    """Writes a record and its signature by the user's key, then reads it back as any reader would."""
    path, text = record_path(folder, record.performer), to_toml(record)
    signature = signing_key().sign(text.encode(), f"consent record {record.id} of {record.performer}")
    make_folder(folder)
    atomic_write_text(path, text)
    atomic_write_text(signature_path(path), signature)
    return read_record(folder, record.performer)


def describe(signed: SignedRecord, on: datetime.date | None = None) -> Json:
    """A record in plain values, and whether it permits training and converting on this day ("permitted", or why not)."""
    verdicts: dict[str, str] = {}
    purposes: tuple[Purpose, ...] = ("train", "convert")
    for purpose in purposes:
        try:
            check(signed, purpose, on)
            verdicts[purpose] = "permitted"
        except Refused as error:
            verdicts[purpose] = str(error)
    content = as_plain(TypeAdapter(ConsentRecord).dump_python(signed.record, mode="json"))
    has_face = identity_path(signed).exists()
    return {
        "record": content,
        "record_sha256": signed.sha256,
        "signer": str(signed.signer),
        "is_face_bound": has_face,
        **verdicts,
    }


def check(signed: SignedRecord, purpose: Purpose, on: datetime.date | None = None) -> None:
    """Raises Refused, in one line that says what to do, unless this record permits this purpose on this day."""
    record, grant, today = signed.record, signed.record.grant, on or datetime.date.today()
    where = f"{signed.path}: {record.performer!r}"
    _check_age(where, record)
    if missing := [use for use in NEVER_GRANTED if use not in grant.excluded]:
        raise Refused(f"{where}: the record must exclude {', '.join(missing)}, which nobody can grant; sign a record that does")
    if not grant.granted_by:
        raise Refused(f"{where}: the record does not say who granted consent; sign one that does")
    if today < grant.valid_from:
        raise Refused(f"{where}: consent begins on {grant.valid_from}, today is {today}; wait, or ask for an earlier start")
    if today > grant.valid_until:
        raise Refused(f"{where}: consent ended on {grant.valid_until}, today is {today}; ask for a new record")
    if grant.delete_model_by and today > grant.delete_model_by:
        raise Refused(f"{where}: models of this performer had to be deleted by {grant.delete_model_by}; delete them")
    if purpose not in grant.uses:
        granted = ", ".join(grant.uses) or "nothing"
        raise Refused(f"{where}: consent is for {granted}, not for {purpose}; ask for a record that names it")
    if revoked := revocation_of(signed):
        raise Refused(f"{where}: consent was revoked on {revoked}; stop, and delete this performer's models")


def revoke(folder: Path, performer: str, reason: str = "", today: datetime.date | None = None) -> Path:
    """Takes a record back for good: writes `consent/revoked/ID.json`, which no option overrides; the first day stays.

    The same goes into the key folder, so that copies of the record in other folders, and a folder that was brought back from
    before, are revoked too. Returns the file in the consent folder.
    """
    signed = read_record(folder, performer)
    first_day = _day_in(revocation_of(signed)) or today or datetime.date.today()
    content = {
        "schema": 1,
        "record_id": str(signed.record.id),
        "record_sha256": signed.sha256,
        "revoked": first_day.isoformat(),
        "reason": reason,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    signature = signing_key().sign(text.encode(), f"revocation of {signed.record.id}")
    own, beside = _revocation_paths(signed)
    for path in (own, beside):
        if not path.exists():
            make_folder(path.parent)
            atomic_write_text(path, text)
            atomic_write_text(signature_path(path), signature)
    return beside


def revocation_of(signed: SignedRecord) -> str | None:
    """The day a record was revoked, None if it was not; any file of that name revokes, readable or not."""
    found = [_revoked_day(path) for path in _revocation_paths(signed) if path.exists()]
    return min(found, default=None)  # dates come before words


def require(
    performers: Mapping[str, FloatArray],
    purpose: Purpose,
    folder: Path,
    *,
    tracks: Mapping[str, NDArray[np.integer]] | None = None,
    footage_sha256: Mapping[str, Sequence[str]] | None = None,
    may_bind: Collection[str] = (),
    on: datetime.date | None = None,
) -> tuple[ConsentReference, ...]:
    """The gate of training and converting: every performer has a record in force, and these faces are theirs.

    performers: for each name the embeddings (N, 128) of the face set or of the model's gallery; tracks: for each name (N,) the
    track of each; footage_sha256: for each name the footage they come from, as far as it is known. A record that has no face
    yet is bound to these faces when training, and for the names in `may_bind`, once everything is permitted. Raises Refused.
    """
    records = {name: read_record(folder, name) for name in performers}
    for name, signed in records.items():
        check(signed, purpose, on)
        check_footage_named(signed, (footage_sha256 or {}).get(name, ()))
    bound = {name: read_identity(signed) for name, signed in records.items()}
    faces = {
        name: identity or _new_identity(records[name], performers[name], purpose == "train" or name in may_bind)
        for name, identity in bound.items()
    }
    references = []
    for name, signed in records.items():
        distance = check_identity(faces[name], performers[name], (tracks or {}).get(name))
        _check_not_another(name, performers[name], faces, distance)
        references.append(_reference(signed, distance))
    for name, identity in bound.items():
        if identity is None:
            bind_identity(records[name], performers[name], on)
    return tuple(references)


def check_footage_named(signed: SignedRecord, used: Sequence[str]) -> None:
    """Raises Refused where a record permits named footage only, and what is used (sha256) is not among it or not known."""
    allowed = signed.record.footage.sha256
    if allowed and not used:
        raise Refused(
            f"{signed.path}: consent is limited to named footage, and it is not known which footage these faces are from; the "
            f"face set of {signed.record.performer} must still be there with its manifest, for a model where it was at training"
        )
    if allowed and (others := [sha for sha in used if sha not in allowed]):
        raise Refused(
            f"{signed.path}: consent is limited to named footage, and footage {others[0][:16]}... is not among it; "
            "use the named footage, or ask for a record that includes it"
        )


def _new_identity(signed: SignedRecord, embeddings: FloatArray, may_bind: bool) -> Identity:
    performer = signed.record.performer
    if not may_bind:
        raise Refused(
            f"{signed.path}: no face is bound to this record, so the model cannot be {performer}'s with this consent; "
            "train with this record first"
        )
    return enrolled_identity(performer, embeddings)


def _check_not_another(name: str, embeddings: FloatArray, faces: Mapping[str, Identity], own: float) -> None:
    for other, identity in faces.items():
        if other == name:
            continue
        apart = float(np.median(distances(identity, np.asarray(embeddings, dtype=np.float64))))
        if own + OTHER_PERSON_MARGIN > apart:
            raise Refused(
                f"{name}: these faces are as near to {other}'s (distance {apart:.2f}) as to {name}'s own "
                f"({own:.2f}); check that each face set shows its own performer"
            )


def _check_age(where: str, record: ConsentRecord) -> None:
    person = record.person
    if person.age == "minor":
        raise Refused(f"{where}: the performer is declared under age; minors are never trained on or converted")
    if person.age == "doubtful" and not record.review.is_complete:
        raise Refused(
            f"{where}: the performer's age is doubtful; a person must check a document and sign a record with "
            "[review] reviewed_by, reviewed_on and document filled in"
        )


def _reference(signed: SignedRecord, distance: float) -> ConsentReference:
    record = signed.record
    return ConsentReference(
        performer=record.performer,
        record_sha256=signed.sha256,
        kind=record.kind,
        signed_by=record.signed_by,
        evidence=record.grant.evidence_sha256 or record.grant.evidence,
        valid_until=record.grant.valid_until.isoformat(),
        identity_distance=round(distance, 4),
    )


def _set_aside(path: Path) -> None:
    """Keeps an ended record, its signature and its face beside the new one, under the date it was replaced."""
    if not path.exists():
        return
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    old = path.parent / "ended"
    old.mkdir(exist_ok=True)
    for file in (path, signature_path(path), *path.parent.glob(f"{path.stem}.identity.json*")):
        if file.exists():
            os.replace(file, old / f"{stamp}-{file.name}")


def _revocation_paths(signed: SignedRecord) -> tuple[Path, Path]:
    """Where a revocation lies: the user's own list, which goes for every folder, and the list beside the record."""
    name = f"{signed.record.id}.json"
    return keys_folder() / "revoked" / name, signed.path.parent / "revoked" / name


def _revoked_day(path: Path) -> str:
    try:
        return str(json.loads(read_limited(path))["revoked"])[:10]
    except (ValueError, KeyError, TypeError, RecursionError, BadInput):
        return "an unreadable date"


def _day_in(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError:
        return None
