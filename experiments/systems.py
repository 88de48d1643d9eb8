"""The systems and components that the article names, and the setting that runs each here; a test holds that each exists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One system or part. train, convert: settings by key (train's may begin with `recipe`); detector: for extraction;
    claim: the experiment that has it, where no setting of the product has."""

    name: str
    what: str
    train: tuple[tuple[str, str], ...] = ()
    convert: tuple[tuple[str, str], ...] = ()
    detector: str = ""
    claim: str = ""
    note: str = ""

    @property
    def command(self) -> str:
        """What runs it."""
        if self.detector:
            return f"`understudy extract ... --detector {self.detector}`"
        stage, settings = ("train", self.train) if self.train else ("convert", self.convert)
        recipe = "".join(f" --recipe {value}" for key, value in settings if key == "recipe")
        others = "".join(f" --set {key}={value}" for key, value in settings if key != "recipe")
        return f"`understudy {stage} ...{recipe}{others}`" if settings else "–"


SYSTEMS = (
    System("the original", "shared encoder, two decoders, 64 px, L1", train=(("recipe", "original"),)),
    System("the second version", "mask, adversarial and perceptual loss", train=(("recipe", "original-gan"),)),
    System("warped faces", "what the original learns from", train=(("recipe", "original"), ("warp_fraction", "0.03125"))),
    System(
        "adversary with a tiny self-restoration",
        "harmonious but different",
        train=(("recipe", "original-gan"), ("adversarial_swap_weight", "0.1"), ("harmony_weight", "0.03")),
    ),
    System(
        "cycle consistency",
        "CycleGAN's loss on swaps",
        train=(("recipe", "original-gan"), ("adversarial_swap_weight", "0.1"), ("cycle_weight", "0.5")),
    ),
    System("hinge loss", "a variant of the adversary", train=(("recipe", "original-gan"), ("gan_loss", "hinge"))),
    System("least squares", "a variant of the adversary", train=(("recipe", "original-gan"), ("gan_loss", "least-squares"))),
    System("relativistic", "a variant of the adversary", train=(("recipe", "original-gan"), ("gan_loss", "relativistic"))),
    System(
        "VGGFace",
        "what the perceptual loss looks through",
        train=(("recipe", "original-gan"), ("perceptual_network", "vggface")),
        note="with a file of your own (`perceptual_file`, `perceptual_sha256`); the default looks through the mesh network",
    ),
    System("PixelShuffle", "how the decoder enlarges", train=(("recipe", "original"),), claim="C9"),
    System("transposed convolution, resize", "in the place of PixelShuffle", claim="C9", note="`experiments/networks.py`"),
    System("dense layers", "the bottleneck", train=(("recipe", "original"), ("code_size", "1024")), claim="C10"),
    System("dlib", "detector (HOG)", detector="dlib", claim="C16"),
    System("dlib's CNN", "detector", detector="dlib-cnn"),
    System("MTCNN", "detector", detector="mtcnn", claim="C16"),
    System("landmarks", "68 of dlib's kind, out of the mesh's 468", detector="mediapipe", claim="C7"),
    System("direct paste", "the square", convert=(("blend", "direct"),), claim="C20"),
    System("mask, hard edge", "pasting through a mask", convert=(("blend", "hard"),), claim="C21"),
    System("mask, feathered", "the same with a soft edge", convert=(("blend", "feather"),), claim="C21"),
    System("Poisson", "seamless cloning", convert=(("blend", "poisson"),), claim="C22"),
    System(
        "RGBA",
        "the network's own mask as alpha",
        train=(("recipe", "original-gan"),),
        convert=(("blend", "alpha"),),
        claim="C24",
        note="and `understudy convert ... --set blend=alpha`",
    ),
    System("L1", "the loss", train=(("recipe", "original"), ("l1_weight", "1.0")), claim="C13"),
    System(
        "progressive growing",
        "from small pictures to large",
        train=(("recipe", "cinema"),),
        note="from a warm start: `--from MODEL` of a smaller one; see `docs/architecture.md`",
    ),
    System("PixelCNN", "drawing pixel after pixel", claim="C15"),
    System("Deep Image Prior", "why dense layers and shuffle work", claim="C11"),
)


def systems_table() -> str:
    """A row for each, in Markdown."""
    rows = ["| in the article | what it is | here | claim |", "|---|---|---|---|"]
    for each in SYSTEMS:
        here = each.command + (f" {each.note}" if each.note else "")
        rows.append(f"| {each.name} | {each.what} | {here} | {each.claim or '–'} |")
    return "\n".join(rows)
