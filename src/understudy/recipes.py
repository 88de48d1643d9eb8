"""The named presets, each a function with its command, expected time, memory and score; `--set` changes their fields."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from understudy.settings import ConvertRecipe, CurateRecipe, TrainRecipe
from understudy.types import BadInput

Recipe = TypeVar("Recipe", CurateRecipe, TrainRecipe, ConvertRecipe)

# ---- curating -------------------------------------------------------------------------------------------------------------


def curation() -> CurateRecipe:
    """Leaves out what is plainly unusable and what is there twice; of what is merely poor it keeps what the footage has.

    Command: `understudy curate faces/abel --against faces/bea`
    Time:    3 seconds for the two sets of the demo on two cores of a server CPU, about 4 milliseconds a face
    Memory:  0.2 GB
    Score:   479 of 480 planted faults found, none of 978 untouched faces faulted (docs/log.md)
    """
    return CurateRecipe()


CURATE_RECIPES: Mapping[str, Callable[[], CurateRecipe]] = {"default": curation}

# ---- training -------------------------------------------------------------------------------------------------------------


def quick() -> TrainRecipe:
    """A small modern model for two CPU cores: first looks, tests of learning. It begins with the rendered starter.

    Command: `understudy train faces/abel faces/bea --out model --recipe quick`
    Time:    5 minutes on two cores of a server CPU (36,000 faces take one core 9 minutes with AMX, 15 without it)
    Memory:  1 GB
    Score:   after 36,000 faces 11.4 dB nearer to the truth than the plate, leak 0.02, edges 0.64 (docs/benchmark.md)
    """
    return TrainRecipe(is_expression_measured=True, is_light_measured=True, starter="rendered", decay_to_start=0.001)


def laptop() -> TrainRecipe:
    """A face of 256 px without a GPU: `quick` with a finer size drawn on top. It begins with the rendered starter too.

    Command: `understudy train faces/abel faces/bea --out model --recipe laptop`
    Time:    5 minutes on two cores of a server CPU (9,000 to 14,000 faces)
    Memory:  2.5 GB with 600 faces of training, 1 MB for each more
    Score:   after 12,000 faces 11.2 dB nearer to the truth than the plate, leak 0.02, edges 0.62 (docs/benchmark.md)
    """
    return TrainRecipe(
        name="laptop",
        architecture="pyramid",
        resolution_px=256,
        is_expression_measured=True,
        is_light_measured=True,
        starter="rendered",
        decay_to_start=0.001,
        default_minutes=5.0,
    )


def original() -> TrainRecipe:
    """The 2017 model to the letter: 64 px, layer for layer, its warp, its loss, its optimiser: the reference.

    Command: `understudy train faces/abel faces/bea --out model --recipe original --steps 50000`
    Time:    12 days on two cores of a server CPU (computed from its 11.4 GFLOP a face); a GPU has not been measured yet
    Memory:  3 GB (computed)
    Score:   not measured yet on the bundled pair; a quarter as wide, after 72,000 faces: 2.2 dB, leak 0.60 (docs/benchmark.md)

    82,062,470 parameters in the shared encoder and two decoders; mean absolute error; Adam 5e-5 with beta1 0.5; the two
    performers take turns, each with its own moments for the encoder; mirrored 40 times in 100; the first performer's mean
    colour is shifted to the second's. It sees the inner 160 px of a 256 px crop whose side is 1.6 times the mean face: exactly
    the mean face's unit square, here the framing `core`. Its augmentation was stated for the whole 256 px crop, so shares of
    the crop's side are 1.6 times larger here. One thing differs on purpose: its input lay half a pixel off its target, which
    `half_pixel_fault=true` brings back.
    """
    return TrainRecipe(
        name="original",
        architecture="original",
        resolution_px=64,
        framing="core",
        code_size=1024,
        batch_size=64,
        learning_rate=5e-5,
        adam_beta1=0.5,
        adam_beta2=0.999,
        warmup_steps=0,
        decay_fraction=0.0,
        gradient_clip=0.0,
        ema_decay=0.0,
        alternate_performers=True,
        precision="float32",
        l1_weight=1.0,
        dssim_weight=0.0,
        hue_weight=0.0,
        mask_weight=0.0,
        feature_emphasis=0.0,
        background_weight=1.0,
        balance_fraction=0.0,
        warp_fraction=5 / 160,  # sigma 5 px on a grid that spans 160 px
        warp_until=0.0,  # the warp stays whole to the end
        rotation_degrees=10.0,
        scale_fraction=0.05,
        shift_fraction=0.05 * 256 / 160,
        flip_probability=0.4,
        brightness_fraction=0.0,
        colour_fraction=0.0,
        backdrop_probability=0.0,
        standardise_colour=False,
        is_first_shifted_to_second=True,
        is_target_aligned_to_warp=True,
        held_out_fraction=0.0,  # it learned from all it had; its progress is judged by the training loss alone
        num_exemplars=0,
        default_minutes=60.0,
    )


def original_gan() -> TrainRecipe:
    """The second system of 2017: the original with a mask of its own, a discriminator for each performer, a perceptual loss.

    Command: `understudy train faces/abel faces/bea --out model --recipe original-gan --steps 40000`
    Time:    an H200 takes 800 to 1,500 faces a second; on a CPU at width 0.125 a step takes twice that of the original
    Memory:  3 GB (computed; 2.4 GB measured on a GPU)
    Score:   a quarter as wide, after 60,000 faces 8.6 dB nearer than the plate, leak 0.03; not yet at full width

    After shaoanlu/faceswap-GAN (2018), with the root article's words for what each part does. Variants, as settings:
    "harmonious but different" (the swap must look like the performer and differ from the plate as little as that allows):
    `adversarial_swap_weight=0.1 harmony_weight=0.03`; cycle consistency: `adversarial_swap_weight=0.1 cycle_weight=0.5`; what
    the discriminators minimise: `gan_loss`. The perceptual loss looks through the mesh network; the identity network judges
    and is never a loss. New are what `quick` has too: nine numbers of the code are told (docs/decisions/0012), light and skin
    tone are taken out of what the encoder sees (0017), and layers start with spread. `is_expression_measured=false
    is_light_measured=false standardise_colour=false is_first_shifted_to_second=true` reads all from the picture, as in 2017.
    """
    return dataclasses.replace(
        original(),
        name="original-gan",
        architecture="original-mask",
        is_expression_measured=True,
        is_light_measured=True,
        standardise_colour=True,
        is_first_shifted_to_second=False,
        framing="face",
        batch_size=16,
        learning_rate=1e-4,
        ema_decay=0.999,
        alternate_performers=False,
        decay_fraction=0.4,
        mask_weight=0.1,
        feature_emphasis=10.0,
        background_weight=0.02,
        perceptual_weight=0.1,
        perceptual_network="mesh",
        held_out_fraction=0.08,
        gan_loss="least-squares",  # nearer to the truth and sharper than the others (docs/experiments.md, C39)
        adversarial_weight=0.1,
    )


def portrait() -> TrainRecipe:
    """A face that fills a good part of the picture: 256 px (128 to 256), on one GPU in an hour.

    Command: `understudy train faces/abel faces/bea --out model --recipe portrait`
    Time:    an hour on one GPU (planned; an H200 takes 3,500 faces a second with `batch_size=64 compile=default`)
    Memory:  5 GB (computed; on a GPU 7 GB measured with a batch of 64)
    Score:   after 440,000 faces (6.5 shared minutes) 9.4 dB nearer than the plate, leak 0.12, edges 0.56 (docs/log.md)
    """
    return TrainRecipe(
        name="portrait",
        architecture="deep",
        resolution_px=256,
        code_size=512,
        is_expression_measured=True,
        is_light_measured=True,
        batch_size=16,
        learning_rate=2e-4,
        warmup_steps=300,
        default_minutes=60.0,
    )


def cinema() -> TrainRecipe:
    """A face that fills the screen: 512 px and more, begun from a trained `portrait` of the same width, on GPUs in a day.

    Command: `understudy train faces/abel faces/bea --out small --recipe portrait --set width=1.5`, then
             `understudy train faces/abel faces/bea --out model --recipe cinema --from small`
    Time:    a day on one large GPU (planned, not measured yet; 209 GFLOP a face)
    Memory:  11 GB (computed)
    Score:   not measured yet
    """
    return TrainRecipe(
        name="cinema",
        architecture="deep",
        resolution_px=512,
        width=1.5,
        code_size=512,
        is_expression_measured=True,
        is_light_measured=True,
        batch_size=8,
        learning_rate=1e-4,
        warmup_steps=1000,
        default_minutes=24 * 60.0,
    )


TRAIN_RECIPES: Mapping[str, Callable[[], TrainRecipe]] = {
    "quick": quick,
    "laptop": laptop,
    "original": original,
    "original-gan": original_gan,
    "portrait": portrait,
    "cinema": cinema,
}

# ---- converting -----------------------------------------------------------------------------------------------------------


def delivery() -> ConvertRecipe:
    """A swap to look at: the performer's skin takes on the light and colour of the plate; each face is drawn from two crops.

    Command: `understudy convert plate.mp4 --model model --replace abel --with bea --out swap`
    """
    return ConvertRecipe(name="delivery", num_crops=2)


def truth_benchmark() -> ConvertRecipe:
    """A swap to measure: no colour is matched, because the true answer has the other performer's own skin.

    Command: `understudy convert plate.mp4 --model model --replace abel --with bea --out swap --recipe truth-benchmark`
    """
    return ConvertRecipe(
        name="truth-benchmark", colour="none", blend="feather", mask="outline", erode_fraction=0.0, feather_fraction=0.005
    )


CONVERT_RECIPES: Mapping[str, Callable[[], ConvertRecipe]] = {"delivery": delivery, "truth-benchmark": truth_benchmark}

# ---- choosing and changing ------------------------------------------------------------------------------------------------


def curate_recipe(settings: Mapping[str, object] | None = None, name: str = "default") -> CurateRecipe:
    """The curation preset with settings applied; raises BadInput with the valid choices."""
    return with_settings(_preset(CURATE_RECIPES, name), settings or {})


def train_recipe(name: str, settings: Mapping[str, object] | None = None) -> TrainRecipe:
    """The training preset of that name with settings applied; raises BadInput with the valid choices."""
    return with_settings(_preset(TRAIN_RECIPES, name), settings or {})


def convert_recipe(name: str, settings: Mapping[str, object] | None = None) -> ConvertRecipe:
    """The converting preset of that name with settings applied; raises BadInput with the valid choices."""
    from understudy.trust.notice import check_notice  # brings OpenCV, for which no other command should wait

    recipe = with_settings(_preset(CONVERT_RECIPES, name), settings or {})
    check_notice(recipe.notice, recipe.notice_language)
    return recipe


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`["batch_size=8"]` -> `{"batch_size": "8"}`; raises BadInput where the `=` is missing."""
    pairs = [text.partition("=") for text in settings]
    for key, equals, _ in pairs:
        if not equals:
            raise BadInput(f"--set {key}: expected key=value, for example --set batch_size=8")
    return {key.strip(): value.strip() for key, _, value in pairs}


def with_settings(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """The recipe with fields replaced; each value, text or not, is read as the field's own type.

    Raises BadInput for an unknown field (with the nearest name), a value of another type, one outside the field's range and
    one that would do nothing.
    """
    types = typing.get_type_hints(type(recipe))
    for key in settings:
        if key not in types or key == "name":
            raise BadInput(f"setting {key!r} is unknown to this recipe{did_you_mean(key, sorted(types.keys() - {'name'}))}")
    read: dict[str, Any] = {key: _read_as(key, types[key], value) for key, value in settings.items()}
    changed = dataclasses.replace(recipe, **read)
    for key in read:
        if isinstance(changed, TrainRecipe) and getattr(changed, key) != getattr(recipe, key):
            _check_does_something(key, changed)
    return changed


def _check_does_something(key: str, recipe: TrainRecipe) -> None:
    """Raises BadInput for a setting without effect on the rest of the recipe."""
    if key in OF_A_MASK and recipe.architecture == "original":
        raise BadInput(f"setting {key}: does nothing with architecture=original, which draws no mask; leave it out")
    needed = NEEDED_FOR.get(key, ())
    if needed and getattr(recipe, key) and not any(getattr(recipe, each) for each in needed):
        rest = "are 0; set one of them" if needed[1:] else "is 0; set it"
        raise BadInput(f"setting {key}: does nothing while {' and '.join(needed)} {rest} too")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of an error message: the nearest choice, or all of them if none is near."""
    choices = list(choices)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of: {', '.join(choices)}"


def _preset(presets: Mapping[str, Callable[[], Recipe]], name: str) -> Recipe:
    if name not in presets:
        raise BadInput(f"recipe {name!r} is unknown{did_you_mean(name, presets)}")
    return presets[name]()


def _read_as(key: str, kind: Any, value: object) -> object:
    from pydantic import TypeAdapter, ValidationError

    try:
        if isinstance(value, bool) and kind in (int, float):  # which pydantic takes for 0 and 1
            value = str(value).lower()
        read: object = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        wanted = names.get(kind) or f"one of {', '.join(map(str, typing.get_args(kind)))}"
        raise BadInput(f"setting {key}: expected {wanted}, got {value!r}") from error
    _check_range(key, read)
    return read


OF_A_MASK = {"mask_weight", "feature_emphasis", "background_weight"}
"""What only networks that draw a mask minimise."""

_OF_AN_ADVERSARY = ("gan_loss", "gradient_penalty", "discriminator_speed", "adversarial_from")
_OF_A_FACE_NETWORK = ("perceptual_from", "perceptual_network", "perceptual_file", "perceptual_sha256")
NEEDED_FOR: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_AN_ADVERSARY, ("adversarial_weight", "adversarial_swap_weight")),
    **dict.fromkeys(_OF_A_FACE_NETWORK, ("perceptual_weight",)),
    "equivariance_weight": ("rotation_degrees", "scale_fraction", "shift_fraction"),
    "warp_until": ("warp_fraction", "flip_probability"),
}
"""Settings that do nothing while all of those are 0."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "resolution_px": (1, 2048),
    "width": (1 / 64, 8),
    "code_size": (1, 2**14),
    "seed": (0, 10_000_000),
    "adam_beta1": (0, 0.9999),
    "adam_beta2": (0, 0.999999),
    "decay_to_start": (0, 1),
    "held_out_fraction": (0, 0.5),
    "num_exemplars": (0, 2000),
    "exemplar_px": (1, 2048),
    "exemplar_strength": (0, 1),
    "shading_strength": (0, 1),
    "matte_seconds": (0, 1),
    "code_seconds": (0, 1),
    "colour_seconds": (0, 3600),
    "fade_seconds": (0, 3600),
    "crf": (0, 51),
}
"""What can be used at all, where that is less than `_check_range` lets any setting be; a model beyond was never made."""


def _check_range(key: str, value: object) -> None:
    """Counts and sizes are at least 1, shares at most 1, nothing is negative or infinite; and `LIMITS`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low: float = 1 if isinstance(value, int) and key not in ("seed", "warmup_steps", "crf") else 0
    high = 1.0 if key.endswith(("_fraction", "_probability", "_until", "_from", "_decay")) else math.inf
    low, high = LIMITS.get(key, (low, high))
    if not (math.isfinite(value) and low <= value <= high):
        wanted = f"{low:g} to {high:.10g}" if math.isfinite(high) else f"{low} or more"
        raise BadInput(f"setting {key}: expected {wanted}, got {value}")
