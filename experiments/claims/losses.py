"""Claims about losses: what blurs, what sharpens, and what an adversary costs."""

from __future__ import annotations

from experiments.claims import arms as a
from experiments.claims.model import Arm, Claim, Test

LEARNS_LESS = (
    "At equal steps a network with an adversary has learned less of everything (compare the PSNR of her own new faces, and "
    "how it follows a shift): part of what is seen here may be no more than that."
)


def _drawn(by: str, words: str) -> Arm:
    return Arm(f"drawn-by-{by}", words, measure="drawn", settings={"by": by})


BY_L1, BY_ADVERSARY, BY_PIXELCNN = (
    _drawn("l1", "L1"),
    _drawn("adversary", "L1 and adversarial loss"),
    _drawn("pixelcnn", "PixelCNN"),
)

CLAIMS = (
    Claim(
        "C5",
        "the second version",
        "The second version (a mask, a discriminator, a perceptual loss from a frozen face network) is the better one.",
        "The reference, each of the three added alone, and all of them.",
        (a.REFERENCE, a.MASK, a.PERCEPTUAL, a.GAN, a.SECOND_VERSION),
        (
            Test("it is sharper", "sharpness", "second-version", "reference"),
            Test("it shows more true detail", "detail", "second-version", "reference"),
            Test("it is nearer to the truth", "gain_db", "second-version", "reference"),
        ),
        ("gain_db", "leak", "detail", "sharpness", "flicker", "identity_score"),
        ("reference", "mask", "perceptual", "gan", "second-version"),
    ),
    Claim(
        "C13",
        "L1 blurs",
        "The absolute error draws the mean of all that is possible: a blurred face.",
        "The reference (L1) beside the squared error, and L1 with structural dissimilarity. Sharpness is the spread of the "
        "finest detail over the truth's at the same size.",
        (a.REFERENCE, a.SQUARED, a.DSSIM),
        (
            Test("L1 has less than 0.8 of the truth's sharpness", "sharpness", "reference", is_more=False, border=0.8),
            Test("the squared error has less still", "sharpness", "squared", "reference", is_more=False),
        ),
        ("sharpness", "detail", "contrast", "gain_db", "leak"),
        ("squared", "reference", "dssim"),
    ),
    Claim(
        "C14",
        "L1 with an adversary is sharper",
        "With a discriminator added to L1 the face is sharper.",
        "The reference with an adversarial loss of 0.1 and of 0.3.",
        (a.REFERENCE, a.GAN, a.STRONG_GAN),
        (
            Test("it is sharper", "sharpness", "gan", "reference"),
            Test("what is sharper is true detail", "detail", "gan", "reference"),
        ),
        ("sharpness", "detail", "gain_db", "leak", "flicker"),
        ("reference", "gan", "strong-gan"),
    ),
    Claim(
        "C15",
        "PixelCNN is slow and worse than an adversary",
        "PixelCNN is another way to sharp pictures, but it is slow and the result is worse than an adversary's.",
        "A small PixelCNN (24 px, 16 grey levels, 350 steps) that is told what the L1 network draws and draws it anew, pixel "
        "after pixel, beside the L1 network itself and the one with an adversary, all at 24 px in grey; twenty test frames.",
        (BY_L1, BY_ADVERSARY, BY_PIXELCNN),
        (
            Test("it is sharper than L1", "sharpness", "drawn-by-pixelcnn", "drawn-by-l1"),
            Test("it takes more than 50 times as long", "times_slower", "drawn-by-pixelcnn", border=50.0),
            Test(
                "it is further from the truth than an adversary's",
                "grey_psnr_db",
                "drawn-by-pixelcnn",
                "drawn-by-adversary",
                False,
            ),
        ),
        ("sharpness", "grey_psnr_db", "times_slower"),
        ("drawn-by-l1", "drawn-by-adversary", "drawn-by-pixelcnn"),
    ),
    Claim(
        "C18",
        "cycle consistency as a remedy",
        "An unsupervised mapping in the manner of CycleGAN is a remedy for what is left of the source.",
        "L1 with an adversary that judges swaps too, and the same with swaps led back to the plate (cycle).",
        (a.GAN, a.SWAP_GAN, a.CYCLE),
        (
            Test("with the cycle less of the plate is left", "leak", "cycle", "gan", is_more=False),
            Test("the swap is nearer to the truth", "gain_db", "cycle", "gan"),
        ),
        ("leak", "gain_db", "detail", "flicker", "identity_score"),
        ("gan", "swap-gan", "cycle"),
    ),
    Claim(
        "C25",
        "an adversary and a tiny restoration of itself",
        "An adversary with a tiny loss that holds the swap to the plate blends the edges well, but refuses large changes: the "
        "shape of the face stays the plate's.",
        "Swaps judged by the discriminator, and held to the plate by a weight of 0, 0.03 and 0.3.",
        (a.SWAP_GAN, a.HARMONY, a.STRONG_HARMONY),
        (
            Test("held a little, more of the plate is left", "leak", "harmony", "swap-gan"),
            Test("held ten times as much, more still", "leak", "strong-harmony", "harmony"),
            Test("and it is less like the performer", "identity_score", "strong-harmony", "swap-gan", is_more=False),
        ),
        ("leak", "gain_db", "detail", "identity_score", "skin_delta_e"),
        ("swap-gan", "harmony", "strong-harmony"),
        "The statements are about what is left of the plate. How well the edges blend is a matter of the compositing (C20 to "
        "C24).",
    ),
    Claim(
        "C30",
        "20,000 steps against more than 50,000",
        "With an adversary the face is clear after 20,000 iterations; without one it takes more than 50,000.",
        "The adversary at the scale's steps; without it the same number, and 2.5 times as many; and the learning rate of 2017.",
        (a.REFERENCE, a.GAN, a.LONG, a.SLOW),
        (
            Test("with it, sharper than without it after 2.5 times the steps", "sharpness", "gan", "long"),
            Test("with it, more true detail than without it after 2.5 times the steps", "detail", "gan", "long"),
            Test("without it, more steps make it sharper", "sharpness", "long", "reference"),
        ),
        ("sharpness", "detail", "gain_db", "leak", "own_psnr_db"),
        ("gan", "reference", "long", "slow"),
    ),
    Claim(
        "C31",
        "an adversary lessens the dependence on the source",
        "With an adversary the result depends less on the source picture.",
        "What is left of the plate with an adversarial loss and without.",
        (a.REFERENCE, a.GAN, a.STRONG_GAN),
        (Test("less of the plate is left", "leak", "gan", "reference", is_more=False),),
        ("leak", "gain_db", "own_psnr_db", "follows_shift", "skin_delta_e"),
        ("reference", "gan", "strong-gan"),
        LEARNS_LESS,
    ),
    Claim(
        "C32",
        "with an adversary neither dense layers nor shuffle are needed",
        "Where there is an adversary, the dense layers and the pixel shuffle can be left out.",
        "The network without either, with and without an adversary, beside the reference with one.",
        (a.GAN, a.SPATIAL_TRANSPOSED, a.SPATIAL_GAN),
        (
            Test(
                "without them it leaves no more of the plate (within 0.1)",
                "leak",
                "spatial-gan",
                "gan",
                is_more=False,
                border=0.1,
            ),
            Test("the adversary lessens what they leave", "leak", "spatial-gan", "spatial-transposed", is_more=False),
        ),
        ("leak", "gain_db", "detail", "own_psnr_db"),
        ("gan", "spatial-transposed", "spatial-gan"),
    ),
    Claim(
        "C33",
        "the skin drifts",
        "With an adversary the skin drifts to the target's own colour, away from the plate's light.",
        "Mean skin against the truth (her own skin in the plate's light), with and without an adversary, and with 2017's "
        "treatment of colours (his training faces shifted to her mean) in the place of a colour standard for each.",
        (a.REFERENCE, a.GAN, a.STRONG_GAN, a.COLOUR_OF_2017),
        (Test("with an adversary the skin is further from the truth", "skin_delta_e", "gan", "reference"),),
        ("skin_delta_e", "gain_db", "own_psnr_db", "leak"),
        ("reference", "gan", "strong-gan", "colour-of-2017"),
        LEARNS_LESS,
    ),
    Claim(
        "C36",
        "an adversary over-fits",
        "With an adversary the network over-fits.",
        "How much better it restores her training faces than her new ones, with an adversary and without, and after 2.5 times "
        "the steps.",
        (a.REFERENCE, a.GAN, a.STRONG_GAN, a.LONG),
        (Test("with an adversary the gap is wider", "overfit_db", "gan", "reference"),),
        ("overfit_db", "restored_db", "own_psnr_db"),
        ("reference", "gan", "strong-gan", "long"),
        LEARNS_LESS,
    ),
    Claim(
        "C37",
        "rare expressions are lost",
        "An expression that is rare in the performer's footage is lost: a laugh becomes a smile, all the more with an "
        "adversary.",
        "Open mouths withheld from her training faces, with and without an adversary; the motion of the mouth's pixels, and "
        "the gain of the mouth by landmarks, both over the truth's.",
        (a.REFERENCE, a.NO_LAUGHS, a.GAN, a.NO_LAUGHS_GAN),
        (
            Test("withheld, the mouth opens less", "expression_gain_mouth", "no-laughs", "reference", is_more=False),
            Test("by its pixels too", "swap_mouth_motion", "no-laughs", "reference", is_more=False),
            Test("with an adversary less still", "swap_mouth_motion", "no-laughs-gan", "no-laughs", is_more=False),
        ),
        ("expression_gain_mouth", "swap_mouth_motion", "own_mouth_motion", "gain_db"),
        ("reference", "no-laughs", "gan", "no-laughs-gan"),
        "In 600 steps hardly any mouth is learned by anybody: the reference's own gain says how little there is to lose.",
    ),
    Claim(
        "C38",
        "stiff faces, more jitter",
        "With an adversary expressions are stiffer and the video jitters more, even beside a strong L1.",
        "Motion of the eyes' pixels over the truth's, and how much of the error changes from frame to frame.",
        (a.REFERENCE, a.GAN, a.STRONG_GAN),
        (
            Test("the eyes move less", "swap_eyes_motion", "gan", "reference", is_more=False),
            Test("it flickers more", "flicker", "gan", "reference"),
        ),
        ("swap_eyes_motion", "flicker", "gain_db", "own_psnr_db"),
        ("reference", "gan", "strong-gan"),
        LEARNS_LESS,
    ),
    Claim(
        "C39",
        "the variants are all alike",
        "Of the many variants of adversarial losses none is significantly better (after Lucic et al. 2018).",
        "Four losses with the same weight, discriminator and steps. Alike is: within 0.5 dB of each other, and within 0.1 of "
        "sharpness.",
        (a.GAN, a.HINGE, a.LEAST_SQUARES, a.RELATIVISTIC),
        (
            Test("hinge within 0.5 dB", "gain_db", "hinge", "gan", within=0.5),
            Test("least squares within 0.5 dB", "gain_db", "least-squares", "gan", within=0.5),
            Test("relativistic within 0.5 dB", "gain_db", "relativistic", "gan", within=0.5),
            Test("hinge as sharp", "sharpness", "hinge", "gan", within=0.1),
            Test("least squares as sharp", "sharpness", "least-squares", "gan", within=0.1),
            Test("relativistic as sharp", "sharpness", "relativistic", "gan", within=0.1),
        ),
        ("gain_db", "sharpness", "detail", "leak", "flicker"),
        ("gan", "hinge", "least-squares", "relativistic"),
    ),
)
