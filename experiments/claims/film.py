"""Claims about film: detectors, blending, jitter and its causes."""

from __future__ import annotations

from experiments.claims import arms as a
from experiments.claims.model import Arm, Claim, Test


def _detector(name: str) -> Arm:
    return Arm(f"detector-{name}", name, measure="detected", settings={"detector": name})


def _blend(method: str, words: str) -> Arm:
    return Arm(f"blend-{method}", words, measure="blended", settings={"method": method})


def _morph(percent: int) -> Arm:
    words = "his own clip" if percent == 0 else f"a person {percent} % of the way to her"
    return Arm(f"morph-{percent}", words, measure="on morph", settings={"percent": percent})


def _followed(filler: str, words: str, *, gaps: bool) -> Arm:
    name = f"{filler}-{'gaps' if gaps else 'whole'}"
    return Arm(name, words, measure="followed", settings={"filler": filler, "gaps": gaps})


DLIB, MTCNN, MEDIAPIPE = (_detector(name) for name in ("dlib", "mtcnn", "mediapipe"))
DIRECT, HARD, FEATHER = (
    _blend("direct", "the square"),
    _blend("hard", "a mask with a hard edge"),
    _blend("feather", "a feathered mask"),
)
POISSON = _blend("poisson", "Poisson")
OFF_CENTRE = _blend("poisson-off-centre", "Poisson, centre rounded carelessly")
OURS = _blend("multiband", "colours matched, bands (ours)")
CLONE_MIDDLE = Arm("clone-middle", "at the middle of the mask's box", measure="clone shift", settings={"centre": "middle"})
CLONE_EXACT = Arm("clone-exact", "at the point that OpenCV means", measure="clone shift", settings={"centre": "exact"})
MORPHS = tuple(_morph(percent) for percent in (0, 25, 50, 75))
HELD = _followed("held", "the last one held", gaps=True)
INTERPOLATED = _followed("interpolated", "interpolated", gaps=True)
SMOOTHED = _followed("smoothed", "smoothed over the track (ours)", gaps=True)
AS_MEASURED = _followed("held", "alignment as measured", gaps=False)
STEADIED = _followed("smoothed", "the same alignment, smoothed", gaps=False)

BLENDED = (
    "Her own face, spoiled as a drawn one is (cast, wrong light, blur, grain, flicker) under a matte that trembles by half a "
    "pixel, goes back where it came from: the picture itself is the right answer. The seed draws spoiling and trembling."
)

CLAIMS = (
    Claim(
        "C16",
        "dlib sees faces from the front only",
        "dlib finds frontal faces only, which is why MTCNN is used in its place.",
        "Faces found in the bundled test clips, which turn to 60 degrees, by dlib's HOG, by MTCNN and by MediaPipe. The seeds "
        "are three recordings: his clip, hers, and his at a quarter of its pixels with grain.",
        (DLIB, MTCNN, MEDIAPIPE),
        (
            Test("beyond 45 degrees dlib finds less than half", "found_profile", "detector-dlib", is_more=False, border=50.0),
            Test("beyond 45 degrees MTCNN finds more than dlib", "found_profile", "detector-mtcnn", "detector-dlib"),
        ),
        ("found", "found_frontal", "found_profile", "box_trembles"),
        ("detector-dlib", "detector-mtcnn", "detector-mediapipe"),
        "Beyond 60 degrees these clips say nothing. dlib's model of today also holds four turned filters.",
    ),
    Claim(
        "C17",
        "the result depends on the source",
        "What comes out depends on who goes in: a pretty person becomes a prettier result than an ugly one, and something of "
        "the source always stays.",
        "The reference networks on plates between the two performers: his head shape and skin 0, 25, 50 and 75 % of the way "
        "to hers, the same performance. They were trained on neither. Forty frames, so every second is twenty.",
        MORPHS,
        (
            Test("from a person nearer to her the swap is nearer to the truth", "psnr_db", "morph-75", "morph-0"),
            Test("half way there too", "psnr_db", "morph-50", "morph-0"),
            Test("something of the plate stays", "leak", "morph-50", border=0.0),
        ),
        ("psnr_db", "plate_psnr_db", "leak", "detail"),
        ("morph-0", "morph-25", "morph-50", "morph-75"),
    ),
    Claim(
        "C20",
        "direct paste shows its edge",
        "Pasting the square directly leaves an edge that is seen at once.",
        BLENDED,
        (DIRECT, FEATHER, OURS),
        (
            Test("its edge is a step of colour that shows (ΔE above 2)", "seam_step", "blend-direct", border=2.0),
            Test("more of a step than through a feathered mask", "seam_step", "blend-direct", "blend-feather"),
        ),
        ("known_psnr_db", "seam_step", "known_flicker"),
        ("blend-direct", "blend-feather", "blend-multiband"),
    ),
    Claim(
        "C21",
        "a mask's edge shows too",
        "Pasting through a mask is better than the square, but its edge shows where it is hard.",
        BLENDED,
        (DIRECT, HARD, FEATHER),
        (
            Test("a hard edge is a step of colour that shows", "seam_step", "blend-hard", border=2.0),
            Test("feathered it shows less", "seam_step", "blend-feather", "blend-hard", is_more=False),
            Test("a hard mask shows less of a step than the square", "seam_step", "blend-hard", "blend-direct", is_more=False),
        ),
        ("known_psnr_db", "seam_step", "known_flicker"),
        ("blend-direct", "blend-hard", "blend-feather"),
    ),
    Claim(
        "C22",
        "Poisson is best on stills",
        "On single pictures Poisson blending looks best of all.",
        BLENDED,
        (HARD, FEATHER, POISSON, OURS),
        (
            Test("better than a feathered mask", "known_psnr_db", "blend-poisson", "blend-feather"),
            Test("less of a step than a feathered mask", "seam_step", "blend-poisson", "blend-feather", is_more=False),
            Test("better than matched colours and bands", "known_psnr_db", "blend-poisson", "blend-multiband"),
        ),
        ("known_psnr_db", "seam_step", "known_flicker"),
        ("blend-feather", "blend-poisson", "blend-multiband"),
    ),
    Claim(
        "C23",
        "Poisson displaces the picture",
        "Poisson blending shifts the picture, so that a video jitters.",
        "200 random masks, a picture cloned into itself: is it where it was? Then the known composite in motion. OpenCV is "
        "given the middle of the mask's box, as is common, and the point that it means.",
        (CLONE_MIDDLE, CLONE_EXACT, OFF_CENTRE, POISSON),
        (
            Test("with the middle of the box more than a tenth of the clones move", "clones_moved", "clone-middle", border=0.1),
            Test("and the video flickers more for it", "known_flicker", "blend-poisson-off-centre", "blend-poisson"),
            Test("with the right point some still move", "clones_moved", "clone-exact", border=0.0),
        ),
        ("clones_moved", "known_psnr_db", "known_flicker"),
        ("clone-middle", "clone-exact", "blend-poisson-off-centre", "blend-poisson"),
        "The displacement is the caller's rounding by a pixel, not the method's.",
    ),
    Claim(
        "C24",
        "RGBA is a good idea",
        "A network that draws its own mask (RGBA) is a good idea for blending.",
        "The network with a mask of its own (C2), and on the known composite what a mask that fits is worth against the "
        "square.",
        (DIRECT, FEATHER, a.REFERENCE, a.MASK),
        (
            Test("its mask fits the visible face better than the square", "mask_overlap", "mask", minus="square_overlap"),
            Test("the swap within it is not worse by 0.5 dB", "gain_db", "mask", "reference", border=-0.5),
        ),
        ("mask_overlap", "square_overlap", "gain_db", "seam_step"),
        ("reference", "mask"),
    ),
    Claim(
        "C26",
        "jitter, first cause: gaps",
        "A video jitters because in some frames no face is found.",
        "The true course of the plate's face, measured with noise; 15 % of the frames are lost in bursts of one to six. The "
        "seed draws noise and gaps.",
        (HELD, INTERPOLATED, SMOOTHED),
        (
            Test(
                "where the last is held, the face is misplaced by more than 2 % in gaps",
                "misplaced_in_gaps",
                "held-gaps",
                border=2.0,
            ),
            Test("interpolated, less", "misplaced_in_gaps", "interpolated-gaps", "held-gaps", is_more=False),
            Test("held, it trembles more than smoothed", "trembles", "held-gaps", "smoothed-gaps"),
        ),
        ("misplaced", "misplaced_in_gaps", "trembles"),
        ("held-gaps", "interpolated-gaps", "smoothed-gaps"),
    ),
    Claim(
        "C27",
        "jitter, second cause: the warp makes size ambiguous",
        "A video jitters because training on warped faces leaves their size ambiguous.",
        "The crop is put wrong by a zoom of 2 %, a turn of 2 degrees and a shift of 2 %. 1: what is drawn follows, so that "
        "pasted back the error cancels; 0: it does not follow, so that all of it shows.",
        (a.REFERENCE, a.NO_WARP, a.STRONG_WARP),
        (
            Test("it follows a zoom by less than 0.9", "follows_scale", "reference", is_more=False, border=0.9),
            Test("it follows a zoom less than a shift", "follows_scale", "reference", minus="follows_shift", is_more=False),
            Test("without the warp it follows a zoom better", "follows_scale", "no-warp", "reference"),
        ),
        ("follows_scale", "follows_turn", "follows_shift", "wobble_scale"),
        ("reference", "no-warp", "strong-warp"),
    ),
    Claim(
        "C28",
        "worse where the head turns far",
        "The jitter is worse where the angle changes much.",
        "The same as C27, beyond 25 degrees of yaw and below.",
        (a.REFERENCE,),
        (
            Test(
                "turned, it follows a zoom less",
                "follows_scale_turned",
                "reference",
                minus="follows_scale_frontal",
                is_more=False,
            ),
            Test(
                "turned, it follows a shift less",
                "follows_shift_turned",
                "reference",
                minus="follows_shift_frontal",
                is_more=False,
            ),
        ),
        ("follows_scale_frontal", "follows_scale_turned", "follows_shift_frontal", "follows_shift_turned"),
        ("reference",),
    ),
    Claim(
        "C29",
        "only better parts help",
        "Against jitter nothing helps but a better network, detector and alignment.",
        "Two things that make no part better: the measured alignments smoothed over the track, and a warp that falls to "
        "nothing in the course of the training.",
        (AS_MEASURED, STEADIED, a.REFERENCE, a.ANNEALED),
        (
            Test("smoothing does not lessen the trembling", "trembles", "smoothed-whole", "held-whole"),
            Test(
                "the warp's end does not help the network follow a zoom",
                "follows_scale",
                "annealed",
                "reference",
                is_more=False,
            ),
            Test("nor lessen what is seen of one", "wobble_scale", "annealed", "reference"),
        ),
        ("trembles", "follows_scale", "follows_shift", "wobble_scale", "wobble_shift"),
        ("held-whole", "smoothed-whole", "reference", "annealed"),
        "The claim is put as statements that would have to hold if nothing else helped.",
    ),
)
