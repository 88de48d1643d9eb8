"""From a project to the stages that are out of date, in order: extract and, if asked, curate each performer, train, convert and
evaluate each plate.

The project's `out` folder holds `faces/NAME` (and in it `curation`), `model`, `swaps/NAME`, `reports/NAME` and `stages.json`,
which records what each was asked for. A stage runs again when that has changed, its inputs have, or a stage before it ran; what
it made before is then moved to `previous/`, never deleted.
"""

from __future__ import annotations

import glob
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Literal, cast

from understudy.estimate import estimate
from understudy.inwords import difference_in_words, numbered, without_repetition
from understudy.projectfile import Project, Swap, read_project
from understudy.setaside import PREVIOUS_FOLDER, check_is_a_stages, set_aside
from understudy.stages._marked_output import output_path
from understudy.store.atomic import check_place, make_folder
from understudy.store.checkpoints import CHECKPOINTS_FOLDER, checkpoint_to_begin_from
from understudy.store.hashing import sha256_of_file, sha256_of_footage
from understudy.store.json_files import as_plain, read_json, write_json
from understudy.store.manifest import MANIFEST_FILE, check_schema, read_manifest, stage_result
from understudy.store.runs import HOW_LONG
from understudy.store.selection import CURATION_FOLDER
from understudy.types import BadInput, Event, Json, Reporter, StageResult, silent

RECORD_FILE = "stages.json"
SCHEMA = 1
OR_WITHOUT = "or delete it: the stages then run again, and what they made is kept in previous/"
NOT_INPUTS = ("out", "consent")
"""Folders that a stage is given but that do not decide its result; consent is looked at whenever a stage has work to do."""

MAY_GROW = ("minutes", "steps", "until")
"""Arguments of which more can be asked later: the stage then goes on in its folder."""

SAMPLE = Path(__file__).parent / "sample"
"""The bundled clips of two virtual actors, and the project file that the demo runs."""

DEMO_MINUTES_ON_A_GPU = 2.0

Verb = Literal["extract", "curate", "train", "convert", "evaluate"]
State = Literal["up to date", "new", "unfinished", "changed"]


@dataclass(frozen=True)
class Step:
    """One stage of a project: its name, which is also its folder below `out`, and the arguments of its function."""

    name: str
    verb: Verb
    arguments: Mapping[str, object]

    @property
    def out(self) -> Path:
        if self.verb == "curate":  # writes inside the face set that it chooses from
            return cast(Path, self.arguments["faces"]) / CURATION_FOLDER
        return cast(Path, self.arguments["out"])

    def inputs(self) -> dict[str, Path]:
        """Every path that the stage reads, by a readable name: `footage 1: abel.mp4`."""
        listed = {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in self.arguments.items()
            if name not in NOT_INPUTS
        }
        return {
            f"{name} {number}: {path.name}": path
            for name, values in listed.items()
            for number, path in enumerate(values, start=1)
            if isinstance(path, Path)
        }


@dataclass(frozen=True)
class Planned:
    """A step, whether it has work to do, and why."""

    step: Step
    state: State
    reason: str

    @property
    def has_work(self) -> bool:
        return self.state != "up to date"


# ---- what there is to do --------------------------------------------------------------------------------------------------


def steps_of(project: Project) -> tuple[Step, ...]:
    """All stages of a project, each after those that it builds on."""
    faces = {name: project.out / "faces" / name for name in project.performers}
    extracts = [
        Step(
            f"faces/{name}",
            "extract",
            {"footage": performer.footage, "performer": name, "out": faces[name], "like": performer.like},
        )
        for name, performer in project.performers.items()
    ]
    curations = [
        Step(
            f"faces/{name}/{CURATION_FOLDER}", "curate", {"faces": folder, "against": faces[other], "recipe": project.curation}
        )
        for name, folder in faces.items()
        for other in [_counterpart(project, name)]
        if project.curation
    ]
    model = project.out / "model"
    asked = {"recipe": project.recipe, "minutes": project.minutes, "steps": project.steps, "consent": project.consent}
    train = Step("model", "train", {"face_sets": tuple(faces.values()), "out": model, **asked, **project.beginning})
    swaps = [step for swap in project.swaps for step in _swap_steps(project, swap, model, faces[swap.with_[0]])]
    return (*extracts, *curations, train, *swaps)


def _counterpart(project: Project, performer: str) -> str:
    """Whom a performer's faces are compared with: the other one of the first swap that they are in, else the first other."""
    pairs = [pair for swap in project.swaps for pair in zip(swap.replace, swap.with_, strict=True)]
    swapped = [pair[1 - pair.index(performer)] for pair in pairs if performer in pair]
    return swapped[0] if swapped else next(name for name in project.performers if name != performer)


def _swap_steps(project: Project, swap: Swap, model: Path, faces: Path) -> tuple[Step, Step]:
    """The conversion, and its evaluation by the first who is put in."""
    out = project.out
    folder = out / "swaps" / swap.name
    olds, news = (names[0] if len(names) == 1 else names for names in (swap.replace, swap.with_))
    converted: dict[str, object] = {"footage": swap.plate, "model": model, "replace": olds, "with_": news}
    how = {"recipe": swap.recipe, **({"ranges": swap.ranges} if swap.ranges else {})}
    evaluated: dict[str, object] = {"swap": output_path(folder, swap.recipe.codec), "plate": swap.plate, "truth": swap.truth}
    return (
        Step(f"swaps/{swap.name}", "convert", {**converted, "out": folder, **how, "consent": project.consent}),
        Step(
            f"reports/{swap.name}",
            "evaluate",
            {**evaluated, "mask": swap.mask, "performer": faces, "out": out / "reports" / swap.name},
        ),
    )


def plan(project: Project) -> tuple[Planned, ...]:
    """What `run_project` would do now, without doing it.

    Raises BadInput where its folder cannot be written, or where a folder of the user's own stands in a stage's place.
    """
    _check_out(project.out)
    steps = steps_of(project)
    return _plan(steps, Records(project.out, steps))


def _check_out(out: Path) -> None:
    try:
        check_place(out)
    except BadInput as error:
        raise BadInput(f"the project's out: {error}") from error


def _plan(steps: Sequence[Step], records: Records) -> tuple[Planned, ...]:
    planned: list[Planned] = []
    for step in steps:
        redone = [before.step.name for before in planned if before.has_work and _reads_from(step, before.step)]
        if redone and step.out.exists():
            planned.append(Planned(step, "changed", f"{redone[0]} is done first"))
        else:
            planned.append(records.compare(step))
        if planned[-1].state == "changed":
            check_is_a_stages(step.out)
    return tuple(planned)


class Records:
    """`stages.json`: what each step was asked for when it last ran. Each footage is hashed once."""

    def __init__(self, out: Path, steps: tuple[Step, ...]) -> None:
        self._path = out / RECORD_FILE
        self._steps = steps
        self._digests: dict[Path, str] = {}

    def compare(self, step: Step) -> Planned:
        """Whether a step is out of date, against what is on disk now."""
        if not step.out.exists():
            return Planned(step, "new", "not done yet")
        differences = without_repetition(_differences(self._read().get(step.name), self._record(step)))
        if fixed := [words for name, words in differences.items() if name not in MAY_GROW]:
            return Planned(step, "changed", "; ".join(fixed))
        if differences:
            return Planned(step, "unfinished", "; ".join(differences.values()))
        if read_manifest(step.out) is None:
            return Planned(step, "unfinished", "goes on where it stopped")
        return Planned(step, "up to date", "")

    def remember(self, step: Step) -> None:
        """Write down what a step is asked for: what lies in its folder belongs to this."""
        write_json(self._path, {"schema": SCHEMA, "stages": {**self._read(), step.name: self._record(step)}})

    def _read(self) -> Json:
        """What is recorded of each step, by its name; nothing where there is no file. Raises BadInput where it is damaged."""
        if not self._path.is_file():
            return {}
        try:
            content = read_json(self._path)
        except BadInput as error:
            raise BadInput(f"{error}, {OR_WITHOUT}") from error
        stages = content.get("stages")
        if not isinstance(stages, dict):
            raise BadInput(f"{self._path} names no stages; it was damaged or changed by hand: restore it, {OR_WITHOUT}")
        check_schema(self._path, content, SCHEMA)
        return cast(Json, stages)

    def _record(self, step: Step) -> Json:
        """What decides a step's result: its arguments, and the sha256 of all that it reads; where it lies does not matter."""
        fixed = {name: value for name, value in step.arguments.items() if name not in NOT_INPUTS and not _holds_paths(value)}
        inputs = {name: self._digest(path, step) for name, path in step.inputs().items()}
        return cast(Json, as_plain({"verb": step.verb, **fixed, "inputs": inputs}))

    def _digest(self, path: Path, reader: Step) -> str:
        """The sha256 of footage, of a model's best state, or of the manifest of the step that makes it; empty where that is not
        there yet.

        A face set that was curated has two manifests. Curation itself looks at all that was extracted: only the first counts.
        """
        maker = next((step for step in self._steps if path.is_relative_to(step.out)), None)
        if maker is not None:
            manifests = [maker.out / MANIFEST_FILE, maker.out / CURATION_FOLDER / MANIFEST_FILE][
                : 1 if reader.verb == "curate" else 2
            ]
            return " ".join(sha256_of_file(manifest) for manifest in manifests if manifest.is_file())
        if path not in self._digests:
            is_model = (path / CHECKPOINTS_FOLDER).is_dir()
            state = checkpoint_to_begin_from(path).path / "state.json" if is_model else None
            self._digests[path] = sha256_of_file(state) if state else sha256_of_footage(path)
        return self._digests[path]


def _holds_paths(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, tuple) and all(isinstance(item, Path) for item in value))


def _reads_from(step: Step, other: Step) -> bool:
    if other.verb == "curate":  # what is chosen there is read with the face set that it is in
        return step.verb != "curate" and any(other.out.is_relative_to(path) for path in step.inputs().values())
    return any(path.is_relative_to(other.out) for path in step.inputs().values())


_OFF = (None, "none", 0, "")
"""What a record from before there was a setting says of it (nothing), and what one of after does where the setting is off."""


def _differences(then: object, now: object, name: str = "") -> dict[str, str]:
    """Each field that differs between two records, with a few words: `{"recipe.seed": "seed: 0, now 1"}`."""
    if name == "ranges":
        then, now = numbered(then), numbered(now)
    if isinstance(then, dict) and isinstance(now, dict):
        parts = [
            _differences(then.get(key), now.get(key), f"{name}.{key}" if name else key) for key in dict.fromkeys((*then, *now))
        ]
        return {field: words for part in parts for field, words in part.items()}
    if then == now or (None in (then, now) and then in _OFF and now in _OFF) or name.removeprefix("recipe.") in HOW_LONG:
        return {}
    if not name:
        return {name: "what is there was made by hand or by another version"}
    return {name: difference_in_words(name, then, now)}


def demo_project(out: Path, minutes: float | None) -> Project:
    """The bundled project, written to `out`; trained for `minutes`, else for as long as this machine needs."""
    from understudy.model.swapper import best_device

    if minutes is None and best_device() == "cuda":
        minutes = DEMO_MINUTES_ON_A_GPU
    return replace(read_project(SAMPLE / "demo.toml"), out=out, consent=out / "consent", minutes=minutes)


def describe(step: Step, state: str) -> Json:
    """A step for `--dry-run`: all its arguments with the full recipe, and what it is expected to cost on two CPU cores."""
    cost = estimate(step.verb, step.arguments)
    asked = cast(Json, as_plain(step.arguments))
    expected = {"estimated_seconds": round(cost.seconds), "estimated_memory_gb": round(cost.memory_gb, 1)}
    remark: Json = {"memory": cost.remark} if cost.remark else {}
    return {"stage": step.verb, "out": str(step.out), "state": state, **expected, **remark, "asked": asked}


# ---- doing it -------------------------------------------------------------------------------------------------------------


def run_project(project: Project, report: Reporter = silent) -> StageResult:
    """Do what is out of date, in order; the same call again goes on where it stopped.

    Figures: `num_done`, `num_up_to_date`, and under `swaps`, for each, the figures of its conversion and its evaluation.
    Raises BadInput as `plan` does, and what the stages raise; what was finished before stays finished.
    """
    _check_out(project.out)
    make_folder(project.out)
    steps = steps_of(project)
    records = Records(project.out, steps)
    pace = _Pace([planned.step for planned in _plan(steps, records) if planned.has_work])
    num_done = 0
    for index, step in enumerate(steps):
        planned = records.compare(step)
        if not planned.has_work:
            continue
        report(_overview(planned, index, len(steps), pace.seconds_after(step)))
        if planned.state == "changed":
            _set_aside(project.out, step, report)
        if planned.state != "unfinished":  # what lies in the folder from now on belongs to this
            records.remember(step)
        with pace.timing(step):
            call(with_earlier(project.out, step), report)
        records.remember(step)
        num_done += 1
    return _result(project, num_done, len(steps) - num_done)


def call(step: Step, report: Reporter) -> StageResult:
    """Run one stage."""
    stage = getattr(importlib.import_module(f"understudy.stages.{step.verb}"), step.verb)
    result: StageResult = stage(**step.arguments, report=report)
    return result


def _overview(planned: Planned, index: int, num_steps: int, seconds_after: float) -> Event:
    """Tells which of the stages begins, and how long those after it are expected to take."""
    step = planned.step
    message = f"{step.verb} {step.name} ({planned.reason})"
    return Event("run", "started", index, num_steps, "stages", message, {"seconds_after": seconds_after})


def _set_aside(out: Path, step: Step, report: Reporter) -> None:
    place = set_aside(out, step.name)
    if place is not None:
        report(Event(step.verb, "started", message=f"what was in {step.out} is now in {place}"))


def with_earlier(out: Path, step: Step) -> Step:
    """A conversion is told where it was last set aside: what has not changed of a film is not rendered again."""
    if step.verb != "convert":
        return step
    set_aside_before = out.glob(f"{PREVIOUS_FOLDER}/*/{glob.escape(step.name)}")
    earlier = max(set_aside_before, default=step.out)  # their names are dates
    return replace(step, arguments={**step.arguments, "earlier": earlier})


class _Pace:
    """What the stages to come are expected to take, corrected by what those before them took."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._expected_seconds = {step.name: estimate(step.verb, step.arguments).seconds for step in steps}
        self._factor = 1.0

    def seconds_after(self, step: Step) -> float:
        """What is expected of all steps after this one."""
        names = [each.name for each in self._steps]
        later = self._steps[names.index(step.name) + 1 :] if step.name in names else ()
        return sum(self._expected_seconds[each.name] * (1.0 if each.verb == "train" else self._factor) for each in later)

    @contextmanager
    def timing(self, step: Step) -> Iterator[None]:
        """Measure a step; training is left out, because it takes as long as it is told."""
        start = monotonic()
        yield
        if step.verb != "train" and step.name in self._expected_seconds:
            self._factor = (monotonic() - start) / self._expected_seconds[step.name]


def _result(project: Project, num_done: int, num_up_to_date: int) -> StageResult:
    swaps: Json = {}
    outputs: dict[str, Path] = {"out": project.out}
    for swap in project.swaps:
        converted, evaluated = (finished_result(project.out / kind / swap.name) for kind in ("swaps", "reports"))
        files = {name: str(path) for name, path in (*converted.outputs.items(), *evaluated.outputs.items())}
        swaps[swap.name] = {**evaluated.figures, **converted.figures, **files}
    return StageResult("run", {"num_done": num_done, "num_up_to_date": num_up_to_date, "swaps": swaps}, outputs)


def finished_result(folder: Path) -> StageResult:
    """What the finished stage in a folder made. Raises BadInput where it is not finished."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise BadInput(f"{folder} has no {MANIFEST_FILE}; its stage is not finished")
    return stage_result(folder, manifest)
