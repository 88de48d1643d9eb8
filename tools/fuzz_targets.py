"""What is fuzzed: for each kind of foreign file its seeds, and a function that reads one as Understudy would.

A function gets bytes and an empty folder of its own. It may raise only what a user is told in one line (`UnderstudyError`);
anything else that leaves it, a hang, and a write outside its folder are findings. `tools/fuzz.py` runs these for long,
`tests/test_trust_fuzz.py` for seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import random
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from fuzz_answers import answered
from fuzz_media import media_seeds, run_media

from understudy.imaging.expression import READINGS, Drive, measure_standards
from understudy.project import plan
from understudy.projectfile import read_project
from understudy.store.checkpoints import best_valid, prune
from understudy.store.events import read_events, time_left
from understudy.store.faceset import FaceSet, SurveyedFrame
from understudy.store.json_files import json_text
from understudy.store.manifest import InputFile, Manifest, read_manifest, stage_result
from understudy.store.runs import open_run
from understudy.trust import consent, identity, keys, records
from understudy.trust.form import consent_form
from understudy.trust.lineage import lineage_of, trace
from understudy.trust.permission import footage_behind
from understudy.trust.renders import find_render
from understudy.types import Box, Face

_DAY = datetime.date.today()


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of file: `seeds()` good examples, `run` reads one in a folder; `is_native` where C code parses it."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes, Path], None]
    is_native: bool = False


# ---- consent --------------------------------------------------------------------------------------------------------------


def _consent_seeds() -> list[bytes]:
    files = (b"record", b"signature", b"revoked", b"identity", b"key")
    contents = {
        b"record": _record_toml(),
        b"signature": keys.signing_key().sign(_record_toml(), "seed").encode(),
        b"revoked": b'{"schema": 1, "revoked": "2026-11-22", "reason": "asked to"}',
        b"identity": json.dumps(_identity_json()).encode(),
        b"key": f"untrusted comment: a key\n{keys.signing_key().public}\n".encode(),
    }
    return [bytes([number]) + contents[name] for number, name in enumerate(files)]


def _run_consent(data: bytes, folder: Path) -> None:
    """The first byte says which file the rest is; the others of a good record are made round it."""
    place, content = data[:1][0] % 5 if data else 0, data[1:]
    path = folder / "bea.toml"
    record = content if place == 0 else _record_toml()
    path.write_bytes(record)
    signature = keys.signing_key().sign(record, "fuzz").encode()
    records.signature_path(path).write_bytes(content if place == 1 else signature)
    if place == 4:
        (folder / "keys").mkdir()
        (folder / "keys" / "bea.pub").write_bytes(content)
    signed = records.read_record(folder, "bea")
    if place == 2:
        (folder / "revoked").mkdir()
        (folder / "revoked" / f"{signed.record.id}.json").write_bytes(content)
    if place == 3:
        beside = identity.identity_path(signed)
        beside.write_bytes(content)
        records.signature_path(beside).write_text(keys.signing_key().sign(content, "fuzz"))
    consent.describe(signed)
    consent_form(signed)
    json_text(consent.describe(signed))
    if bound := identity.read_identity(signed):
        identity.check_identity(bound, _faces())
    consent.check(signed, "train")
    consent.require({"bea": _faces()}, "train", folder)


@cache
def _record_toml() -> bytes:
    record = records.ConsentRecord(
        schema=records.SCHEMA,
        id=uuid.UUID(int=7),
        performer="bea",
        kind="signed",
        created=_DAY,
        signed_by="production",
        person=consent.default_person("bea", "signed"),
        grant=consent.default_grant("bea", "signed", _DAY),
    )
    return records.to_toml(record).encode()


def _identity_json() -> dict[str, object]:
    sha256 = hashlib.sha256(_record_toml()).hexdigest()
    return {"schema": 1, "record_sha256": sha256, "method": identity.METHOD, "embeddings": _faces()[:4].round(3).tolist()}


def _faces() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.025, (8, 128)) + 0.05


# ---- manifests ------------------------------------------------------------------------------------------------------------

_STAGE_FILES = ("manifest.json", "recipe.json", "events.jsonl", "gate.json", "renders.jsonl", "faces.sqlite")


def _manifest_seeds() -> list[bytes]:
    inputs = {"plate": InputFile("plate.mp4", "ab" * 32), "model": InputFile("model/checkpoints/000001/state.json", "cd" * 32)}
    manifest = Manifest("convert", inputs, "ef" * 32, {"num_frames": 3}, {"swap": "swap.mp4"}, seed=3)
    recipe = {
        "schema": 1,
        "stage": "train",
        "recipe": {"crf": 14, "nested": {"a": 1}},
        "inputs": {"abel": vars(inputs["plate"])},
    }
    event = {"time": "2026-11-22T10:00:00+00:00", "stage": "train", "kind": "progress", "done": 1, "total": 2, "unit": "steps"}
    gate = {"abel": {"faces_sha256": "00", "gate": {"num_samples": 1}, "footage_sha256": ["11"]}}
    render = {"watermark_id": "0123456789ab", "time": "now", "name": "a.mp4", "sha256": "00", "lineage": {}}
    lines = (json_text(event, is_compact=True) + "\n") * 3
    texts = (json_text(manifest), json_text(recipe), lines, json_text(gate), json_text(render, is_compact=True) + "\n")
    return [bytes([number]) + text.encode() for number, text in enumerate(texts)] + [bytes([5]) + _face_set_bytes()]


def _run_manifest(data: bytes, folder: Path) -> None:
    """The first byte says which file of a stage's folder the rest is."""
    name = _STAGE_FILES[data[:1][0] % len(_STAGE_FILES)] if data else _STAGE_FILES[0]
    inner = folder / "model"
    (inner / "checkpoints" / "000001").mkdir(parents=True)
    (inner / "checkpoints" / "000001" / "state.json").write_text('{"schema": 1}')
    (inner / name).write_bytes(data[1:])
    if name == "faces.sqlite" and data[-1:] > b"\x40":
        _exchange_cells(inner / name, random.Random(data))
    footage_behind(inner)
    time_left(read_events(inner))
    find_render("0123456789ab", "00", inner)
    given = {
        "plate": InputFile((inner / name).as_posix(), "0"),
        "model": InputFile((inner / "checkpoints/000001/state.json").as_posix(), "1"),
    }
    lineage_of(given, (), "ab" * 32)
    with answered():
        if manifest := read_manifest(inner):
            json_text(stage_result(inner, manifest).as_json())
            if all(isinstance(each.path, str) and not Path(each.path).is_absolute() for each in manifest.inputs.values()):
                trace(manifest, None, inner)
    with answered():
        open_run(inner, "convert", {"crf": 14}, given).close()
    if name == "faces.sqlite":
        with FaceSet.open(inner) as face_set:
            face_set.sha256()
            face_set.gallery()
            for source in face_set.sources():
                face_set.frames(source)
                face_set.num_frames_done(source)
            for face in face_set.faces(kept_only=False):
                with answered():
                    assert face_set.crop_path(face).resolve().is_relative_to(inner.resolve())


def _exchange_cells(path: Path, draw: random.Random) -> None:
    """Turned bits seldom leave a readable index; so some cells get values of another kind."""
    path.write_bytes(_face_set_bytes())
    values = (None, -1, 2**62, 1.5, float("inf"), "", "../../x", "x\0y", b"", b"\0" * 7, b"\0" * 48, "9" * 30)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in ("faces", "frames", "sources", "meta"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"UPDATE {table} SET {draw.choice(columns)} = ?", (draw.choice(values),))


@cache
def _face_set_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        matrix = np.eye(2, 3)
        with FaceSet.create(Path(folder), "abel") as face_set:
            rest = {
                "pose": (0.0, 0.0, 0.0),
                "embedding": np.zeros(128),
                "sharpness": 1.0,
                "irises": matrix[:, :2],
                "crop": "crops/ab/a.jpg",
            }
            face = Face("a", 0, 0.0, Box(0, 0, 9, 9), 1.0, np.zeros((468, 2)), matrix, matrix, **rest)
            face_set.add_faces([face], num_frames_done={"a": 1})
            face_set.add_frame("a", SurveyedFrame(0, 0.0, np.zeros((18, 32, 3), np.uint8)))
            face_set._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (Path(folder) / "faces.sqlite").read_bytes()


# ---- projects -------------------------------------------------------------------------------------------------------------

_PROJECT = b"""
[project]
name = "film"
out = "made"

[performers.abel]
footage = ["a.mp4", "*.mov"]
like = []

[performers.bea]
footage = ["b.mp4"]

[train]
recipe = "quick"
minutes = 2.5
set = { resolution_px = 64, learning_rate = 0.001 }

[[swap]]
name = "scene 1"
plate = "a.mp4"
replace = "abel"
with = "bea"
recipe = "delivery"
set = { crf = 18, notice = "corner" }
truth = "b.mp4"
"""


def _run_project(data: bytes, folder: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mov"):
        (folder / name).write_bytes(b"footage")
    path = folder / "film.toml"
    path.write_bytes(data)
    project = read_project(path)
    for planned in plan(project):
        out = planned.step.out
        assert out.resolve().is_relative_to(project.out.resolve()), f"{out} leads out of the project's folder"


# ---- checkpoints ----------------------------------------------------------------------------------------------------------


def _checkpoint_seeds() -> list[bytes]:
    weights, state, galleries = _tiny_model()
    return [b"\0" + state, b"\1" + weights, b"\2" + galleries, b"\x03000001\n"]


def _run_checkpoint(data: bytes, folder: Path) -> None:
    """The first byte says which file of a model the rest is; hashes are made to fit, so that the parsers are reached."""
    from understudy.model.swapper import load_swapper

    weights, state, galleries = _tiny_model()
    place, content = data[:1][0] % 4 if data else 0, data[1:]
    path = folder / "checkpoints" / "000001"
    path.mkdir(parents=True)
    weights = content if place == 1 else weights
    if place == 1:
        told = json.loads(state)
        told["files"]["weights.safetensors"] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        state = json.dumps(told).encode()
    (path / "weights.safetensors").write_bytes(weights)
    (path / "state.json").write_bytes(content if place == 0 else state)
    (folder / "galleries.safetensors").write_bytes(content if place == 2 else galleries)
    (folder / "checkpoints" / "best").write_bytes(content if place == 3 else b"000001\n")
    with answered():
        best_valid(folder)
    prune(folder, 1)
    swapper = load_swapper(folder, weights="raw", device="cpu")
    if {"abel", "bea"} <= set(swapper.performers):
        size = swapper.resolution_px
        drive = Drive(np.zeros((1, len(READINGS))), faces=np.ones((1, size, size), np.float32))
        swapper.swap(np.zeros((1, size, size, 3), np.uint8), "abel", "bea", drive)


@cache
def _tiny_model() -> tuple[bytes, bytes, bytes]:
    """(weights, state.json, galleries) of an untrained model, small enough to be read hundreds of times a minute."""
    from safetensors.numpy import save as save_arrays
    from safetensors.torch import save

    from understudy.model.folder import recipe_as_json
    from understudy.model.networks import build_network
    from understudy.recipes import train_recipe

    recipe = train_recipe("quick", TINY)
    network = build_network(recipe, ["abel", "bea"])
    weights = bytes(save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))
    colour = {"mean": [0.5, 0.5, 0.5], "spread": [0.2, 0.2, 0.2]}
    readings = {name: np.random.default_rng(0).normal(size=(8, len(READINGS))) for name in ("abel", "bea")}
    files = {"weights.safetensors": {"sha256": hashlib.sha256(weights).hexdigest(), "size_bytes": len(weights)}}
    state = {
        "schema": 1,
        "step": 1,
        "files": files,
        "recipe": recipe_as_json(recipe),
        "colour": {"abel": colour, "bea": colour},
        "expressions": {name: standard.as_json() for name, standard in measure_standards(readings).items()},
    }
    galleries = save_arrays({name: np.zeros((2, 128)) for name in ("abel", "bea")})
    return weights, json_text(state).encode(), bytes(galleries)


TINY = {"resolution_px": 32, "width": 0.1, "code_size": 16}


# ---- all of them -------------------------------------------------------------------------------------------------------

TARGETS = {
    target.name: target
    for target in (
        Target("consent", _consent_seeds, _run_consent),
        Target("manifest", _manifest_seeds, _run_manifest, is_native=True),  # SQLite
        Target("project", lambda: [_PROJECT], _run_project),
        Target("checkpoint", _checkpoint_seeds, _run_checkpoint, is_native=True),
        Target("media", media_seeds, run_media, is_native=True),
    )
}
