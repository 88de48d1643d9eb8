"""How steady a swap is beside the truth: with steadied alignments, without, and with detections dropped in bursts.

    python tools/measure_steadiness.py WORK_FOLDER MODEL_FOLDER

Abel's test clip becomes bea by the model, and is compared with her own clip of the same performance, encoded as the swap is.
*Acceleration*: root mean square of the landmarks' second difference over that of the truth; *excess*: that of the difference
to the truth, in percent of the eye distance; *gain*: expression kept of the truth's; *pop*: the largest change from a frame to
the next of the difference to the swap with every detection, over the whole face, in levels of 255. All landmarks are seen from
the same steady alignment of the plate, so that a trembling one cannot hide its own trembling. A tenth of the detections is
dropped, in bursts of one to six frames. Neither watermark nor notice is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

import understudy
from understudy.imaging.depth import unit_from_codes
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.similarity import compose
from understudy.imaging.warp import warp_image
from understudy.media import VideoWriter, probe, read_frames
from understudy.model.swapper import load_swapper
from understudy.perception.survey import FrameFaces, Networks, load_networks
from understudy.stages import _evaluation_faces as evaluation
from understudy.stages._plate_survey import PLATE_FOLDER, PlateSurvey, _read_back, link, survey_plate
from understudy.stages._swap_plan import Replacement
from understudy.stages._swapping import swapped_frames
from understudy.stages.convert import make_plan, measure_looks
from understudy.store.faceset import FaceSet
from understudy.types import ConvertRecipe, Detection, Face, silent

SAMPLE = Path(understudy.__file__).parent / "sample"
PLATE, TRUTH = SAMPLE / "abel_test.mp4", SAMPLE / "bea_test.mp4"
RECIPE = ConvertRecipe()
DROPPED_SHARE, LONGEST_BURST = 0.1, 6
FACE_PX = 128


def main(work: Path, model: Path) -> None:
    """Print a row for each variant."""
    surveyed, truth = seen(PLATE, work / "plate"), link(seen(TRUTH, work / "truth"))
    plate = link(surveyed)
    dropped = sorted(burst_frames(len(surveyed)))
    variants = {
        "steadied (default)": (plate, RECIPE),
        "alignment as measured": (PlateSurvey([unsteadied(face) for face in plate.faces], plate.shot), RECIPE),
        "nothing steadied": (
            PlateSurvey([unsteadied(face) for face in plate.faces], plate.shot),
            replace(RECIPE, matte_seconds=0, colour_seconds=1e-6),
        ),
        f"{len(dropped)} detections dropped": (without_detections(surveyed, dropped), RECIPE),
    }
    networks = replace(load_networks(), embed=lambda image, mesh: np.full(128, np.nan))
    reference = motion(reencoded(TRUTH, work / "truth.mp4"), truth.faces, networks)
    print(f"(frames without a detection: {dropped})")
    print(
        "| variant | swapped | acceleration | excess % | lag, frames | gain | pop | PSNR to default, dB |\n" + "|" + "---|" * 8
    )
    print(row("plate", None, motion(PLATE, plate.faces, networks), reference, ""), flush=True)
    first: Path | None = None
    for number, (name, (survey, recipe)) in enumerate(variants.items()):
        path, num_swapped = swapped(survey, recipe, model, work / f"variant{number}")
        first = first or path
        told = compared(path, first, plate.faces)
        print(row(name, num_swapped, motion(path, plate.faces, networks), reference, told), flush=True)


def row(name: str, num_swapped: int | None, swap: evaluation.FaceMotion, truth: evaluation.FaceMotion, told: str) -> str:
    """One line of the table."""
    steady, shape = evaluation.steadiness(swap, truth), evaluation.geometry(swap, truth)
    cells = [
        f"{steady['jitter_ratio'].value:.2f}",
        f"{steady['excess_acceleration_percent'].value:.2f}",
        f"{steady['lag_frames'].value:.0f}",
        f"{shape['expression_gain'].value:.3f}",
    ]
    return f"| {name} | {'' if num_swapped is None else num_swapped} | {' | '.join(cells)} | {told or '| '} |"


# ---- variants -------------------------------------------------------------------------------------------------------------


def seen(clip: Path, work: Path) -> list[FrameFaces]:
    """What each frame shows, not yet linked; found once."""
    survey_plate(probe(clip), work, silent)
    with FaceSet.create(work / PLATE_FOLDER, performer="plate") as stored:
        return _read_back(stored, clip.name)


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


def swapped(survey: PlateSurvey, recipe: ConvertRecipe, model: Path, work: Path) -> tuple[Path, int]:
    """The swap as a file, and how many frames show it."""
    work.mkdir(parents=True, exist_ok=True)
    info, swapper, num_swapped = probe(PLATE), load_swapper(model), 0
    plan = make_plan(info, survey, swapper, (Replacement("abel", "bea"),), recipe)
    plan = measure_looks(info, plan, work / PLATE_FOLDER)
    with VideoWriter(work / "swap.mp4", plate=PLATE, codec="h264", crf=recipe.crf) as writer:
        for frame in swapped_frames(read_frames(PLATE), plan):
            writer.write(frame.image, frame.record)
            num_swapped += frame.status == "swapped"
    return work / "swap.mp4", num_swapped


def reencoded(clip: Path, path: Path) -> Path:
    """A clip encoded as the swap is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, plate=clip, codec="h264", crf=RECIPE.crf) as writer:
        for frame in read_frames(clip):
            writer.write(frame.image, frame)
    return path


# ---- figures --------------------------------------------------------------------------------------------------------------


def motion(clip: Path, faces: Sequence[Face], networks: Networks) -> evaluation.FaceMotion:
    """The landmarks of a clip, looked for where `faces` are."""
    track, by_frame = evaluation.FaceTrack(), {face.frame: face for face in faces}
    for record in read_frames(clip):
        face = by_frame.get(record.index)
        detection = Detection(face.box, 1.0, face.landmarks[[33, 263, 1, 13, 127, 356]]) if face else None
        place = face.face_from_frame if face else np.full((2, 3), np.nan)
        track.look(record.eight_bit, detection, place, networks, lambda image, mesh: np.full((2, 2), np.nan))
    return evaluation.motion(track)


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
    main(*map(Path, sys.argv[1:3]))
