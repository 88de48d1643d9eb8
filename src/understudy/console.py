"""What a user sees in the terminal while work runs, on stderr, and before it, with `--dry-run`. (results.py: what came of it.)

On a terminal progress is a bar with the rate and the time left; elsewhere plain lines, at most one every five seconds.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from understudy.inwords import name_in_words, range_in_words, value_in_words
from understudy.store.events import TimedEvent, time_left
from understudy.types import Event, Reporter

if TYPE_CHECKING:
    from rich.progress import Progress

EXIT_STOPPED = 130
"""The exit status of what was stopped by Ctrl-C."""

LINE_SECONDS = 5.0
BAR_SECONDS = 0.2
STAGE_CELLS, BAR_CELLS, NUM_GAPS = 8, 12, 2
"""How the columns of a progress bar lie: the stage's name and the bar, and one cell after each."""

HISTORY_EVENTS = 3000
"""How many events the time left is judged by: a minute's worth at 50 a second."""


@contextmanager
def progress(is_end_told: bool = True) -> Iterator[Reporter]:
    """A reporter that shows events on stderr until the block ends.

    is_end_told: whether a stage's last words are shown; not where its result, which begins with them, is printed next.
    """
    with _shown() as show:
        yield lambda event: None if event.kind == "finished" and not is_end_told else show(event)


@contextmanager
def _shown() -> Iterator[Reporter]:
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


def stopped(goes_on: bool) -> str:
    """What is said when work was stopped by Ctrl-C."""
    return f"Stopped. The same command {'continues' if goes_on else 'begins anew'}."


# ---- plans ---------------------------------------------------------------------------------------------------------------


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
            lines += [f"  {name}.{field:<24} {value_in_words(item)}" for field, item in value.items()]
        elif name == "ranges":
            ranges = [range_in_words(each, asked["recipe"]) for each in value]
            lines += [f"  {f'range {number}':<31} {words}" for number, words in enumerate(ranges, start=1)]
        elif value not in (None, []) and name != "out":
            lines.append(f"  {name_in_words(name):<31} {value_in_words(value)}")
    return lines


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
