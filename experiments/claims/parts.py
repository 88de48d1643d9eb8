"""Claims about the network's parts: its layers, pixel shuffle, the dense bottleneck, and why they matter."""

from __future__ import annotations

from experiments.claims import arms as a
from experiments.claims.model import Claim, Test

MOSTLY = 0.5

CLAIMS = (
    Claim(
        "C8",
        "these very layers",
        "64 pixels go through convolutions of 128 to 1024 channels to a dense code of 1024 and back; the size is given as "
        "needed.",
        "`original` has these layers to the number (a test holds them). Here the same layers at half and twice the small "
        "scale's width, at equal steps: if so many are needed, narrower ones must be worse.",
        (a.REFERENCE, a.NARROW, a.WIDE),
        (
            Test("half as wide is worse by more than 0.5 dB", "gain_db", "narrow", "reference", is_more=False, border=-0.5),
            Test("twice as wide is better by more than 0.5 dB", "gain_db", "wide", "reference", border=0.5),
        ),
        ("gain_db", "leak", "detail", "own_psnr_db", "restored_db"),
        ("narrow", "reference", "wide"),
    ),
    Claim(
        "C9",
        "pixel shuffle cannot be replaced",
        "With a transposed convolution or a plain resize in the place of the pixel shuffle the network can only encode itself.",
        "The reference with 3x3 transposed convolutions of stride 2, and with resizing and 3x3 convolutions, the dense code "
        "kept; and all three without it. To encode only itself is to give back the plate: a leak near 1.",
        (a.REFERENCE, a.TRANSPOSED, a.RESIZED, a.SPATIAL, a.SPATIAL_TRANSPOSED, a.SPATIAL_RESIZED),
        (
            Test("transposed convolutions: more of the plate is left, by 0.1", "leak", "transposed", "reference", border=0.1),
            Test("resizing: more of the plate is left, by 0.1", "leak", "resized", "reference", border=0.1),
            Test("without the dense code: transposed instead of shuffle leaves more", "leak", "spatial-transposed", "spatial"),
            Test("with neither, most of the plate is left", "leak", "spatial-transposed", border=MOSTLY),
        ),
        ("leak", "gain_db", "detail", "own_psnr_db", "checkerboard"),
        ("reference", "transposed", "resized", "spatial", "spatial-transposed"),
        "The transposed convolution has a quarter of the shuffle's weights and work, the resize a quarter of its weights.",
    ),
    Claim(
        "C10",
        "the dense layers cannot be left out",
        "The dense layers are indispensable: without them (or without the pixel shuffle) and without an adversary, the swap "
        "must fail.",
        "The reference without its dense layers, with one halving less, and with convolutions down to a single place in their "
        "stead.",
        (a.REFERENCE, a.SPATIAL, a.SPATIAL_8, a.CONVOLVED),
        (
            Test("without them more of the plate is left, by 0.1", "leak", "spatial", "reference", border=0.1),
            Test("a finer map of places leaves more, by 0.1", "leak", "spatial-8", "reference", border=0.1),
            Test("convolutions to one place do no better than none", "leak", "convolved", "reference", border=0.1),
        ),
        ("leak", "gain_db", "detail", "own_psnr_db"),
        ("reference", "spatial", "spatial-8", "convolved"),
        "If the last statement fails and the first holds, then it is not the dense layer that is needed but a code that has "
        "no place in the picture.",
    ),
    Claim(
        "C11",
        "because they break the picture's order",
        "Dense layers and pixel shuffle work because they break the spatial order (after Deep Image Prior): a harder task "
        "makes the network understand the face.",
        "The network without dense layers; the same with the places of its code shuffled, always alike (nothing is learned, "
        "no number is lost, only order); and with as few numbers as the dense code has. If order is the reason, the shuffle "
        "alone must lessen the leak, and a small code that keeps it must not.",
        (a.REFERENCE, a.SPATIAL, a.PERMUTED, a.SQUEEZED),
        (
            Test("shuffled places leave less of the plate", "leak", "permuted", "spatial", is_more=False),
            Test("shuffled places bring the swap nearer to the truth", "gain_db", "permuted", "spatial"),
            Test("as few numbers with their order kept still leave more than the dense code", "leak", "squeezed", "reference"),
        ),
        ("leak", "gain_db", "detail", "own_psnr_db"),
        ("reference", "spatial", "permuted", "squeezed"),
    ),
    Claim(
        "C12",
        "resolution alone is not enough",
        "A larger picture alone does not make the result better.",
        "Twice the resolution for as much work: a quarter of the faces.",
        (a.REFERENCE, a.LARGE),
        (
            Test("it shows less true detail", "detail", "large", "reference", is_more=False),
            Test("it is further from the truth", "gain_db", "large", "reference", is_more=False),
        ),
        ("gain_db", "leak", "detail", "contrast", "own_psnr_db"),
        ("reference", "large"),
    ),
)
