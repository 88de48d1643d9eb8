"""The way back from a finished clip: every thing it was made from is found again, and a change to any of them shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawn_faces import draw_face_set
from understudy.media import VideoWriter, read_frames
from understudy.store.checkpoints import STATE_FILE, save_checkpoint
from understudy.store.faceset import FaceSet
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import InputFile, Manifest, describe_input, read_manifest, write_manifest
from understudy.store.runs import RECIPE_FILE, open_run
from understudy.trust.consent import create_record, revoke
from understudy.trust.finish import finish_output, output_marker
from understudy.trust.lineage import Link, lineage_of, trace
from understudy.trust.permission import may_train
from understudy.trust.records import read_record
from understudy.trust.verify import verify


@pytest.fixture
def project(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Footage, face sets, a model and a finished swap, made by the stages' own writers from drawn faces."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("UNDERSTUDY_CONSENT", str(tmp_path / "consent"))
    face_sets = []
    for name in ("abel", "bea"):
        (tmp_path / f"{name}.mov").write_bytes(name.encode())
        face_sets.append(draw_face_set(tmp_path / "faces" / name, name, (200, 150, 130)))
        footage = {f"footage {name}.mov": describe_input(tmp_path / f"{name}.mov")}
        with FaceSet.open(face_sets[-1]) as face_set:
            gated = {"num_samples": 3, "pictures_sha256": face_set.pictures_sha256()}
        write_manifest(face_sets[-1], Manifest("extract", footage, "", {"gate": gated}, {}))
        create_record(tmp_path / "consent", name, "synthetic")
    consent = may_train(face_sets, tmp_path / "consent")
    trained_on = {}
    for folder in face_sets:
        with FaceSet.open(folder) as face_set:
            trained_on[folder.name] = InputFile(folder.as_posix(), face_set.sha256())
    with open_run(tmp_path / "model", "train", {"width": 1}, trained_on):
        (tmp_path / "model" / "galleries.safetensors").write_bytes(b"abel and bea")
        tensors = {"weights": {"a": torch.zeros(2)}}
        checkpoint = save_checkpoint(tmp_path / "model", 1, tensors, {}, beside=["galleries.safetensors"])
    plate = sample / "abel_test.mp4"
    inputs = {"plate": describe_input(plate), "model": describe_input(checkpoint / STATE_FILE)}
    with open_run(tmp_path / "swap", "convert", {"crf": 14}, inputs) as run:
        lineage = lineage_of(inputs, consent, sha256_of_json(run.recipe))
        marker, output = output_marker(lineage, 512, 512), tmp_path / "swap" / "swap.mp4"
        with VideoWriter(output, plate=plate) as writer:
            for frame in read_frames(plate, stop=5):
                writer.write(marker.mark(frame.image), frame)
        records = {each.performer: each.record_sha256 for each in consent}
        run.finish(finish_output(output, lineage, plate), {"swap": output}, consent=records)
    return tmp_path


def states(project: Path) -> dict[str, str]:
    return {str(link["role"]): str(link["state"]) for link in verify(project / "swap").made_from}


INPUTS = ["plate", "model", "faces abel", "footage abel 1", "faces bea", "footage bea 1"]
ROLES = [*INPUTS, "recipe", "consent abel", "consent bea"]


def test_a_finished_clip_leads_back_to_everything_it_was_made_from(project: Path) -> None:
    verdict = verify(project / "swap" / "swap.mp4")
    assert verdict.credentials == "valid"
    assert sorted(verdict.lineage["inputs_sha256"]) == sorted(INPUTS)
    assert len(verdict.lineage["consent_records_sha256"]) == 2
    assert states(project) == dict.fromkeys(ROLES, "intact")
    assert verdict.words[-1].startswith("Made from: plate (intact), model (intact), faces abel (intact)")


def test_exchanged_faces_of_those_in_the_weights_change_the_model(project: Path) -> None:
    (project / "model" / "galleries.safetensors").write_bytes(b"somebody else")
    assert states(project) == {**dict.fromkeys(ROLES, "intact"), "model": "changed"}


def test_an_exchanged_picture_changes_its_face_set(project: Path) -> None:
    crop = next((project / "faces" / "abel").glob("crops/*/*.jpg"))
    crop.write_bytes(crop.read_bytes()[:-1])
    assert states(project) == {**dict.fromkeys(ROLES, "intact"), "faces abel": "changed"}


def test_a_change_anywhere_breaks_the_chain_visibly(project: Path) -> None:
    (project / "abel.mov").write_bytes(b"abeL")
    with FaceSet.open(project / "faces" / "bea") as face_set:
        face_set.set_kept([1], False, "tampered")
    (weights,) = (project / "model").rglob("weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (project / "bea.mov").unlink()
    assert states(project) == {
        "plate": "intact", "model": "changed", "faces abel": "intact", "footage abel 1": "changed",
        "faces bea": "changed", "footage bea 1": "missing",
        "recipe": "intact", "consent abel": "intact", "consent bea": "intact",
    }  # fmt: skip


def test_a_changed_recipe_or_record_of_consent_shows_too(project: Path) -> None:
    recipe = read_json(project / "swap" / RECIPE_FILE)
    write_json(project / "swap" / RECIPE_FILE, {**recipe, "recipe": {"crf": 15}})
    with (project / "consent" / "abel.toml").open("ab") as file:
        file.write(b"\n")
    (project / "consent" / "bea.toml").unlink()
    wrong = {"recipe": "changed", "consent abel": "changed", "consent bea": "missing"}
    assert states(project) == {**dict.fromkeys(INPUTS, "intact"), **wrong}


def test_a_manifest_made_to_fit_a_changed_recipe_and_record_does_not_hide_them(project: Path) -> None:
    recipe = {**read_json(project / "swap" / RECIPE_FILE), "recipe": {"crf": 15}}
    write_json(project / "swap" / RECIPE_FILE, recipe)
    revoke(project / "consent", "bea")
    create_record(project / "consent", "bea", "synthetic")
    manifest = read_manifest(project / "swap")
    assert manifest is not None
    records = {**manifest.consent, "bea": read_record(project / "consent", "bea").sha256}
    fitting = replace(manifest, recipe_sha256=sha256_of_json({"crf": 15}), consent=records)
    write_manifest(project / "swap", fitting)
    assert states(project) == {**dict.fromkeys(ROLES, "intact"), "recipe": "changed", "consent bea": "changed"}


def test_a_rewritten_manifest_does_not_hide_a_change(project: Path) -> None:
    """The signed credentials hold the hashes too, so a manifest that was made to fit again does not help."""
    (project / "abel.mov").write_bytes(b"other")
    changed = {"footage abel.mov": describe_input(project / "abel.mov")}
    write_manifest(project / "faces" / "abel", Manifest("extract", changed, "", {}, {}))
    assert states(project)["footage abel 1"] == "changed"
    manifest = read_manifest(project / "swap")
    assert manifest is not None
    assert Link("footage abel 1", (project / "abel.mov").as_posix(), changed["footage abel.mov"].sha256, "intact") in trace(
        manifest
    )
