"""The settings of every stage, as frozen dataclasses; named presets of them are in recipes.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from understudy.types import BadInput

Codec = Literal["h264", "h265", "prores_422_hq", "prores_4444", "ffv1", "vp9", "av1", "png", "tiff", "exr"]
"""What a picture can be written as (media/codecs.py)."""


@dataclass(frozen=True)
class TrainRecipe:
    """Everything a training run needs to be repeated; each field can be set by `--set key=value`.

    Sizes are pixels of the network's square input and output; fractions are of the crop's side; angles are degrees.
    `num_exemplars`: pictures of each performer that are kept with the model, of which swaps take their fine detail
    (imaging/exemplars.py); 0 keeps none. `exemplar_px`: side of these crops, or the network's where that is more; in the
    framing `full` it is two face units long, so half of these pixels lie from brow end to brow end.
    """

    name: str = "quick"
    architecture: Literal["original", "original-mask", "quick", "deep", "pyramid"] = "quick"
    sharing: Literal["separate", "identity-code", "two-inters"] = "separate"
    resolution_px: int = 96
    framing: Literal["core", "face", "full", "head"] = "full"
    width: float = 1.0
    code_size: int = 256
    is_expression_measured: bool = False
    is_light_measured: bool = False
    starter: Literal["none", "rendered"] = "none"
    # Optimisation
    batch_size: int = 8
    learning_rate: float = 1e-3
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    weight_decay: float = 0.0
    decay_to_start: float = 0.0
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    alternate_performers: bool = False
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: Literal["off", "default", "cuda-graphs"] = "off"
    # Losses
    l1_weight: float = 1.0
    dssim_weight: float = 1.0
    hue_weight: float = 3.0
    edge_weight: float = 0.0
    mask_weight: float = 0.1
    feature_emphasis: float = 10.0
    background_weight: float = 0.02
    perceptual_weight: float = 0.0
    perceptual_from: float = 0.2
    perceptual_network: Literal["mesh", "iris", "mesh+iris", "vgg16", "vggface"] = "mesh"
    perceptual_file: str = ""
    perceptual_sha256: str = ""
    adversarial_weight: float = 0.0
    adversarial_from: float = 0.0
    adversarial_swap_weight: float = 0.0
    gan_loss: Literal["non-saturating", "hinge", "least-squares", "relativistic"] = "non-saturating"
    gradient_penalty: float = 0.1
    discriminator_speed: float = 4.0
    harmony_weight: float = 0.0
    cycle_weight: float = 0.0
    equivariance_weight: float = 0.0
    # Which faces, and how they are disturbed
    balance_fraction: float = 0.0
    warp_fraction: float = 0.03
    warp_until: float = 0.9
    rotation_degrees: float = 8.0
    scale_fraction: float = 0.06
    shift_fraction: float = 0.03
    flip_probability: float = 0.5
    brightness_fraction: float = 0.1
    colour_fraction: float = 0.03
    backdrop_probability: float = 0.75
    standardise_colour: bool = True
    is_first_shifted_to_second: bool = False
    is_target_aligned_to_warp: bool = False
    half_pixel_fault: bool = False
    # What lies beside the weights
    num_exemplars: int = 96
    exemplar_px: int = 256
    default_minutes: float = 5.0
    held_out_fraction: float = 0.08
    checkpoint_seconds: float = 60.0  # or longer, where saving takes long; 0 saves after every step
    preview_seconds: float = 60.0
    keep_checkpoints: int = 3
    seed: int = 0


TIMES_UNTIL_PLATEAU = 10
"""So many times a recipe's own minutes a run until a plateau may take: in those themselves hardly any gets there."""


@dataclass(frozen=True)
class ConvertRecipe:
    """How a swap is composited; each field can be set by `--set key=value`.

    Fractions are of the crop's side. `colour` says whose skin wins: `plate` matches it to the plate's colours, `performer`
    keeps the performer's own and lets the plate's changes of light play on it, `none` leaves it as the model draws it. With the
    first two, and if told, the plate's sharpness, grain and motion blur are matched as well; all is pooled over
    `colour_seconds` to either side, motion blur over the clip. `mask`: what limits the face: the network's mask, the mesh's
    silhouette or both. `is_occlusion_kept`: what stands before the face stays there. `matte_seconds`, `code_seconds`: over how
    long the masks are steadied, and what a model that is told the expression reads of the rest. `blend`: how the face meets the
    plate (imaging/blend.py); `relief` keeps the new face's shading, `multiband` takes the plate's; both need the plate's skin,
    so with any other `colour` they are `feather`. `is_light_linear`: mix light instead of code values. `num_crops`: how many
    slightly shifted crops of each face are averaged, 1 to 4 (each costs the network once more). `expression_strength`: how much
    of the expression that was measured on the plate the model is told, 1 for all of it. `exemplar_strength`: how much of the
    fine detail comes from the pictures that the model keeps of the new performer (imaging/exemplars.py), 0 for none.
    `shading_strength`: how much of the shadows and lights on the plate's face that a model which draws in ordinary light leaves
    out is put back (imaging/light.py).
    `flow_blend_fraction`: share of the neighbouring frames' broad features, moved along the optical flow; a last resort
    against a model that flickers.
    `fade_seconds`: how long a face that drops out takes to go. `on_missing`: what becomes of frames without a swap: kept,
    blurred beyond recognition, or black. `passes`: the swap taken apart for finishing elsewhere: as FFV1 or PNG at 16 bits, as
    EXR in linear light, or not. `notice`: where a delivery file says visibly that it is AI-made; an end card is added after the
    last frame.
    """

    name: str = "default"
    colour: Literal["plate", "performer", "none"] = "plate"
    colour_method: Literal["gain", "mkl", "reinhard", "mean"] = "gain"
    colour_seconds: float = 0.5
    is_sharpness_matched: bool = True
    is_grain_matched: bool = True
    is_motion_blur_matched: bool = False
    mask: Literal["learned", "outline", "both"] = "both"
    erode_fraction: float = 0.01
    feather_fraction: float = 0.03
    is_occlusion_kept: bool = True
    matte_seconds: float = 0.04
    code_seconds: float = 0.05
    blend: Literal["direct", "alpha", "hard", "feather", "poisson", "multiband", "relief"] = "relief"
    is_light_linear: bool = False
    num_crops: int = 1
    expression_strength: float = 1.0
    exemplar_strength: float = 1.0
    shading_strength: float = 1.0
    flow_blend_fraction: float = 0.0
    fade_seconds: float = 0.16
    on_missing: Literal["keep", "blur", "black"] = "keep"
    weights: Literal["ema", "raw"] = "ema"
    identity_distance: float = 0.5
    batch_size: int = 16
    codec: Codec = "h264"
    passes: Literal["none", "video", "png", "exr"] = "video"
    crf: int = 14
    notice: Literal["corner", "end-card"] = "corner"
    notice_language: str = "en"

    def __post_init__(self) -> None:
        if not 1 <= self.num_crops <= MOST_CROPS:
            raise BadInput(f"setting num_crops: expected 1 to {MOST_CROPS}, got {self.num_crops}")


MOST_CROPS = 4
"""More would blur more than they steady."""


@dataclass(frozen=True)
class RangeSettings:
    """Part of a plate that is composited in another way, or not at all.

    frames: first and last, counted from 0; None where `shot` (counted from 0, see the ledger) is given instead.
    """

    recipe: ConvertRecipe
    frames: tuple[int, int] | None = None
    shot: int | None = None
    is_swapped: bool = True

    def __str__(self) -> str:
        return f"shot {self.shot}" if self.frames is None else f"frames {self.frames[0]}-{self.frames[1]}"

    def check(self, recipe: ConvertRecipe) -> None:
        """Raises BadInput unless it is one place, with no setting that only the whole swap, which has `recipe`, can have."""
        for name in OF_THE_WHOLE_FILE:
            if getattr(self.recipe, name) != getattr(recipe, name):
                raise BadInput(f"range {self}: {name} holds for the whole swap; set it there")
        if (self.frames is None) == (self.shot is None):
            raise BadInput("range: expected either frames or shot, one of them")
        if self.frames is not None and not 0 <= self.frames[0] <= self.frames[1]:
            raise BadInput(f"range {self}: expected the first and the last frame, counted from 0")


OF_THE_WHOLE_FILE = ("weights", "identity_distance", "batch_size", "codec", "passes", "crf", "notice", "notice_language")
"""Settings that a range cannot have of its own: they are decided before any range is known, or once for the file."""


@dataclass(frozen=True)
class CurateRecipe:
    """What a face must be to be kept for training; each field can be set by `--set key=value`, and 0 switches a check off.

    A face is left out only where it is poor by the figure below and also far off what is usual in its own set, so that soft,
    dark or small footage is not thrown away whole. `alike_levels`: how little (levels of 255) a face may differ from a sharper
    one. `identity_distance`: how far it may be from the performer's other faces. `blur_fraction`: the share of the usual fine
    detail that it must have. `clipped_fraction`: how much of it may be pure white or black; `least_brightness` and
    `most_brightness`: 0..1. `misfit`, `deviation`: how far (face units) landmarks may be from a head's shape, and an alignment
    from its track's. `occluded_fraction`: how much of it may be hidden (on rendered heads with nothing before them the estimate
    reaches 0.033, under a shadow 0.065). `least_width_px`: from brow end to brow end, in the footage.
    """

    name: str = "default"
    identity_distance: float = 0.45
    misfit: float = 0.03
    deviation: float = 0.12
    occluded_fraction: float = 0.08
    blur_fraction: float = 0.65
    clipped_fraction: float = 0.45
    least_brightness: float = 0.08
    most_brightness: float = 0.92
    least_width_px: float = 40.0
    alike_levels: float = 1.5
