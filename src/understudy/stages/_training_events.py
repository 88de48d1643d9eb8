"""Who listens to a training, and what is told before its first step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from understudy.store.tensorboard import ScalarLog
from understudy.types import Event, Reporter

REPORT_SECONDS = 1.0


def reading_reporter(num_faces: int, report: Reporter) -> Callable[[], None]:
    """To be called after each face that was read: tells how many, once a second."""
    report(Event("train", "started", message=f"reading {num_faces} faces"))
    num_read, told_at = 0, time.monotonic()

    def tell() -> None:
        nonlocal num_read, told_at
        num_read += 1
        if time.monotonic() - told_at >= REPORT_SECONDS:
            told_at = time.monotonic()
            report(Event("train", "progress", done=num_read, total=num_faces, unit="faces", message="reading"))

    return tell


def scalar_reporter(out: Path) -> Reporter:
    """A listener that writes what a run measures as curves for TensorBoard, under train/ and held-out/."""
    log: list[ScalarLog] = []

    def write(event: Event) -> None:
        if event.kind not in ("progress", "figures") or "step" not in event.figures:
            return
        log[:] = log or [ScalarLog(out)]
        group = "train" if event.kind == "progress" else "held-out"
        numbers = {name: value for name, value in event.figures.items() if name != "step" and not isinstance(value, str)}
        log[0].add(int(event.figures["step"]), {f"{group}/{name}": float(value) for name, value in numbers.items()})

    return write
