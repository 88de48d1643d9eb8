"""Ed25519 keys and detached signatures in minisign's format: `minisign -V` checks ours, and we check minisign's.

A signature covers BLAKE2b-512 of the exact bytes (minisign's `ED`), and a second one covers the trusted comment.
Format: https://jedisct1.github.io/minisign/#signature-format.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from understudy.store.atomic import atomic_write_text, make_folder, temporary_beside, writing_to
from understudy.types import BadInput

SECRET_FILE = "signing_key.pem"
_KEY_TAG, _PREHASHED_TAG = b"Ed", b"ED"
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_MAX_KEY_FILE_BYTES = 65_536


class BadSignatureError(Exception):
    """The signature is malformed, was made by another key, or the bytes have changed since."""


@dataclass(frozen=True)
class PublicKey:
    """An ed25519 public key and the eight-byte name that minisign gives it."""

    key_id: bytes
    key: bytes

    def __str__(self) -> str:
        """The one-line text form, as minisign prints it: `RW...`."""
        return base64.b64encode(_KEY_TAG + self.key_id + self.key).decode()


@dataclass(frozen=True)
class SigningKey:
    """A secret key; its `repr` never shows the secret."""

    public: PublicKey
    _secret: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    def sign(self, data: bytes, comment: str) -> str:
        """The text of a `.minisig` file for these exact bytes; the comment (one line) is signed too."""
        if "\n" in comment or "\r" in comment:
            raise ValueError(f"expected a comment of one line, got {comment!r}")
        signature = self._secret.sign(_digest(data))
        comment_signature = self._secret.sign(signature + comment.encode())
        first = base64.b64encode(_PREHASHED_TAG + self.public.key_id + signature).decode()
        second = base64.b64encode(comment_signature).decode()
        return f"{_UNTRUSTED}signed by Understudy\n{first}\n{_TRUSTED}{comment}\n{second}\n"


def keys_folder() -> Path:
    """Where this user's secrets are: $UNDERSTUDY_KEYS, else `understudy` in the user's configuration folder."""
    if chosen := os.environ.get("UNDERSTUDY_KEYS"):
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA")
    return (Path(base) if base else Path.home() / ".config") / "understudy"


def signing_key(folder: Path | None = None) -> SigningKey:
    """The user's key, made on first use and readable by its owner only."""
    path = (folder or keys_folder()) / SECRET_FILE
    if not path.exists():
        _create(path)
    try:
        secret = serialization.load_pem_private_key(read_limited(path), password=None)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"{path}: expected an ed25519 private key in PEM form, which this is not; restore it from a copy, or "
            "move it away to start with a new key"
        ) from error
    if not isinstance(secret, Ed25519PrivateKey):
        raise BadInput(f"{path}: expected an ed25519 private key, got {type(secret).__name__}; move it away to start anew")
    return SigningKey(_public_of(secret), secret)


def own_public_key(folder: Path | None = None) -> PublicKey | None:
    """The user's public key if a key has been made; makes none."""
    path = (folder or keys_folder()) / SECRET_FILE
    return signing_key(folder).public if path.exists() else None


def verify(data: bytes, signature_text: str, key: PublicKey) -> str:
    """Checks a detached signature over these exact bytes and returns its trusted comment; raises BadSignatureError."""
    signer, signature, comment, comment_signature = _parse(signature_text)
    if signer != key.key_id:
        raise BadSignatureError("it was signed by another key")
    public = Ed25519PublicKey.from_public_bytes(key.key)
    try:
        public.verify(signature, _digest(data))
        public.verify(comment_signature, signature + comment.encode())
    except InvalidSignature as error:
        raise BadSignatureError("the bytes are not those that were signed") from error
    return comment


def parse_public_key(text: str) -> PublicKey:
    """Reads `RW...` or the content of a minisign `.pub` file; raises BadSignatureError."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_UNTRUSTED)]
    raw = _decode(lines[0]) if len(lines) == 1 else b""
    if len(raw) != 42 or raw[:2] != _KEY_TAG:
        raise BadSignatureError("expected a minisign public key (RW...)")
    return PublicKey(raw[2:10], raw[10:])


def write_secret(path: Path, data: bytes) -> None:
    """Creates a file that only its owner can read (mode 0600 from the first byte on); leaves one that is there already."""
    make_folder(path.parent, 0o700)
    temporary = temporary_beside(path)
    with writing_to(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _give_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_limited(path: Path, max_bytes: int = _MAX_KEY_FILE_BYTES) -> bytes:
    """The bytes of a small file; BadInput where it is missing, unreadable or larger than such a file can be."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if len(data) > max_bytes:
        raise BadInput(f"{path}: expected at most {max_bytes} bytes, found more; this is not such a file")
    return data


def _give_name(temporary: Path, path: Path) -> None:
    """Of two processes that come at once the first wins: a link never replaces what is there, as a rename would."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links (FAT, some network folders)
        if not path.exists():
            os.replace(temporary, path)


def _create(path: Path) -> None:
    secret = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    pem = secret.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_secret(path, pem)
    public = signing_key(path.parent).public
    atomic_write_text(path.with_name("signing_key.pub"), f"{_UNTRUSTED}Understudy public key\n{public}\n")


def _public_of(secret: Ed25519PrivateKey) -> PublicKey:
    raw = secret.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey(hashlib.blake2b(raw, digest_size=8).digest(), raw)


def _parse(text: str) -> tuple[bytes, bytes, str, bytes]:
    lines = text.splitlines()
    if len(lines) < 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise BadSignatureError("it is not a minisign signature")
    packet, comment_signature = _decode(lines[1]), _decode(lines[3])
    if len(packet) != 74 or packet[:2] != _PREHASHED_TAG or len(comment_signature) != 64:
        raise BadSignatureError("it is not a prehashed minisign signature (made by `minisign -S`)")
    return packet[2:10], packet[10:], lines[2].removeprefix(_TRUSTED), comment_signature


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=64).digest()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignatureError("it is not base64") from error
