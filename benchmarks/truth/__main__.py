"""The command line of the truth benchmark: `python -m benchmarks.truth run|ladder|compare|table`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from benchmarks.truth.footage import SAMPLE, code_sha256, find_footage
from benchmarks.truth.ladder import climb
from benchmarks.truth.run import Budget, BudgetKind, Question, answer, machine
from benchmarks.truth.scorecards import (
    comparison_text,
    make_scorecard,
    read_scorecard,
    refresh_table,
    table_text,
    title,
    write_text_of,
)
from understudy.console import EXIT_STOPPED, progress, stopped
from understudy.recipes import convert_recipe, parse_settings, train_recipe
from understudy.store.atomic import atomic_write_text
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import as_plain
from understudy.types import Json, Reporter, UnderstudyError
from understudy.version import __version__

HERE = Path(__file__).parent.parent
PUBLISHED, PAGE = HERE / "scorecards", HERE.parent / "docs" / "benchmark.md"
BUDGETS = ("faces", "steps", "cpu_minutes", "gpu_minutes")
DEFAULT_FACES = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    asked = _parser().parse_args(given)
    try:
        if asked.command == "run":
            with progress() as report:
                print(run(asked, f"python -m benchmarks.truth {shlex.join(_without_places(given))}", report))
        elif asked.command == "ladder":
            with progress() as report:
                print(ladder(asked, report))
        elif asked.command == "compare":
            print(comparison_text(read_scorecard(asked.first), read_scorecard(asked.second)))
        else:
            cards = [read_scorecard(path) for path in asked.scorecards or sorted(PUBLISHED.glob("*.json"))]
            print(table_text(cards))
            if asked.write:
                refresh_table(asked.page, cards)
    except UnderstudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(stopped(goes_on=True), file=sys.stderr)
        return EXIT_STOPPED
    return 0


def run(asked: argparse.Namespace, command: str, report: Reporter) -> Path:
    """Answer for every seed, and write the scorecard; returns its path."""
    questions = _questions(asked)
    results = [answer(question, asked.work, report) for question in questions]
    footage, budget = questions[0].footage, questions[0].budget
    description: Json = {
        "recipe": asked.recipe,
        "settings": parse_settings(asked.set),
        "convert": {"recipe": asked.convert, "settings": parse_settings(asked.convert_set)},
        "budget": {"kind": budget.kind, "amount": budget.amount},
        "footage": {"name": footage.name, "replace": footage.replace, "with": footage.with_, "sha256": footage.sha256()},
        "command": command,
        "machine": machine(asked.threads),
        "code": {"version": __version__, "sha256": code_sha256("understudy.stages.evaluate", "understudy.stages.train")},
    }
    card = cast(Json, as_plain(make_scorecard(description, results)))
    key = sha256_of_json([description[name] for name in ("settings", "convert", "footage", "code")])[:8]
    seeds = "-".join(str(seed) for seed in asked.seed or [0])
    path = asked.out or asked.work / "scorecards" / f"{asked.recipe}-{budget.amount:g}{budget.kind}-seed{seeds}-{key}.json"
    atomic_write_text(path, write_text_of(card))
    print(f"{title(card)}\n{table_text([card])}", file=sys.stderr)
    return path


def ladder(asked: argparse.Namespace, report: Reporter) -> Path:
    """Climb the oracle ladder for the first seed; returns the report's path."""
    found, path = climb(_questions(asked)[0], asked.work, report)
    print("\n".join(cast(list[str], found["words"])), file=sys.stderr)
    return path


def _questions(asked: argparse.Namespace) -> list[Question]:
    """What was asked, for each seed. Raises BadInput for what does not exist."""
    footage = find_footage(asked.footage, asked.replace, asked.with_)
    recipe = train_recipe(asked.recipe, parse_settings(asked.set))
    convert = convert_recipe(asked.convert, parse_settings(asked.convert_set))
    kind = cast(BudgetKind, next((each for each in BUDGETS if getattr(asked, each) is not None), "faces"))
    budget = Budget(kind, getattr(asked, kind) or DEFAULT_FACES)
    return [Question(footage, replace(recipe, seed=seed), budget, convert, asked.threads) for seed in asked.seed or [0]]


def _without_places(given: Sequence[str]) -> list[str]:
    """The arguments without where things are kept: they decide nothing."""
    places = {k for k, each in enumerate(given) if each in ("--work", "--out")}
    return [each for k, each in enumerate(given) if k not in places and k - 1 not in places]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description="The benchmark with a known right answer.")
    commands = parser.add_subparsers(dest="command", required=True)
    _ask(
        commands.add_parser(
            "run", help="train a recipe on rendered performers, swap, compare with the truth, write a scorecard"
        )
    )
    _ask(commands.add_parser("ladder", help="the same with one stage at a time replaced by the truth: what does each cost?"))
    _add_reading(commands)
    return parser


def _ask(run: argparse.ArgumentParser) -> None:
    """The options that make a question."""
    run.add_argument("--recipe", default="quick", help="a training preset (default quick)")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of the recipe; may be repeated"
    )
    run.add_argument("--seed", action="append", type=int, help="may be repeated; all seeds go into one scorecard (default 0)")
    budget = run.add_mutually_exclusive_group()
    budget.add_argument("--faces", type=_positive, help=f"train until so many faces have been seen (default {DEFAULT_FACES})")
    budget.add_argument("--steps", type=_positive, help="train for so many steps")
    budget.add_argument("--cpu-minutes", type=_positive, help="train for about so many minutes of processor time")
    budget.add_argument("--gpu-minutes", type=_positive, help="train for so many minutes on a GPU that nothing else uses")
    run.add_argument(
        "--convert", default="truth-benchmark", metavar="RECIPE", help="a converting preset (default truth-benchmark)"
    )
    run.add_argument(
        "--convert-set", action="append", default=[], metavar="KEY=VALUE", help="change a field of it; may be repeated"
    )
    run.add_argument(
        "--footage", type=Path, default=SAMPLE, help="a folder of rendered performers (default: the bundled sample)"
    )
    run.add_argument("--replace", metavar="NAME", help="whose face is replaced (default: the first performer by name)")
    run.add_argument("--with", dest="with_", metavar="NAME", help="whose face is put in (default: the second)")
    run.add_argument("--threads", type=int, default=1, help="torch's threads; part of the question (default 1)")
    run.add_argument("--work", type=Path, default=HERE / "runs", help="where everything is kept and found again")
    run.add_argument("--out", type=Path, help="the scorecard's file (default: below the work folder)")


def _add_reading(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands that work on scorecards."""
    compare = commands.add_parser("compare", help="paired differences of two scorecards with their intervals")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    table = commands.add_parser("table", help="scorecards as rows of a table")
    table.add_argument("scorecards", type=Path, nargs="*", help="default: the published ones")
    table.add_argument("--write", action="store_true", help="refresh the table in the documentation")
    table.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
