"""The way back from a finished clip to model, face sets, footage, recipe and consent, and whether these are unchanged.

`Lineage` goes into the signed credentials when a clip is finished; `trace` compares it with what lies on disk today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.store.checkpoints import check_beside, stated_beside
from understudy.store.faceset import FaceSet
from understudy.store.hashing import sha256_of_file, sha256_of_footage, sha256_of_json
from understudy.store.json_files import read_json
from understudy.store.manifest import InputFile, Manifest, read_manifest
from understudy.store.runs import RECIPE_FILE
from understudy.trust.consent import ConsentReference, consent_folder
from understudy.trust.credentials import Lineage
from understudy.trust.records import record_path
from understudy.types import BadInput, Json

START_MODEL = "start model"
"""The role, among a training's inputs, of the checkpoint that it began from; no performer can be called so."""
MOST_GENERATIONS = 16
"""A longer line of models that began from each other is a forged one that begins from itself."""


State = Literal["intact", "changed", "missing"]


@dataclass(frozen=True)
class Link:
    """One thing that a clip was made from: its role, where it lies, and whether it is what the clip was made from."""

    role: str
    path: str
    sha256: str
    state: State


def lineage_of(
    inputs: Mapping[str, InputFile], consent: Sequence[ConsentReference], recipe_sha256: str, seed: int | None = None
) -> Lineage:
    """The lineage of an output of `convert`: its own inputs (`plate`, `model`), and behind the model what it learned from."""
    found = {role: given.sha256 for role, given in _all_inputs(inputs)}
    return Lineage(found, tuple(sorted(reference.record_sha256 for reference in consent)), recipe_sha256, seed)


def trace(manifest: Manifest, signed: Json | None = None, folder: Path | None = None) -> tuple[Link, ...]:
    """Each thing behind a finished conversion, hashed anew and compared.

    signed: what the clip's credentials state (`Lineage.as_json`); with it a changed manifest shows too. folder: where the
    conversion and its recipe lie; records of consent are looked for where the user keeps them, then beside that folder.
    """
    signed = signed or {}
    stated = dict(_all_inputs(manifest.inputs))
    inputs = signed.get("inputs_sha256")
    for role, sha256 in (inputs if isinstance(inputs, dict) else {}).items():
        stated[role] = InputFile(stated[role].path if role in stated else "", str(sha256))
    links = [_link(role, given) for role, given in stated.items()]
    if folder is not None:
        recipe_sha256 = str(signed.get("recipe_sha256") or manifest.recipe_sha256)
        links.append(Link("recipe", (folder / RECIPE_FILE).as_posix(), recipe_sha256, _state_of_recipe(folder, recipe_sha256)))
        links.extend(_consent_links(manifest.consent, signed.get("consent_records_sha256"), folder))
    return tuple(links)


def stated_pictures(extraction: Manifest | None) -> str | None:
    """The digest of the pictures that an extraction left under its content gate; None where it is older than such digests."""
    gated = extraction.figures.get("gate") if extraction else None
    stated = gated.get("pictures_sha256") if isinstance(gated, dict) else None
    return str(stated) if stated else None


def _state_of_recipe(folder: Path, sha256: str) -> State:
    path = folder / RECIPE_FILE
    if not path.is_file():
        return "missing"
    try:
        return "intact" if sha256_of_json(read_json(path)["recipe"]) == sha256 else "changed"
    except (KeyError, ValueError, RecursionError, BadInput):
        return "changed"


def _consent_links(consent: Mapping[str, str], signed: object, folder: Path) -> Iterator[Link]:
    """The record of each performer; one whose hash the credentials do not state was put into the manifest later."""
    places = (consent_folder(), folder.parent / "consent", folder.parent.parent / "consent")
    for performer, sha256 in consent.items():
        try:
            found = [path for place in places if (path := record_path(place, performer)).is_file()]
            fitting = next((path for path in found if sha256_of_file(path) == sha256), None)
        except BadInput:  # no name that a performer can have, or nothing that can be read
            found, fitting = [], None
        is_signed = not isinstance(signed, list) or sha256 in signed
        state: State = "changed" if found or not is_signed else "missing"
        shown = (fitting or found[0]).as_posix() if found else ""
        yield Link(f"consent {performer}", shown, sha256, "intact" if fitting and is_signed else state)


def _all_inputs(inputs: Mapping[str, InputFile]) -> Iterator[tuple[str, InputFile]]:
    """The inputs of a conversion, of the training behind it and of the extractions behind that, as far as they are there."""
    yield from inputs.items()
    if "model" not in inputs:
        return
    yield from _behind_model(inputs["model"], "")


def _behind_model(model: InputFile, whose: str) -> Iterator[tuple[str, InputFile]]:
    """What a model was trained from, and the model that it began from in its turn; whose: how the roles end."""
    for performer, faces in _training_inputs(model).items():
        if performer == START_MODEL:
            yield f"{START_MODEL}{whose}", faces
            if whose.count(START_MODEL) < MOST_GENERATIONS:
                yield from _behind_model(faces, f"{whose} of the {START_MODEL}")
            continue
        yield f"faces {performer}{whose}", faces
        manifest = _manifest_of(Path(faces.path))
        footage = [given for role, given in manifest.inputs.items() if role.startswith("footage")] if manifest else []
        yield from ((f"footage {performer} {number}{whose}", given) for number, given in enumerate(footage, 1))


def _training_inputs(model: InputFile) -> dict[str, InputFile]:
    """What the model's folder was trained from; `model` is a checkpoint's state, model/checkpoints/000500/state.json."""
    try:
        asked = read_json(Path(model.path).parents[2] / RECIPE_FILE)["inputs"]
        assert isinstance(asked, dict)
        return {str(name): InputFile(str(given["path"]), str(given["sha256"])) for name, given in asked.items()}
    except (IndexError, OSError, KeyError, TypeError, AssertionError, BadInput):
        return {}


def _manifest_of(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except BadInput:
        return None


def _link(role: str, stated: InputFile) -> Link:
    path = Path(stated.path)
    if not stated.path or not path.exists():
        return Link(role, stated.path, stated.sha256, "missing")
    try:
        if role.startswith("faces "):
            is_intact = _has_its_faces(path, stated.sha256)
        else:
            is_intact = sha256_of_footage(path) == stated.sha256 and (role != "model" or _has_its_weights(path))
    except BadInput:
        is_intact = False
    return Link(role, stated.path, stated.sha256, "intact" if is_intact else "changed")


def _has_its_weights(state: Path) -> bool:
    """Whether the files beside a checkpoint's state, and those beside the checkpoints, are the ones that it names."""
    stated = read_json(state)
    files = stated.get("files")
    if not isinstance(files, dict):
        return False
    for name in stated_beside(stated):
        check_beside(state.parent.parent.parent, name, stated)
    names = {Path(str(name)).name: file for name, file in files.items()}
    return all(
        isinstance(file, dict) and sha256_of_file(state.parent / name) == file.get("sha256") for name, file in names.items()
    )


def _has_its_faces(folder: Path, sha256: str) -> bool:
    """Whether a face set is the one that was learned from, and its pictures are those that its extraction left."""
    pictures = stated_pictures(read_manifest(folder))
    with FaceSet.open(folder) as face_set:
        return face_set.sha256() == sha256 and pictures in (None, face_set.pictures_sha256())
