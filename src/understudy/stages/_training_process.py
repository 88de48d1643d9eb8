"""What surrounds the steps of a run in its process: the clock, the signals that end it, and the memory it keeps."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from understudy.settings import TrainRecipe

SAVE_SHARE = 0.05
"""Saving takes no more of the time than this, however often it is asked for."""
FIRST_SHARE = 0.1
"""Of the time between two checkpoints, when the first is due: a run that is killed early, or judged for long, is not lost."""
JUDGE_SHARE, GLANCE_SHARE = 0.03, 0.02
"""Judging takes no more of the time than this, however often checkpoints are saved; and so do glances between them."""
LEAST_GLANCE_SECONDS, GLANCE_GROWTH = 5.0, 0.05
"""From glance to glance; a run of days is looked at once in a twentieth of what it has been trained, so that they stay few."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # mallopt(3)


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM wait until a step is whole, so that what is saved is a state that an unbroken run had too."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield lambda: False
        return
    before = {number: signal.signal(number, lambda which, _: seen.append(which)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Clock:
    """Measures steps and says when something is due; time spent on saving and previews does not count as training."""

    def __init__(self, recipe: TrainRecipe) -> None:
        now = time.monotonic()
        self._last_tick = now
        self._checkpoint_seconds = recipe.checkpoint_seconds
        # The first preview comes early, so that a wrong start is seen at once.
        first_preview = now + min(15.0, recipe.preview_seconds) - recipe.preview_seconds
        first_checkpoint = now - (1 - FIRST_SHARE) * recipe.checkpoint_seconds
        self._last = {"report": now, "preview": first_preview, "checkpoint": first_checkpoint, "judge": -1e9, "glance": now}

        self._judge_seconds = {"judge": 0.0, "glance": 0.0}
        self._save_seconds: float | None = None

    @property
    def has_saved(self) -> bool:
        """Whether a checkpoint was saved by this process."""
        return self._save_seconds is not None

    def is_checkpoint_due(self) -> bool:
        """Every `checkpoint_seconds`, or less often where saving takes long; after each step where that is 0."""
        if not self._checkpoint_seconds:
            return True
        return self.is_due("checkpoint", max(self._checkpoint_seconds, (self._save_seconds or 0.0) / SAVE_SHARE))

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measures what saving takes; the time to the next checkpoint begins when it is done."""
        began = time.monotonic()
        yield
        self._last["checkpoint"] = time.monotonic()
        self._save_seconds = self._last["checkpoint"] - began

    def is_judgement_due(self) -> bool:
        """To be asked at a checkpoint. The first judgement takes long, and waits until something is saved."""
        return self.has_saved and self.is_due("judge", self._judge_seconds["judge"] / JUDGE_SHARE)

    def is_glance_due(self, trained_seconds: float) -> bool:
        """Whether to look at the error between two checkpoints, after so long a training in all sessions."""
        shortest = max(LEAST_GLANCE_SECONDS, GLANCE_GROWTH * trained_seconds)
        return self.is_due("glance", max(shortest, self._judge_seconds["glance"] / GLANCE_SHARE))

    @contextmanager
    def judging(self, what: Literal["judge", "glance"]) -> Iterator[None]:
        """Measures what a judgement, or a glance, takes; a judgement is a glance as well."""
        began = time.monotonic()
        yield
        self._last["glance"] = time.monotonic()
        self._judge_seconds[what] = self._last["glance"] - began

    def tick(self) -> float:
        now = time.monotonic()
        seconds, self._last_tick = now - self._last_tick, now
        return seconds

    def leave_out(self) -> None:
        """What was done since the last tick does not count."""
        self._last_tick = time.monotonic()

    def is_due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last[what] < every_seconds:
            return False
        self._last[what] = now
        return True


def keep_freed_memory() -> None:
    """Let this process keep the memory that a step frees, where the C library allows it.

    glibc returns large blocks to the system, so each step would fault its activations in again: a tenth of the time and more.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
            mallopt(parameter, value)
