"""Train: two or more face sets in, a model that draws each performer with the expressions of the others out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from understudy import parallel
from understudy.imaging.expression import READINGS, Told
from understudy.model.colour import UNCHANGED, measure_standard
from understudy.model.folder import ANCESTORS_FILE, EXEMPLARS_FILE, GALLERIES_FILE
from understudy.model.memory import MemoryPlan, plan_memory
from understudy.model.networks import check_freeze
from understudy.model.precision import name_of
from understudy.model.swapper import best_device
from understudy.model.trainer import StepResult, Trainer
from understudy.settings import TrainRecipe
from understudy.stages._training_asked import (
    budget_of,
    check_all_have_the_same,
    check_can_be_judged,
    check_recipe,
    describe_face_sets,
    what_is_asked,
)
from understudy.stages._training_events import REPORT_SECONDS, reading_reporter, scalar_reporter
from understudy.stages._training_exemplars import write_exemplars
from understudy.stages._training_faces import MARGIN, PerformerFaces, in_ordinary_light, load_split, open_performers
from understudy.stages._training_judge import Judge, has_stopped_improving, verdict
from understudy.stages._training_previews import PREVIEWS_FOLDER, write_film, write_preview
from understudy.stages._training_process import Clock, interrupts_between_steps, keep_freed_memory
from understudy.stages._training_report import REPORT_FILE, write_training_report
from understudy.stages._training_start import Start, Take, begin, check_take, write_galleries
from understudy.stages._training_state import Budget, Judgement, Progress, Until, best_of, save, take_up, told_in
from understudy.stages._training_terms import licences_of_terms, make_adversary, make_features
from understudy.stages._training_watchdog import Watchdog, note_incident, roll_back
from understudy.store.atomic import TEMPORARY_PREFIX
from understudy.store.checkpoints import CHECKPOINTS_FOLDER, Checkpoint, latest_valid
from understudy.store.events import combine, event_log
from understudy.store.manifest import read_manifest, stage_result
from understudy.store.runs import Run, open_run
from understudy.store.tensorboard import TENSORBOARD_FOLDER
from understudy.trust import gate
from understudy.trust.consent import consent_folder
from understudy.trust.permission import GATE_FILE, gate_face_sets, may_train
from understudy.trust.standing import Standing
from understudy.types import BadInput, Event, Refused, Reporter, StageResult, silent

STAGE = "train"
NOT_YET_TRAINED = (
    *(GALLERIES_FILE, ANCESTORS_FILE, EXEMPLARS_FILE, f"{PREVIEWS_FOLDER}/*", f"{TENSORBOARD_FOLDER}/*"),
    *(CHECKPOINTS_FOLDER, f"{CHECKPOINTS_FOLDER}/{TEMPORARY_PREFIX}*"),
)
"""What a training leaves in its folder before its first checkpoint is whole."""


def train(
    face_sets: Sequence[Path],
    out: Path,
    *,
    recipe: TrainRecipe,
    minutes: float | None = None,
    steps: int | None = None,
    until: Until = "spent",
    start_from: Path | None = None,
    take: Take = "all",
    freeze: Sequence[str] = (),
    consent: Path | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Train on the kept faces of `face_sets` into the model folder `out`; the same call again goes on where it was.

    minutes, steps: how long, counted over all sessions (the recipe's minutes where neither is given); more may be asked for
    later. until: with "plateau" the run cools down and ends as soon as it no longer gets better. start_from: a trained model to
    begin from; take: all of it that fits, or its encoder. freeze: parts that do not learn, "encoder" or performers' names.
    consent: the folder of the performers' consent records (see trust/consent.py for where it is looked for). Several processes
    that torchrun started share the work (parallel.py). Returns step, num_faces_seen, faces_per_second, loss and verdict. Raises
    Refused without consent for each performer, also of the model begun from, or where the content gate says so; BadInput for
    unusable face sets or a folder that holds another recipe's work; TrainingDiverged where going back does not help.
    """
    budget = budget_of(recipe, minutes, steps, until)
    check_take(take, start_from)
    check_recipe(recipe)  # before the faces are gated and loaded, which takes minutes
    parallel.join()
    start = Start.of(start_from, take) if start_from is not None else None
    face_inputs = describe_face_sets(face_sets)
    check_freeze(freeze, list(face_inputs), recipe)
    inputs = {**face_inputs, **(start.inputs() if start else {})}
    asked = what_is_asked(recipe, inputs, start, freeze)
    if parallel.rank():
        check_all_have_the_same(asked, inputs)
        return _follow(face_sets, out, recipe, budget, start, freeze)
    with open_run(out, STAGE, asked, inputs, disposable=[GATE_FILE], preliminary=NOT_YET_TRAINED) as run:
        report = combine(event_log(out), scalar_reporter(out), report)
        references = [*(start.may_train(consent_folder(consent), out) if start else ())]
        references += may_train(face_sets, consent_folder(consent))
        gate_face_sets(face_sets, out)
        check_all_have_the_same(asked, inputs)  # the others wait here until it is permitted
        standing = Standing(consent_folder(consent), ("train", references))
        session = _prepare(face_sets, out, recipe, start, freeze, standing, report)
        check_can_be_judged(recipe, session.judge is not None, until, report)
        state = session.checkpoint.state if session.checkpoint else {}
        write_galleries(out, session.performers, start, state)
        write_exemplars(out, face_sets, recipe, state)
        is_needed = run.state != "finished" or budget.progress(session.progress) < 1
        parallel.from_rank_zero([float(is_needed)])
        if not is_needed:
            return run.result()
        if run.state == "finished":
            run.reopen()
        report(Event(STAGE, "started", message=_opening_words(session)))
        _train_until_spent(session, budget, out, report)
        write_film(out)
        result = _finish(run, session, {each.performer: each.record_sha256 for each in references}, report)
        parallel.barrier()
        return result


def _follow(
    face_sets: Sequence[Path], out: Path, recipe: TrainRecipe, budget: Budget, start: Start | None, freeze: Sequence[str]
) -> StageResult:
    """The part of the other processes of a run that several share: the same steps, and nothing written."""
    session = _prepare(face_sets, out, recipe, start, freeze, Standing(out), silent)
    check_can_be_judged(recipe, session.judge is not None, budget.until, silent)
    (is_needed,) = parallel.from_rank_zero([0.0])
    if is_needed:
        _train_until_spent(session, budget, out, silent)
        parallel.barrier()
    manifest = read_manifest(out)
    assert manifest is not None
    return stage_result(out, manifest)


@dataclass
class _Session:
    """A run that is ready to go on."""

    performers: list[PerformerFaces]
    trainer: Trainer
    judge: Judge | None
    progress: Progress
    begin: Callable[[], Progress]
    memory: MemoryPlan
    checkpoint: Checkpoint | None
    standing: Standing


def _prepare(
    face_sets: Sequence[Path],
    out: Path,
    recipe: TrainRecipe,
    start: Start | None,
    freeze: Sequence[str],
    standing: Standing,
    report: Reporter,
) -> _Session:
    """Load the faces, hold some out, and take the run up where it was, or begin it."""
    keep_freed_memory()
    stored = open_performers(face_sets)
    memory = plan_memory(recipe, len(stored), sum(map(len, stored)))  # before any of it is taken
    if memory.micro_batch == 0:
        raise BadInput(f"{recipe.name} {memory}")
    performers, held_out = load_split(stored, recipe, reading_reporter(sum(map(len, stored)), report))
    report(Event(STAGE, "started", message="measuring colours and expressions"))
    if recipe.is_light_measured:
        performers, held_out = in_ordinary_light(performers, held_out, recipe)
    _warn_of_unknown_gazes(performers, recipe, report)
    checkpoint = latest_valid(out, report)
    trainer = build_trainer(performers, recipe, freeze, Told() if checkpoint is None else told_in(checkpoint))
    has_judge = all(len(each.crops) for each in held_out)
    judge = Judge(held_out) if has_judge else None
    trainer.micro_batch = max(1, memory.micro_batch)
    begin_anew = partial(begin, trainer, start)
    progress = begin_anew() if checkpoint is None else take_up(trainer, checkpoint)
    if checkpoint is not None:
        progress.lineage.append({"resumed_at_step": checkpoint.step})
    elif recipe.decay_to_start and not trainer.starting_point.weights:
        report(Event(STAGE, "warning", message="decay_to_start does nothing: what learns began with no starter and no model"))
    return _Session(performers, trainer, judge, progress, begin_anew, memory, checkpoint, standing)


def _warn_of_unknown_gazes(performers: Sequence[PerformerFaces], recipe: TrainRecipe, report: Reporter) -> None:
    for each in performers:
        if recipe.is_expression_measured and bool(each.readings[:, READINGS.index("gaze")].isnan().all()):
            message = f"{each.performer}'s face set is older than the gaze that decoders are told: extract it again to have it"
            report(Event(STAGE, "warning", message=message))


def build_trainer(
    performers: Sequence[PerformerFaces], recipe: TrainRecipe, freeze: Sequence[str] = (), told: Told | None = None
) -> Trainer:
    """A trainer with the faces on the device that it runs on; told: how it is told expressions."""
    device = best_device()
    crops: dict[str, Tensor] = {each.performer: each.crops.to(device) for each in performers}
    if recipe.is_first_shifted_to_second:
        first, second = list(crops)[:2]
        shift = crops[second][:, :3].float().mean((0, 2, 3)) - crops[first][:, :3].float().mean((0, 2, 3))
        shifted = crops[first][:, :3].float() + shift[:, None, None]
        crops[first][:, :3] = shifted.round().clamp(0, 255).to(crops[first].dtype)
    standards = {
        each.performer: replace(
            measure_standard(crops[each.performer]) if recipe.standardise_colour else UNCHANGED, skin=each.skin
        )
        for each in performers
    }
    adversary, features = make_adversary(recipe, list(crops), device), make_features(recipe, device)
    shares = {each.performer: each.shares for each in performers} if recipe.balance_fraction else {}
    readings = {each.performer: each.readings for each in performers}
    return Trainer(crops, standards, recipe, MARGIN, adversary, freeze, features, shares, readings, told)


# ---- the loop -------------------------------------------------------------------------------------------------------------


def _train_until_spent(session: _Session, budget: Budget, out: Path, report: Reporter) -> None:
    """The loop: step, look whether all is well, and once in a while report, preview, judge and save.

    Stopped by the user, it saves first. Where several processes share the run, process 0 decides for all. Raises Refused
    once somebody's consent has ended, BadInput while its record is out of reach: looked at each minute and before each
    checkpoint, and nothing more is saved.
    """
    trainer, clock, watchdog, wrong = session.trainer, Clock(session.trainer.recipe), Watchdog(), ""
    for judgement in session.progress.judgements:
        watchdog.look_at(judgement)
    with interrupts_between_steps() as was_interrupted:
        while True:
            so_far, was_asked_to_end = budget.progress(session.progress), was_interrupted()
            is_over = not session.standing.holds(now=so_far >= 1 or was_asked_to_end or bool(wrong))  # each is about to save
            decided = [so_far, float(was_asked_to_end), float(bool(wrong)), watchdog.sound_until, float(is_over)]
            share, is_stopped, has_collapsed, sound_until, is_over_for_all = parallel.from_rank_zero(decided)
            if is_over_for_all:
                session.standing.check(now=False)
                raise Refused("stopped by process 0, which says which consent has ended")
            if has_collapsed:
                progress = roll_back(trainer, session.progress, out, wrong, int(sound_until), session.begin, report)
                session.progress, wrong = progress, ""
                watchdog.forget_collapse()
                continue
            if share >= 1 or is_stopped:
                wrong = _save_at_the_end(session, budget, out, report) if not parallel.rank() else ""
                if share >= 1 and not is_stopped and parallel.from_rank_zero([float(bool(wrong))])[0]:
                    continue
                break
            step = trainer.step(share)
            session.progress.seconds += clock.tick()
            _count(session, step, report)
            wrong = watchdog.look(step, session.progress.num_steps)
            if not wrong and not parallel.rank():
                wrong = _look_after(session, budget, step, clock, watchdog, out, report)
            clock.leave_out()
    if is_stopped:
        raise KeyboardInterrupt


def _count(session: _Session, step: StepResult, report: Reporter) -> None:
    """Add the step to what was done, or note that it was left out."""
    if step.is_applied:
        session.progress.count(session.trainer, step)
        return
    session.progress.num_steps = session.trainer.num_steps
    bad = [name for name, loss in step.losses.items() if not math.isfinite(loss)] or list(step.losses)
    what = f"the loss of {', '.join(bad)}, or its gradient, is no number"
    note_incident(session.progress, session.progress.num_steps, what, "the batch was left out", report)


def _look_after(
    session: _Session, budget: Budget, step: StepResult, clock: Clock, watchdog: Watchdog, out: Path, report: Reporter
) -> str:
    """Report, preview, judge and save what is due; returns what is wrong with the run, "" where nothing is."""
    trainer, progress, recipe = session.trainer, session.progress, session.trainer.recipe
    if clock.is_due("report", REPORT_SECONDS):
        report(_progress_event(trainer, progress, budget, step))
    if clock.is_due("preview", recipe.preview_seconds) and session.standing.holds(now=True):
        write_preview(trainer, out)
    if not clock.is_checkpoint_due():
        is_due = session.judge is not None and clock.is_glance_due(progress.seconds)
        return _judge(session, budget, clock, watchdog, "glance", report) if is_due else ""
    if not session.standing.holds(now=True):  # the loop ends by it
        return ""
    is_due = session.judge is not None and clock.is_judgement_due()
    if is_due and (wrong := _judge(session, budget, clock, watchdog, "judge", report)):
        return wrong
    with clock.saving():
        return _save_if_sound(trainer, progress, out)


def _judge(
    session: _Session, budget: Budget, clock: Clock, watchdog: Watchdog, how: Literal["judge", "glance"], report: Reporter
) -> str:
    """Add a judgement of this step and tell it, or only glance at the error; begin to cool down where that is asked for once
    it no longer falls. Returns what is wrong with the run, "" where nothing is."""
    with clock.judging(how):
        judgement = _add_judgement(session, budget, how, report)
    wrong, progress = watchdog.look_at(judgement), session.progress
    if not wrong and budget.until == "plateau" and progress.plateau_at is None and not budget.is_cooling(progress):
        progress.plateau_at = budget.done(progress) if has_stopped_improving(progress.judgements) else None
    return wrong


def _add_judgement(session: _Session, budget: Budget, how: Literal["judge", "glance"], report: Reporter) -> Judgement:
    assert session.judge is not None
    trainer, progress, is_saved = session.trainer, session.progress, how == "judge"
    judged = session.judge.judge(trainer, progress.seconds, report) if is_saved else session.judge.glance(trainer)
    judgement = replace(judged, is_saved=is_saved, is_cooling=budget.is_cooling(progress))
    progress.judgements.append(judgement)
    if is_saved:
        figures = {"held_out_error": round(judgement.error, 5), "train_error": round(judgement.train_error, 5)}
        words = verdict(progress.judgements, progress.losses)
        report(Event(STAGE, "figures", message=words, figures={"step": progress.num_steps, **figures, **judgement.figures}))
    return judgement


def _save_if_sound(trainer: Trainer, progress: Progress, out: Path) -> str:
    """Save, unless the weights are spoiled: then says so, and the last good checkpoint is kept."""
    if not trainer.is_finite():
        return "the weights are no longer numbers"
    if progress.num_steps:
        save(trainer, progress, out)
    return ""


def _save_at_the_end(session: _Session, budget: Budget, out: Path, report: Reporter) -> str:
    """The last judgement, checkpoint and preview; returns what is wrong, "" where nothing is."""
    progress = session.progress
    is_judged = any(each.step == progress.num_steps and each.is_saved for each in progress.judgements[-2:])
    if session.judge is not None and progress.num_steps and not is_judged and session.trainer.is_finite():
        report(Event(STAGE, "started", message="judging the last state"))
        _add_judgement(session, budget, "judge", report)
    wrong = _save_if_sound(session.trainer, progress, out)
    if not wrong:
        write_preview(session.trainer, out)
    return wrong


def _progress_event(trainer: Trainer, progress: Progress, budget: Budget, step: StepResult) -> Event:
    unit = "seconds" if budget.steps is None else "steps"
    figures: dict[str, float | int | str] = {
        "step": progress.num_steps,
        "faces_per_second": round(progress.faces_per_second, 1),
        "loss": round(progress.smooth_loss, 4),
    }
    figures |= {f"loss_{name}": round(loss, 4) for name, loss in step.losses.items() if math.isfinite(loss)}
    if math.isfinite(step.gradient_norm):
        figures["gradient_norm"] = round(step.gradient_norm, 4)
    figures |= {f"adversary_{name}": round(value, 4) for name, value in step.adversary.items()}
    return Event(STAGE, "progress", done=budget.done(progress), total=budget.total(progress), unit=unit, figures=figures)


# ---- the end --------------------------------------------------------------------------------------------------------------


def _finish(run: Run, session: _Session, consent: Mapping[str, str], report: Reporter) -> StageResult:
    trainer, progress = session.trainer, session.progress
    figures: dict[str, object] = {
        "step": progress.num_steps,
        "num_faces_seen": progress.num_faces_seen,
        "faces_per_second": round(progress.faces_per_second, 2),
        "training_seconds": round(progress.seconds, 1),
        "loss": round(progress.smooth_loss, 5),
        "precision": name_of(trainer.working_type),
        "performers": list(trainer.performers),
        "num_incidents": len(progress.incidents),
        "verdict": verdict(progress.judgements, progress.losses),
    }
    if best := best_of(progress.judgements):
        figures |= {"best_step": best.step, "held_out_error": round(best.error, 5), **best.figures}
    report(Event(STAGE, "finished", message=str(figures["verdict"])))
    write_training_report(run.folder, progress, figures, asdict(trainer.recipe))
    outputs = {"model": run.folder, "previews": run.folder / PREVIEWS_FOLDER, "report": run.folder / REPORT_FILE}
    licences = {"content_gate": gate.LICENCE} | licences_of_terms(trainer.recipe)
    return run.finish(figures, outputs, seed=trainer.recipe.seed, licences=licences, consent=consent)


# ---- small matters --------------------------------------------------------------------------------------------------------


def _opening_words(session: _Session) -> str:
    counts = ", ".join(f"{len(each.crops)} faces of {each.performer}" for each in session.performers)
    num_steps = session.progress.num_steps
    begun = f", going on at step {num_steps}" if num_steps else _beginning_words(session.progress)
    kind = name_of(session.trainer.working_type)
    precision = f", in {kind}" if kind != "float32" else ""
    memory = f"; {session.memory}" if session.memory.is_tight else ""
    return f"training on {counts}{precision}{begun}{memory}"


def _beginning_words(progress: Progress) -> str:
    """How much of a model and of the starter a new run began with; "" where it began at random."""
    taken = [f"{each['layers_taken']} layers of {each['began_from']}" for each in progress.lineage if "layers_taken" in each]
    return f", beginning with {' and '.join(taken)}" if taken else ""
