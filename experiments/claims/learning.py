"""Claims about what the network learns from: warped faces, two people, one encoder, aligned crops, how much of the face."""

from __future__ import annotations

from experiments.claims import arms as a
from experiments.claims.model import Arm, Claim, Test


def _aligned(landmarks: str, words: str) -> Arm:
    return Arm(f"aligned-by-{landmarks}", words, measure="aligned", settings={"landmarks": landmarks})


BY_BOX, BY_FIVE = _aligned("box", "the detector's box"), _aligned("five", "5 points")
BY_68, BY_MESH = _aligned("68", "68 points"), _aligned("mesh", "the mesh's rigid points")
BILL_OF_ALIGNMENT = Arm(
    "bill-alignment", "the true face, placed as extraction finds it", measure="stage bill", settings={"stage": "alignment"}
)
BILL_OF_NETWORK = Arm("bill-network", "the network's face, placed rightly", measure="stage bill", settings={"stage": "network"})

CLAIMS = (
    Claim(
        "C1",
        "restoring a warped face",
        "A network that learns to restore a person's face from a warped version of it restores any face as that person's.",
        "The reference with its warp (5 px of 160), with none and with twice as much. If the warp is what makes it work, then "
        "without it the swap must be worse.",
        (a.REFERENCE, a.NO_WARP, a.STRONG_WARP),
        (
            Test("the swap comes nearer to the truth than the plate is by 3 dB", "gain_db", "reference", border=3.0),
            Test("less than a third of the plate is left", "leak", "reference", is_more=False, border=0.33),
            Test("without the warp it is worse", "gain_db", "no-warp", "reference", is_more=False),
            Test("without the warp more of the plate is left", "leak", "no-warp", "reference"),
        ),
        ("gain_db", "leak", "detail", "own_psnr_db", "follows_scale"),
        ("reference", "no-warp", "strong-warp"),
        "The claim has two halves: that any face comes out as the person's, and that the warp is why. What each half is worth "
        "shows in the first two and the last two statements.",
    ),
    Claim(
        "C2",
        "no mask",
        "The original draws a square without a mask, so that its edge has to be hidden afterwards; a mask of its own (RGBA) "
        "mends that.",
        "The reference beside the same network with a fourth channel that learns the face's outline, at equal steps.",
        (a.REFERENCE, a.MASK),
        (
            Test(
                "its mask fits the visible face better than the square does, by 0.05",
                "mask_overlap",
                "mask",
                minus="square_overlap",
                border=0.05,
            ),
            Test("the face is not worse for it by 0.5 dB", "gain_db", "mask", "reference", border=-0.5),
        ),
        ("gain_db", "leak", "detail", "square_overlap", "mask_overlap"),
        ("reference", "mask"),
    ),
    Claim(
        "C3",
        "two people for stability",
        "The faces of both people are used not only to swap either way: training with both is what makes the network stable.",
        "The reference beside a network that has only ever seen the performer who is put in, as many of her faces in as many "
        "steps; both are then given the other's face.",
        (a.REFERENCE, a.ONE_PERFORMER),
        (
            Test("with both the swap is nearer to the truth", "gain_db", "reference", "one-performer"),
            Test("with both the swap shows more true detail", "detail", "reference", "one-performer"),
            Test("with both less flickers", "flicker", "reference", "one-performer", is_more=False),
        ),
        ("gain_db", "leak", "detail", "flicker", "own_psnr_db"),
        ("reference", "one-performer"),
    ),
    Claim(
        "C4",
        "one encoder, two decoders",
        "The encoder is shared and the decoders are not: what both faces have in common is read by one, what differs is drawn "
        "by two.",
        "The reference beside two complete networks that share nothing; her network is then given his face.",
        (a.REFERENCE, a.SEPARATE_ENCODERS),
        (
            Test("with a shared encoder the swap is nearer to the truth", "gain_db", "reference", "separate-encoders"),
            Test("with a shared encoder it shows more true detail", "detail", "reference", "separate-encoders"),
        ),
        ("gain_db", "leak", "detail", "flicker", "own_psnr_db"),
        ("reference", "separate-encoders"),
        "Of our own networks, one decoder with a code for each person (`sharing=identity-code`) and two codes for one decoder "
        "(`sharing=two-inters`, after LIAE) leak more than two decoders, which all read the expression from the picture "
        "(0.43 and 0.36 for 0.28 with colours matched, 25.0 and 24.9 dB for 25.3, one run of 12,000 faces each, "
        "[log](log.md)).",
    ),
    Claim(
        "C6",
        "three stages",
        "The work is extraction, training and conversion; what happens before and after the network decides as much as the "
        "network.",
        "One stage's errors at a time, all else true: her true face placed where extraction finds the plate's, and the "
        "reference network's face placed rightly. `python -m benchmarks.truth ladder` does the same with compositing and "
        "coding.",
        (BILL_OF_ALIGNMENT, BILL_OF_NETWORK),
        (
            Test(
                "alignment alone costs more than the network does",
                "bill_psnr_db",
                "bill-alignment",
                "bill-network",
                is_more=False,
            ),
        ),
        ("bill_psnr_db",),
        ("bill-alignment", "bill-network"),
        "At 48 pixels and 600 steps the network is what is poor. How it stands with a sharper network is for the full scale.",
    ),
    Claim(
        "C7",
        "upright by its landmarks",
        "The detector finds the face, its landmarks say how it is turned, and the crop is cut upright (the article counts 36 "
        "landmarks; dlib's model has 68).",
        "Where the corners of the aligned square come to lie, by four ways of aligning, on frames up to 45 degrees of yaw. "
        "The seeds are three recordings: his clip, hers, and his at a quarter of its pixels with grain. A mean difference "
        "does not count.",
        (BY_BOX, BY_FIVE, BY_68, BY_MESH),
        (
            Test(
                "five landmarks place the face better than its box",
                "misplaced",
                "aligned-by-five",
                "aligned-by-box",
                is_more=False,
            ),
            Test("68 place it better than five", "misplaced", "aligned-by-68", "aligned-by-five", is_more=False),
            Test("and tremble less", "trembles", "aligned-by-68", "aligned-by-five", is_more=False),
        ),
        ("misplaced", "trembles"),
        ("aligned-by-box", "aligned-by-five", "aligned-by-68", "aligned-by-mesh"),
    ),
    Claim(
        "C19",
        "only the middle of the face",
        "The crop covers the middle of the face alone: chin and forehead are not replaced, and so the likeness suffers.",
        "The reference (crop `core`) beside the same network on `face` and on `full`, which hold chin and forehead. PSNR over "
        "the whole visible face, where what is not covered stays the plate's; detail only where each crop covers it, which is "
        "not the same area.",
        (a.REFERENCE, a.CORE_TO_FACE, a.CORE_TO_FULL),
        (
            Test("with all of the face it is nearer to the truth as a whole", "whole_psnr_db", "full-framing", "reference"),
            Test("it is more like the performer", "identity_score", "full-framing", "reference"),
        ),
        ("whole_psnr_db", "identity_score", "detail", "leak"),
        ("reference", "face-framing", "full-framing"),
    ),
)
