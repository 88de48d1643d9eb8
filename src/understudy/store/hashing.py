"""SHA-256 of files, of footage (a file or a folder of images), of JSON values and of this program."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from understudy.store.json_files import as_plain
from understudy.types import BadInput
from understudy.version import __version__

_PACKAGE = Path(__file__).parent.parent


def sha256_of_file(path: Path) -> str:
    """The hex digest of a file's bytes. Raises BadInput where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); check the name and the permissions") from error


def sha256_of_footage(path: Path) -> str:
    """The digest of a video file, or of a folder's visible files: their names and contents, in name order."""
    if not path.is_dir():
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for file in _files_in_order(path):
        digest.update(f"{len(file.name)}:{file.name}:{sha256_of_file(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def sha256_of_json(value: object) -> str:
    """The digest of a JSON value, whatever the order of its keys."""
    text = json.dumps(as_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def code_sha256(package: Path = _PACKAGE) -> str:
    """The digest of the program that runs: its version, and its sources and tables as they are installed, changed or not.

    What was half made or put aside by other code must not be gone on with. Where no sources are installed, the version counts.
    """
    digest = hashlib.sha256(__version__.encode("utf-8"))
    for file in sorted([*package.rglob("*.py"), *(package / "imaging").glob("*.json")]):
        digest.update(f"\n{file.relative_to(package).as_posix()} {sha256_of_file(file)}".encode())
    return digest.hexdigest()


def _files_in_order(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{folder} cannot be read ({error.strerror}); check the permissions") from error
