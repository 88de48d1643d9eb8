"""Moves what a project's stage made before to `previous/`, by date, and nothing that is not a stage's."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path

from understudy.store.events import EVENTS_FILE
from understudy.store.json_files import read_json
from understudy.store.manifest import MANIFEST_FILE
from understudy.store.runs import RECIPE_FILE
from understudy.types import BadInput

PREVIOUS_FOLDER = "previous"


def set_aside(out: Path, name: str) -> Path | None:
    """Moves the folder `name` of a project's `out` to `previous/`; tells where it lies now, None where nothing was in it.

    Raises BadInput for a folder that no stage made: it is the user's own, and stays.
    """
    folder = out / name
    if not holds_anything(folder):
        return None
    check_is_a_stages(folder)
    day = f"{datetime.now():%Y-%m-%d_%H%M%S}"
    places = (out / PREVIOUS_FOLDER / (day if number == 1 else f"{day}_{number}") / name for number in itertools.count(1))
    place = next(place for place in places if not place.exists())
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    return place


def check_is_a_stages(folder: Path) -> None:
    """Raises BadInput for a folder with anything in it of which no file says that a stage made it, or was about to."""
    if holds_anything(folder) and not any(_names_a_stage(folder / name) for name in (RECIPE_FILE, MANIFEST_FILE)):
        raise BadInput(f"{folder}: was not made by this project; move it elsewhere, or give the project another out")


def holds_anything(folder: Path) -> bool:
    """Whether there is anything but hidden files, and the log that a run leaves which failed before it made anything."""
    if not folder.is_dir():
        return folder.exists()
    return any(not item.name.startswith(".") and item.name != EVENTS_FILE for item in folder.iterdir())


def _names_a_stage(path: Path) -> bool:
    """Programs of others write files of these names too."""
    try:
        return path.is_file() and "stage" in read_json(path)
    except BadInput:
        return False
