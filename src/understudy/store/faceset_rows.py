"""The index of a face set in sqlite: tables, columns, how a face becomes a row, how older ones are brought up to date."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np

from understudy.store.atomic import temporary_beside
from understudy.types import Box, Face, FloatArray

SCHEMA = 3

TABLES = """
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
    mouth_openness REAL, eye_openness REAL, brightness REAL, exposure REAL, occlusion REAL,
    irises BLOB,                        -- (2, 2) float32, frame pixels; NULL: not known
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
COLUMNS = (
    "id, source, frame, time_seconds, left_px, top_px, right_px, bottom_px, score, landmarks, face_from_frame, "
    "raw_face_from_frame, yaw_degrees, pitch_degrees, roll_degrees, embedding, sharpness, mouth_openness, eye_openness, "
    "brightness, exposure, occlusion, irises, shot, track, is_bridged, kept, reason, crop, crop_size_px"
)
MEASURES = ("mouth_openness", "eye_openness", "brightness", "exposure", "occlusion")
ADDED = {**dict.fromkeys(MEASURES, "REAL"), "irises": "BLOB"}
"""Columns that older indexes lack, and their types: schema 1 all, schema 2 the irises."""


def write_empty_index(path: Path, performer: str) -> None:
    """Make the index under a temporary name and rename it: a kill leaves none, or one with its tables and performer."""
    temporary = temporary_beside(path)
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {TABLES} COMMIT;")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("performer", performer)])
    finally:
        connection.close()
    os.replace(temporary, path)


def migrate(connection: sqlite3.Connection, is_writable: bool) -> None:
    """Bring an older index up to date in one transaction; one that cannot be written to, for this connection only."""
    if not is_writable:
        columns = ", ".join(["*", *(f"NULL AS {column}" for column in _lacking(connection))])
        connection.execute(f"CREATE TEMP VIEW faces AS SELECT {columns} FROM main.faces")
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for column in _lacking(connection):  # none, where another process was faster
            connection.execute(f"ALTER TABLE faces ADD COLUMN {column} {ADDED[column]}")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(SCHEMA),))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _lacking(connection: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in connection.execute("PRAGMA table_info(faces)")}
    return [column for column in ADDED if column not in there]


def blob(array: FloatArray, dtype: str) -> bytes:
    """An array as sqlite keeps it."""
    return np.ascontiguousarray(array, dtype=dtype).tobytes()


def row_from_face(face: Face) -> tuple[object, ...]:
    """The values of COLUMNS."""
    box = face.box
    reals = [float(value) for value in (face.time_seconds, box.left, box.top, box.right, box.bottom, face.score)]
    return (
        face.id or None,
        face.source,
        int(face.frame),
        *reals,
        blob(face.landmarks, "<f4"),
        blob(face.face_from_frame, "<f8"),
        blob(face.raw_face_from_frame, "<f8"),
        *(float(angle) for angle in face.pose),
        blob(face.embedding, "<f4"),
        float(face.sharpness),
        *(float(getattr(face, column)) for column in MEASURES),
        None if np.isnan(face.irises).all() else blob(face.irises, "<f4"),
        int(face.shot),
        int(face.track),
        int(face.is_bridged),
        int(face.kept),
        face.reason,
        face.crop,
        int(face.crop_size_px),
    )


def face_from_row(row: sqlite3.Row) -> Face:
    """The inverse of `row_from_face`."""
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
        mouth_openness=_real(row["mouth_openness"]),
        eye_openness=_real(row["eye_openness"]),
        brightness=_real(row["brightness"]),
        exposure=_real(row["exposure"]),
        occlusion=_real(row["occlusion"]),
        irises=np.full((2, 2), np.nan) if row["irises"] is None else np.frombuffer(row["irises"], "<f4").reshape(2, 2),
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
    return np.nan if value is None else float(value)
