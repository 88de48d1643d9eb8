"""All claims, in order of their numbers."""

from experiments.claims import film, learning, losses, parts, untried
from experiments.claims.model import Claim

CLAIMS: tuple[Claim, ...] = tuple(
    sorted(
        (*learning.CLAIMS, *parts.CLAIMS, *losses.CLAIMS, *film.CLAIMS, *untried.CLAIMS), key=lambda claim: int(claim.name[1:])
    )
)
