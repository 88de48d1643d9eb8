"""What a claim is: what the article says, which arms are compared, and what decides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from experiments.training import Scale, Setting, Training
from understudy.store.hashing import sha256_of_json

Outcome = Literal["holds", "fails", "open"]
Verdict = Literal["confirmed", "refuted", "partly", "not settled"]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a network that is trained and scored, or something that is measured without training.

    name: its file's name in results/; words: its name in tables; measure: a function of experiments/measures/, with `settings`.
    """

    name: str
    words: str
    training: Training | None = None
    measure: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def key(self, scale: Scale) -> str:
        """Follows from all that is asked of it; two arms of one key would give the same result."""
        if self.training is None:
            return sha256_of_json([self.measure, dict(self.settings)])[:16]
        return sha256_of_json([asdict(self.training), dict(scale.settings), scale.faces, scale.is_spread_kept])[:16]


@dataclass(frozen=True)
class Test:
    """One statement that the runs can bear out or not, about a figure of the arm `of`, or its difference to that of `against`.

    It holds where the whole 95 % interval lies on the side `is_more` says of the `border`, fails where it lies on the other,
    and is open else. minus: another figure that is taken off. within: instead, that the figure (or difference) is that near
    to 0, wherever `border` is.
    """

    __test__ = False  # pytest is not meant

    words: str
    figure: str
    of: str
    against: str = ""
    is_more: bool = True
    border: float = 0.0
    minus: str = ""
    within: float = 0.0


@dataclass(frozen=True)
class Claim:
    """One claim of the article. `name` is its number, C1 to C41.

    title: in a few words; says: the article's statement; setup: how it is tried; arms: in the table's order (those that no test
    names only show more); tests: what decides;
    figures: the table's columns; shown: arms in the picture, by name; reading: what follows, in words that hold whatever the
    figures are; open_because: for what is not tried at this scale, why; full: what a run at full scale adds.
    """

    name: str
    title: str
    says: str
    setup: str
    arms: tuple[Arm, ...] = ()
    tests: tuple[Test, ...] = ()
    figures: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    reading: str = ""
    open_because: str = ""
    num_seeds: int = 3

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)
