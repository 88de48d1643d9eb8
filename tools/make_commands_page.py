"""Writes docs/commands.md from the command line's own help: `python tools/make_commands_page.py [--check]`.

`--check` writes nothing and fails where the page is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

import entry
from typer import Typer
from typer.testing import CliRunner

from understudy.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
WIDTH = 100
INTRODUCTION = """# Commands

Made from the command line's own help by `python tools/make_commands_page.py`; do not edit.

Every command takes `--json`: stdout is then exactly one JSON object, the result; progress goes to stderr. Exit status: 0 done ·
1 a fault of ours (traceback) · 2 bad input or usage (one line) · 3 refused by consent or content gate · 4 finished, but some
frames are in the ledger and `--strict` was given · 130 stopped by Ctrl-C; the same command continues.
"""


def page() -> str:
    """The whole page."""
    sections = [INTRODUCTION, _section("understudy")]
    return "\n".join(sections + [_section("understudy", *words) for words in command_words(app)])


def command_words(group: Typer) -> list[tuple[str, ...]]:
    """The words of each command, `("consent", "new")` say, in the order of the help."""
    names = [command.name or getattr(command.callback, "__name__", "") for command in group.registered_commands]
    words: list[tuple[str, ...]] = [(name,) for name in names]
    for inner in group.registered_groups:
        if inner.typer_instance:
            words += [(str(inner.name), *rest) for rest in command_words(inner.typer_instance)]
    return words


def _section(*command: str) -> str:
    result = CliRunner().invoke(
        app, [*command[1:], "--help"], prog_name="understudy", terminal_width=WIDTH, color=False, catch_exceptions=False
    )
    help_text = "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())
    return f"## {' '.join(command)}\n\n```\n{help_text}\n```\n"


def main(check: bool) -> None:
    """Write the page, or check it."""
    if not check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is out of date: run python tools/make_commands_page.py")


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("--check", action="store_true", help="write nothing, fail where the page is out of date")
    entry.run(main, asked)
