"""A project file in a folder of its own, and what finished stages leave there."""

from __future__ import annotations

from pathlib import Path

from understudy.project import Planned, Records, Step, steps_of
from understudy.projectfile import Project, read_project
from understudy.store.manifest import Manifest, write_manifest

PROJECT = """
[project]
name = "film"
out = "made"

[performers.abel]
footage = ["clips/abel_*.mp4"]

[performers.bea]
footage = ["clips/bea.mp4"]
like = ["bea.jpg"]

[train]
minutes = 9
set = { batch_size = 8 }

[[swap]]
plate = "shots/010.mp4"
replace = "abel"
with = "bea"
set = { colour = "none" }
"""

FILES = ("clips/abel_1.mp4", "clips/abel_2.mp4", "clips/bea.mp4", "bea.jpg", "shots/010.mp4")
NAMES = ["faces/abel", "faces/bea", "model", "swaps/010", "reports/010"]


def write_project(folder: Path) -> Path:
    """The project file and, in place of its footage, files that can be told apart; returns the folder."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "film.toml").write_text(PROJECT, encoding="utf-8")
    return folder


def project_with(folder: Path, old: str, new: str) -> Project:
    assert old in PROJECT
    path = folder / "film.toml"
    path.write_text(PROJECT.replace(old, new), encoding="utf-8")
    return read_project(path)


def pretend_finished(project: Project, step: Step) -> None:
    """Leave on disk what a finished stage leaves: its record and a manifest that says what it was made from."""
    records = Records(project.out, steps_of(project))
    records.remember(step)
    made_from = {name: str(path) for name, path in step.inputs().items()}
    step.out.mkdir(parents=True, exist_ok=True)
    write_manifest(step.out, Manifest(step.verb, {}, recipe_sha256="", figures=made_from, outputs={}))


def finished(folder: Path) -> Project:
    project = read_project(folder / "film.toml")
    for step in steps_of(project):
        pretend_finished(project, step)
    return project


def states(planned: tuple[Planned, ...]) -> dict[str, str]:
    return {each.step.name: each.state for each in planned}
