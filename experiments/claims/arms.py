"""The networks that several claims compare. One setting apart from the reference each, unless the words say more."""

from __future__ import annotations

from typing import Any

from experiments.claims.model import Arm
from experiments.networks import Wiring
from experiments.training import Training

AS_IT_WAS = Wiring()


def _arm(name: str, words: str, wiring: Wiring = AS_IT_WAS, /, **settings: Any) -> Arm:
    """A variant of the reference. Keywords that are the training's own go to it, all others are settings of the recipe."""
    ours = ("budget", "objective", "performers", "without_open_mouths")
    of_training = {key: settings.pop(key) for key in ours if key in settings}
    return Arm(name, words, Training(settings=settings, wiring=wiring, **of_training))


REFERENCE = _arm("reference", "the 2017 network")

# ---- what it learns from ----------------------------------------------------------------------------------------------------
NO_WARP = _arm("no-warp", "input not warped", warp_fraction=0.0)
STRONG_WARP = _arm("strong-warp", "warped twice as much", warp_fraction=10 / 160)
ANNEALED = _arm("annealed", "warp falls to nothing at 0.8 of the run", warp_until=0.8)
ONE_PERFORMER = _arm("one-performer", "trained on the performer alone", performers="second")
NO_LAUGHS = _arm("no-laughs", "open mouths withheld from the performer's faces", without_open_mouths=True)
COLOUR_OF_2017 = _arm("colour-of-2017", "colours as in 2017", standardise_colour=False, is_first_shifted_to_second=True)

# ---- its parts --------------------------------------------------------------------------------------------------------------
SEPARATE_ENCODERS = _arm("separate-encoders", "an encoder for each", Wiring(encoders="separate"))
TRANSPOSED = _arm("transposed", "transposed convolutions", Wiring(enlarge="transposed"))
RESIZED = _arm("resized", "resizing and convolutions", Wiring(enlarge="resize"))
SPATIAL = _arm("spatial", "no dense layers", Wiring(code="spatial"))
SPATIAL_8 = _arm("spatial-8", "no dense layers, one halving less", Wiring(code="spatial", code_halvings=3))
SPATIAL_TRANSPOSED = _arm(
    "spatial-transposed", "neither dense layers nor pixel shuffle", Wiring(code="spatial", enlarge="transposed")
)
SPATIAL_RESIZED = _arm("spatial-resized", "no dense layers, resizing", Wiring(code="spatial", enlarge="resize"))
SQUEEZED = _arm("squeezed", "no dense layers, a code of as few numbers", Wiring(code="spatial", code_channels=14))
PERMUTED = _arm("permuted", "no dense layers, places shuffled", Wiring(code="permuted"))
CONVOLVED = _arm("convolved", "convolutions to one place for dense layers", Wiring(code="convolved"))
WIDE = _arm("wide", "twice as wide", width=0.25)
NARROW = _arm("narrow", "half as wide", width=0.0625)
LARGE = _arm("large", "twice the resolution, for as much work", resolution_px=96, budget=0.25)
CORE_TO_FACE = _arm("face-framing", "crop from brow to chin", framing="face")
CORE_TO_FULL = _arm("full-framing", "crop of the whole face", framing="full")

# ---- its losses -------------------------------------------------------------------------------------------------------------
_JUDGED: dict[str, Any] = {"adversarial_weight": 0.1, "discriminator_speed": 0.5}
SQUARED = _arm("squared", "squared error", objective="l2")
DSSIM = _arm("dssim", "L1 and structural dissimilarity", dssim_weight=1.0)
LONG = _arm("long", "2.5 times the steps", budget=2.5)
SLOW = _arm("slow", "the learning rate of 2017", learning_rate=5e-5)
MASK = _arm("mask", "with a mask of its own", architecture="original-mask", mask_weight=0.1)
PERCEPTUAL = _arm("perceptual", "L1 and perceptual loss", perceptual_weight=0.1, perceptual_from=0.0)
GAN = _arm("gan", "L1 and adversarial loss", **_JUDGED)
STRONG_GAN = _arm("strong-gan", "L1 and three times the adversarial loss", **{**_JUDGED, "adversarial_weight": 0.3})
SECOND_VERSION = _arm(
    "second-version", "mask, adversarial and perceptual loss", architecture="original-mask", mask_weight=0.1,
    perceptual_weight=0.1, perceptual_from=0.0, **_JUDGED,
)  # fmt: skip
SPATIAL_GAN = _arm(
    "spatial-gan", "neither dense nor shuffle, adversarial loss", Wiring(code="spatial", enlarge="transposed"), **_JUDGED
)
NO_LAUGHS_GAN = _arm("no-laughs-gan", "open mouths withheld, adversarial loss", without_open_mouths=True, **_JUDGED)
HINGE = _arm("hinge", "hinge", gan_loss="hinge", **_JUDGED)
LEAST_SQUARES = _arm("least-squares", "least squares", gan_loss="least-squares", **_JUDGED)
RELATIVISTIC = _arm("relativistic", "relativistic", gan_loss="relativistic", **_JUDGED)
SWAP_GAN = _arm("swap-gan", "swaps judged by the discriminator too", adversarial_swap_weight=0.1, **_JUDGED)
CYCLE = _arm("cycle", "swaps judged, and led back (cycle)", adversarial_swap_weight=0.1, cycle_weight=0.5, **_JUDGED)
HARMONY = _arm(
    "harmony", "swaps judged, and held a little to the plate", adversarial_swap_weight=0.1, harmony_weight=0.03, **_JUDGED
)
STRONG_HARMONY = _arm("strong-harmony", "ten times that", adversarial_swap_weight=0.1, harmony_weight=0.3, **_JUDGED)
