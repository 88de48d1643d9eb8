"""From results to a verdict: each of a claim's tests holds, fails or is open by its paired 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from experiments import results
from experiments.claims.model import Claim, Outcome, Test, Verdict
from experiments.training import Scale
from understudy.imaging.metrics_series import STATISTICS
from understudy.imaging.metrics_statistics import Interval, paired_interval
from understudy.types import Json


@dataclass(frozen=True)
class Tested:
    """A test, what came out, and over how many seeds."""

    test: Test
    found: Interval
    outcome: Outcome
    num_seeds: int


@dataclass(frozen=True)
class Judged:
    """A claim with all that its results say. by_arm: every seed's result, as far as there are any."""

    claim: Claim
    tested: tuple[Tested, ...]
    verdict: Verdict
    by_arm: Mapping[str, Sequence[Json]]

    @property
    def is_whole(self) -> bool:
        """Whether every arm that decides has all its seeds."""
        return bool(self.deciding) and all(len(self.by_arm[name]) >= self.claim.num_seeds for name in self.deciding)

    @property
    def deciding(self) -> set[str]:
        """The arms that a test names."""
        return {name for test in self.claim.tests for name in (test.of, test.against) if name}

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all arms and seeds; arms that several claims share count for each."""
        return sum(cast(float, found["cpu_seconds"]) for several in self.by_arm.values() for found in several)


def judge(claim: Claim, scale: Scale, folder: Path = results.FOLDER) -> Judged:
    """What the results that are there say of a claim."""
    by_arm = {arm.name: _results(claim, arm.name, scale, folder) for arm in claim.arms}
    tested = tuple(found for test in claim.tests if (found := _tested(test, by_arm)) is not None)
    judged = Judged(claim, tested, "not settled", by_arm)
    return replace(judged, verdict=_verdict(tested)) if judged.is_whole else judged


def _results(claim: Claim, name: str, scale: Scale, folder: Path) -> list[Json]:
    found = [results.load(claim.arm(name), scale, seed, folder) for seed in range(claim.num_seeds)]
    return [each for each in found if each is not None]


def _tested(test: Test, by_arm: Mapping[str, Sequence[Json]]) -> Tested | None:
    """The test's interval, paired by frame and seed; None without results."""
    of = by_arm[test.of]
    is_difference = bool(test.against or test.minus)
    against = by_arm[test.against or test.of] if is_difference else ()
    num_seeds = min(len(of), len(against)) if is_difference else len(of)
    if not num_seeds:
        return None
    after, statistic = results.rows_of(of[:num_seeds], test.figure)
    before = results.rows_of(against[:num_seeds], test.minus or test.figure)[0] if is_difference else ()
    found = paired_interval(before, after, STATISTICS[statistic])
    return Tested(test, found, outcome(test, found), num_seeds)


def outcome(test: Test, found: Interval) -> Outcome:
    """Where the interval lies; one without ends decides nothing."""
    if np.isnan(found.low) or np.isnan(found.high):
        return "open"
    if test.within:
        if -test.within <= found.low and found.high <= test.within:
            return "holds"
        return "fails" if found.low > test.within or found.high < -test.within else "open"
    if test.is_more:
        return "holds" if found.low > test.border else "fails" if found.high <= test.border else "open"
    return "holds" if found.high < test.border else "fails" if found.low >= test.border else "open"


def _verdict(tested: Sequence[Tested]) -> Verdict:
    """Confirmed where all hold, refuted where all fail, not settled where nothing is decided; partly else."""
    outcomes = {each.outcome for each in tested}
    if outcomes == {"open"}:
        return "not settled"
    return {frozenset({"holds"}): "confirmed", frozenset({"fails"}): "refuted"}.get(frozenset(outcomes), "partly")  # type: ignore[return-value]
