"""Compares ways to lay a face over a plate where the right answer is known; prints the table of docs/blending.md.

    python tools/measure_blends.py WORK_FOLDER [PICTURE.jpg]

Known composite: bea's own face, spoiled (colour cast, wrong light, blur, noise, flicker), is pasted back where it was: the
plate itself is the answer. True face: bea's true face, at 256 px and with its true mask, is pasted on abel's plate: only the
compositing is judged, by the seam, its unrest and how much of her detail is left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

import understudy
from understudy.imaging.blend import blur, to_unit
from understudy.imaging.colour import luma, rgb_to_lab
from understudy.imaging.framing import FULL
from understudy.imaging.matte import silhouette
from understudy.imaging.metrics_colour import seam_step
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord, probe
from understudy.media.images import read_image, write_jpeg
from understudy.media.reader import read_frames
from understudy.stages import _swapping as swapping
from understudy.stages._plate_survey import survey_plate
from understudy.types import ConvertRecipe, Face, silent

SAMPLE = Path(understudy.__file__).parent / "sample"
FRAMES = range(60, 110)
CROP_PX = 256
SHOWN = (62, 84, 100, 109)
CORE = (slice(64, 192), slice(64, 192))
Composite = tuple[np.ndarray, np.ndarray]

BASE = ConvertRecipe(colour="none", blend="feather", fade_seconds=0, is_sharpness_matched=False, is_grain_matched=False)
PLATE = replace(BASE, colour="plate")
METHODS: Mapping[str, ConvertRecipe] = {
    "direct paste": replace(BASE, blend="direct"),
    "hard mask": replace(BASE, blend="hard"),
    "feathered silhouette": replace(BASE, mask="outline"),
    "learned alpha": replace(BASE, mask="learned", erode_fraction=0, feather_fraction=0),
    "both masks, feathered": BASE,
    "Poisson": replace(BASE, blend="poisson"),
    "multiband": replace(PLATE, colour_method="mean", blend="multiband"),
    "mean + feather": replace(PLATE, colour_method="mean"),
    "Reinhard + feather": replace(PLATE, colour_method="reinhard"),
    "MKL + feather": PLATE,
    "MKL, frame by frame, + feather": replace(PLATE, colour_seconds=1e-6),
    "MKL + Poisson": replace(PLATE, blend="poisson"),
    "MKL + multiband": replace(PLATE, blend="multiband"),
    "MKL + multiband + sharpness and grain (default)": ConvertRecipe(fade_seconds=0),
}


class Square:
    """The framing and size that a trained model would have."""

    performers = ("abel", "bea")
    resolution_px = CROP_PX
    framing = FULL
    galleries: Mapping[str, np.ndarray] = {}


@dataclass(frozen=True)
class Case:
    """Plate frames with a face to lay over each, and the answer where there is one."""

    plates: Mapping[int, np.ndarray]
    faces: Mapping[int, Face]
    answers: Mapping[int, np.ndarray]


def main(work: Path, picture: Path | None) -> None:
    """Print the table and, if told, write the picture: one row a method, one column a frame."""
    abel, bea = (_clip(work, name) for name in ("abel_test", "bea_test"))
    known, true = _spoiled(*bea), Case(*abel, _true_crops(*bea))
    print("| method | PSNR dB | ΔE76 | seam ΔE | flicker | seam ΔE, true face | unrest | detail |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [np.hstack([_captioned(abel[0][frame], "plate") for frame in SHOWN])]
    for name, recipe in METHODS.items():
        placed = dict(_composites(true, recipe))
        print(
            f"| {name} | {_known_figures(known, dict(_composites(known, recipe)))} | {_true_figures(true, placed)} |",
            flush=True,
        )
        rows.append(np.hstack([_captioned(placed[frame][0], name) for frame in SHOWN]))
    if picture is not None:
        write_jpeg(picture, np.vstack(rows), quality=85)


# ---- cases ----------------------------------------------------------------------------------------------------------------


def _clip(work: Path, name: str) -> tuple[dict[int, np.ndarray], dict[int, Face]]:
    info = probe(SAMPLE / f"{name}.mp4")
    (work / name).mkdir(parents=True, exist_ok=True)
    faces = {face.frame: face for face in survey_plate(info, work / name, silent).faces}
    return {record.index: record.image for record in read_frames(info.path) if record.index in FRAMES}, faces


def _true_crops(frames: Mapping[int, np.ndarray], faces: Mapping[int, Face]) -> dict[int, np.ndarray]:
    crops = {}
    for k, frame in frames.items():
        crop_from_frame = swapping.crop_from_frame(faces[k], Square())
        mask = read_image(SAMPLE / "bea_test_mask" / f"{k:04d}.png")[..., 0]
        rgb, alpha = (warp_image(each, crop_from_frame, (CROP_PX, CROP_PX), border="black") for each in (frame, mask))
        crops[k] = np.dstack([to_unit(rgb), to_unit(alpha)])
    return crops


def _spoiled(frames: Mapping[int, np.ndarray], faces: Mapping[int, Face]) -> Case:
    """The cast, wrong light, blur, noise and flicker that a generated face commonly has, in known amounts."""
    random = np.random.default_rng(0)
    light = np.linspace(-0.12, 0.12, CROP_PX, dtype=np.float32)[None, :, None]
    crops = {}
    for k, crop in _true_crops(frames, faces).items():
        rgb = cv2.GaussianBlur(crop[..., :3], (0, 0), 1) * np.float32([1.10, 0.97, 0.88]) * (1 + light) + np.float32(0.02)
        rgb = rgb * (1 + 0.01 * random.normal()) + 2 / 255 * random.normal(size=rgb.shape)
        crops[k] = np.dstack([np.clip(rgb, 0, 1), crop[..., 3]]).astype(np.float32)
    return Case(frames, faces, crops)


def _composites(case: Case, recipe: ConvertRecipe) -> Iterator[tuple[int, Composite]]:
    faces = {k: [face] for k, face in case.faces.items()}
    plan = swapping.Plan(Square(), "abel", "bea", recipe, faces, frozenset(), swapping.track_ends(faces, {}), {}, 25.0)
    if recipe.colour == "plate":
        looks: dict[int, list] = {}
        stride = 4 if recipe.colour_seconds > 0.01 else 1
        for k in sorted(case.answers)[::stride]:
            record = FrameRecord(k, k / 25, k, Fraction(1, 25), case.plates[k])
            crop = warp_image(case.plates[k], swapping.crop_from_frame(case.faces[k], Square()), (CROP_PX, CROP_PX))
            looks.setdefault(case.faces[k].track, []).append(
                swapping._sample(record, case.faces[k], crop, case.answers[k], plan)
            )
        plan = replace(plan, looks=looks)
    for k, answer in case.answers.items():
        yield k, swapping._lay_over(case.plates[k], case.faces[k], answer, plan)


# ---- figures --------------------------------------------------------------------------------------------------------------


def _known_figures(case: Case, composites: Mapping[int, Composite]) -> str:
    """PSNR and colour difference inside the silhouette, seam, and flicker: how the broad error changes from frame to frame."""
    squares, distances, seams, broad = [], [], [], []
    for frame, (image, matte) in composites.items():
        swap, truth = to_unit(image), to_unit(case.plates[frame])
        inside = silhouette(np.asarray(case.faces[frame].landmarks), max(image.shape))[: image.shape[0], : image.shape[1]] > 0.5
        squares.append(((swap - truth)[inside] ** 2).mean())
        distances.append(np.linalg.norm(rgb_to_lab(swap) - rgb_to_lab(truth), axis=2)[inside].mean())
        seams.append(seam_step(swap, truth, matte))
        broad.append(blur(_in_face(case, frame, swap - truth), 4))
    flicker = np.mean([np.abs(after - before)[CORE].mean() for before, after in pairwise(broad)])
    return f"{-10 * np.log10(np.mean(squares)):.1f} | {np.mean(distances):.1f} | {np.nanmean(seams):.1f} | {255 * flicker:.2f}"


def _true_figures(case: Case, composites: Mapping[int, Composite]) -> str:
    """Seam; unrest: second difference in time of the broad colours, over the plate's; detail: correlation with the truth."""
    seams, details, swaps, plates = [], [], [], []
    for frame, (image, matte) in composites.items():
        swap, plate = to_unit(image), to_unit(case.plates[frame])
        seams.append(seam_step(swap, plate, matte))
        in_face = _in_face(case, frame, swap)
        swaps.append(blur(in_face, 8))
        plates.append(blur(_in_face(case, frame, plate), 8))
        visible = case.answers[frame][..., 3] > 0.9
        mine, true = (_band(luma(each))[visible] for each in (in_face, case.answers[frame][..., :3]))
        details.append(np.corrcoef(mine, true)[0, 1])
    unrest = [np.abs(np.diff(np.stack(each), 2, axis=0)[:, *CORE]).mean() for each in (swaps, plates)]
    return f"{np.nanmean(seams):.1f} | {unrest[0] / unrest[1]:.2f} | {np.mean(details):.2f}"


def _in_face(case: Case, frame: int, picture: np.ndarray) -> np.ndarray:
    return warp_image(picture, swapping.crop_from_frame(case.faces[frame], Square()), (CROP_PX, CROP_PX))


def _band(luminance: np.ndarray) -> np.ndarray:
    return blur(luminance, 2) - blur(luminance, 10)


def _captioned(image: np.ndarray, name: str) -> np.ndarray:
    cut = image[60:440, 100:460].copy()
    cv2.putText(cut, name, (8, 370), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cut


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
