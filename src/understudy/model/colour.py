"""A performer's colour standard: what the encoder sees is free of skin tone, so that it cannot hand the plate's skin on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from understudy.types import BadInput

COMMON_MEAN, COMMON_SPREAD = 0.5, 0.18
"""Where every performer's skin is brought, in 0..1: the middle, with the spread that faces of the sample have."""

RIM_FRACTION = 0.055
"""How much of the face mask's rim does not count, as a share of the crop's side: a seventh of a face unit."""


@dataclass(frozen=True)
class ColourStandard:
    """The mean and spread of a performer's face over all its footage, per channel R G B, in 0..1.

    A face brighter than the performer's average stays brighter: the light is kept, only the constant is taken out. It is the
    2017 program's shift of A's mean colour to B's, done for both sides and for the spread too.
    skin: the colour that faces were brought to before, where the light on each was taken out (imaging/light.py).
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    skin: tuple[float, ...] | None = None

    def apply(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, R, R) in 0..1, brought to the common mean and spread."""
        mean, spread = (torch.tensor(values, device=pictures.device)[:, None, None] for values in (self.mean, self.spread))
        return (pictures - mean) / spread * COMMON_SPREAD + COMMON_MEAN

    def as_json(self) -> dict[str, object]:
        values: dict[str, object] = {"mean": list(self.mean), "spread": list(self.spread)}
        return values if self.skin is None else {**values, "skin": list(self.skin)}

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[float]]) -> ColourStandard:
        """Raises BadInput where `values` is not what `as_json` made."""
        try:
            skin = tuple(map(float, values["skin"])) if "skin" in values else None
            standard = cls(tuple(map(float, values["mean"])), tuple(map(float, values["spread"])), skin)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"expected a colour standard with mean and spread, got {str(values)[:100]!r}") from error
        if not all(len(each) == 3 and all(map(math.isfinite, each)) for each in (standard.mean, standard.spread)):
            raise BadInput(f"expected three means and three spreads in a colour standard, got {str(values)[:100]!r}")
        if skin is not None and not (len(skin) == 3 and all(math.isfinite(each) and each > 0 for each in skin)):
            raise BadInput(
                f"expected the skin of a colour standard to be three numbers above 0, got {str(values['skin'])[:100]!r}"
            )
        return standard


UNCHANGED = ColourStandard((COMMON_MEAN,) * 3, (COMMON_SPREAD,) * 3)
"""The standard that changes nothing."""


def measure_standard(crops: Tensor) -> ColourStandard:
    """The standard of a performer from crops (N, >= 4, S, S) uint8: RGB and, in the fourth channel, the face mask.

    The mask's rim is left out: hair and background there would pass for dark skin.
    """
    total = torch.zeros(3, 3, dtype=torch.float64)  # rows: weight, sum, sum of squares
    for some in crops.split(16):
        pictures, mask = some[:, :3].double() / 255, without_rim(some[:, 3:4].float() / 255).double()
        for row, values in enumerate((mask.expand_as(pictures), pictures * mask, pictures**2 * mask)):
            total[row] += values.sum((0, 2, 3)).cpu()
    weight, sums, squares = total.clamp_min(1e-9)
    mean = sums / weight
    spread = (squares / weight - mean**2).clamp_min(0.02**2).sqrt()
    return ColourStandard(tuple(mean.tolist()), tuple(spread.tolist()))


def without_rim(mask: Tensor) -> Tensor:
    """A face mask (B, 1, S, S) drawn in by RIM_FRACTION of its side."""
    reach_px = round(mask.shape[-1] * RIM_FRACTION)
    return _least_within(_least_within(mask, reach_px).transpose(2, 3), reach_px).transpose(2, 3).contiguous()


def _least_within(mask: Tensor, reach_px: int) -> Tensor:
    """The least of (B, 1, S, T) within `reach_px` to either side along the rows; what lies beyond the picture does not count.

    Windows of two, four, eight pixels are made of two of half the size: one of 97 px costs seven looks at each pixel.
    """
    least, width = functional.pad(mask, (reach_px, reach_px), value=torch.inf), 1
    while 2 * width <= 2 * reach_px + 1:
        least, width = torch.minimum(least[..., :-width], least[..., width:]), 2 * width
    rest = 2 * reach_px + 1 - width
    return torch.minimum(least[..., : least.shape[-1] - rest], least[..., rest:])
