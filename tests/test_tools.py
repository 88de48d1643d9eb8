"""Every tool starts, says what it is for, and ends with one line where the user can mend or meant it."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import entry
import pytest

from understudy.types import BadInput, Refused

TOOLS = sorted((Path(__file__).parents[1] / "tools").glob("*.py"))
COMMANDS = [tool for tool in TOOLS if "__main__" in tool.read_text(encoding="utf-8")]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_a_tool_finds_all_that_it_imports(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tool, monkeypatch)


@pytest.mark.parametrize("tool", COMMANDS, ids=lambda tool: tool.stem)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_a_tool_asked_for_help_says_what_it_is_for_and_does_nothing(
    tool: Path, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tool), option])
    with pytest.raises(SystemExit) as ended:
        start(tool, monkeypatch, "__main__")
    assert ended.value.code == 0
    words = ast.get_docstring(ast.parse(tool.read_text(encoding="utf-8")), clean=False)
    assert words
    assert words.strip() in capsys.readouterr().out


def start(tool: Path, monkeypatch: pytest.MonkeyPatch, name: str = "started") -> None:
    if tool.stem == "record_original_outputs":
        pytest.skip("it runs in an environment of its own, with ai-edge-litert")
    monkeypatch.syspath_prepend(str(tool.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which one of them sets, and which is as it was afterwards
    runpy.run_path(str(tool), run_name=name)


@pytest.mark.parametrize(
    ("raised", "line", "status"),
    [
        (BadInput("film.mp4 is no video; export it again"), "tool.py: film.mp4 is no video; export it again", 2),
        (Refused("abel: no record"), "tool.py: abel: no record", 3),
        (FileNotFoundError(2, "No such file or directory", "actors"), "tool.py: actors is not there", 2),
        (KeyboardInterrupt(), "tool.py: stopped", 130),
    ],
)
def test_what_the_user_can_mend_or_stopped_is_one_line(
    raised: BaseException, line: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/tool.py", "folder"])
    given = []

    def main(work: Path) -> None:
        given.append(work)
        raise raised

    options = entry.parser("Does something.")
    options.add_argument("work", type=Path)
    with pytest.raises(SystemExit) as ended:
        entry.run(main, options)
    assert (given, ended.value.code) == ([Path("folder")], status)
    assert capsys.readouterr().err == line + "\n"


def test_a_fault_of_a_tool_keeps_its_traceback() -> None:
    def main() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        entry.run(main)
