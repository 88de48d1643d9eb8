"""Writes and reads C2PA content credentials: who made a file with what from what, signed; inside the file or beside it.

The only importer of c2pa. Formats that cannot hold a manifest (mkv, folders of frames) get a sidecar, whose name is
theirs with `.c2pa` after it (`swap.mkv.c2pa`, `frames.sha256.c2pa`).
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import c2pa

from understudy.media.images import IMAGE_SUFFIXES
from understudy.store.atomic import atomic_write_bytes, temporary_beside
from understudy.store.hashing import sha256_of_file, sha256_of_json
from understudy.trust.certificates import signing_chain, trust_anchors
from understudy.trust.keys import keys_folder, read_limited
from understudy.trust.label import DIGITAL_SOURCE_TYPE, TOOL_NAME
from understudy.types import BadInput, Json
from understudy.version import __version__

LINEAGE_LABEL = "org.understudy.lineage"
SOFT_BINDING = "org.understudy.watermark.1"
EMBEDDABLE = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".png": "image/png", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff",
}  # fmt: skip
SIDECAR_SUFFIX = ".c2pa"
_OPAQUE = "application/octet-stream"
_MAX_SIDECAR_BYTES = 50_000_000
_NO_MANIFEST = ("ManifestNotFound", "NotSupported", "JumbfNotFound", "no JUMBF data found")


@dataclass(frozen=True)
class Lineage:
    """What a finished file was made from, by sha256 throughout: no names of people, no paths.

    inputs: by role (`plate`, `model`, `faces abel`); consent: the records' hashes; gate: the content gate's figures.
    marked_recipe_sha256: what of the recipe the watermark stands for, where that is not all of it: parts of a film that are
    rendered again must not carry another mark than the rest.
    """

    inputs: Mapping[str, str]
    consent: tuple[str, ...]
    recipe_sha256: str = ""
    seed: int | None = None
    gate: Json = field(default_factory=dict)
    code_version: str = __version__
    marked_recipe_sha256: str = ""

    @property
    def watermark_id(self) -> str:
        """12 hexadecimal digits that follow from what the file was made from, so that a resumed run has the same."""
        recipe_sha256 = self.marked_recipe_sha256 or self.recipe_sha256
        return sha256_of_json([self.inputs, self.consent, recipe_sha256, self.seed, self.code_version])[:12]

    def as_json(self) -> Json:
        """The assertion's content."""
        return {
            "inputs_sha256": dict(self.inputs),
            "consent_records_sha256": list(self.consent),
            "watermark_id": self.watermark_id,
            "recipe_sha256": self.recipe_sha256,
            "seed": self.seed,
            "gate": self.gate,
            "code_version": self.code_version,
        }


@dataclass(frozen=True)
class Credentials:
    """What the credentials of a file say. `names_us`: they claim that Understudy made it (only as good as `state`)."""

    state: Literal["valid", "untrusted", "broken", "absent"]
    signer: str = ""
    problem: str = ""
    names_us: bool = False
    lineage: Json = field(default_factory=dict)


def sign_output(path: Path, lineage: Lineage, plate: Path) -> Path:
    """Signs a finished file or folder of frames; returns the path that holds the manifest (the file itself, or a sidecar).

    The plate becomes the parent ingredient, so that credentials it carries are kept. The file is replaced atomically.
    """
    if path.is_dir():
        listing = path / "frames.sha256"
        atomic_write_bytes(listing, _listing(path))
        return _sign_beside(listing, lineage, plate)
    if path.suffix.lower() not in EMBEDDABLE:
        return _sign_beside(path, lineage, plate)
    temporary = temporary_beside(path).with_suffix(path.suffix)
    try:
        with _builder(path.name, lineage, plate) as (builder, signer):
            builder.sign_file(path, temporary, signer)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def check_can_sign() -> None:
    """Signs a word as outputs will be signed in the end. Raises BadInput where the certificate there is of no use for it."""
    try:
        with _builder("trial", Lineage({}, ()), Path()) as (builder, signer):
            builder.set_no_embed()
            builder.sign(signer, _OPAQUE, io.BytesIO(b"trial"), io.BytesIO())
    except c2pa.C2paError as error:
        raise BadInput(
            f"{keys_folder() / 'credentials'}: outputs cannot be signed with this certificate ({_one_line(error)}); ask its "
            "provider for one that C2PA takes, or move the folder away to sign with a self-made one"
        ) from error


def read_credentials(path: Path) -> Credentials:
    """Checks the credentials of a file or folder of frames, offline; never raises for what a file holds.

    Raises BadInput where a certificate that the user trusts cannot be read.
    """
    if path.is_dir():
        return _read_folder(path)
    beside, context = sidecar_path(path), _context()
    try:
        if beside.is_file():
            with path.open("rb") as file:
                return _read(c2pa.Reader(_OPAQUE, file, read_limited(beside, _MAX_SIDECAR_BYTES), context))
        return _read(c2pa.Reader(path, context=context))
    except (c2pa.C2paError, BadInput) as error:
        if any(word in f"{type(error).__name__} {error}" for word in _NO_MANIFEST) or not _mentions_manifest(path):
            return Credentials("absent")
        return Credentials("broken", problem=f"the credentials cannot be read: {_one_line(error)}")


def sidecar_path(path: Path) -> Path:
    """Where the credentials of a file lie that cannot hold them: beside it, `swap.mkv.c2pa` say."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def _sign_beside(path: Path, lineage: Lineage, plate: Path) -> Path:
    with _builder(path.name, lineage, plate) as (builder, signer), path.open("rb") as source:
        builder.set_no_embed()
        manifest = builder.sign(signer, _OPAQUE, source, io.BytesIO())
    atomic_write_bytes(sidecar_path(path), manifest)
    return sidecar_path(path)


@contextmanager
def _builder(title: str, lineage: Lineage, plate: Path) -> Iterator[tuple[c2pa.Builder, c2pa.Signer]]:
    chain = signing_chain()
    info = c2pa.C2paSignerInfo(alg=chain.algorithm.encode(), sign_cert=chain.chain_pem, private_key=chain.key_pem, ta_url=None)
    context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(_manifest(title, lineage), context) as builder:
        _add_parent(builder, lineage, plate)
        for role in sorted(lineage.inputs):
            if role != "plate":
                used = {"title": role, "relationship": "inputTo", "label": role, "instance_id": _hash_of(lineage, role)}
                builder.add_ingredient(used, _OPAQUE, io.BytesIO(lineage.inputs[role].encode()))
        yield builder, signer


def _add_parent(builder: c2pa.Builder, lineage: Lineage, plate: Path) -> None:
    """The plate with the credentials that it carries; its hash alone where it is damaged, or not what its name says."""
    parent = {"title": "plate", "relationship": "parentOf", "label": "plate", "instance_id": _hash_of(lineage, "plate")}
    mime = EMBEDDABLE.get(plate.suffix.lower(), _OPAQUE)
    if mime != _OPAQUE and plate.is_file():
        with plate.open("rb") as stream, suppress(c2pa.C2paError):
            builder.add_ingredient(parent, mime, stream)
            return
    builder.add_ingredient(parent, _OPAQUE, io.BytesIO(b"see the lineage assertion for the hash of the plate"))


def _manifest(title: str, lineage: Lineage) -> Json:
    tool = {"name": TOOL_NAME, "version": __version__}
    used = [role for role in sorted(lineage.inputs) if role != "plate"]
    actions: list[Json] = [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": ["plate"]}},
        {
            "action": "c2pa.edited",
            "digitalSourceType": DIGITAL_SOURCE_TYPE,
            "softwareAgent": tool,
            "description": "A face was replaced by a computer.",
            "parameters": {"ingredientIds": used},
        },
        {"action": "c2pa.watermarked.bound", "softwareAgent": tool},
    ]
    mark = base64.b64encode(bytes.fromhex(lineage.watermark_id)).decode()
    binding: Json = {"alg": SOFT_BINDING, "blocks": [{"scope": {}, "value": mark}]}
    uses = ("ai_training", "ai_generative_training", "data_mining", "ai_inference")
    no_training = {f"cawg.{use}": {"use": "notAllowed"} for use in uses}
    contents: list[tuple[str, Json]] = [
        ("c2pa.actions.v2", {"actions": actions}),
        ("c2pa.soft-binding", binding),
        ("cawg.training-mining", {"entries": no_training}),
        (LINEAGE_LABEL, lineage.as_json()),
    ]
    assertions = [{"label": label, "created": True, "data": data} for label, data in contents]
    return {"claim_generator_info": [tool], "title": title, "assertions": assertions}


def _hash_of(lineage: Lineage, role: str) -> str:
    return f"sha256:{lineage.inputs.get(role, '')}"


def _listing(folder: Path) -> bytes:
    """The hashes of a folder's frames in `sha256sum` form, by name."""
    kinds = {*EMBEDDABLE, *IMAGE_SUFFIXES}
    frames = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in kinds)
    return "".join(f"{sha256_of_file(path)}  {path.name}\n" for path in frames).encode("utf-8", "surrogateescape")


def _read_folder(folder: Path) -> Credentials:
    listing = folder / "frames.sha256"
    if not listing.is_file() or not sidecar_path(listing).is_file():
        return Credentials("absent")
    found = read_credentials(listing)
    if found.state in ("valid", "untrusted") and listing.read_bytes() != _listing(folder):
        return Credentials("broken", found.signer, "a frame was changed, added or taken away", found.names_us, found.lineage)
    return found


def _mentions_manifest(path: Path) -> bool:
    """Whether a file that cannot be parsed holds a manifest's name anywhere, or has a sidecar."""
    if sidecar_path(path).is_file():
        return True
    last = b""
    with path.open("rb") as file:
        while block := file.read(2**20):
            if b"c2pa" in last + block:
                return True
            last = block[-3:]
    return False


def _context() -> c2pa.Context:
    settings: Json = {"verify": {"remote_manifest_fetch": False, "verify_trust": True}}
    if anchors := trust_anchors():
        settings["trust"] = {"user_anchors": anchors}
    return c2pa.Context.from_dict(settings)


def _read(reader: c2pa.Reader) -> Credentials:
    with reader:
        report = json.loads(reader.json())
        state = reader.get_validation_state()
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    signature = manifest.get("signature_info") or {}
    signer = str(signature.get("common_name") or signature.get("issuer") or "unknown")[:200]
    stated: list[Json] = [item["data"] for item in manifest.get("assertions", []) if item.get("label") == LINEAGE_LABEL]
    lineage = stated[0] if stated else {}
    names_us = bool(lineage) and any(tool.get("name") == TOOL_NAME for tool in manifest.get("claim_generator_info") or [])
    states: dict[str, Literal["valid", "untrusted"]] = {"Trusted": "valid", "Valid": "untrusted"}
    if state in states:
        return Credentials(states[state], signer, "", names_us, lineage)
    return Credentials("broken", signer, _first_failure(report), names_us, lineage)


def _first_failure(report: Json) -> str:
    results = report.get("validation_results")
    active = results.get("activeManifest", {}) if isinstance(results, dict) else {}
    codes = [str(item.get("code")) for item in active.get("failure", [])]
    codes = [code for code in codes if code != "signingCredential.untrusted"] or codes
    return f"changed after signing ({', '.join(codes[:3])})" if codes else "changed after signing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
