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

from understudy.store.atomic import atomic_write_bytes, remove_temporaries, temporary_beside, writing_to
from understudy.types import BadInput, Box, Face, FloatArray, Image

INDEX_FILE = "faces.sqlite"
SCHEMA = 1
EMBEDDING_SIZE = 128

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources (source TEXT PRIMARY KEY, num_frames_done INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE frames (
    source TEXT NOT NULL,
    frame INTEGER NOT NULL,
    time_seconds REAL,
    thumbnail BLOB NOT NULL,            -- (18, 32, 3) uint8
    PRIMARY KEY (source, frame)
) WITHOUT ROWID;
CREATE TABLE faces (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    frame INTEGER NOT NULL,
    time_seconds REAL,
    left_px REAL, top_px REAL, right_px REAL, bottom_px REAL,
    score REAL,
    landmarks BLOB NOT NULL,            -- (N, 2) float32, frame pixels
    face_from_frame BLOB NOT NULL,      -- (2, 3) float64, in use
    raw_face_from_frame BLOB NOT NULL,  -- (2, 3) float64, as measured
    yaw_degrees REAL, pitch_degrees REAL, roll_degrees REAL,
    embedding BLOB NOT NULL,            -- (128,) float32
    sharpness REAL,
    shot INTEGER NOT NULL,
    track INTEGER NOT NULL,
    is_bridged INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    reason TEXT NOT NULL,
    crop TEXT NOT NULL,
    crop_size_px INTEGER NOT NULL
);
CREATE INDEX faces_by_frame ON faces (source, frame);
"""
_COLUMNS = (
    "id, source, frame, time_seconds, left_px, top_px, right_px, bottom_px, score, landmarks, face_from_frame, "
    "raw_face_from_frame, yaw_degrees, pitch_degrees, roll_degrees, embedding, sharpness, shot, track, is_bridged, kept, "
    "reason, crop, crop_size_px"
)


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
            with writing_to(folder):
                folder.mkdir(parents=True, exist_ok=True)
                remove_temporaries(folder)
                _write_empty_index(folder / INDEX_FILE, performer)
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
            raise BadInput(
                f"{folder} is not a face set (it has no {INDEX_FILE}); make one with: "
                f"understudy extract FOOTAGE --performer NAME --out {folder}"
            )
        connection = _connect(path)
        try:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            schema, performer = int(meta["schema"]), meta["performer"]
            connection.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.Error, KeyError, ValueError) as error:
            connection.close()
            raise BadInput(f"{path} is damaged or not a face set ({error}); extract it again") from error
        if schema > SCHEMA:
            connection.close()
            raise BadInput(f"{path} has schema {schema}, this version reads up to {SCHEMA}; update understudy")
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
        statement = f"INSERT INTO faces ({_COLUMNS}) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))})"
        with self.transaction():
            ids = tuple(self._connection.execute(statement, _row_from_face(face)).lastrowid or 0 for face in faces)
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
        blobs = [_blob(matrix, "<f8") for matrix in face_from_frame]
        with self.transaction():
            self._update("face_from_frame", blobs, ids)
            for column, values in (("shot", shots), ("track", tracks)):
                if values is not None:
                    self._update(column, [int(value) for value in values], ids)

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
        rows = self._query(f"SELECT {_COLUMNS} FROM faces {where} ORDER BY source, frame, id", parameters)
        return [_face_from_row(row) for row in rows]

    def sources(self) -> tuple[str, ...]:
        """The footage that faces came from, by name, those without a single face included."""
        rows = self._query("SELECT source FROM sources UNION SELECT source FROM faces ORDER BY source")
        return tuple(source for (source,) in rows)

    def frames(self, source: str) -> list[SurveyedFrame]:
        """The frames of `source` that were looked through, in order."""
        columns = "frame, time_seconds, thumbnail"
        rows = self._query(f"SELECT {columns} FROM frames WHERE source = ? ORDER BY frame", (source,))
        return [SurveyedFrame(frame, time, np.frombuffer(data, np.uint8).reshape(18, 32, 3)) for frame, time, data in rows]

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
        vectors = [np.frombuffer(blob, "<f4") for (blob,) in rows]
        usable = [vector for vector in vectors if vector.size == EMBEDDING_SIZE and np.isfinite(vector).all()]
        if not usable:
            return Gallery(np.full(EMBEDDING_SIZE, np.nan), np.empty((0, EMBEDDING_SIZE)))
        embeddings = np.stack(usable).astype(np.float64)
        return Gallery(embeddings.mean(axis=0), embeddings)

    def crop_path(self, face: Face) -> Path:
        """Where the picture of `face` lies. Raises BadInput where it has none, or its name leads out of the face set."""
        crop = PurePosixPath(face.crop)
        if not face.crop or crop.is_absolute() or ".." in crop.parts:
            raise BadInput(f"{self.folder / INDEX_FILE}: face {face.id} has no usable crop ({face.crop!r}); extract it again")
        return self.folder / crop

    def sha256(self) -> str:
        """The digest of what training sees: the kept faces, their alignments, landmarks and pictures' names."""
        digest = hashlib.sha256(self.performer.encode())
        columns = "source, frame, landmarks, face_from_frame, embedding, crop, crop_size_px"
        for row in self._query(f"SELECT {columns} FROM faces WHERE kept = 1 ORDER BY source, frame, id"):
            for value in row:
                data = value if isinstance(value, bytes) else str(value).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def _count(self, query: str, *parameters: str) -> int:
        [(count,)] = self._query(query, parameters)
        return int(count)

    def _query(self, query: str, parameters: Sequence[str] = ()) -> Iterator[sqlite3.Row]:
        with _readable_errors(self.folder / INDEX_FILE):
            yield from self._connection.execute(query, parameters)

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


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that is ours to write with; read-only where the folder is."""
    address = path.absolute().as_uri()
    if not os.access(path.parent, os.W_OK) or not os.access(path, os.W_OK):
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return sqlite3.connect(f"{address}?mode=rw", uri=True, isolation_level=None, timeout=30)


def _write_empty_index(path: Path, performer: str) -> None:
    """Make the index under a temporary name and rename it: a kill leaves none, or one with its tables and performer."""
    temporary = temporary_beside(path)
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("performer", performer)])
    finally:
        connection.close()
    os.replace(temporary, path)


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


def _blob(array: FloatArray, dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype=dtype).tobytes()


def _row_from_face(face: Face) -> tuple[object, ...]:
    box = face.box
    reals = [float(value) for value in (face.time_seconds, box.left, box.top, box.right, box.bottom, face.score)]
    return (
        face.id or None,
        face.source,
        int(face.frame),
        *reals,
        _blob(face.landmarks, "<f4"),
        _blob(face.face_from_frame, "<f8"),
        _blob(face.raw_face_from_frame, "<f8"),
        *(float(angle) for angle in face.pose),
        _blob(face.embedding, "<f4"),
        float(face.sharpness),
        int(face.shot),
        int(face.track),
        int(face.is_bridged),
        int(face.kept),
        face.reason,
        face.crop,
        int(face.crop_size_px),
    )


def _face_from_row(row: sqlite3.Row) -> Face:
    """The inverse of `_row_from_face`."""
    return Face(
        source=row["source"],
        frame=row["frame"],
        time_seconds=_real(row["time_seconds"]),
        box=Box(_real(row["left_px"]), _real(row["top_px"]), _real(row["right_px"]), _real(row["bottom_px"])),
        score=_real(row["score"]),
        landmarks=np.frombuffer(row["landmarks"], "<f4").reshape(-1, 2),
        face_from_frame=np.frombuffer(row["face_from_frame"], "<f8").reshape(2, 3),
        raw_face_from_frame=np.frombuffer(row["raw_face_from_frame"], "<f8").reshape(2, 3),
        pose=(_real(row["yaw_degrees"]), _real(row["pitch_degrees"]), _real(row["roll_degrees"])),
        embedding=np.frombuffer(row["embedding"], "<f4"),
        sharpness=_real(row["sharpness"]),
        shot=row["shot"],
        track=row["track"],
        is_bridged=bool(row["is_bridged"]),
        kept=bool(row["kept"]),
        reason=row["reason"],
        crop=row["crop"],
        crop_size_px=row["crop_size_px"],
        id=row["id"],
    )


def _real(value: float | None) -> float:
    """Sqlite keeps NaN as NULL."""
    return np.nan if value is None else value
