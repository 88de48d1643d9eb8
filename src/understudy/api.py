"""The verbs as typed functions: what each command does, for use from Python. Heavy imports wait until a verb is called.

>>> import understudy
>>> understudy.extract("abel.mp4", performer="abel", out="faces/abel")            # doctest: +SKIP
>>> understudy.train(["faces/abel", "faces/bea"], out="model", minutes=9)         # doctest: +SKIP
>>> understudy.convert("plate.mp4", model="model", replace="abel", with_="bea", out="swap").outputs["swap"]  # doctest: +SKIP

Every function returns a StageResult (figures and output paths), or `verify` a Verdict, and raises the exceptions of
`understudy.types`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from understudy.settings import ConvertRecipe, CurateRecipe, RangeSettings, TrainRecipe
from understudy.types import Reporter, StageResult, silent

if TYPE_CHECKING:
    from understudy.trust.records import Grant, Kind, Person, Purpose, Review, SignedRecord
    from understudy.trust.verify import Verdict

AnyPath = str | PathLike[str]


def extract(
    footage: AnyPath | Iterable[AnyPath],
    *,
    performer: str,
    out: AnyPath,
    like: Iterable[AnyPath] = (),
    detector: str = "mediapipe",
    landmarks: str = "mediapipe",
    report: Reporter = silent,
) -> StageResult:
    """Find, track and align one performer's faces in footage, into a face set at `out`.

    like: pictures of the performer, where the footage shows other people too.
    """
    from understudy.stages.extract import extract as stage

    choices = {"detector": detector, "landmarks": landmarks}
    return stage(_paths(footage), performer, Path(out), like=_paths(like), report=report, **choices)


def curate(
    faces: AnyPath,
    *,
    against: AnyPath | None = None,
    recipe: CurateRecipe | None = None,
    keep: Iterable[int] = (),
    leave_out: Iterable[int] = (),
    is_undo: bool = False,
    report: Reporter = silent,
) -> StageResult:
    """Choose which faces of a face set training sees; what is left out has a reason and stays on disk.

    against: the other performer's face set, for what one shows and the other lacks, and for faces in the wrong set.
    keep, leave_out: numbers of faces to set by hand, for good. is_undo: keep again what was left out.
    """
    from understudy.recipes import curate_recipe
    from understudy.stages.curate import curate as stage

    return stage(
        Path(faces),
        against=_maybe(against),
        recipe=recipe or curate_recipe(),
        keep=tuple(keep),
        leave_out=tuple(leave_out),
        is_undo=is_undo,
        report=report,
    )


def train(
    face_sets: Iterable[AnyPath],
    *,
    out: AnyPath,
    recipe: TrainRecipe | str = "quick",
    minutes: float | None = None,
    steps: int | None = None,
    until: Literal["spent", "plateau"] = "spent",
    start_from: AnyPath | None = None,
    take: Literal["all", "encoder"] = "all",
    freeze: Iterable[str] = (),
    consent: AnyPath | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Train a model on two or more face sets, or go on with the training at `out`.

    recipe: the name of a preset, or a recipe. Ends after `minutes` or `steps`, else after the recipe's own minutes; with
    until="plateau" when it no longer gets better on faces held out of training, at the latest then or, where neither is given,
    after ten times the recipe's minutes. start_from: a trained model to begin
    from, take: all of it that fits, or its encoder. freeze: parts that do not learn, "encoder" or performers' names.
    consent: the folder of the performers' consent records, else $UNDERSTUDY_CONSENT, else `consent`.
    """
    from understudy.recipes import train_recipe
    from understudy.stages.train import train as stage

    chosen = train_recipe(recipe) if isinstance(recipe, str) else recipe
    return stage(
        _paths(face_sets),
        Path(out),
        recipe=chosen,
        minutes=minutes,
        steps=steps,
        until=until,
        start_from=_maybe(start_from),
        take=take,
        freeze=tuple(freeze),
        consent=_maybe(consent),
        report=report,
    )


def convert(
    footage: AnyPath,
    *,
    model: AnyPath,
    replace: str | Sequence[str],
    with_: str | Sequence[str],
    out: AnyPath,
    recipe: ConvertRecipe | str = "delivery",
    ranges: Sequence[RangeSettings] = (),
    frames: tuple[int, int] | None = None,
    is_strict: bool = False,
    consent: AnyPath | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Replace one performer with another in a plate, or several in one pass (lists, pair by pair), into a swap at `out`.

    ranges: parts of the plate with settings of their own. frames: (first, last) to show alone, for tuning. is_strict: raise
    UnfinishedFrames at the end if any frame was left as it was. consent: as for `train`.
    """
    from understudy.recipes import convert_recipe
    from understudy.stages.convert import convert as stage

    chosen = convert_recipe(recipe) if isinstance(recipe, str) else recipe
    return stage(
        Path(footage),
        Path(model),
        replace,
        with_,
        Path(out),
        recipe=chosen,
        ranges=ranges,
        frames=frames,
        is_strict=is_strict,
        consent=_maybe(consent),
        report=report,
    )


def evaluate(
    swap: AnyPath,
    *,
    plate: AnyPath,
    out: AnyPath,
    truth: AnyPath | None = None,
    mask: AnyPath | None = None,
    performer: AnyPath | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Measure a swap against its plate and, where it is known, the truth, into a report at `out`.

    truth: the other performer giving the same performance; mask: where it counts; performer: the face set of who was put in.
    """
    from understudy.stages.evaluate import evaluate as stage

    return stage(
        Path(swap), Path(plate), Path(out), truth=_maybe(truth), mask=_maybe(mask), performer=_maybe(performer), report=report
    )


def run(project: AnyPath, *, report: Reporter = silent) -> StageResult:
    """Do what is out of date in a project file: extract, train, convert, evaluate."""
    from understudy.project import run_project
    from understudy.projectfile import read_project

    return run_project(read_project(Path(project)), report)


def demo(out: AnyPath = "demo", *, minutes: float | None = None, report: Reporter = silent) -> StageResult:
    """The whole way on the bundled virtual actors, into the folder `out`.

    minutes: of training; else what suits the machine.
    """
    from understudy.project import demo_project, run_project

    return run_project(demo_project(Path(out), minutes), report)


def doctor(*, fetch: bool = False, report: Reporter = silent) -> StageResult:
    """What this machine can do and which weights are there; `fetch` obtains those that are missing."""
    from understudy.machine import doctor as examine

    return examine(fetch=fetch, report=report)


# ---- consent and verification ---------------------------------------------------------------------------------------------


def consent_new(
    performer: str,
    *,
    kind: Kind,
    person: Person | None = None,
    grant: Grant | None = None,
    review: Review | None = None,
    consent: AnyPath | None = None,
) -> StageResult:
    """Make and sign a consent record, and a form to print; without `person` and `grant` an adult is declared who grants all.

    consent: the folder of the records; else $UNDERSTUDY_CONSENT, else `consent`.
    """
    from understudy.trust.consent import consent_folder, create_record
    from understudy.trust.form import write_consent_form
    from understudy.trust.records import Review

    folder = consent_folder(_maybe(consent))
    signed = create_record(folder, performer, kind, person=person, grant=grant, review=review or Review())
    return _consent_result(signed, form=write_consent_form(signed))


def consent_show(performer: str, *, consent: AnyPath | None = None) -> StageResult:
    """A consent record, and what it permits today."""
    from understudy.trust.consent import consent_folder
    from understudy.trust.records import read_record

    return _consent_result(read_record(consent_folder(_maybe(consent)), performer))


def consent_check(performer: str, *, purpose: Purpose | None = None, consent: AnyPath | None = None) -> StageResult:
    """Raises Refused unless there is a record in force that permits `purpose` (train, convert; None = both)."""
    from understudy.trust.consent import check, consent_folder
    from understudy.trust.records import read_record

    signed = read_record(consent_folder(_maybe(consent)), performer)
    for each in (purpose,) if purpose else ("train", "convert"):
        check(signed, each)
    return _consent_result(signed)


def consent_revoke(performer: str, *, reason: str = "", consent: AnyPath | None = None) -> StageResult:
    """Take a consent back for good."""
    from understudy.trust.consent import consent_folder, revocation_of, revoke
    from understudy.trust.records import read_record

    folder = consent_folder(_maybe(consent))
    written = revoke(folder, performer, reason)
    figures = {"performer": performer, "revoked": revocation_of(read_record(folder, performer))}
    return StageResult("consent", figures, {"revocation": written})


def verify(file: AnyPath) -> Verdict:
    """What shows in any file that a computer changed it: credentials, watermark, tags, and whether Understudy made it."""
    from understudy.trust.verify import verify as examine

    return examine(Path(file))


def _consent_result(signed: SignedRecord, **outputs: Path) -> StageResult:
    from understudy.trust.consent import describe

    figures = {"performer": signed.record.performer, "kind": signed.record.kind, **describe(signed)}
    return StageResult("consent", figures, {"record_file": signed.path, **outputs})


def _paths(values: AnyPath | Iterable[AnyPath]) -> tuple[Path, ...]:
    """One path or several, as a tuple."""
    return (Path(values),) if isinstance(values, str | PathLike) else tuple(Path(value) for value in values)


def _maybe(value: AnyPath | None) -> Path | None:
    return None if value is None else Path(value)
