"""`events.jsonl`: a stage's progress, one JSON object a line, and the time left that follows from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from understudy.store.atomic import writing_to
from understudy.store.json_files import json_text
from understudy.types import Event, Reporter

EVENTS_FILE = "events.jsonl"
WINDOW_SECONDS = 60.0
"""The speed that `time_left` believes in is that of the last minute."""


@dataclass(frozen=True)
class TimedEvent:
    """An event and when it was reported (UTC)."""

    time: datetime
    event: Event


def event_log(folder: Path) -> Reporter:
    """A reporter that appends to the folder's `events.jsonl`; a line torn by an earlier kill is cut off first.

    Lines are not fsynced: progress may be lost in a power cut, data is not.
    """
    path = folder / EVENTS_FILE
    with writing_to(path):
        folder.mkdir(parents=True, exist_ok=True)
        _cut_off_torn_line(path)

    def append(event: Event) -> None:
        line = json_text({"time": datetime.now(UTC).isoformat(), **vars(event)}, is_compact=True) + "\n"
        with writing_to(path), open(path, "ab", buffering=0) as file:
            file.write(line.encode("utf-8"))

    return append


def read_events(folder: Path) -> list[TimedEvent]:
    """All whole events of a folder, oldest first; none where nothing was reported. A damaged line is left out.

    For a program that watches a stage from outside its process and, with `time_left`, says how long it will take.
    """
    try:
        lines = (folder / EVENTS_FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [timed for line in lines if (timed := _parse(line)) is not None]


def combine(*reporters: Reporter) -> Reporter:
    """One reporter that tells all of `reporters`, in order."""

    def tell_all(event: Event) -> None:
        for reporter in reporters:
            reporter(event)

    return tell_all


def time_left(history: Sequence[TimedEvent], now: datetime | None = None) -> float | None:
    """Seconds until the work that `history` ends with is done, at the speed of its last minute; None while unknown.

    Only the events of the same stage and unit since it last started (or fell back) count. `now` defaults to the last event.
    """
    recent = _current_work(history)
    if len(recent) < 2 or recent[-1].event.total <= 0:
        return None
    last = recent[-1]
    window = [timed for timed in recent if (last.time - timed.time).total_seconds() <= WINDOW_SECONDS]
    first = window[0] if len(window) > 1 else recent[-2]
    elapsed_seconds = (last.time - first.time).total_seconds()
    progress = last.event.done - first.event.done
    if elapsed_seconds <= 0 or progress <= 0:
        return None
    waited_seconds = max(0.0, ((now or last.time) - last.time).total_seconds())
    return max(0.0, (last.event.total - last.event.done) * elapsed_seconds / progress - waited_seconds)


def _current_work(history: Sequence[TimedEvent]) -> list[TimedEvent]:
    """The unbroken rise of progress at the end of `history`, oldest first."""
    current: list[TimedEvent] = []
    for timed in reversed(history):
        event = timed.event
        if current and event.stage != current[-1].event.stage:
            break
        if event.kind == "started":
            break
        if event.kind != "progress":
            continue
        if current and (event.unit != current[-1].event.unit or event.done > current[-1].event.done):
            break
        current.append(timed)
    return current[::-1]


def _parse(line: bytes) -> TimedEvent | None:
    try:
        values = json.loads(line)
        time = datetime.fromisoformat(values["time"])
        if time.tzinfo is None:  # not written by `event_log`, and of no use beside times that say where they hold
            return None
        return TimedEvent(time, Event(**{name: values[name] for name in _names(values)}))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _names(values: Iterable[str]) -> list[str]:
    known = {field.name for field in fields(Event)}
    return [name for name in values if name in known]


def _cut_off_torn_line(path: Path) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
