"""What the trainer's further loss terms need: the discriminators, and what a frozen face network sees. Nothing where unused."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.imaging.framing import framing
from understudy.model.adversary import Discriminators
from understudy.model.perceptual import Features
from understudy.perception.features import WEIGHTS_OF, face_features
from understudy.perception.weights import weight
from understudy.settings import TrainRecipe


def make_adversary(recipe: TrainRecipe, performers: Sequence[str], device: str) -> Discriminators | None:
    """The discriminators, where the recipe gives them a weight."""
    if recipe.adversarial_weight or recipe.adversarial_swap_weight:
        return Discriminators(recipe, performers, device)
    return None


def make_features(recipe: TrainRecipe, device: str) -> Features | None:
    """The features of the perceptual loss, where the recipe gives it a weight. Raises BadInput where they cannot be had."""
    if not recipe.perceptual_weight:
        return None
    region = framing(recipe.framing)
    return face_features(recipe.perceptual_network, region, device, recipe.perceptual_file, recipe.perceptual_sha256)


def licences_of_terms(recipe: TrainRecipe) -> dict[str, str]:
    """The licence of each weight of others that the terms use, by name."""
    if not recipe.perceptual_weight:
        return {}
    if recipe.perceptual_file:
        return {recipe.perceptual_network: f"the user's own file, sha256 {recipe.perceptual_sha256}"}
    return {name: weight(name).licence for name in WEIGHTS_OF[recipe.perceptual_network]}
