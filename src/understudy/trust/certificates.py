"""The certificate chain that signs content credentials: the user's own from a provider, or one made here on first use.

Files in `credentials/` of the user's key folder: `key.pem` (readable by its owner only), `chain.pem` (leaf first) and, for a
chain made here, `root.pem`. To sign with a provider's certificate, put its `key.pem` and `chain.pem` there instead. Anchors of
others that `verify` should trust go into `anchors/*.pem` beside it. No certificate made here holds a name of a person.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from understudy.store.atomic import atomic_folder, make_folder
from understudy.trust.keys import keys_folder, read_limited, write_secret
from understudy.types import BadInput

LIFETIME = datetime.timedelta(days=20 * 365)
"""Without a time stamp from a server, a file turns invalid the day its certificate ends; so it lasts."""
_ALGORITHM_OF_CURVE = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Chain:
    """A private key in PEM form, its certificate chain (leaf first) and the algorithm's name in C2PA."""

    key_pem: bytes
    chain_pem: bytes
    algorithm: str

    def __repr__(self) -> str:
        return f"Chain({self.algorithm})"


def signing_chain(folder: Path | None = None) -> Chain:
    """The chain to sign with, made on first use; raises BadInput where the user's own does not fit together."""
    home = (folder or keys_folder()) / "credentials"
    if not home.exists():
        _make_chain(home)
    key_pem, chain_pem = read_limited(home / "key.pem"), read_limited(home / "chain.pem")
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
    except (ValueError, TypeError) as error:
        raise BadInput(f"{home}: expected key.pem (a private key) and chain.pem (certificates), both PEM: {error}") from error
    if leaf.public_key() != key.public_key():
        raise BadInput(f"{home}: key.pem is not the key of the first certificate in chain.pem; put the leaf first")
    now = datetime.datetime.now(datetime.UTC)
    if now < leaf.not_valid_before_utc:
        raise BadInput(
            f"{home}: the certificate begins on {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; set the clock right, "
            "or move the folder away"
        )
    if leaf.not_valid_after_utc < now:
        raise BadInput(
            f"{home}: the certificate ended on {leaf.not_valid_after_utc:%Y-%m-%d}; renew it, or move the folder away"
        )
    return Chain(key_pem, chain_pem, _algorithm(key, home))


def trust_anchors(folder: Path | None = None) -> str:
    """The PEM certificates that `verify` trusts: the root made here and the user's `anchors/*.pem`.

    Raises BadInput for one that cannot be read: with it no credentials could be, and good ones would seem broken.
    """
    home = folder or keys_folder()
    paths = [home / "credentials" / "root.pem", *sorted((home / "anchors").glob("*.pem"))]
    return "\n".join(_anchor(path) for path in paths if path.is_file())


def _anchor(path: Path) -> str:
    data = read_limited(path, 4_000_000)
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise BadInput(f"{path}: expected certificates in PEM form; copy it again, or take it away") from error
    return data.decode(errors="replace")


def _make_chain(home: Path) -> None:
    """Root, intermediate and leaf (ES256); only the leaf's key is kept, so nothing else can be signed by this root."""
    root_key, middle_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    installation = secrets.token_hex(4)
    root_name, middle_name, leaf_name = (
        _name(f"Understudy {part} {installation}") for part in ("local root", "local intermediate", "installation")
    )
    root = _certificate(root_name, root_key, root_name, root_key, path_length=1)
    middle = _certificate(middle_name, middle_key, root_name, root_key, path_length=0)
    leaf = _certificate(leaf_name, leaf_key, middle_name, middle_key, path_length=None)
    pem = serialization.Encoding.PEM
    make_folder(home.parent, 0o700)
    try:
        with atomic_folder(home) as temporary:
            form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            write_secret(temporary / "key.pem", leaf_key.private_bytes(pem, form, encryption))
            (temporary / "chain.pem").write_bytes(leaf.public_bytes(pem) + middle.public_bytes(pem))
            (temporary / "root.pem").write_bytes(root.public_bytes(pem))
    except (BadInput, OSError):
        if not (home / "key.pem").is_file():  # else another process made one at the same time
            raise


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    path_length: int | None,
) -> x509.Certificate:
    """path_length: how many authorities may follow; None for a leaf, which gets the e-mail usage that C2PA asks for."""
    is_authority = path_length is not None
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=path_length), critical=True)
        .add_extension(_key_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Understudy (local, self-made certificate)"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _algorithm(key: object, home: Path) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _ALGORITHM_OF_CURVE:
        return _ALGORITHM_OF_CURVE[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise BadInput(f"{home / 'key.pem'}: expected an EC (P-256, P-384, P-521), Ed25519 or RSA key, got {type(key).__name__}")
