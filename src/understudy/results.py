"""What a stage came to, as a user reads it when it ends: an answer first, then what matters, then where the files are.

Every figure is in the folder's manifest.json, whose path is told; `--json` prints them all.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from understudy.store.manifest import MANIFEST_FILE
from understudy.types import StageResult

MOST_GAPS = 6
_MOST_COLUMNS = 100
_NAME_CELLS = 14
_PLACES = ("swap", "faces", "model", "previews", "contact_sheet", "ledger", "report")
"""The outputs that are told, in this order; the others lie beside them."""

Lines = Sequence[tuple[str, str]]
"""A name, or "" for none, and what is said under it."""


def result_text(result: StageResult) -> str:
    """What one stage came to."""
    words: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, Lines]]] = {
        "extract": _extraction,
        "curate": _curation,
        "train": _training,
        "convert": _conversion,
        "evaluate": _evaluation,
    }
    answer, lines = words[result.stage](result.figures)
    places = {name: str(path) for name, path in result.outputs.items()}
    if result.stage == "convert" and _is_all_swapped(result.figures):
        places.pop("ledger", None)  # it says which frames are not
    return _laid_out(answer, lines, _places(places))


def run_text(result: StageResult) -> str:
    """What a run of a whole project made, swap by swap."""
    figures = cast(Mapping[str, Any], result.figures)
    num_done, num_there = figures["num_done"], figures["num_up_to_date"]
    head = f"{_counted(num_done, 'stage')} done, {num_there} {'was' if num_there == 1 else 'were'} up to date."
    return "\n\n".join([head, *(_swap_text(name, swap) for name, swap in figures["swaps"].items())])


def _swap_text(name: str, swap: Mapping[str, Any]) -> str:
    """A swap by its conversion and its evaluation together; that none of it is swapped comes first."""
    answer, lines = _evaluation(swap)
    frames = ("frames", f"{swap['num_frames']}: {_fates(swap)}")
    said = [line for line in lines if line[0] != "frames"]
    said.insert(len(said) if swap.get("num_swapped") else 0, frames)
    places = {name: str(swap[name]) for name in ("swap", "report") if name in swap}
    return _laid_out(f"{name}: {answer}", said, _places(places))


# ---- stage by stage -------------------------------------------------------------------------------------------------------


def _extraction(figures: Mapping[str, Any]) -> tuple[str, Lines]:
    without, others = (figures.get(name, 0) for name in ("num_frames_without_face", "num_other_faces"))
    answer = f"{_counted(figures['num_faces'], 'face')} in {_counted(figures['num_frames'], 'frame')}."
    lines = [("no face", f"in {_counted(without, 'frame')}")] if without else []
    return answer, [*lines, *([("left out", f"{_counted(others, 'face')} of other people")] if others else [])]


def _training(figures: Mapping[str, Any]) -> tuple[str, Lines]:
    seen = f"{figures['step']:,} steps, {figures['num_faces_seen']:,} faces at {figures['faces_per_second']:.0f} a second"
    went_back = figures.get("num_incidents")
    incidents = [("incidents", f"{went_back}; the report says what happened")] if went_back else []
    verdict = str(figures["verdict"])
    return f"{verdict[:1].upper()}{verdict[1:]}.", [("trained", seen), *incidents]


def _conversion(figures: Mapping[str, Any]) -> tuple[str, Lines]:
    answer = f"{figures['num_swapped']} of {figures['num_frames']} frames are swapped."
    return answer, [] if _is_all_swapped(figures) else [("frames", _fates(figures))]


def _is_all_swapped(figures: Mapping[str, Any]) -> bool:
    return bool(figures["num_swapped"] == figures["num_frames"] and not figures.get("num_partly_swapped"))


def _evaluation(figures: Mapping[str, Any]) -> tuple[str, Lines]:
    from understudy.stages._evaluation_short import in_short  # numpy comes with it

    said = in_short(figures)
    num_frames, num_compared = figures["num_frames"], figures["num_compared"]
    lines = [*said.lines.items()]
    if num_compared < num_frames:
        lines.append(("frames", f"{num_frames - num_compared} of {num_frames} could not be compared"))
    if suspects := figures.get("frames_to_look_at"):
        lines.append(("look first at", "frames " + ", ".join(str(each["frame"]) for each in suspects)))
    return said.answer, lines


def _curation(figures: Mapping[str, Any]) -> tuple[str, Lines]:
    """What was left out of a face set, and what either performer lacks; or that all is kept again."""
    if "gaps" not in figures:
        kept, restored = _counted(figures["num_kept"], "face"), figures["num_restored"]
        return f"{kept} {'is' if figures['num_kept'] == 1 else 'are'} kept, {restored:,} of them again.", []
    gaps = figures["gaps"]
    said = [*figures["warnings"], *figures["missing"], *(gap["words"] for gap in gaps[:MOST_GAPS])]
    said += [f"{len(gaps) - MOST_GAPS} more in the report"] if len(gaps) > MOST_GAPS else []
    return str(figures["verdict"]), [("", words) for words in said]


def _fates(swap: Mapping[str, Any]) -> str:
    """`99 swapped (2 of them in part), 21 without a face`: what became of the frames; the numbers add up to all of them."""
    fates = {
        "num_without_face": "without a face",
        "num_other_person": "with other people alone",
        "num_left_out": "left out",
        "num_failed": "failed",
    }
    partly = f" ({swap['num_partly_swapped']} of them in part)" if swap.get("num_partly_swapped") else ""
    swapped = f"{swap['num_swapped']} swapped{partly}" if swap.get("num_swapped") else "none is swapped"
    return ", ".join([swapped, *(f"{swap[name]} {fate}" for name, fate in fates.items() if swap.get(name))])


# ---- on the screen --------------------------------------------------------------------------------------------------------


def _places(outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Where the files are that a user opens, and every figure."""
    places = [(name.replace("_", " "), outputs[name]) for name in _PLACES if name in outputs]
    figures = Path(outputs["report"]).parent / MANIFEST_FILE if "report" in outputs else None
    return [*places, *([("all figures", str(figures))] if figures else [])]


def _laid_out(answer: str, lines: Lines, places: Lines) -> str:
    """The answer, then a line for each name, folded to the terminal's width. Paths stay whole, so that they can be copied."""
    width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    folded = [_folded(_start(name) if name else "  ", words, width) for name, words in lines]
    return "\n".join([textwrap.fill(answer, width), *folded, *(f"{_start(name)}{path}" for name, path in places)])


def _start(name: str) -> str:
    return f"  {name:<{_NAME_CELLS}}"


def _folded(start: str, words: str, width: int) -> str:
    indent = " " * len(start)
    return textwrap.fill(
        words, width, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
