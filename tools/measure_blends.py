"""Compares ways to lay a face over a plate where the right answer is known; prints the tables of docs/blending.md.

    python tools/measure_blends.py WORK_FOLDER [MODEL_FOLDER [PICTURE.jpg]]

Known composite: bea's own face, spoiled (colour cast, wrong light, blur, noise, flicker), is pasted back where it was: the
plate itself is the answer. True face: bea's true face, at 256 px and with its true mask, is pasted on abel's plate: only the
compositing is judged, by the seam, its unrest and how much of her detail is left. With a model, its faces are laid over the
same plate by each method, and compared with bea's true face in face space.

The skin that wins is a choice, so all but the first PSNR is blind to it: bea's colours are first fitted to the swap's by one
affine map a frame. Leak: the band-passed luminance of the swap as a sum of bea's and abel's, and abel's share of it, within
the face and at three widths: features (fine), relief (broad) and shape (shape).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import entry
import numpy as np

import understudy
from understudy.imaging.blend import blur
from understudy.imaging.colour import luma, rgb_to_lab
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.expression import Drive, read_expressions
from understudy.imaging.look import TrackLook, detail_of_model
from understudy.imaging.masks import erode
from understudy.imaging.matte import silhouette
from understudy.imaging.metrics_colour import seam_step
from understudy.imaging.motion_blur import pool_shutter
from understudy.imaging.warp import warp_image
from understudy.media.footage import FrameRecord, probe
from understudy.media.images import encode_jpeg, read_image
from understudy.media.reader import read_frames
from understudy.model.identity import IdentitySwapper
from understudy.model.swapper import load_swapper
from understudy.settings import ConvertRecipe
from understudy.stages._compositing import Drawn, composite_face
from understudy.stages._plate_looks import _sample
from understudy.stages._plate_survey import survey_plate
from understudy.stages._swap_plan import Plan, Replacement, crop_from_frame, face_in_crop, track_ends
from understudy.store.atomic import atomic_write_bytes
from understudy.trust.label import labelled_picture
from understudy.types import Face, silent

SAMPLE = Path(understudy.__file__).parent / "sample"
FRAMES = range(78, 108)
CROP_PX = 256
SHOWN = (79, 84, 100, 107)
CORE = (slice(64, 192), slice(64, 192))
Composite = tuple[np.ndarray, np.ndarray]
FINE, BROAD, SHAPE = (2, 10), (10, 32), (20, 64)
"""Bands of detail, as standard deviations in pixels of the crop at 256 px."""

RIM_PX = 6
"""What lies nearer to the edge of her face or of the matte belongs to the seam, not to the face."""

DEFAULT = "gain + relief + sharpness and grain (default)"
BASE = ConvertRecipe(colour="none", blend="feather", fade_seconds=0, is_sharpness_matched=False, is_grain_matched=False)
PLATE = replace(BASE, colour="plate")
METHODS: Mapping[str, ConvertRecipe] = {
    "direct paste": replace(BASE, blend="direct"),
    "hard mask": replace(BASE, blend="hard"),
    "feathered silhouette": replace(BASE, mask="outline"),
    "learned alpha": replace(BASE, blend="alpha"),
    "both masks, feathered": BASE,
    "Poisson": replace(BASE, blend="poisson"),
    "multiband": replace(PLATE, colour_method="mean", blend="multiband"),
    "mean + feather": replace(PLATE, colour_method="mean"),
    "Reinhard + feather": replace(PLATE, colour_method="reinhard"),
    "MKL + feather": replace(PLATE, colour_method="mkl"),
    "gain + feather": PLATE,
    "gain, frame by frame, + feather": replace(PLATE, colour_seconds=1e-6),
    "gain + Poisson": replace(PLATE, blend="poisson"),
    "gain + multiband": replace(PLATE, blend="multiband"),
    "MKL + multiband + sharpness and grain": ConvertRecipe(fade_seconds=0, colour_method="mkl", blend="multiband"),
    "MKL + relief + sharpness and grain": ConvertRecipe(fade_seconds=0, colour_method="mkl"),
    "gain + relief": replace(PLATE, blend="relief"),
    DEFAULT: ConvertRecipe(fade_seconds=0),
    "default in linear light": ConvertRecipe(fade_seconds=0, is_light_linear=True),
    "feather in linear light": replace(BASE, is_light_linear=True),
    "own skin, the plate's light": ConvertRecipe(fade_seconds=0, colour="performer"),
}


SQUARE = IdentitySwapper({"abel": np.zeros((0, 128)), "bea": np.zeros((0, 128))}, resolution_px=CROP_PX)
"""The framing and size that a trained model would have."""

TRUE_COLUMNS = "PSNR dB, skin fitted, seam ΔE, unrest, flicker, detail, leak: fine, broad, shape"
ROLE = Replacement("abel", "bea")


@dataclass(frozen=True)
class Case:
    """Plate frames with a face to lay over each, and the answer where there is one."""

    plates: Mapping[int, np.ndarray]
    faces: Mapping[int, Face]
    answers: Mapping[int, np.ndarray]
    swapper: object = SQUARE


def main(work: Path, model: Path | None, picture: Path | None) -> None:
    """Print the tables and, if told, write the picture: one row a method, one column a frame."""
    abel, bea = (_clip(work, name) for name in ("abel_test", "bea_test"))
    truth = _true_crops(*bea)
    cases = {"known": _spoiled(*bea), "true": Case(*abel, truth)}
    if model is not None:
        cases["model"] = _drawn_by(model, *abel)
    print(
        "| method | known: PSNR dB, ΔE76, seam ΔE, flicker |",
        " | ".join(f"{which}: {TRUE_COLUMNS}" for which in cases if which != "known"),
    )
    rows = [np.hstack([_captioned(abel[0][frame], "plate") for frame in SHOWN])]
    for name, recipe in METHODS.items():
        placed = {which: dict(_composites(case, recipe)) for which, case in cases.items()}
        cells = [_known_figures(cases["known"], placed["known"])]
        cells += [_true_figures(cases[which], placed[which], truth) for which in ("true", "model") if which in cases]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
        shown = [(which, frame) for which in cases if which != "known" for frame in SHOWN[:: len(cases) - 1]]
        rows.append(np.hstack([_captioned(placed[which][frame][0], f"{name}, {which}") for which, frame in shown]))
    if picture is not None:
        atomic_write_bytes(picture, labelled_picture(encode_jpeg(np.vstack(rows), quality=80)))


# ---- cases ----------------------------------------------------------------------------------------------------------------


def _clip(work: Path, name: str) -> tuple[dict[int, np.ndarray], dict[int, Face]]:
    info = probe(SAMPLE / f"{name}.mp4")
    (work / name).mkdir(parents=True, exist_ok=True)
    faces = {face.frame: face for face in survey_plate(info, work / name, silent).faces}
    return {record.index: record.image for record in read_frames(info.path) if record.index in FRAMES}, faces


def _true_crops(frames: Mapping[int, np.ndarray], faces: Mapping[int, Face]) -> dict[int, np.ndarray]:
    crops = {}
    for k, frame in frames.items():
        place = crop_from_frame(faces[k], SQUARE)
        mask = read_image(SAMPLE / "bea_test_mask" / f"{k:04d}.png")[..., 0]
        rgb, alpha = (warp_image(each, place, (CROP_PX, CROP_PX), border="black") for each in (frame, mask))
        crops[k] = np.dstack([unit_from_codes(rgb), unit_from_codes(alpha)])
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


def _drawn_by(model: Path, frames: Mapping[int, np.ndarray], faces: Mapping[int, Face]) -> Case:
    swapper = load_swapper(model)
    size = (swapper.resolution_px, swapper.resolution_px)
    crops = {k: warp_image(frame, crop_from_frame(faces[k], swapper), size) for k, frame in frames.items()}
    answers = {}
    for k, crop in crops.items():
        drive = Drive(read_expressions([faces[k]]), faces=face_in_crop(faces[k], swapper)[None])
        answers[k] = swapper.swap(crop[None], "abel", "bea", drive)[0]
    return Case(frames, faces, answers, swapper)


def _composites(case: Case, recipe: ConvertRecipe) -> Iterator[tuple[int, Composite]]:
    faces = {k: [face] for k, face in case.faces.items()}
    roles = {face.track: ROLE for face in case.faces.values()}
    plan = Plan(case.swapper, (ROLE,), recipe, faces, roles, frozenset(), track_ends(faces, {}, roles), 25.0)
    size = (case.swapper.resolution_px, case.swapper.resolution_px)
    drawn = {
        k: Drawn(case.faces[k], warp_image(case.plates[k], crop_from_frame(case.faces[k], case.swapper), size), answer)
        for k, answer in case.answers.items()
    }
    if recipe.colour != "none":
        samples: dict[int, list] = {}
        for k in sorted(drawn)[:: 4 if recipe.colour_seconds > 0.01 else 1]:
            record = FrameRecord(k, k / 25, k, Fraction(1, 25), case.plates[k])
            samples.setdefault(case.faces[k].track, []).append(_sample(record, drawn[k], plan))
        looks = {track: TrackLook.of(several) for track, several in samples.items()}
        plan = plan.with_looks(looks, pool_shutter([each.shutter for several in samples.values() for each in several]), {})
        if recipe == METHODS[DEFAULT]:
            print(
                f"(detail of the model {[round(detail_of_model(look), 2) for look in looks.values()]}, shutter {plan.shutter})"
            )
    for k in drawn:
        near = [drawn[j] for j in range(k - 2, k + 3) if j in drawn]
        layer = composite_face(case.plates[k], near, near.index(drawn[k]), plan)
        image, matte = case.plates[k].copy(), np.zeros(case.plates[k].shape[:2], np.float32)
        layer.over(image)
        matte[layer.inside] = layer.matte
        yield k, (image, matte)


# ---- figures --------------------------------------------------------------------------------------------------------------


def _known_figures(case: Case, composites: Mapping[int, Composite]) -> str:
    """PSNR and colour difference inside the silhouette, seam, and flicker: how the broad error changes from frame to frame."""
    squares, distances, seams, broad = [], [], [], []
    for frame, (image, matte) in composites.items():
        swap, truth = unit_from_codes(image), unit_from_codes(case.plates[frame])
        inside = silhouette(np.asarray(case.faces[frame].landmarks), max(image.shape))[: image.shape[0], : image.shape[1]] > 0.5
        squares.append(((swap - truth)[inside] ** 2).mean())
        distances.append(np.linalg.norm(rgb_to_lab(swap) - rgb_to_lab(truth), axis=2)[inside].mean())
        seams.append(seam_step(swap, truth, matte))
        broad.append(blur(_in_face(case, frame, swap - truth), 4))
    flicker = np.mean([np.abs(after - before)[CORE].mean() for before, after in pairwise(broad)])
    return f"{-10 * np.log10(np.mean(squares)):.1f} | {np.mean(distances):.1f} | {np.nanmean(seams):.1f} | {255 * flicker:.2f}"


def _true_figures(case: Case, composites: Mapping[int, Composite], truth: Mapping[int, np.ndarray]) -> str:
    """In face space: PSNR against the truth, and with her skin fitted; seam, unrest (second difference in time of the broad
    colours, over the plate's), flicker (change of the broad error), detail (correlation with the truth), and the leaks."""
    squares, fitted, seams, details, swaps, plates, errors = ([] for _ in range(7))
    bands = {band: [] for band in (FINE, BROAD, SHAPE)}
    for frame, (image, matte) in composites.items():
        swap, plate, true = unit_from_codes(image), unit_from_codes(case.plates[frame]), truth[frame][..., :3]
        seams.append(seam_step(swap, plate, matte))
        in_face, plate_in_face, shown = (_in_face(case, frame, each) for each in (swap, plate, matte))
        inside = erode(((truth[frame][..., 3] > 0.9) & (shown > 0.02)).astype(np.float32), RIM_PX) > 0.5
        squares.append(((in_face - true)[inside] ** 2).mean())
        errors.append(_unlike(in_face, true, inside))
        fitted.append((errors[-1][inside] ** 2).mean())
        swaps.append(blur(in_face, 8))
        plates.append(blur(plate_in_face, 8))
        for band, rows in bands.items():
            rows.append(np.stack([_band(luma(each), inside, band) for each in (true, plate_in_face, in_face)]))
        details.append(np.corrcoef(bands[FINE][-1])[0, 2])
    unrest = [np.abs(np.diff(np.stack(each), 2, axis=0)[:, *CORE]).mean() for each in (swaps, plates)]
    flicker = np.mean([np.abs(blur(after - before, 4))[CORE].mean() for before, after in pairwise(errors)])
    cells = [*(f"{-10 * np.log10(np.mean(each)):.1f}" for each in (squares, fitted)), f"{np.nanmean(seams):.1f}"]
    cells += [f"{value:.2f}" for value in (unrest[0] / unrest[1], 255 * flicker, np.mean(details))]
    return " | ".join([*cells, *(f"{_share_of_plate(rows):z.2f}" for rows in bands.values())])


def _share_of_plate(rows: Sequence[np.ndarray]) -> float:
    """Of bands (3, N) of bea, abel and the swap: abel's share in the sum of both that comes nearest to the swap."""
    products = sum(each @ each.T for each in rows)
    hers, theirs = np.linalg.solve(products[:2, :2], products[:2, 2])
    return theirs / (hers + theirs)


def _unlike(picture: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What of a picture no affine map of the truth's colours explains; 0 outside."""
    colours = np.column_stack([truth[inside], np.ones(inside.sum(), np.float32)])
    left = np.zeros_like(picture)
    left[inside] = picture[inside] - colours @ np.linalg.lstsq(colours, picture[inside], rcond=None)[0]
    return left


def _in_face(case: Case, frame: int, picture: np.ndarray) -> np.ndarray:
    return warp_image(picture, crop_from_frame(case.faces[frame], SQUARE), (CROP_PX, CROP_PX))


def _band(luminance: np.ndarray, inside: np.ndarray, band: tuple[int, int]) -> np.ndarray:
    """A band of what lies inside, undisturbed by what does not: hair and neck are the plate's in every swap."""
    mask = inside.astype(np.float32)
    finer, coarser = (blur(luminance * mask, sigma) / np.maximum(blur(mask, sigma), 1e-3) for sigma in band)
    return (finer - coarser)[inside]


def _captioned(image: np.ndarray, name: str) -> np.ndarray:
    cut = image[60:440, 100:460].copy()
    cv2.putText(cut, name, (8, 370), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cut


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("work", type=Path, metavar="WORK_FOLDER")
    asked.add_argument("model", type=Path, metavar="MODEL_FOLDER", nargs="?")
    asked.add_argument("picture", type=Path, metavar="PICTURE.jpg", nargs="?")
    entry.run(main, asked)
