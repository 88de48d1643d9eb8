"""What a training is asked for: how long, with which recipe and face sets, and whether all who share it were asked the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from understudy import parallel
from understudy.model.networks import check_freeze
from understudy.model.precision import check_compile, working_type
from understudy.model.starter import starter_sha256
from understudy.model.swapper import best_device
from understudy.model.swaps import check_terms
from understudy.perception.features import check_user_file, read_user_file
from understudy.settings import TIMES_UNTIL_PLATEAU, TrainRecipe
from understudy.stages._training_faces import open_performers
from understudy.stages._training_start import Start
from understudy.stages._training_state import Budget, Until
from understudy.store.faceset import INDEX_FILE, FaceSet
from understudy.store.hashing import sha256_of_json
from understudy.store.manifest import InputFile
from understudy.store.runs import check_extracted
from understudy.trust.lineage import START_MODEL
from understudy.types import BadInput, Event, Json, Reporter


def budget_of(recipe: TrainRecipe, minutes: float | None, steps: int | None, until: Until) -> Budget:
    """How long to go on: for `minutes` or `steps`, the recipe's minutes where neither is given. Raises BadInput.

    Until a plateau, that is how long at most, and ten times the recipe's minutes where neither is given.
    """
    if minutes is not None and steps is not None:
        raise BadInput("expected --minutes or --steps, got both")
    if (minutes is not None and not 0 < minutes < math.inf) or (steps is not None and steps <= 0):
        raise BadInput(
            f"expected {f'--minutes above 0, got {minutes:g}' if minutes is not None else f'--steps above 0, got {steps}'}"
        )
    if until == "plateau" and not recipe.held_out_fraction:
        raise BadInput("--until plateau is judged on faces held out of training; give --set held_out_fraction=0.08 too")
    if steps is not None:
        return Budget(steps, None, until, recipe.decay_fraction)
    usual = recipe.default_minutes * (TIMES_UNTIL_PLATEAU if until == "plateau" else 1)
    return Budget(None, 60 * (usual if minutes is None else minutes), until, recipe.decay_fraction)


def check_can_be_judged(recipe: TrainRecipe, has_judge: bool, until: Until, report: Reporter) -> None:
    """Says where so few faces are there that none is held out; raises BadInput where the run is to end by what is."""
    if has_judge or not recipe.held_out_fraction:
        return
    words = f"held_out_fraction={recipe.held_out_fraction:g} holds out no face of somebody who has so few"
    if until == "plateau":
        raise BadInput(f"--until plateau is judged on faces held out, and {words}; give more footage, or leave it out")
    report(Event("train", "warning", message=f"{words}: this training is judged by its training loss alone"))


def check_recipe(recipe: TrainRecipe) -> None:
    """Raises BadInput for what could not be trained on this machine whatever the faces are; nothing is loaded for it."""
    device = torch.device(best_device())
    working_type(recipe, device)
    check_compile(recipe, device)
    check_terms(recipe, has_features=True)  # made of what is checked next
    if recipe.perceptual_weight:
        check_user_file(recipe.perceptual_network, recipe.perceptual_file)
        if recipe.perceptual_file:
            read_user_file(Path(recipe.perceptual_file), recipe.perceptual_sha256)


def check_asked(face_sets: Sequence[Path], recipe: TrainRecipe, freeze: Sequence[str]) -> None:
    """Raises BadInput for face sets that cannot be trained on together; those that are not there may still be made."""
    if len(face_sets) < 2 or all((folder / INDEX_FILE).is_file() for folder in face_sets):
        for folder in face_sets:
            check_extracted(folder, before="train")
        check_freeze(freeze, [each.performer for each in open_performers(face_sets)], recipe)


def what_is_asked(recipe: TrainRecipe, inputs: Mapping[str, InputFile], start: Start | None, freeze: Sequence[str]) -> Json:
    """What the folder holds the work of, without what may grow later."""
    performers = [name for name in inputs if name != START_MODEL]
    beginning = {"take": start.take} if start else {}
    return {**asdict(recipe), "performers": performers, **beginning, **({"freeze": list(freeze)} if freeze else {})}


def check_all_have_the_same(asked: Json, inputs: Mapping[str, InputFile]) -> None:
    """Raises BadInput, in every process, where faces, recipe or starter are not the same: each would learn something else."""
    pictures = _pictures_in(inputs) if parallel.world() > 1 else {}  # each reads its own copies of them
    faces: Json = {"faces": [[name, each.sha256, pictures.get(name)] for name, each in inputs.items()]}
    checks = [("other faces than process 0, or in another order", faces), ("another recipe than process 0", asked)]
    if asked["starter"] != "none":
        checks.append(("another version's starter than process 0", {"starter": starter_sha256()}))
    for what, given in checks:
        if others := parallel.ranks_that_differ(sha256_of_json(given)):
            remedy = "start all with the same command and copies of the same face sets"
            raise BadInput(f"process {others[0]} of this run was given {what}; {remedy}")


def _pictures_in(inputs: Mapping[str, InputFile]) -> dict[str, str]:
    digests = {}
    for name, given in inputs.items():
        if name != START_MODEL:
            with FaceSet.open(Path(given.path)) as face_set:
                digests[name] = face_set.pictures_sha256()
    return digests


def describe_face_sets(face_sets: Sequence[Path]) -> dict[str, InputFile]:
    """Each face set as an input of the run, by its performer. Raises BadInput where its extraction is not finished."""
    described = {}
    for folder in face_sets:
        check_extracted(folder, before="train")
        with FaceSet.open(folder) as face_set:
            described[face_set.performer] = InputFile(folder.as_posix(), face_set.sha256())
    return described
