"""The command line of the experiments: `python -m experiments list|run|all|page`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.truth.footage import SAMPLE, find_footage
from experiments import results
from experiments.claims import CLAIMS
from experiments.claims.model import Claim
from experiments.page import PAGE, write_page
from experiments.runner import needed, run
from experiments.training import SCALES
from experiments.verdicts import judge
from experiments.workshop import Workshop
from understudy.console import EXIT_STOPPED, stopped
from understudy.types import BadInput, UnderstudyError

WORK = Path(__file__).parents[1] / "benchmarks" / "runs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.command == "list":
            print(listing(asked))
        elif asked.command == "page":
            write_page(asked.page, results.FOLDER)
            print(asked.page)
        else:
            run_claims(asked)
    except UnderstudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(stopped(goes_on=True), file=sys.stderr)
        return EXIT_STOPPED
    return 0


def listing(asked: argparse.Namespace) -> str:
    """Every claim, how many of its runs are there, and its verdict so far."""
    scale, lines = SCALES[asked.scale], []
    for claim in CLAIMS:
        judged = judge(claim, scale)
        num_there = sum(len(each) for each in judged.by_arm.values())
        lines.append(
            f"{claim.name:4} {num_there:3} of {len(claim.arms) * claim.num_seeds:3} runs  {judged.verdict:12} {claim.title}"
        )
    return "\n".join(lines)


def run_claims(asked: argparse.Namespace) -> None:
    """Do the runs that are missing for the claims that were asked for; what is there is found again."""
    claims = _named(asked.claims) if asked.command == "run" else [claim for claim in CLAIMS if claim.arms]
    scale = SCALES[asked.scale]
    footage = find_footage(asked.footage, asked.replace, asked.with_)
    shop = Workshop(footage, scale, asked.work, asked.results, asked.morphs)
    missing = list(needed(claims, scale, asked.results, asked.seeds))
    if asked.command == "all" and asked.morphs is None:
        missing = [(arm, seed) for arm, seed in missing if arm.measure != "on morph"]
    num_done = run(missing, shop, asked.minutes)
    if num_done < len(missing):
        print(f"{len(missing) - num_done} runs are left; the same command goes on with them")
    for claim in claims if asked.command == "run" else []:
        print(_told(claim, asked))


def _told(claim: Claim, asked: argparse.Namespace) -> str:
    """What came out, in a few lines."""
    judged = judge(claim, SCALES[asked.scale], asked.results)
    lines = [f"{claim.name}, {claim.title}: {judged.verdict}"]
    for each in judged.tested:
        found = each.found
        lines.append(f"  {each.outcome:6}{each.test.words}: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
    return "\n".join(lines + ([f"  {claim.open_because}"] if claim.open_because else []))


def _named(names: Sequence[str]) -> list[Claim]:
    by_name = {claim.name: claim for claim in CLAIMS}
    for name in names:
        if name.upper() not in by_name:
            raise BadInput(f"expected claims out of C1 to C{len(CLAIMS)}, got {name!r}")
    return [by_name[name.upper()] for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description="The root article's claims, put to the test.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every claim, and how far its runs are")
    one = commands.add_parser("run", help="do the runs that decide one claim or several")
    one.add_argument("claims", nargs="+", metavar="CLAIM", help="C1 to C41")
    every = commands.add_parser("all", help="do the runs of all claims, in order, that fit into a time")
    for command in (one, every):
        command.add_argument("--minutes", type=float, help="stop before a run that would begin after so much processor time")
        command.add_argument("--seeds", type=int, help="how many seeds (default: the claim's, three)")
        command.add_argument(
            "--morphs", type=Path, help="folder of plates between the performers, for C17 (benchmarks.graded.render)"
        )
        command.add_argument(
            "--footage", type=Path, default=SAMPLE, help="a folder of rendered performers (default: the bundled sample)"
        )
        command.add_argument("--replace", metavar="NAME", help="whose face is replaced (default: the first performer by name)")
        command.add_argument("--with", dest="with_", metavar="NAME", help="whose face is put in (default: the second)")
        command.add_argument("--work", type=Path, default=WORK, help="where face sets and networks are kept and found again")
        command.add_argument("--results", type=Path, default=results.FOLDER, help="where results are kept and found again")
    for command in (listing, one, every):
        command.add_argument("--scale", choices=sorted(SCALES), default="small", help="two cores, or a GPU (default small)")
    page = commands.add_parser("page", help="write docs/experiments.md and its pictures from the results")
    page.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
