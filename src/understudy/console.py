"""What a user sees in the terminal: progress on stderr while work runs, and a short readable result on stdout.

On a terminal progress is a bar with the rate and the time left; elsewhere plain lines, at most one every five seconds.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from understudy.inwords import name_in_words, range_in_words, value_in_words
from understudy.store.events import TimedEvent, time_left
from understudy.types import Event, Reporter, StageResult

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 5.0
BAR_SECONDS = 0.2
STAGE_CELLS, BAR_CELLS, NUM_GAPS = 8, 12, 2
"""How the columns of a progress bar lie: the stage's name and the bar, and one cell after each."""

MOST_GAPS = 6

HISTORY_EVENTS = 3000
"""How many events the time left is judged by: a minute's worth at 50 a second."""


@contextmanager
def progress() -> Iterator[Reporter]:
    """A reporter that shows events on stderr until the block ends."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    stage = TextColumn("{task.description}", markup=False, table_column=Column(min_width=STAGE_CELLS))
    bar_column = BarColumn(BAR_CELLS, table_column=Column(min_width=BAR_CELLS))
    columns = (stage, bar_column, TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)


class _Tracker:
    """Follows the events of a run, for the words that describe where it stands."""

    def __init__(self) -> None:
        self._history: deque[TimedEvent] = deque(maxlen=HISTORY_EVENTS)
        self._seconds_after: float | None = None
        self._figures: Mapping[str, object] = {}

    def add(self, event: Event) -> None:
        if event.stage == "run":
            self._seconds_after = float(event.figures.get("seconds_after", 0))
        if event.kind == "started":
            self._figures = {}
        if event.figures and event.stage != "run":
            self._figures = event.figures
        if event.kind in ("started", "progress"):
            self._history.append(TimedEvent(datetime.now(UTC), event))

    def text(self, event: Event, room: int | None = None) -> str:
        """`0:55 left (10:20 in all) · 212 of 600 frames · looking for faces · 7.1 a second`, or as much of it as has room.

        What is asked for most comes first, so that a narrow terminal cuts off the least. room: in characters; None for any.
        """
        seconds_left = time_left(self._history)
        speed = _speed(event, seconds_left)
        skipped = "_per_second" if speed else "step"
        figures = {name: value for name, value in self._figures.items() if not name.endswith(skipped)}
        parts = [self._left(seconds_left), _counts(event), event.message, speed, _few(figures)]
        parts = [part for part in parts if part]
        while room is not None and len(parts) > 1 and len(" · ".join(parts)) > room:
            parts.pop()
        return " · ".join(parts)

    def _left(self, seconds_left: float | None) -> str:
        if seconds_left is None:
            return ""
        in_all = f" ({duration(seconds_left + self._seconds_after)} in all)" if self._seconds_after else ""
        return f"{duration(seconds_left)} left{in_all}"


class _Lines:
    """Plain lines for logs and pipes."""

    def __init__(self) -> None:
        self._tracker = _Tracker()
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        self._tracker.add(event)
        if event.kind in ("progress", "figures"):
            if event.kind == "figures" or monotonic() < self._next:
                return
            text = self._tracker.text(event)
        else:
            text = _announcement(event)
        if text:
            self._next = monotonic() + LINE_SECONDS
            print(f"{event.stage}: {text}", file=sys.stderr, flush=True)


class _Bar:
    """A bar for the stage at work; what is finished stays above it as a line."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tracker = _Tracker()
        self._task = bar.add_task("", total=None, text="preparing")
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        self._tracker.add(event)
        if event.kind == "progress":
            if monotonic() < self._next and event.done != event.total:
                return
            self._next = monotonic() + BAR_SECONDS
            self._bar.update(
                self._task,
                description=event.stage,
                completed=event.done,
                total=event.total or None,
                text=self._tracker.text(event, self._bar.console.width - STAGE_CELLS - BAR_CELLS - NUM_GAPS),
            )
        elif text := _announcement(event):
            self._bar.console.print(f"{event.stage}: {text}", markup=False, highlight=False)


def _announcement(event: Event) -> str:
    """The line of an event that is not mere progress; empty where there is nothing to say."""
    if event.kind == "warning":
        return f"warning: {event.message}"
    if event.stage == "run":
        return f"{event.done + 1:.0f} of {event.total:.0f}: {event.message}"
    return event.message


def _counts(event: Event) -> str:
    if event.unit in ("s", "seconds") and event.total:
        return f"{duration(event.done)} of {duration(event.total)}"
    of_total = f" of {event.total:.0f}" if event.total else ""
    return f"{event.done:.0f}{of_total} {event.unit}".rstrip() if event.done or event.total else ""


def _speed(event: Event, seconds_left: float | None) -> str:
    if not seconds_left or event.unit in ("s", "seconds"):
        return ""
    return f"{(event.total - event.done) / seconds_left:.3g} a second"


def _few(figures: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in list(figures.items())[:2])


def duration(seconds: float) -> str:
    """`0:55`, `12:03`, `3:20:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# ---- results --------------------------------------------------------------------------------------------------------------


def result_text(result: StageResult) -> str:
    """A stage's figures and the files it made, one a line."""
    if result.stage == "run":
        return run_text(result)
    if "gaps" in result.figures:
        return _curation_text(result)
    lines = [f"{name:<26} {_short(value)}" for name, value in result.figures.items() if not isinstance(value, dict | list)]
    return "\n".join(lines + [f"{name:<26} {path}" for name, path in result.outputs.items()])


def _curation_text(result: StageResult) -> str:
    """What was left out of a face set, and what either performer lacks, in words."""
    warnings, missing, gaps = (cast(Sequence[Any], result.figures[name]) for name in ("warnings", "missing", "gaps"))
    lines = [str(result.figures["verdict"]), *warnings, *missing, *(gap["words"] for gap in gaps[:MOST_GAPS])]
    lines += [f"{len(gaps) - MOST_GAPS} more in the report"] if len(gaps) > MOST_GAPS else []
    return "\n".join(lines + [f"{name:<26} {path}" for name, path in result.outputs.items()])


def run_text(result: StageResult) -> str:
    """What a run of a whole project made, swap by swap."""
    figures = result.figures
    swaps = figures["swaps"]
    assert isinstance(swaps, dict)
    head = f"{figures['num_done']} stages done, {figures['num_up_to_date']} were up to date."
    return "\n".join([head, *(line for name, swap in swaps.items() for line in ("", name, *_swap_lines(swap)))])


def plan_text(plans: Sequence[Mapping[str, object]]) -> str:
    """What `--dry-run` shows: each stage with its state, its cost and all that it is asked for."""
    return "\n\n".join("\n".join(_plan_lines(each)) for each in plans)


def _plan_lines(planned: Mapping[str, object]) -> list[str]:
    asked = planned["asked"]
    assert isinstance(asked, Mapping)
    seconds, memory = planned["estimated_seconds"], planned["estimated_memory_gb"]
    assert isinstance(seconds, int)
    cost = f"about {duration(seconds)} on two CPU cores, {memory} GB of memory"
    lines = [f"{planned['stage']} {planned['out']}: {planned['state']}; {cost}"]
    lines += [f"  memory                          {planned['memory']}"] if "memory" in planned else []
    for name, value in asked.items():
        if isinstance(value, Mapping):
            lines += [f"  {name}.{field:<24} {item}" for field, item in value.items()]
        elif name == "ranges":
            ranges = [range_in_words(each, asked["recipe"]) for each in value]
            lines += [f"  {f'range {number}':<31} {words}" for number, words in enumerate(ranges, start=1)]
        elif value not in (None, []) and name != "out":
            lines.append(f"  {name_in_words(name):<31} {value_in_words(value)}")
    return lines


def _swap_lines(swap: Mapping[str, object]) -> list[str]:
    lines = []
    if swap.get("psnr_db") is not None:
        plate = swap.get("plate_psnr_db")
        lines.append(("likeness", f"{_short(swap['psnr_db'])} dB against the truth (the plate itself: {_short(plate)} dB)"))
        lines.append(("leak", f"{_short(swap.get('leak'))} of the plate's identity is left (0 is perfect, 1 is the plate)"))
        lines.append(("detail", f"{_short(swap.get('detail'))}, contrast {_short(swap.get('contrast'))} (1 and 1 are perfect)"))
    lines.insert(len(lines) if swap.get("num_swapped") else 0, ("frames", f"{swap.get('num_frames')}: {_fates(swap)}"))
    lines += [(name, str(swap[name])) for name in ("verdict", "swap", "report") if name in swap]
    return [f"  {name:<9} {text}" for name, text in lines]


def _fates(swap: Mapping[str, object]) -> str:
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


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
