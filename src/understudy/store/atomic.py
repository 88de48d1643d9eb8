"""Writes that leave either the old file or the new one, never half of one, whenever the process is killed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.types import BadInput

TEMPORARY_PREFIX = ".tmp-"
"""Files and folders that begin so are unfinished; a later run may delete them."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def atomic_write_bytes(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Write `data` to `path`: temporary name beside it, fsync, rename.

    is_durable: False skips the fsyncs: safe against a kill, not against a power cut (crops, which can be extracted again).
    Raises BadInput when the disk is full or the folder cannot be written; `path` is then as it was.
    """
    with writing_to(path):
        if not path.parent.is_dir():  # a tenth of the time of a mkdir that finds it there
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            _write_new_file(temporary, data, is_durable)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if is_durable:
            sync_folder(path.parent)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`; see `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success all of it is fsynced and renamed to `path`, on failure it is removed.

    Raises BadInput where `path` exists already, when the disk is full or the folder cannot be written.
    """
    with writing_to(path):
        if path.exists():
            raise BadInput(f"{path} exists already, expected a new folder; name another or remove it")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        temporary.mkdir()
        try:
            yield temporary
            sync_tree(temporary)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(path.parent)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the failures of a disk that is full, read-only or not ours into one line that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise BadInput(f"no space left to write {path}; free some and run the same command again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise BadInput(f"{path} cannot be written ({os.strerror(error.errno)}); name a folder of your own") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise BadInput(f"{path} cannot be written: a file stands where a folder is needed; name another place") from error
        raise


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, with those above it, where it is not there. Raises BadInput, whatever the reason, where that cannot be."""
    with writing_to(path):
        try:
            path.mkdir(mode, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG):  # a file system that holds no folders, say
                raise BadInput(f"{path} cannot be made ({os.strerror(error.errno)}); name another place") from error
            raise


def check_place(folder: Path) -> None:
    """Raises BadInput where a folder plainly cannot be made, or is there and cannot be read; makes nothing."""
    nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not os.path.isdir(nearest):
        raise BadInput(f"{folder} cannot be a folder: {nearest} is none; name another place")
    needed = os.R_OK | os.X_OK if nearest == folder else os.W_OK | os.X_OK
    if not os.access(nearest, needed):
        raise BadInput(f"{folder} cannot be used: {nearest} is closed to you; name a folder of your own")


def temporary_beside(path: Path) -> Path:
    """A fresh name in the folder of `path`, so that a rename to it stays on one file system."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers left in `folder`. Only for the process that holds the folder's lock."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Fsync each file and folder below `folder`, and `folder` itself."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent) / name, os.O_RDONLY)
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that a rename in it outlives a power cut (where the system allows to open folders)."""
    if os.name != "nt":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot fsync
            raise
    finally:
        os.close(descriptor)


def _write_new_file(path: Path, data: bytes, is_durable: bool) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        if is_durable:
            os.fsync(file.fileno())
