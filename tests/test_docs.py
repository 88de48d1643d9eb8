"""The documents say what is so: commands, targets, licences, links."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from understudy.cli import app, run_command
from understudy.projectfile import read_project
from understudy.recipes import TRAIN_RECIPES
from understudy.stages._training_previews import FILM_FILE, PREVIEWS_FOLDER
from understudy.stages._training_report import REPORT_FILE
from understudy.store.events import EVENTS_FILE
from understudy.store.tensorboard import TENSORBOARD_FOLDER
from understudy.trust.label import DIGITAL_SOURCE_TYPE
from understudy.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "NOTICE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGE_TOOL = runpy.run_path(str(ROOT / "tools" / "make_commands_page.py"))
COMMANDS = PAGE_TOOL["command_words"](app)


@pytest.mark.parametrize("folder", ["docs", "experiments"])
def test_every_picture_says_that_a_computer_changed_it(folder: str) -> None:
    pictures = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".jpg", ".png")]
    assert pictures
    assert not [path.name for path in pictures if DIGITAL_SOURCE_TYPE.encode() not in path.read_bytes()]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text: str, language: str = "") -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block for named, block in blocks if named == language]


def test_the_command_reference_is_up_to_date() -> None:
    assert text_of("docs/commands.md") == PAGE_TOOL["page"](), "run: python tools/make_commands_page.py"


def test_the_help_speaks_no_python() -> None:
    helped = "".join(code_blocks(text_of("docs/commands.md")))
    assert re.findall(r"\w+\[\w+|[{}]|<\w+>|\b(?:str|int|float|bool|list|tuple|Path|None|True|False)\b", helped) == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_is_in_the_readme_the_reference_and_has_help(words: tuple[str, ...]) -> None:
    command = " ".join(words)
    assert f"`{words[0]}`" in text_of("README.md") or f"understudy {words[0]}" in text_of("README.md")
    (section,) = re.findall(rf"^## understudy {command}\n\n```\n(.*?)^```", text_of("docs/commands.md"), flags=re.M | re.S)
    assert re.match(r"Usage: .*\n\n  [A-Z]", section), "a docstring says what it does"


def test_each_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), flags=re.MULTILINE))
    a_command = re.compile(r"(?:^|&&|;|\$)\s*make ([a-z]+)\b", flags=re.MULTILINE)  # not a sentence that says "make the ..."
    named = {target for page in PAGES for target in a_command.findall(commands_in(page))}
    assert {"demo", "test", "check"} <= named <= targets


def commands_in(page: Path) -> str:
    """What stands in code: indented blocks and words between backticks."""
    text = page.read_text(encoding="utf-8")
    return "\n".join([*code_blocks(text), *re.findall(r"`([^`\n]+)`", text)])


def test_ci_runs_the_readme_s_test_command() -> None:
    assert re.search(r"^make test\b", "\n".join(code_blocks(text_of("README.md"))), flags=re.MULTILINE)
    assert text_of(".ci/run").rstrip().splitlines()[-1] == "make test"


def test_each_understudy_command_in_a_page_exists() -> None:
    lines = [line for page in PAGES for block in code_blocks(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    shown = {tuple(line.split("#")[0].split()[1:3]) for line in lines if line.startswith("understudy ")}
    names = {words[:1] for words in COMMANDS if len(words) == 1}
    assert all(words[:1] in names or words in COMMANDS for words in shown)
    assert {words[0] for words in shown} >= {"run", "extract", "train", "convert", "evaluate", "consent", "verify"}


def test_the_tutorial_s_project_file_is_a_valid_one(tmp_path: Path) -> None:
    (text,) = code_blocks(text_of("docs/tutorial.md"), "toml")
    for name in ("clips/abel/1.mp4", "clips/bea/1.mp4", "stills/bea.jpg", "shots/010.mp4", "shots/011.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "film.toml").write_text(text, encoding="utf-8")
    assert [swap.name for swap in read_project(tmp_path / "film.toml").swaps] == ["010", "011 take 2"]


def test_the_tutorial_names_what_a_training_leaves_to_look_at() -> None:
    table = text_of("docs/tutorial.md").split("### What a model folder shows")[1].split("\n\n")[1]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines())
    film = f"{PREVIEWS_FOLDER}/{FILM_FILE}"
    assert all(f"`{name}" in first_cells for name in (film, REPORT_FILE, f"{TENSORBOARD_FOLDER}/", EVENTS_FILE))


def test_the_tutorial_says_what_each_recipe_is_for() -> None:
    table = text_of("docs/tutorial.md").split("Which recipe:")[1].split("## 5")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z-]+)`", first_cells)) == set(TRAIN_RECIPES)


def test_python_in_the_pages_uses_names_that_exist() -> None:
    import understudy

    blocks = [block for page in PAGES for block in code_blocks(page.read_text(encoding="utf-8"), "python")]
    for block in blocks:
        compile(block, "page", "exec")
    assert {name for block in blocks for name in re.findall(r"understudy\.(\w+)\(", block)} <= set(understudy.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]*)[^)]*\)", page.read_text(encoding="utf-8")):
        if target and not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_each_file_that_the_readme_s_tree_names_exists() -> None:
    tree = text_of("README.md").split("## The tree")[1].split("```")[1]
    names = re.findall(r"^  (\S+)", tree, flags=re.MULTILINE)
    assert all((ROOT / "src" / "understudy" / name).exists() for name in names)
    listed = {name.rstrip("/") for name in names}
    there = {path.name for path in (ROOT / "src" / "understudy").iterdir() if not path.name.startswith("_")}
    assert there - {"py.typed", "version.py"} <= listed


def test_each_pinned_package_has_its_licence_in_the_notice() -> None:
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==", text_of("constraints.txt"), flags=re.MULTILINE)
    listed = set(re.split(r"[|,\s]+", text_of("NOTICE.md").lower()))
    assert [name for name in pinned if name.lower() not in listed] == []


def test_each_requirement_is_pinned() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = text_of("constraints.txt").lower()
    assert [name for name in required if f"\n{re.split('[<>=]', name)[0].lower()}==" not in pinned] == []
    assert "\ntorch==2.13.0\n" in pinned


def test_each_weight_is_in_the_notice() -> None:
    from understudy.perception.weights import WEIGHTS

    notice = text_of("NOTICE.md")
    assert all(weight.name in notice and weight.licence in notice for weight in WEIGHTS)


def test_the_version_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
