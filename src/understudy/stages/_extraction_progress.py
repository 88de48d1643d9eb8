"""Tells how far an extraction is."""

from __future__ import annotations

import time

from understudy.types import Event, Reporter

SECONDS_BETWEEN_EVENTS = 0.5


class Progress:
    """Counts done work and reports it twice a second, with its speed."""

    def __init__(self, report: Reporter, unit: str, total: int) -> None:
        self._report, self._unit, self._total = report, unit, total
        self._started = self._told = time.monotonic()
        self._num_skipped = self._num_done = 0

    @property
    def per_second(self) -> float:
        """The speed of this run, without what earlier runs had done."""
        return self._num_done / max(time.monotonic() - self._started, 1e-6)

    def skip(self, num: int) -> None:
        """Count work that an earlier run did."""
        self._num_skipped += num

    def step(self, message: str) -> None:
        """Count one more, and report it if the last report is a while ago."""
        self._num_done += 1
        if time.monotonic() - self._told >= SECONDS_BETWEEN_EVENTS:
            self.tell(message)

    def tell(self, message: str) -> None:
        """Report how far the work is."""
        self._told = time.monotonic()
        done = self._num_skipped + self._num_done
        speed = {f"{self._unit}_per_second": round(self.per_second, 1)}
        self._report(Event("extract", "progress", done, max(self._total, done), self._unit, message, speed))
