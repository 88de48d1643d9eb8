"""What permits work that goes on for hours: the records that it began under, looked at again while it lasts.

A consent that has ended is Refused, after which nothing of the work is kept. A record that cannot be found or read (a folder
on a server that went away) or that has been replaced is BadInput: the work stops too, and goes on with the same command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from understudy.trust.consent import ConsentReference, check
from understudy.trust.records import Purpose, read_record
from understudy.types import BadInput, Event, Refused, UnderstudyError

SECONDS_BETWEEN_LOOKS = 60.0


class Standing:
    """Whether the records that work began under are still in force; once one is not, they never are again.

    A look reads each record and its signature, and where a revocation would lie: about a millisecond each. Without records,
    as of a process that only follows, all is in force.
    """

    def __init__(self, folder: Path, *began_under: tuple[Purpose, Sequence[ConsentReference]]) -> None:
        """folder: of the records; began_under: what work is done under which of them."""
        self._folder = folder
        self._began_under = [(purpose, each) for purpose, references in began_under for each in references]
        self._looked = time.monotonic()
        self._end: UnderstudyError | None = None

    def holds(self, now: bool = False) -> bool:
        """Whether all are in force, by a look of the last minute, or of now."""
        is_due = now or time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS
        if is_due and self._end is None:
            self._looked = time.monotonic()
            try:
                self._look()
            except UnderstudyError as error:
                self._end = error
        return self._end is None

    def check(self, now: bool = True) -> None:
        """Raises, in one line, Refused where one is no longer in force, BadInput where one cannot be known to be."""
        if not self.holds(now):
            assert self._end is not None
            raise self._end

    def listen(self, event: Event) -> None:
        """A reporter that ends long work once a minute's look finds nothing that permits it; raises as `check`."""
        self.check(now=False)

    def _look(self) -> None:
        for purpose, began_under in self._began_under:
            try:
                signed = read_record(self._folder, began_under.performer)
            except (Refused, BadInput, OSError) as error:
                raise BadInput(f"stopped: {error}; with the record back in its place the same command continues") from error
            try:
                check(signed, purpose)
            except Refused as error:
                raise Refused(f"stopped, and nothing more is saved: {error}") from error
            except OSError as error:  # a list of revocations on a disk that went away
                raise BadInput(
                    f"stopped: {signed.path}: whether it was revoked cannot be known ({error}); with that back in its place "
                    "the same command continues"
                ) from error
            if signed.sha256 != began_under.record_sha256:
                raise BadInput(
                    f"stopped: {signed.path}: {began_under.performer!r}: another record has taken the place of the one that "
                    "permitted this; give the same command again, which goes by the new one"
                )
