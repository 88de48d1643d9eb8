"""What was measured of a clip's frames, kept in one SQLite file as it is made: a kill leaves whole ones, from the first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from understudy.store.atomic import writing_to
from understudy.types import BadInput

_TABLE = "CREATE TABLE IF NOT EXISTS frames (number INTEGER PRIMARY KEY, names TEXT NOT NULL, arrays BLOB NOT NULL)"


class FrameRow(NamedTuple):
    """Float arrays of one frame by name, and what they hold in words; both come back to the last bit, NaN included."""

    names: Mapping[str, list[str]]
    arrays: Mapping[str, NDArray[np.float64]]


class FrameRows:
    """The rows of the frames 0 to `len` - 1. Use it as a context manager.

    What a file holds depends on nothing but its name here: whoever opens one answers for what its rows were made from. A file
    that is damaged begins anew. Raises BadInput where the disk is full or another process holds the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection, self._num = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._unusable(error) from error
            for leftover in path.parent.glob(f"{path.name}*"):
                leftover.unlink()
            self._connection, self._num = self._opened()

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[FrameRow]:
        from safetensors.numpy import load

        with self._readable_errors():
            for names, arrays in self._connection.execute("SELECT names, arrays FROM frames ORDER BY number"):
                yield FrameRow(json.loads(names), load(arrays))

    def append(self, row: FrameRow) -> None:
        """Keep the row of the next frame."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(array, np.float64) for name, array in row.arrays.items()}
        with self._readable_errors():
            self._connection.execute("INSERT INTO frames VALUES (?, ?, ?)", (self._num, json.dumps(row.names), save(arrays)))
        self._num += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _opened(self) -> tuple[sqlite3.Connection, int]:
        """The connection, and how many frames are there. A file whose frames do not follow one another is damaged."""
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            (num, last) = connection.execute("SELECT COUNT(*), COALESCE(MAX(number), -1) FROM frames").fetchone()
            if num != last + 1:
                raise sqlite3.DatabaseError(f"{num} frames up to number {last}")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.close()
            raise
        return connection, num

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> BadInput:
        return BadInput(
            f"{self._path} cannot be used ({error}); free disk space, or remove {self._path.parent}, then run again"
        )
