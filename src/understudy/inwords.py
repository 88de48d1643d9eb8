"""Puts what a project asks of its stages into words: a setting, a range of a plate, and what differs between two askings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from understudy.types import Json

AS_IN_THE_FILE = {"with_": "with", "is_swapped": "swapped"}
"""What a project file calls the arguments and fields whose names in Python are others."""


def name_in_words(name: str) -> str:
    """An argument or setting by its name in the project file."""
    return AS_IN_THE_FILE.get(name, name)


def value_in_words(value: object) -> str:
    """A value as JSON has it, as a user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def range_in_words(asked: Mapping[str, object], recipe: Mapping[str, object]) -> str:
    """A range of a plate with what it sets apart from the swap's recipe: `frames 20-40: blend feather`."""
    own = asked["recipe"]
    assert isinstance(own, Mapping)
    place = f"shot {asked['shot']}" if asked["frames"] is None else f"frames {_frames_in_words(asked['frames'])}"
    settings = [f"{name} {value_in_words(value)}" for name, value in own.items() if value != recipe.get(name)]
    settings += [] if asked["is_swapped"] else ["not swapped"]
    return f"{place}: {', '.join(settings)}" if settings else place


def numbered(items: object) -> Json:
    """A list as an object with numbers from 1 for its keys; an empty one for no list."""
    return {str(number): item for number, item in enumerate(items, start=1)} if isinstance(items, list) else {}


def difference_in_words(field: str, then: object, now: object) -> str:
    """What has changed in a field: `seed: 0, now 1`; of a range (`ranges.1.frames`): `range 1: frames 200-240, now 20-40`."""
    if field.startswith("inputs."):
        return f"{field.removeprefix('inputs.')} changed"
    if not field.startswith("ranges."):
        return f"{name_in_words(field.removeprefix('recipe.'))}: {value_in_words(then)}, now {value_in_words(now)}"
    _, number, *names = field.split(".")
    if not names:
        return f"range {number}: {'new' if then is None else 'taken out'}"
    in_words = _frames_in_words if names[-1] == "frames" else value_in_words
    return f"range {number}: {name_in_words(names[-1])} {in_words(then)}, now {in_words(now)}"


def without_repetition(differences: Mapping[str, str]) -> dict[str, str]:
    """Without what differs in a range only because it does in the whole swap."""
    of_the_swap = {words.replace(": ", " ", 1) for field, words in differences.items() if field.startswith("recipe.")}
    return {
        field: words
        for field, words in differences.items()
        if not (field.startswith("ranges.") and words.partition(": ")[2] in of_the_swap)
    }


def _frames_in_words(frames: object) -> str:
    return "-".join(map(str, frames)) if isinstance(frames, Sequence) else str(frames)
