"""How steady a swap is beside the truth: with steadied alignments, without, and with detections dropped in bursts.

    python tools/measure_steadiness.py WORK_FOLDER [MODEL_FOLDER]

Abel's test clip becomes bea, by bea's true face, so that only compositing is judged, and by the model; and is compared with
her own clip of the same performance, encoded as the swap is, sharp and as soft as a model is: a soft face is harder to find
landmarks on. *Acceleration*: root mean square of the landmarks' second difference over that of the truth; *excess*: that of
the difference to the truth, in percent of the eye distance; *gain*: expression kept of the truth's; *pop*: the largest change
from a frame to the next of the difference to the swap with every detection, over the whole face, in levels of 255. All
landmarks are seen from the same steady alignment of the plate, so that a trembling one cannot hide its own trembling. A tenth
of the detections is dropped, in bursts of one to six frames. Neither watermark nor notice is written. *Free*: the same
accelerations without the frames in which a bar covers part of her face, by her true mask: on half a face the finder of
landmarks guesses, and each guess is another one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import entry
import numpy as np

import understudy
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.similarity import compose
from understudy.imaging.warp import warp_image
from understudy.media import VideoWriter, probe, read_frames
from understudy.media.images import read_image
from understudy.model.identity import IdentitySwapper
from understudy.model.swapper import load_swapper
from understudy.perception.survey import FrameFaces, Networks, load_networks
from understudy.settings import ConvertRecipe
from understudy.stages import _evaluation_faces as evaluation
from understudy.stages._plate_survey import PLATE_FOLDER, PlateSurvey, link, survey_plate
from understudy.stages._stored_survey import stored_survey
from understudy.stages._swap_plan import Replacement, Swapper, crop_from_frame
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import make_plan, measure_looks
from understudy.store.faceset import FaceSet
from understudy.types import Detection, Face, silent

SAMPLE = Path(understudy.__file__).parent / "sample"
PLATE, TRUTH = SAMPLE / "abel_test.mp4", SAMPLE / "bea_test.mp4"
RECIPE = ConvertRecipe()
DROPPED_SHARE, LONGEST_BURST = 0.1, 6
FACE_PX = 128
LEAST_SHOWN = 0.95
"""Of the usual area of the face: less, and something covers it."""

SOFT_PX = (2, 4)
"""Blurs (sigma, in a frame of 512 px) between which models of some minutes lie."""


def main(work: Path, model: Path | None) -> None:
    """Print a row for each variant."""
    surveyed, truth = seen(PLATE, work / "plate"), link(seen(TRUTH, work / "truth"))
    plate = link(surveyed)
    dropped = sorted(burst_frames(len(surveyed)))
    measured = PlateSurvey([unsteadied(face) for face in plate.faces], plate.shot)
    missing = without_detections(surveyed, dropped)
    variants: dict[str, tuple[Swapper, PlateSurvey, ConvertRecipe]] = {}
    for whose, swapper in swappers(truth, [plate, measured, missing], model).items():
        variants |= {
            f"{whose}: steadied (default)": (swapper, plate, RECIPE),
            f"{whose}: alignment as measured": (swapper, measured, RECIPE),
            f"{whose}: {len(dropped)} detections dropped": (swapper, missing, RECIPE),
        }
    if model is not None:
        nothing = replace(RECIPE, matte_seconds=0, code_seconds=0, colour_seconds=1e-6)
        variants |= {
            "model: nothing steadied": (swapper, measured, nothing),
            "model: codes as they are read": (swapper, plate, replace(RECIPE, code_seconds=0)),
            "model: four crops averaged": (swapper, plate, replace(RECIPE, num_crops=4)),
            "model: half along the flow": (swapper, plate, replace(RECIPE, flow_blend_fraction=0.5)),
        }
    networks = replace(load_networks(), embed=lambda image, mesh: np.full(128, np.nan))
    reference = motion(reencoded(TRUTH, work / "truth.mp4"), truth.faces, networks)
    print(f"(frames without a detection: {dropped})")
    print(
        "| variant | swapped | acceleration | excess % | free: acceleration | excess % | lag, frames | gain | pop "
        "| PSNR to default, dB |\n" + "|" + "---|" * 10
    )
    print(row("plate", None, motion(PLATE, plate.faces, networks), reference, ""), flush=True)
    for sigma_px in SOFT_PX:
        soft = motion(reencoded(TRUTH, work / f"truth{sigma_px}.mp4", sigma_px), truth.faces, networks)
        print(row(f"truth, blurred by {sigma_px} px", None, soft, reference, ""), flush=True)
    firsts: dict[int, Path] = {}
    for number, (name, (swapper, survey, recipe)) in enumerate(variants.items()):
        path, num_swapped = swapped(survey, recipe, swapper, work / f"variant{number}")
        told = compared(path, firsts.setdefault(id(swapper), path), plate.faces)
        print(row(name, num_swapped, motion(path, plate.faces, networks), reference, told), flush=True)


def row(name: str, num_swapped: int | None, swap: evaluation.FaceMotion, truth: evaluation.FaceMotion, told: str) -> str:
    """One line of the table."""
    steady, shape = evaluation.steadiness(swap, truth), evaluation.geometry(swap, truth)
    free = evaluation.steadiness(*(replace(each, points=uncovered(each.points)) for each in (swap, truth)))
    cells = [
        *(f"{each[name].value:.2f}" for each in (steady, free) for name in ("jitter_ratio", "excess_acceleration_percent")),
        f"{steady['lag_frames'].value:.0f}",
        f"{shape['expression_gain'].value:.3f}",
    ]
    return f"| {name} | {'' if num_swapped is None else num_swapped} | {' | '.join(cells)} | {told or '| '} |"


def uncovered(points: np.ndarray) -> np.ndarray:
    """Points (T, 68, 2) without the frames, and those beside them, in which her true mask is clearly smaller than around."""
    area = np.array([read_image(SAMPLE / "bea_test_mask" / f"{frame:04d}.png").mean() for frame in range(len(points))])
    usual = np.array([np.median(area[max(0, frame - 15) : frame + 16]) for frame in range(len(points))])
    is_covered = np.convolve(area < LEAST_SHOWN * usual, np.ones(5), "same") > 0
    return np.where(is_covered[:, None, None], np.nan, points)


# ---- variants -------------------------------------------------------------------------------------------------------------


class TrueFaces(IdentitySwapper):
    """Gives, for each crop of the plate, bea's true face of that moment with its true mask."""

    def __init__(self, truth: PlateSurvey, surveys: Sequence[PlateSurvey], galleries: Mapping[str, np.ndarray]) -> None:
        super().__init__(galleries)
        hers, size = {face.frame: face for face in truth.faces}, (self.resolution_px, self.resolution_px)
        self._answers: dict[bytes, np.ndarray] = {}
        for plate, true in zip(read_frames(PLATE), read_frames(TRUTH), strict=True):
            mask = read_image(SAMPLE / "bea_test_mask" / f"{plate.index:04d}.png")
            place = crop_from_frame(hers[plate.index], self)
            rgb, alpha = (unit_from_codes(warp_image(each, place, size, border="black")) for each in (true.image, mask))
            for face in [face for survey in surveys for face in survey.faces if face.frame == plate.index]:
                crop = warp_image(plate.image, crop_from_frame(face, self), size)
                self._answers[crop.tobytes()] = np.dstack([rgb, alpha[..., 0]])

    def swap(self, crops: np.ndarray, from_performer: str, to_performer: str, *told: object) -> np.ndarray:
        return np.stack([self._answers[crop.tobytes()] for crop in crops])


def swappers(truth: PlateSurvey, surveys: Sequence[PlateSurvey], model: Path | None) -> dict[str, Swapper]:
    """Bea's true face, and what the model makes of abel's."""
    abel, bea = (np.nanmean([face.embedding for face in survey.faces], axis=0)[None] for survey in (surveys[0], truth))
    true: dict[str, Swapper] = {"true face": TrueFaces(truth, surveys, {"abel": abel, "bea": bea})}
    return true if model is None else {**true, "model": load_swapper(model)}


def seen(clip: Path, work: Path) -> list[FrameFaces]:
    """What each frame shows, not yet linked; found once."""
    survey_plate(probe(clip), work, silent)
    with FaceSet.create(work / PLATE_FOLDER, performer="plate") as stored:
        return stored_survey(stored, clip.name)


def burst_frames(num_frames: int) -> set[int]:
    """A tenth of the frames, in bursts of one to six, with a face before and after each."""
    random, frames = np.random.default_rng(3), set()
    while len(frames) < DROPPED_SHARE * num_frames:
        length = min(int(random.integers(1, LONGEST_BURST + 1)), round(DROPPED_SHARE * num_frames) - len(frames))
        start = int(random.integers(1, num_frames - length))
        burst = set(range(start, start + length))
        if frames.isdisjoint(burst | {start - 1, start + length}):
            frames |= burst
    return frames


def without_detections(surveyed: Sequence[FrameFaces], frames: Sequence[int]) -> PlateSurvey:
    """The plate as if nobody had been seen in `frames`."""
    return link([replace(each, faces=()) if each.frame in frames else each for each in surveyed])


def unsteadied(face: Face) -> Face:
    """The face where the landmarks put it in its own frame."""
    return replace(face, face_from_frame=face.raw_face_from_frame)


def swapped(survey: PlateSurvey, recipe: ConvertRecipe, swapper: Swapper, work: Path) -> tuple[Path, int]:
    """The swap as a file, and how many frames show it."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    info, num_swapped = probe(PLATE), 0
    plan = make_plan(info, survey, swapper, (Replacement("abel", "bea"),), recipe)
    plan = measure_looks(info, plan, work / PLATE_FOLDER)
    with VideoWriter(work / "swap.mp4", plate=PLATE, codec="h264", crf=recipe.crf) as writer:
        for frame in swapped_frames(read_frames(PLATE), plan):
            writer.write(frame.image, frame.record)
            num_swapped += frame.status == "swapped"
    return work / "swap.mp4", num_swapped


def reencoded(clip: Path, path: Path, sigma_px: float = 0) -> Path:
    """A clip encoded as the swap is; blurred before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, plate=clip, codec="h264", crf=RECIPE.crf) as writer:
        for frame in read_frames(clip):
            writer.write(cv2.GaussianBlur(frame.image, (0, 0), sigma_px) if sigma_px else frame.image, frame)
    return path


# ---- figures --------------------------------------------------------------------------------------------------------------


def motion(clip: Path, faces: Sequence[Face], networks: Networks) -> evaluation.FaceMotion:
    """The landmarks of a clip, looked for where `faces` are."""
    motions, by_frame = [], {face.frame: face for face in faces}
    for record in read_frames(clip):
        face = by_frame.get(record.index)
        detection = Detection(face.box, 1.0, face.landmarks[[33, 263, 1, 13, 127, 356]]) if face else None
        place = face.face_from_frame if face else np.full((2, 3), np.nan)
        motions.append(evaluation.motion(evaluation.look(record.index, record.eight_bit, detection, networks), place))
    return evaluation.joined(motions)


def compared(path: Path, other: Path, faces: Sequence[Face]) -> str:
    """The largest step in time of what differs, and how alike the faces are."""
    if path == other:
        return " | "
    by_frame = {face.frame: face for face in faces}
    differences = []
    for one, two in zip(read_frames(path), read_frames(other), strict=True):
        if face := by_frame.get(one.index):
            place = compose(crop_from_face(FULL, FACE_PX), face.face_from_frame)
            differences.append(
                np.subtract(*(unit_from_codes(warp_image(each.image, place, (FACE_PX, FACE_PX))) for each in (one, two)))
            )
    steps = [255 * float(np.abs(after - before).mean()) for before, after in pairwise(differences)]
    return f"{max(steps):.2f} | {-10 * np.log10(np.mean(np.square(differences))):.1f}"


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("work", type=Path, metavar="WORK_FOLDER")
    asked.add_argument("model", type=Path, metavar="MODEL_FOLDER", nargs="?")
    entry.run(main, asked)
