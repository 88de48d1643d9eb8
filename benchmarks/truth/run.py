"""From a recipe and a seed to a result: extracts once, trains to the budget, swaps, evaluates; resumes where it stopped.

Everything lies in one work folder, under names that follow from all that decides it: the same question finds its answer there.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch

import understudy
from benchmarks.truth.footage import Footage, code_sha256
from benchmarks.truth.network import measure_network
from understudy.imaging.metrics_series import Series
from understudy.media.footage import FootageInfo, probe
from understudy.model.swapper import load_swapper
from understudy.settings import ConvertRecipe, TrainRecipe
from understudy.stages._evaluation_clips import open_clip
from understudy.stages._plate_survey import PlateSurvey, survey_plate
from understudy.stages._swap_plan import Plan, replacements_of
from understudy.stages.convert import make_plan, measure_looks, performers_faces, swap_footage
from understudy.store.checkpoints import best_valid, latest_valid, mark_best
from understudy.store.hashing import sha256_of_file, sha256_of_footage, sha256_of_json
from understudy.store.json_files import as_plain, read_json, write_json
from understudy.store.manifest import read_manifest, stage_result
from understudy.trust.consent import create_record
from understudy.trust.credentials import Lineage
from understudy.trust.permission import check_plate_faces, footage_behind, may_convert_model
from understudy.trust.records import Footage as ConsentedFootage
from understudy.types import BadInput, Event, Json, Reporter, StageResult

CALIBRATION_STEPS = 4, 4, 24
"""The first run is not counted: it pays for what a process does once."""

BudgetKind = Literal["faces", "steps", "cpu_minutes", "gpu_minutes"]


@dataclass(frozen=True)
class Budget:
    """How long to train. Faces seen and steps give the same figures each time; minutes do not, even of processor time."""

    kind: BudgetKind
    amount: float


@dataclass(frozen=True)
class Question:
    """All that decides a result but the seed, which is the recipe's own."""

    footage: Footage
    recipe: TrainRecipe
    budget: Budget
    convert: ConvertRecipe
    num_threads: int


def answer(question: Question, work: Path, report: Reporter) -> Json:
    """The result of one seed: from `work` where it stands there, else worked out now."""
    torch.set_num_threads(question.num_threads)
    name = result_name(question)
    path = work / "results" / f"{name}.json"
    if path.is_file():
        return read_json(path)
    clock = CpuClock(work / "cpu" / f"{name}.json")
    trained, model = _trained(question, work, clock, report)
    with clock.running("network"):
        alone = measure_network(load_swapper(model), question.footage)
    report(Event("convert", "started"))  # what training told last is over
    with clock.running("convert"):
        swap = make_ready(question, model, work, report).composite(work / "swaps" / name, report)
    with clock.running("evaluate"):
        footage, out = question.footage, work / "reports" / name
        shutil.rmtree(out, ignore_errors=True)  # one that was begun is of a swap that was signed at another time
        evaluated = understudy.evaluate(swap, plate=footage.plate, truth=footage.truth, out=out, report=clock.ticking(report))
    result = _result(question, trained, evaluated, alone, clock.seconds())
    write_json(path, result)
    return read_json(path)


def result_name(question: Question) -> str:
    """What a result and all that leads to it is kept under: follows from everything that can change a figure."""
    code = code_sha256("understudy.stages.evaluate", "understudy.stages.convert", "understudy.stages.train")
    key = sha256_of_json([_model_key(question), asdict(question.convert), code, question.footage.sha256()])[:16]
    return f"{question.recipe.name}-seed{question.recipe.seed}-{key}"


def model_folder(question: Question, work: Path) -> Path:
    """Where the question's model lies once `answer` has been asked."""
    return work / "models" / f"{question.recipe.name}-seed{question.recipe.seed}-{_model_key(question)}"


def _result(
    question: Question,
    trained: StageResult,
    evaluated: StageResult,
    alone: Mapping[str, Series],
    cpu_seconds: Mapping[str, float],
) -> Json:
    figures = evaluated.figures
    return {
        "seed": question.recipe.seed,
        "steps": trained.figures["step"],
        "faces_seen": trained.figures["num_faces_seen"],
        "training_loss": trained.figures["loss"],
        "cpu_seconds": cpu_seconds,
        "verdict": figures["verdict"],
        "frames_to_look_at": figures["frames_to_look_at"],
        "num_frames": figures["num_frames"],
        "num_compared": figures["num_compared"],
        "floors": figures["floors"],
        "series": read_json(evaluated.outputs["series"]),
        "network_series": {name: {"statistic": each.statistic, "rows": each.rows} for name, each in alone.items()},
    }


# ---- the stages -----------------------------------------------------------------------------------------------------------


def _face_sets(footage: Footage, work: Path, report: Reporter) -> list[Path]:
    """The face set of each performer, extracted once for every code that could change it."""
    code, digests = code_sha256("understudy.stages.extract"), footage.sha256()
    folders = []
    for name, clip in footage.train.items():
        folder = work / "faces" / f"{name}-{sha256_of_json([code, digests[clip.name]])[:12]}"
        understudy.extract(clip, performer=name, out=folder, report=report)
        folders.append(folder)
    return folders


def _model_key(question: Question) -> str:
    code = code_sha256("understudy.stages.train", "understudy.stages.extract")
    digests = {name: digest for name, digest in question.footage.sha256().items() if "train" in name}
    names = list(question.footage.train)
    asked = [asdict(question.recipe), asdict(question.budget), question.num_threads, torch.__version__, _device()]
    return sha256_of_json([code, digests, names, asked])[:16]


def _trained(question: Question, work: Path, clock: CpuClock, report: Reporter) -> tuple[StageResult, Path]:
    recipe, consent = question.recipe, work / "consent"
    face_sets = _face_sets(question.footage, work, report)
    _declare_rendered(question.footage, consent)
    model = model_folder(question, work)
    if manifest := read_manifest(model):
        done = work / "cpu" / f"{model.name}.json"
        clock.take_over(read_json(done) if done.is_file() else {})
        return stage_result(model, manifest), model
    steps, minutes = _length(question, face_sets, work, report)
    own = CpuClock(work / "cpu" / f"{model.name}.json")
    with own.running("train"):
        trained = understudy.train(
            face_sets, out=model, recipe=recipe, steps=steps, minutes=minutes, consent=consent, report=own.ticking(report)
        )
    clock.take_over(own.seconds())
    # What was best on the way depends on when the clock said to look; the end of the budget does not.
    last = latest_valid(model)
    assert last is not None
    mark_best(model, last.step)
    return trained, model


def _declare_rendered(footage: Footage, consent: Path) -> None:
    """Consent records for performers whom nobody is, limited to these clips, whose true landmarks only a renderer knows."""
    for name, clip in footage.train.items():
        if open_clip(footage.test[name]).true_points is None:
            raise BadInput(f"{footage.test[name]} has no true landmarks beside it; the benchmark is for rendered performers")
        if not (consent / f"{name}.toml").is_file():
            create_record(consent, name, "synthetic", footage=ConsentedFootage((sha256_of_footage(clip),)))


def _length(question: Question, face_sets: list[Path], work: Path, report: Reporter) -> tuple[int | None, float | None]:
    """The budget as (steps, minutes of wall time), one of them None."""
    budget, recipe = question.budget, question.recipe
    if budget.kind == "steps":
        return round(budget.amount), None
    if budget.kind == "faces":
        return max(1, round(budget.amount / (recipe.batch_size * len(face_sets)))), None
    if budget.kind == "gpu_minutes":
        if _device() != "cuda":
            raise BadInput("--gpu-minutes needs a CUDA device and this machine has none; use --faces, --steps or --cpu-minutes")
        return None, budget.amount
    return max(1, round(60 * budget.amount / _cpu_seconds_a_step(question, face_sets, work, report))), None


def _cpu_seconds_a_step(question: Question, face_sets: list[Path], work: Path, report: Reporter) -> float:
    """Measured once for each recipe on this machine, by short trainings that differ in their number of steps."""
    recipe = replace(question.recipe, seed=0)
    path = work / "pace" / f"{sha256_of_json([asdict(recipe), question.num_threads, _device(), platform.node()])[:16]}.json"
    if path.is_file():
        return float(cast(float, read_json(path)["cpu_seconds_a_step"]))
    spent = []
    for steps in CALIBRATION_STEPS:
        folder = work / "pace" / "calibration"
        shutil.rmtree(folder, ignore_errors=True)
        before = time.process_time()
        understudy.train(face_sets, out=folder, recipe=recipe, steps=steps, consent=work / "consent", report=report)
        spent.append(time.process_time() - before)
        shutil.rmtree(folder)
    seconds = (spent[-1] - spent[-2]) / (CALIBRATION_STEPS[-1] - CALIBRATION_STEPS[-2])
    if seconds <= 0:
        raise BadInput("how long a step takes could not be measured on this busy machine; ask again, or use --faces or --steps")
    write_json(path, {"cpu_seconds_a_step": seconds})
    return seconds


@dataclass(frozen=True)
class Ready:
    """A plate whose faces are known and whose swap is decided: all but the compositing."""

    info: FootageInfo
    survey: PlateSurvey
    plan: Plan
    lineage: Lineage

    def composite(self, out: Path, report: Reporter) -> Path:
        """The clip, marked and signed as `convert` does, in the folder `out`; what was there is removed."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        plan = measure_looks(self.info, self.plan, out, report)
        return swap_footage(self.info, self.survey, plan, out, self.lineage, report)[1]["swap"]


def make_ready(question: Question, model: Path, work: Path, report: Reporter) -> Ready:
    """The plan of the question's swap, with consent checked, under an identity that follows from the weights alone.

    `convert` itself derives the watermark from the checkpoint's state, which holds times: two equal models would differ in it.
    """
    footage, swapper = question.footage, load_swapper(model)
    info = probe(footage.plate)
    galleries = {name: swapper.galleries[name] for name in (footage.replace, footage.with_)}
    may_convert_model(galleries, work / "consent", footage_behind(model))
    survey_key = sha256_of_json([code_sha256("understudy.stages._plate_survey"), footage.sha256()[footage.plate.name]])[:12]
    survey = survey_plate(info, work / "plates" / f"{footage.replace}-{survey_key}", report)
    roles = replacements_of(footage.replace, footage.with_, swapper.performers)
    inputs = {"plate": footage.sha256()[footage.plate.name], "model": _weights_sha256(model)}
    # Not the records' hashes, which hold a date: they would change the watermark, and so the figures, with every work folder.
    lineage = Lineage(inputs, (), sha256_of_json(asdict(question.convert)), question.recipe.seed)
    plan = make_plan(info, survey, swapper, roles, question.convert)
    check_plate_faces(footage.replace, performers_faces(plan, footage.replace), work / "consent")
    return Ready(info, survey, plan, lineage)


def _weights_sha256(model: Path) -> str:
    checkpoint = best_valid(model)
    assert checkpoint is not None
    return sha256_of_file(checkpoint.path / "weights.safetensors")


# ---- the machine ----------------------------------------------------------------------------------------------------------


def machine(num_threads: int) -> Json:
    """What the figures were made on."""
    names = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    processor = next((line.partition(":")[2].strip() for line in names if line.startswith("model name")), platform.processor())
    device = torch.cuda.get_device_name() if _device() == "cuda" else "cpu"
    return {
        "processor": processor,
        "num_cores": os.cpu_count(),
        "num_threads": num_threads,
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class CpuClock:
    """Processor seconds (user and system, all threads) by stage, kept in a file so that a killed run's are not forgotten."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds = cast(dict[str, float], read_json(path)) if path.is_file() else {}
        self._stage, self._last, self._written = "", time.process_time(), time.monotonic()

    def seconds(self) -> dict[str, float]:
        return {name: round(seconds, 1) for name, seconds in self._seconds.items()}

    def take_over(self, seconds: Mapping[str, object]) -> None:
        """Add what another clock has counted."""
        self._seconds |= {name: float(cast(float, value)) for name, value in seconds.items()}

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Count what is spent in the block as `stage`'s."""
        self._stage, self._last = stage, time.process_time()
        yield
        self._count()
        write_json(self._path, as_plain(self._seconds))

    def ticking(self, report: Reporter) -> Callable[[Event], None]:
        """`report`, and now and then what has been spent so far goes to the file."""

        def tell(event: Event) -> None:
            if time.monotonic() - self._written > 5:
                self._count()
                self._written = time.monotonic()
                write_json(self._path, as_plain(self._seconds))
            report(event)

        return tell

    def _count(self) -> None:
        now = time.process_time()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._last
        self._last = now
