"""Binds a consent record to a face: keeps some embeddings of the performer and measures how far other faces are from them.

Embeddings are the 128 numbers of dlib's face network (Euclidean distance). They are biometric data. Those kept here lie in the
consent folder, signed and tied to the record by its hash; others lie in face sets, in a model's galleries.safetensors and in a
swap's `plate` folder. None enters a manifest or a credential.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.store.atomic import atomic_write_text
from understudy.trust.keys import BadSignatureError, PublicKey, read_limited, signing_key, verify
from understudy.trust.records import SignedRecord, accepted_keys, signature_path
from understudy.types import FloatArray, Refused

METHOD = "dlib-face-recognition-resnet-v1 128-d"
NUM_ENROLLED = 64
MAX_DISTANCE = 0.48
"""A track farther than this from the enrolled face is another person. Measured: same person up to 0.36, strangers from 0.54."""
ODD_DISTANCE = 0.6
"""A face farther than this from the most typical one of its set is not enrolled (dlib's threshold for another person)."""
MAX_ODD_FRACTION = 0.25
"""With more odd faces than this a set is not of one person. Measured: one person up to 0.18, most mixtures of two from 0.41."""
MAX_REJECTED_FRACTION = 0.02
_MAX_FILE_BYTES = 2_000_000


@dataclass(frozen=True)
class Identity:
    """The enrolled embeddings (N, 128) of the performer of one record."""

    performer: str
    embeddings: FloatArray


def identity_path(signed: SignedRecord) -> Path:
    """`consent/NAME.identity.json`, beside the record."""
    return signed.path.with_suffix(".identity.json")


def enrolled_identity(performer: str, embeddings: FloatArray) -> Identity:
    """The face that a record can be bound to; raises Refused where the faces are not of one person.

    embeddings: (N, 128), N >= 1; an even sample of them is kept.
    """
    faces = _checked(embeddings, performer)
    chosen = faces[np.linspace(0, len(faces) - 1, min(NUM_ENROLLED, len(faces))).astype(int)]
    is_odd = _from_typical(chosen) > ODD_DISTANCE
    if (odd := float(is_odd.mean())) > MAX_ODD_FRACTION:
        raise Refused(
            f"{performer}: these faces are not all of one person ({odd:.0%} are farther than {ODD_DISTANCE} from the typical "
            "one); take other people out of the face set (`extract --like`)"
        )
    return Identity(performer, chosen[~is_odd])


def bind_identity(signed: SignedRecord, embeddings: FloatArray, today: datetime.date | None = None) -> Identity:
    """Writes the face of `enrolled_identity` beside the record, signed with the user's key; raises what that raises."""
    identity = enrolled_identity(signed.record.performer, embeddings)
    content = {
        "schema": 1,
        "record_sha256": signed.sha256,
        "method": METHOD,
        "bound": (today or datetime.date.today()).isoformat(),
        "embeddings": [[round(float(number), 6) for number in row] for row in identity.embeddings],
    }
    path, text = identity_path(signed), json.dumps(content) + "\n"
    atomic_write_text(path, text)
    atomic_write_text(signature_path(path), signing_key().sign(text.encode(), f"identity of {identity.performer}"))
    return identity


def read_identity(signed: SignedRecord) -> Identity | None:
    """The face bound to this record, None if none is; raises Refused where the file was changed or is of another record."""
    path = identity_path(signed)
    if not path.exists():
        return None
    remedy = "bind the face anew: delete the file, then train from a face set that you have looked through"
    data = read_limited(path, _MAX_FILE_BYTES)
    beside = signature_path(path)
    text = read_limited(beside).decode(errors="replace") if beside.is_file() else ""
    if not any(_is_good(data, text, key) for key in accepted_keys(path.parent)):
        raise Refused(f"{path}: the signature is not good, so the face may have been exchanged; {remedy}")
    try:
        content = json.loads(data)
        belongs = content["record_sha256"] == signed.sha256 and content["method"] == METHOD
        embeddings = np.asarray(content["embeddings"], dtype=np.float64)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise Refused(f"{path}: is no face of a consent record; {remedy}") from error
    if not belongs:
        raise Refused(f"{path}: belongs to an earlier record of {signed.record.performer!r}; {remedy}")
    return Identity(signed.record.performer, _checked(embeddings, str(path)))


def check_identity(identity: Identity, embeddings: FloatArray, tracks: NDArray[np.integer] | None = None) -> float:
    """The distance of a face set from the bound face; raises Refused, naming the distance, where it is another person's.

    embeddings: (N, 128); tracks: (N,) which track each is of (default: all of one). A track is judged by the median of its
    faces, because single faces fail in blur and profile. A set fails with more than 2 % of its faces in rejected tracks.
    """
    faces = _checked(embeddings, identity.performer)
    labels = np.zeros(len(faces), dtype=int) if tracks is None else np.asarray(tracks)
    each = distances(identity, faces)
    medians = {label: float(np.median(each[labels == label])) for label in np.unique(labels)}
    rejected = [label for label, median in medians.items() if median > MAX_DISTANCE]
    fraction = float(np.isin(labels, rejected).mean())
    if fraction > MAX_REJECTED_FRACTION:
        worst = max(medians[label] for label in rejected)
        raise Refused(
            f"{identity.performer}: {fraction:.0%} of the faces are not of the person whose consent this is ("
            f"distance {worst:.2f}, expected at most {MAX_DISTANCE}); use their own footage, or a record of the person shown"
        )
    return float(np.median(each))


def distances(identity: Identity, embeddings: FloatArray) -> FloatArray:
    """(N,) for each face the mean Euclidean distance to its three nearest enrolled ones, itself left out if it is one."""
    nearest = np.sort(_apart(embeddings, identity.embeddings), axis=1)
    is_itself = (nearest[:, :1] < 1e-4) & (nearest.shape[1] > 3)
    nearest = np.where(is_itself, np.roll(nearest, -1, axis=1), nearest)[:, :3]
    return np.asarray(nearest.mean(axis=1))


def _checked(embeddings: FloatArray, performer: str) -> FloatArray:
    faces = np.asarray(embeddings, dtype=np.float64)
    if faces.ndim != 2 or faces.shape[1] != 128 or len(faces) == 0 or not np.isfinite(faces).all():
        raise Refused(
            f"{performer}: expected finite face embeddings (N, 128) to compare with the consent record, got shape "
            f"{faces.shape}; extract the face set anew"
        )
    return faces


def _from_typical(faces: FloatArray) -> FloatArray:
    """(N,) the distance of each face from the one that is nearest to all."""
    apart = _apart(faces, faces)
    return np.asarray(apart[np.argmin(np.median(apart, axis=1))])


def _apart(faces: FloatArray, others: FloatArray) -> FloatArray:
    """(N, M) Euclidean distances of (N, D) to (M, D), without the N x M x D array in between."""
    squared = (faces**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2.0 * faces @ others.T
    return np.sqrt(np.maximum(squared, 0.0))


def _is_good(data: bytes, signature_text: str, key: PublicKey) -> bool:
    try:
        verify(data, signature_text, key)
    except BadSignatureError:
        return False
    return True
