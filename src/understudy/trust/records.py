"""The consent record: its fields, and its TOML form with a detached signature, read as exact bytes.

`consent/NAME.toml` + `NAME.toml.minisig`. A record is signed by the performer (best) or by the production, with a key that
this project accepts: the user's own, or one in `consent/keys/*.pub`.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tomllib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from understudy.trust.keys import BadSignatureError, PublicKey, own_public_key, parse_public_key, read_limited, verify
from understudy.types import Refused, check_performer_name

SCHEMA = 1
Kind = Literal["signed", "self", "synthetic", "public-domain-archive"]
KINDS: tuple[Kind, ...] = ("signed", "self", "synthetic", "public-domain-archive")
Purpose = Literal["train", "convert"]
NEVER_GRANTED = ("nudity", "sexual", "minor-character")
"""Uses that no record can grant; a record that does not exclude them is not valid."""
_ANEW = "`understudy consent new`"
_STRICT = ConfigDict(extra="forbid", str_max_length=4000)


@dataclass(frozen=True)
class Person:
    """Who is shown, how to reach them, and who declared or checked their age on which document."""

    __pydantic_config__ = _STRICT
    name: str
    contact: str = ""
    age: Literal["adult", "minor", "doubtful"] = "adult"
    age_checked_by: str = ""
    deceased_authorised_by: str = ""


@dataclass(frozen=True)
class Grant:
    """What is permitted, by whom, where and how long; what is not named is refused."""

    __pydantic_config__ = _STRICT
    granted_by: str
    valid_from: datetime.date
    valid_until: datetime.date
    uses: tuple[Purpose, ...] = ("train", "convert")
    project: str = ""
    description: str = ""
    media: tuple[str, ...] = ()
    territory: str = "world"
    excluded: tuple[str, ...] = (*NEVER_GRANTED, "advertising", "political", "dataset", "third-party-model")
    delete_model_by: datetime.date | None = None
    transferable: bool = False
    remuneration: str = ""
    evidence: str = "declared by the operator; no document is attached"
    evidence_sha256: str = ""


@dataclass(frozen=True)
class Review:
    """The human review that a doubtful age needs: who looked at which document, and when; empty until it has happened."""

    __pydantic_config__ = _STRICT
    reviewed_by: str = ""
    reviewed_on: datetime.date | None = None
    document: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether somebody has looked: all three are filled in."""
        return bool(self.reviewed_by and self.reviewed_on and self.document)


@dataclass(frozen=True)
class Footage:
    """The footage that the grant is limited to, by sha256; empty = any footage of this performer."""

    __pydantic_config__ = _STRICT
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class Revocation:
    """How the grant is taken back, and what follows."""

    __pydantic_config__ = _STRICT
    how: str = "tell the contact above; the production runs `understudy consent revoke NAME`"
    effect: str = "training and converting stop at once; models of this performer are deleted"


@dataclass(frozen=True)
class ConsentRecord:
    """One performer's consent; `performer` is the short name that face sets and models use."""

    __pydantic_config__ = _STRICT
    schema: int
    id: uuid.UUID
    performer: str
    kind: Kind
    created: datetime.date
    signed_by: Literal["performer", "production"]
    person: Person
    grant: Grant
    review: Review = field(default_factory=Review)
    footage: Footage = field(default_factory=Footage)
    revocation: Revocation = field(default_factory=Revocation)


@dataclass(frozen=True)
class SignedRecord:
    """A record whose signature was found good: where it lies, the hash of its bytes, and who signed."""

    record: ConsentRecord
    path: Path
    sha256: str
    signer: PublicKey


def record_path(folder: Path, performer: str) -> Path:
    """`folder/NAME.toml`; raises BadInput for a name that `check_performer_name` does not take."""
    check_performer_name(performer)
    return folder / f"{performer}.toml"


def read_record(folder: Path, performer: str) -> SignedRecord:
    """Reads a record and checks its signature over the exact bytes before anything else; raises Refused."""
    path = record_path(folder, performer)
    if not path.is_file():
        raise Refused(
            f"{path}: no consent record of {performer!r}; make one with "
            f"`understudy consent new {performer} --kind signed` (or self, synthetic, public-domain-archive)"
        )
    data = read_limited(path)
    signer = _signer_of(path, data, accepted_keys(folder))
    record = _parse(path, data)
    if record.performer != performer:
        raise Refused(f"{path}: expected a record of {performer!r}, it is one of {record.performer!r}; rename the file back")
    return SignedRecord(record, path, hashlib.sha256(data).hexdigest(), signer)


def accepted_keys(folder: Path) -> list[PublicKey]:
    """The keys whose signatures count here: the user's own and `folder/keys/*.pub`; raises Refused for a malformed one."""
    own = own_public_key()
    keys = [own] if own else []
    for path in sorted((folder / "keys").glob("*.pub")):
        try:
            keys.append(parse_public_key(read_limited(path).decode(errors="replace")))
        except BadSignatureError as error:
            raise Refused(f"{path}: {error}; replace it or take it away") from error
    return keys


def to_toml(record: ConsentRecord) -> str:
    """The record as TOML; `read_record` reads back an equal one."""
    top, sections = [], []
    for name, value in _items(record):
        if is_dataclass(value):
            sections.append("\n".join([f"\n[{name}]", *(f"{key} = {_toml(item)}" for key, item in _items(value))]))
        else:
            top.append(f"{name} = {_toml(value)}")
    head = "# A consent record. Its signature covers every byte: whoever changes it must sign it anew."
    return "\n".join([head, *top, *sections]) + "\n"


def signature_path(path: Path) -> Path:
    """Where the detached signature of a file lies."""
    return path.with_name(path.name + ".minisig")


def _signer_of(path: Path, data: bytes, keys: Sequence[PublicKey]) -> PublicKey:
    beside = signature_path(path)
    if not beside.is_file():
        raise Refused(f"{path}: is not signed ({beside.name} is missing); get it signed, or make it anew with {_ANEW}")
    text = read_limited(beside).decode(errors="replace")
    reasons = ["no key is accepted here"]
    for key in keys:
        try:
            verify(data, text, key)
        except BadSignatureError as error:
            reasons.append(str(error))
        else:
            return key
    changed = next((reason for reason in reasons if "bytes" in reason), reasons[-1])
    raise Refused(
        f"{path}: the signature is not good: {changed}; get the signed file again, or put the signer's public key "
        f"into {path.parent / 'keys'} once you have checked whose it is"
    )


def _parse(path: Path, data: bytes) -> ConsentRecord:
    try:
        table = tomllib.loads(data.decode())
        if table.get("schema") != SCHEMA:
            raise Refused(f"{path}: expected consent schema {SCHEMA}, got {str(table.get('schema'))[:40]}; update Understudy")
        return TypeAdapter(ConsentRecord).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(f"{path}: {where}: {first['msg']}; make the record anew with {_ANEW}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: is not TOML ({str(error)[:120]}); make the record anew with {_ANEW}") from error


def _items(value: object) -> list[tuple[str, object]]:
    assert is_dataclass(value)
    pairs = ((item.name, getattr(value, item.name)) for item in fields(value))
    return [(name, content) for name, content in pairs if content is not None]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    assert isinstance(value, str | uuid.UUID)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
