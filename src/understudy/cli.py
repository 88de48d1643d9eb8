"""What a user types: parses, calls the verb, prints its result. No work of its own.

Exit status: 0 done, 1 a fault of ours (with traceback), 2 bad input or usage (one line), 3 refused, 4 finished but frames are
in the ledger and `--strict` was given, 130 stopped by Ctrl-C. With `--json`, stdout is exactly one JSON object, or, on failure,
empty.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from understudy.cli_trust import consent_app, verify
from understudy.console import EXIT_STOPPED, stopped
from understudy.plainhelp import PlainHelp
from understudy.recipes import CONVERT_RECIPES, TRAIN_RECIPES, convert_recipe, curate_recipe, parse_settings, train_recipe
from understudy.types import BadInput, StageResult, UnderstudyError, UnfinishedFrames

if TYPE_CHECKING:
    from understudy.project import Step, Verb
    from understudy.projectfile import Project

GOING_ON = ("extract", "train", "convert", "evaluate", "run", "demo")
"""Commands that go on where they were stopped; the others begin anew."""

app = typer.Typer(
    name="understudy",
    help="Gives a performer in film footage another performer's face, learned from footage of both.",
    epilog="To continue something that was stopped, give the same command again.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the full recipe, the plan, expected time and memory; do nothing.")
]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe; repeatable.")]
Consent = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the consent records; else $UNDERSTUDY_CONSENT, else consent/ here."),
]
TrainUntil = Literal["spent", "plateau"]
StartTake = Literal["all", "encoder"]
Minutes = Annotated[float | None, typer.Option(metavar="M", help="Train for this many minutes in all.")]


def main() -> None:
    """The `understudy` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, by a scheduler say: as with Ctrl-C
    # Threads that wait by spinning would burn the cores that another program, or our own decoder, needs. Before torch starts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; a user's mistake prints one line, our own fault raises."""
    try:
        status = app(list(arguments) or ["--help"], prog_name="understudy", standalone_mode=False)
    except UnderstudyError as error:
        return _fail(str(error), error.exit_status)
    except typer.TyperException as error:  # a wrong option or argument
        context = getattr(error, "ctx", None)
        return _fail(f"{_message(error)} ({context.command_path if context else 'understudy'} --help)", 2)
    if status == EXIT_STOPPED:
        return _fail(stopped(bool(arguments) and arguments[0] in GOING_ON), EXIT_STOPPED)
    return status if isinstance(status, int) else 0


def _message(error: typer.TyperException) -> str:
    return error.format_message() if hasattr(error, "format_message") else str(error)


def _fail(message: str, status: int) -> int:
    print(f"understudy: {' '.join(message.split())}", file=sys.stderr)
    return status


# ---- the stages -----------------------------------------------------------------------------------------------------------


@app.command(cls=PlainHelp)
def extract(
    footage: Annotated[list[Path], typer.Argument(metavar="FOOTAGE", help="Video files, or folders of images.")],
    performer: Annotated[str, typer.Option(metavar="NAME", help="Short name of the performer.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the face set.")],
    like: Annotated[
        list[Path], typer.Option(metavar="IMAGE", help="A picture of the performer, if others are in the footage; repeatable.")
    ] = [],  # noqa: B006
    detector: Annotated[
        str,
        typer.Option(metavar="NAME", help="What finds the faces: mediapipe, mtcnn, dlib or dlib-cnn (see docs/footage.md)."),
    ] = "mediapipe",
    landmarks: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What alignment rests on: mediapipe, or dlib-68, which is for non-commercial use only."
        ),
    ] = "mediapipe",
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """Find, track and align the faces of one performer."""
    asked = {"footage": tuple(footage), "performer": performer, "out": out, "like": tuple(like)}
    asked |= {"detector": detector, "landmarks": landmarks}
    _do("extract", asked, is_json, is_dry_run)


@app.command(cls=PlainHelp)
def curate(
    faces: Annotated[Path, typer.Argument(metavar="FACES", help="The face set to choose from.")],
    against: Annotated[
        Path | None, typer.Option(metavar="FACES", help="Face set of the other performer, to compare with; it is not changed.")
    ] = None,
    settings: Settings = [],  # noqa: B006
    keep: Annotated[
        list[str],
        typer.Option(
            metavar="NUMBERS",
            help="Faces to keep whatever the rules say, by their #numbers in the face set's reports: 12,40-60; repeatable.",
        ),
    ] = [],  # noqa: B006
    leave_out: Annotated[
        list[str], typer.Option(metavar="NUMBERS", help="Faces to leave out whatever the rules say; repeatable.")
    ] = [],  # noqa: B006
    is_undo: Annotated[bool, typer.Option("--undo", help="Keep again everything that curate left out.")] = False,
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """Choose which faces training sees: quality, wrong persons, doubles, coverage.

    Nothing is deleted: what is left out has a reason in the report, and comes back with --keep or --undo.
    """

    if is_undo and (settings or keep or leave_out or against):
        raise BadInput("--undo takes no other options; it keeps again everything that curate left out")
    asked = {"faces": faces, "against": against, "recipe": curate_recipe(parse_settings(settings)), "is_undo": is_undo}
    numbers = {"keep": _face_numbers("--keep", keep), "leave_out": _face_numbers("--leave-out", leave_out)}
    _do("curate", {**asked, **numbers}, is_json, is_dry_run)


MOST_FACES_NAMED = 1_000_000


def _face_numbers(option: str, values: Sequence[str]) -> tuple[int, ...]:
    """`["12,40-42"]` -> `(12, 40, 41, 42)`."""
    numbers: list[int] = []
    for part in (part.strip() for value in values for part in value.split(",")):
        first, dash, last = part.partition("-")
        is_number = all(each.isascii() and each.isdecimal() and len(each) < 10 for each in (first, *([last] if dash else [])))
        if not is_number or (dash and not 0 <= int(last) - int(first) < MOST_FACES_NAMED):
            raise BadInput(
                f"{option}: expected numbers of faces such as 12,40-60, got {part!r}; "
                "report.html and curation/report.html in the face set show them"
            )
        numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(numbers)


@app.command(cls=PlainHelp)
def train(
    face_sets: Annotated[list[Path], typer.Argument(metavar="FACES", help="Face sets of two or more performers.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the model.")],
    recipe: Annotated[str, typer.Option(metavar="NAME", help=f"Preset: {', '.join(TRAIN_RECIPES)}.")] = "quick",
    minutes: Minutes = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Train for this many steps in all.")] = None,
    until: Annotated[
        TrainUntil,
        typer.Option(help="End when the time is spent, or once it no longer gets better (at most 10 times as long)."),
    ] = "spent",
    start_from: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="A trained model to begin from; its performers must consent.")
    ] = None,
    take: Annotated[StartTake, typer.Option(help="What to take of it: all that fits, or its encoder.")] = "all",
    freeze: Annotated[
        list[str], typer.Option(metavar="PART", help="encoder or a performer's name: does not learn; repeatable.")
    ] = [],  # noqa: B006
    consent: Consent = None,
    settings: Settings = [],  # noqa: B006
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """Train a model that draws each performer.

    The same command again goes on where it stopped; with more minutes or steps, it trains on.
    """

    if minutes is not None and steps is not None:
        raise BadInput("--minutes and --steps were both given; give one of them")
    if take != "all" and start_from is None:  # said here too, so that a dry run says it
        raise BadInput(f"--take {take} was given without --from; it says what to take of that model")
    chosen = train_recipe(recipe, parse_settings(settings))
    asked = {"face_sets": tuple(face_sets), "out": out, "recipe": chosen, "minutes": minutes, "steps": steps, "until": until}
    asked |= {"start_from": start_from, "take": take, "freeze": tuple(freeze), "consent": consent}
    _do("train", asked, is_json, is_dry_run)


@app.command(cls=PlainHelp)
def convert(
    footage: Annotated[Path, typer.Argument(metavar="FOOTAGE", help="The plate: a video file, or a folder of images.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the model.")],
    replace: Annotated[list[str], typer.Option(metavar="NAME", help="The performer who is in the plate; repeatable.")],
    with_: Annotated[
        list[str], typer.Option("--with", metavar="NAME", help="The performer whose face is put in; once for each --replace.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the swap.")],
    recipe: Annotated[str, typer.Option(metavar="NAME", help=f"Preset: {', '.join(CONVERT_RECIPES)}.")] = "delivery",
    consent: Consent = None,
    settings: Settings = [],  # noqa: B006
    frames: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Show these frames alone, without sound; counted from 0.")
    ] = None,
    is_strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 if any frame was left as it was.")] = False,
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """Replace one performer with another in a plate."""

    chosen = convert_recipe(recipe, parse_settings(settings))
    olds, news = (names[0] if len(names) == 1 else tuple(names) for names in (replace, with_))
    asked = {"footage": footage, "model": model, "replace": olds, "with_": news, "out": out, "recipe": chosen}
    excerpt = {"frames": _frames(frames)} if frames is not None else {}
    _do("convert", {**asked, **excerpt, "is_strict": is_strict, "consent": consent}, is_json, is_dry_run)


@app.command(cls=PlainHelp)
def evaluate(
    swap: Annotated[Path, typer.Argument(metavar="SWAP", help="The swap: its video file, or folder of images.")],
    plate: Annotated[Path, typer.Option(metavar="FOOTAGE", help="The plate that it was made from.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the report.")],
    truth: Annotated[
        Path | None, typer.Option(metavar="FOOTAGE", help="The other performer giving the same performance.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(metavar="FOOTAGE", help="Where the truth's face can be seen.")] = None,
    performer: Annotated[
        Path | None, typer.Option(metavar="FACES", help="Face set of who was put in, for the identity score.")
    ] = None,
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """Measure a swap against its plate and the truth."""
    if mask is not None and truth is None:
        raise BadInput("--mask was given without --truth; it says where the truth counts")
    asked = {"swap": swap, "plate": plate, "out": out, "truth": truth, "mask": mask, "performer": performer}
    _do("evaluate", asked, is_json, is_dry_run)


# ---- the whole way --------------------------------------------------------------------------------------------------------


@app.command(cls=PlainHelp)
def run(
    project: Annotated[Path, typer.Argument(metavar="PROJECT.toml", help="The project file.")],
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """The whole way on a project of your own.

    Extracts, trains, converts and evaluates; does only what is out of date.
    """
    from understudy.projectfile import read_project

    _do_project(read_project(project), is_json, is_dry_run)


@app.command(cls=PlainHelp)
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for everything that the demo makes.")] = Path("demo"),
    minutes: Minutes = None,
    is_json: Json = False,
    is_dry_run: DryRun = False,
) -> None:
    """The whole way on the bundled virtual actors.

    Puts bea's face on abel's test clip, and scores it against the known truth.
    """
    from understudy.project import demo_project

    if minutes is not None and not 0 < minutes < float("inf"):
        raise BadInput(f"--minutes: expected more than 0, got {minutes}")
    _do_project(demo_project(out, minutes), is_json, is_dry_run)


@app.command(cls=PlainHelp)
def doctor(
    fetch: Annotated[bool, typer.Option("--fetch", help="Obtain the weights that are missing (needs a network once).")] = False,
    is_json: Json = False,
) -> None:
    """Tell what this machine can do, and which weights are there."""
    from understudy.console import progress
    from understudy.machine import doctor as examine
    from understudy.machine import doctor_text

    with progress() as report:
        result = examine(fetch=fetch, report=report)
    _print(result, is_json, doctor_text)


app.command(cls=PlainHelp)(verify)
app.add_typer(consent_app, name="consent")


@app.callback(invoke_without_command=True)
def _root(is_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if is_version:
        from understudy.version import __version__

        print(__version__)


# ---- calling and printing -------------------------------------------------------------------------------------------------


def _frames(given: str) -> tuple[int, int]:
    """ "40-80" as (40, 80), and "40" as (40, 40)."""
    first, _, last = given.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()) or given.endswith("-"):
        raise BadInput(f"--frames {given!r}: expected the first and the last frame, counted from 0, such as 40-80")
    return int(first), int(last or first)


def _do(verb: Verb, arguments: Mapping[str, object], is_json: bool, is_dry_run: bool) -> None:
    from understudy.console import progress
    from understudy.estimate import check_asked
    from understudy.project import Step, call, finished_result
    from understudy.results import result_text

    step = Step(verb, verb, arguments)
    if is_dry_run:
        check_asked(verb, arguments)
        return _print_plan([(step, "asked for")], is_json)
    try:
        with progress(is_end_told=is_json) as report:
            result = call(step, report)
    except UnfinishedFrames:
        _print(finished_result(step.out), is_json, result_text)
        raise
    _print(result, is_json, result_text)


def _do_project(project: Project, is_json: bool, is_dry_run: bool) -> None:
    from understudy.console import progress
    from understudy.project import plan, run_project
    from understudy.results import run_text

    if is_dry_run:
        return _print_plan([(planned.step, planned.reason or planned.state) for planned in plan(project)], is_json)
    with progress() as report:
        result = run_project(project, report)
    _print(result, is_json, run_text)


def _print(result: StageResult, is_json: bool, as_text: Callable[[StageResult], str]) -> None:
    if os.environ.get("RANK", "0") != "0":  # of the processes of a shared run one speaks
        return
    print(_json(result.as_json()) if is_json else as_text(result))


def _print_plan(steps: Sequence[tuple[Step, str]], is_json: bool) -> None:
    from understudy.console import plan_text
    from understudy.project import describe

    plans = [describe(step, state) for step, state in steps]
    print(_json({"plan": plans}) if is_json else plan_text(plans))


def _json(value: object) -> str:
    from understudy.store.json_files import as_plain

    return json.dumps(as_plain(value), ensure_ascii=False, allow_nan=False)
