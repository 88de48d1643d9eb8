"""A face set on disk: `faces.sqlite` (one row a face) beside its crops, safe against a kill at any moment."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

import numpy as np

from understudy.store.atomic import atomic_write_bytes, make_folder, remove_temporaries, writing_to
from understudy.store.faceset_rows import COLUMNS, SCHEMA, blob, face_from_row, migrate, row_from_face, write_empty_index
from understudy.store.hashing import sha256_of_file
from understudy.types import BadInput, Face, FloatArray, Image

INDEX_FILE = "faces.sqlite"
EMBEDDING_SIZE = 128


class Gallery(NamedTuple):
    """How a performer looks to the identity network: mean (128,), NaN where there is no face; embeddings (N, 128)."""

    mean: FloatArray
    embeddings: FloatArray


class SurveyedFrame(NamedTuple):
    """A frame that was looked through for faces: its number, time, and thumbnail (18, 32, 3) uint8 for telling shots apart."""

    frame: int
    time_seconds: float
    thumbnail: Image


class FaceSet:
    """The faces of one performer. Open with `create` or `open`, close with `close` or as a context manager."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, performer: str) -> None:
        self.folder = folder
        self.performer = performer
        self._connection = connection
        self._connection.row_factory = sqlite3.Row

    @classmethod
    def create(cls, folder: Path, performer: str) -> Self:
        """The face set of `performer` in `folder`, new or, to continue, the one that is there.

        Raises BadInput where the folder holds another performer's faces.
        """
        if not (folder / INDEX_FILE).exists():
            with writing_to(folder), _readable_errors(folder / INDEX_FILE):
                make_folder(folder)
                remove_temporaries(folder)
                write_empty_index(folder / INDEX_FILE, performer)
        face_set = cls.open(folder)
        if face_set.performer != performer:
            face_set.close()
            raise BadInput(f"{folder} holds the faces of {face_set.performer}, not of {performer}; name another --out")
        return face_set

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The face set that is in `folder`. Raises BadInput where there is none, or it is damaged or too new."""
        path = folder / INDEX_FILE
        if not path.is_file():
            if inside := sorted(str(index.parent) for index in folder.glob(f"*/{INDEX_FILE}")):
                raise BadInput(f"{folder} is not a face set, but has some in it; name one of them: {', '.join(inside)}")
            raise BadInput(
                f"{folder} is not a face set (it has no {INDEX_FILE}); make one with: "
                f"understudy extract FOOTAGE --performer NAME --out {folder}"
            )
        connection = _connect(path)
        try:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            schema, performer = int(meta["schema"]), meta["performer"]
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA trusted_schema = OFF")  # a face set of a stranger may hold views and triggers
        except (sqlite3.Error, KeyError, ValueError) as error:
            connection.close()
            raise BadInput(f"{path} is damaged or not a face set ({error}); extract it again") from error
        if schema > SCHEMA:
            connection.close()
            raise BadInput(f"{path} has schema {schema}, this version reads up to {SCHEMA}; update understudy")
        if schema < SCHEMA:
            with _readable_errors(path):
                migrate(connection, is_writable=_is_writable(path))
        return cls(folder, connection, performer)

    def close(self) -> None:
        """Close the index; the face set cannot be used afterwards."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count("SELECT COUNT(*) FROM faces")

    # ---- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or, if the process dies or an error is raised, not at all. May be nested."""
        if self._connection.in_transaction:
            yield
            return
        with _readable_errors(self.folder / INDEX_FILE):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def add_faces(self, faces: Sequence[Face], *, num_frames_done: Mapping[str, int] | None = None) -> tuple[int, ...]:
        """Store `faces` and, in the same transaction, how many frames of each source are now done; returns their ids."""
        statement = f"INSERT INTO faces ({COLUMNS}) VALUES ({', '.join('?' * (COLUMNS.count(',') + 1))})"
        with self.transaction():
            ids = tuple(self._connection.execute(statement, row_from_face(face)).lastrowid or 0 for face in faces)
            for source, num_frames in (num_frames_done or {}).items():
                self._connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (source, num_frames))
        return ids

    def add_frame(self, source: str, frame: SurveyedFrame) -> None:
        """Remember that a frame was looked through, whether or not it showed a face."""
        row = (source, int(frame.frame), float(frame.time_seconds), frame.thumbnail.tobytes())
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?)", row)

    def replace_alignments(
        self,
        ids: Sequence[int],
        face_from_frame: FloatArray,
        *,
        shots: Sequence[int] | None = None,
        tracks: Sequence[int] | None = None,
    ) -> None:
        """Give faces their smoothed alignments (N, 2, 3) and, if told, shots and tracks; what was measured stays as it is."""
        blobs = [blob(matrix, "<f8") for matrix in face_from_frame]
        with self.transaction():
            self._update("face_from_frame", blobs, ids)
            for column, values in (("shot", shots), ("track", tracks)):
                if values is not None:
                    self._update(column, [int(value) for value in values], ids)

    def set_occlusion(self, row_id: int, occlusion: float) -> None:
        """Tell what share of a face is hidden (0..1): known only when its track is."""
        with self.transaction():
            self._update("occlusion", [float(occlusion)], [row_id])

    def set_crops(self, ids: Sequence[int], crops: Sequence[str], crop_size_px: int) -> None:
        """Tell which stored pictures (from `write_crop`) show the faces."""
        with self.transaction():
            self._update("crop", crops, ids)
            self._update("crop_size_px", [crop_size_px] * len(ids), ids)

    def set_kept(self, ids: Sequence[int], is_kept: bool, reason: str = "") -> None:
        """Keep faces or leave them out, saying why. Nothing is deleted: it can be set back at any time."""
        with self.transaction():
            self._update("kept", [int(is_kept)] * len(ids), ids)
            self._update("reason", [reason] * len(ids), ids)

    def set_note(self, key: str, value: str) -> None:
        """Remember a fact about the whole set, such as that its tracks are linked; read it by `note`."""
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"note:{key}", value))

    def write_crop(self, name: str, data: bytes, suffix: str = ".jpg") -> str:
        """Store an encoded picture and return what `Face.crop` should say. A picture without a row does no harm."""
        crop = crop_location(name, suffix)
        atomic_write_bytes(self.folder / crop, data, is_durable=False)
        return crop

    # ---- reading ------------------------------------------------------------------------------------------------------

    def faces(self, kept_only: bool = True, source: str | None = None) -> list[Face]:
        """The faces in the order of source, frame and id: those that are kept, or all; of one source, or of all."""
        conditions = ["kept = 1"] * kept_only + ["source = ?"] * (source is not None)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        parameters = () if source is None else (source,)
        rows = self._query(f"SELECT {COLUMNS} FROM faces {where} ORDER BY source, frame, id", parameters)
        try:
            return [face_from_row(row) for row in rows]
        except (ValueError, TypeError, AttributeError) as error:  # a blob of another size, text where a number belongs
            raise BadInput(f"{self.folder / INDEX_FILE} is damaged ({error}); extract it again") from error

    def sources(self) -> tuple[str, ...]:
        """The footage that faces came from, by name, those without a single face included."""
        rows = self._query("SELECT source FROM sources UNION SELECT source FROM faces ORDER BY source")
        return tuple(source for (source,) in rows)

    def frames(self, source: str) -> list[SurveyedFrame]:
        """The frames of `source` that were looked through, in order."""
        columns = "frame, time_seconds, thumbnail"
        rows = self._query(f"SELECT {columns} FROM frames WHERE source = ? ORDER BY frame", (source,))
        try:
            return [SurveyedFrame(frame, time, np.frombuffer(data, np.uint8).reshape(18, 32, 3)) for frame, time, data in rows]
        except (ValueError, TypeError) as error:
            raise BadInput(f"{self.folder / INDEX_FILE} is damaged ({error}); extract it again") from error

    def num_frames_done(self, source: str) -> int:
        """How many frames of `source`, from its first, are surveyed: where a killed run goes on."""
        return self._count("SELECT COALESCE(MAX(num_frames_done), 0) FROM sources WHERE source = ?", source)

    def note(self, key: str) -> str | None:
        """What `set_note` remembered, or None."""
        rows = list(self._query("SELECT value FROM meta WHERE key = ?", (f"note:{key}",)))
        return str(rows[0][0]) if rows else None

    def gallery(self, kept_only: bool = True) -> Gallery:
        """The identity embeddings of the faces that a detector saw (bridged ones have none of their own)."""
        where = "WHERE is_bridged = 0" + " AND kept = 1" * kept_only
        rows = self._query(f"SELECT embedding FROM faces {where} ORDER BY source, frame, id")
        try:
            vectors = [np.frombuffer(blob, "<f4") for (blob,) in rows]
        except (ValueError, TypeError) as error:
            raise BadInput(f"{self.folder / INDEX_FILE} is damaged ({error}); extract it again") from error
        usable = [vector for vector in vectors if vector.size == EMBEDDING_SIZE and np.isfinite(vector).all()]
        if not usable:
            return Gallery(np.full(EMBEDDING_SIZE, np.nan), np.empty((0, EMBEDDING_SIZE)))
        embeddings = np.stack(usable).astype(np.float64)
        return Gallery(embeddings.mean(axis=0), embeddings)

    def crop_path(self, face: Face) -> Path:
        """Where the picture of `face` lies. Raises BadInput where it has none, or its name leads out of the face set."""
        return self._inside(face.crop, f"face {face.id}")

    def sha256(self) -> str:
        """The digest of what training sees: the kept faces, their alignments, landmarks, irises and pictures' names.

        That of a face set without irises is what it was before they were stored.
        """
        digest = hashlib.sha256(self.performer.encode())
        columns = "source, frame, landmarks, face_from_frame, embedding, crop, crop_size_px, irises"
        for row in self._query(f"SELECT {columns} FROM faces WHERE kept = 1 ORDER BY source, frame, id"):
            for value in row[:-1] if row[-1] is None else row:
                data = value if isinstance(value, bytes) else str(value).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def pictures_sha256(self) -> str:
        """The digest of all its pictures, kept or not: their names and contents; one that is gone counts as gone.

        Reads each of them: half a second for 10,000 that the system has in memory, else as long as the disk takes.
        """
        digest = hashlib.sha256()
        for (crop,) in self._query("SELECT DISTINCT crop FROM faces WHERE crop != '' ORDER BY crop"):
            path = self._inside(crop)
            digest.update(f"{len(str(crop))}:{crop}:{sha256_of_file(path) if path.is_file() else 'gone'}\n".encode())
        return digest.hexdigest()

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def _inside(self, crop: object, whose: str = "a face") -> Path:
        place = PurePosixPath(crop if isinstance(crop, str) else "")  # SQLite keeps any type in a column of text
        if not place.parts or place.is_absolute() or ".." in place.parts or "\0" in str(crop):
            raise BadInput(f"{self.folder / INDEX_FILE}: {whose} has no usable crop ({crop!r}); extract it again")
        return self.folder / place

    def _count(self, query: str, *parameters: str) -> int:
        [(count,)] = self._query(query, parameters)
        if not isinstance(count, int):
            raise BadInput(
                f"{self.folder / INDEX_FILE} is damaged (a number of frames is {str(count)[:40]!r}); extract it again"
            )
        return count

    def _query(self, query: str, parameters: Sequence[str] = ()) -> Iterator[sqlite3.Row]:
        with _readable_errors(self.folder / INDEX_FILE):
            rows = self._connection.execute(query, parameters).fetchall()  # a reader may stop half-way and close the face set
        yield from rows

    def _update(self, column: str, values: Sequence[object], ids: Sequence[int]) -> None:
        pairs = [(value, int(row)) for value, row in zip(values, ids, strict=True)]
        cursor = self._connection.executemany(f"UPDATE faces SET {column} = ? WHERE id = ?", pairs)
        if cursor.rowcount not in (len(pairs), -1):
            raise ValueError(f"expected ids of stored faces, but {len(pairs) - cursor.rowcount} of {len(pairs)} are not there")


def crop_location(name: str, suffix: str = ".jpg") -> str:
    """The place of a picture relative to its face set: `crops/ab/name.jpg`, spread over 256 folders by a hash of the name.

    Characters that some file system refuses are replaced, and the hash then keeps two such names apart.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip(".")[:100]
    if safe != name:
        safe = f"{safe}-{digest[:12]}"
    return f"crops/{digest[:2]}/{safe}{suffix}"


def _is_writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that is ours to write with; read-only where the folder is."""
    address = path.absolute().as_uri()
    if not _is_writable(path):
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return sqlite3.connect(f"{address}?mode=rw", uri=True, isolation_level=None, timeout=30)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn sqlite's failures into one line that names the index."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BadInput(f"{path} cannot be used ({error}); free disk space or close what holds it, then run again") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise BadInput(f"{path} is damaged ({error}); extract it again") from error
