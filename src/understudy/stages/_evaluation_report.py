"""The evaluation's `report.html`: pictures first, then words, then every figure with its interval and its noise floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.imaging.warp import resize
from understudy.media import encode_jpeg
from understudy.stages import _evaluation_pixels as pixels
from understudy.stages._evaluation_clips import FrameSet, read_frame_sets
from understudy.stages._evaluation_figures import Scores
from understudy.stages._evaluation_measure import Scene
from understudy.stages._evaluation_words import Suspect, blur_warning, judge, suspects, verdict
from understudy.store.report import Figure, Picture, Section, Table, render_report
from understudy.types import Image

_STRIP_HEIGHT_PX = 300
_NUM_SPREAD = 5
_DIFFERENCE_GAIN = 3
_DIFFERENCE_NOTE = ", and the swap minus the truth, enlarged, around grey"

LABELS: Mapping[str, tuple[str, str, str]] = {
    "psnr_db": ("PSNR", "dB", "nearness to the truth in face space; the plate's own is the floor"),
    "ssim": ("SSIM", "", "structural similarity, 1 = equal"),
    "leak": ("Leak λ", "", "how much of the plate's face is left: 0 none, 1 all"),
    "detail": ("Detail", "", "correlation with the truth of what a blur takes away, 1 = equal"),
    "contrast": ("Contrast", "", "spread of the same band over the truth's: under 1 is blurred"),
    "landmark_error_percent": ("Landmark error", "%", "of the distance between the eyes' outer corners"),
    "expression_gain": ("Expression gain", "", "1 = as strong as it should be, less = stiff"),
    "identity_score": ("Identity", "", "+1 = the new performer, −1 = the plate's"),
    "jitter_ratio": ("Jitter", "×", "trembling of the landmarks over the original's"),
    "flicker": ("Flicker", "levels", "change of the error from frame to frame, of 255"),
    "lag_frames": ("Lag", "frames", "how late the performance comes"),
    "inner_detail": ("Inner detail", "", "detail without the face's rim, where filters see the surroundings"),
    "inner_contrast": ("Inner contrast", "", "contrast without the rim: what the blur warning goes by"),
    "seam_step": ("Seam step", "ΔE", "colour step at the face's edge beyond the plate's own"),
    "sharpness_ratio": ("Sharpness", "×", "finest detail over the reference's"),
    "gradient_similarity": ("Gradient similarity", "", "edges of equal strength in equal places, 1 = equal"),
    "gradient_deviation": ("Gradient deviation", "", "how unevenly edges are kept, 0 = equal"),
    "skin_delta_e": ("Skin colour", "ΔE", "CIEDE2000 of the mean skin colours"),
    "leak_after_colour_match": ("λ after colour match", "", "λ that a mere colour cast does not raise"),
    "leak_brows": ("λ of the brows", "", ""),
    "leak_eyes": ("λ of the eyes", "", ""),
    "leak_nose": ("λ of the nose", "", ""),
    "leak_mouth": ("λ of the mouth", "", ""),
    "leak_jaw": ("λ of the jaw", "", "below the mouth, within the jaw line"),
    "leak_rest": ("λ of the rest", "", "cheeks and forehead"),
    "flow_error_px": ("Motion error", "px", "difference of optical flows, in pixels of the 256 px crop"),
    "occluder_error": ("Occluder error", "levels", "how much was painted over what hides the face"),
    "detected_share": ("Detected", "", "share of frames in which every detector finds the face"),
    "jaw_error_percent": ("Jaw error", "%", "the outline stays the plate's: expect the plate's own figure"),
    "pose_error_degrees": ("Pose error", "°", "angle between the heads' rotations"),
    "identity_distance": ("Identity distance", "", "to the performer; under 0.6 is usually the same person"),
    "excess_acceleration_percent": ("Excess acceleration", "%", "RMS of the second difference of the landmarks' error"),
    "pumping_percent": ("Pumping", "%", "RMS second difference of the face's size"),
    "rolling_degrees": ("Rolling", "°", "the same of its roll"),
    "shake_x_percent": ("Shake across", "%", "the same of its place"),
    "shake_y_percent": ("Shake up and down", "%", ""),
    "expression_gain_mouth": ("Gain of the mouth", "", ""),
    "expression_gain_smile": ("Gain of the smile", "", ""),
    "expression_gain_brow": ("Gain of the brows", "", ""),
    "expression_gain_eyes": ("Gain of the lids", "", ""),
    "expression_gain_gaze": ("Gain of the gaze", "", "to the side, by the iris network"),
    "expression_r2_mouth": ("R² of the mouth", "", "how well its course is followed"),
    "expression_r2_smile": ("R² of the smile", "", ""),
    "expression_r2_brow": ("R² of the brows", "", ""),
    "expression_r2_eyes": ("R² of the lids", "", ""),
    "expression_r2_gaze": ("R² of the gaze", "", ""),
}
"""Name, unit and reading of each figure, in the order of the table."""

_SHOWN = ("psnr_db", "leak", "detail", "contrast", "identity_score", "expression_gain", "jitter_ratio", "lag_frames")

_FLOOR_TITLES = {
    "plate": "the plate",
    "truth_in_plate": "perfect face",
    "truth_reencoded": "truth re-encoded",
    "truth_shifted": "truth ½ px off",
}

_METHOD = """Faces are compared in face space: a 256 px crop in which the mean face fills the middle half. Swap and plate
are aligned by the plate's landmarks, the truth by its own, because the swap keeps the plate's head. Figures are taken where
both faces are visible, for each frame, and averaged. λ = Σm(out−B)·(A−B) / Σm(A−B)² with A the plate and B the truth. Detail
and contrast look at luminance between Gaussian sigmas of 2 and 10 px; filters see the whole crop, then the mask is applied.

Landmarks, pose, expression and identity are read by the same networks (MediaPipe's mesh, dlib's identity network) from every
clip, in frames turned by 40° at most. Intervals hold 95 % and come from a bootstrap of blocks of ten frames. Beside the swap
stand the plate, a perfect face (the truth set into the plate), and the truth re-encoded or half a pixel off: differences
smaller than theirs mean nothing."""


@dataclass(frozen=True)
class Findings:
    """What the report says in words, kept for the figures too."""

    verdict: str
    good: Sequence[str]
    bad: Sequence[str]
    warnings: Sequence[str]
    suspects: Sequence[Suspect]


def find(scores: Scores, num_frames: int, num_compared: int, warnings: Sequence[str]) -> Findings:
    """The words for a clip's scores."""
    values = scores.values
    good, bad = judge(values)
    blur = blur_warning(values)
    said = [*([blur] if blur else []), *warnings]
    return Findings(verdict(values, num_frames, num_compared), good, bad, said, suspects(scores.columns))


def write_report(
    path: Path, scene: Scene, scores: Scores, findings: Findings, num_frames: int, compared: Sequence[int]
) -> None:
    """Read the pictures that matter once more and write the report."""
    spread = [compared[round(k)] for k in np.linspace(0, len(compared) - 1, min(_NUM_SPREAD, len(compared)))]
    wanted = {*spread, *(suspect.frame for suspect in findings.suspects)}
    frames = {each.index: each for each in read_frame_sets(scene.swap, scene.plate, scene.truth, wanted)} if wanted else {}
    sides = "plate, swap, truth" if scene.truth else "plate, swap"
    render_report(
        path,
        f"{scene.swap.path.name}: how good is the swap?",
        [
            Section("In words", items=[*findings.warnings, *findings.bad, *findings.good]),
            Section(
                "Look at these frames first",
                text=f"Each shows {sides} in face space{_DIFFERENCE_NOTE if scene.truth else ''}."
                if findings.suspects
                else "No frame stands out.",
                pictures=[_close_up(scene, frames[each.frame], each) for each in findings.suspects if each.frame in frames],
            ),
            Section("Every figure", table=_table(scores)),
            Section("Left out", items=[f"{name}: {reason}" for name, reason in scores.left_out.items()]),
            Section("How it is measured", text=_METHOD),
        ],
        verdict=findings.verdict,
        figures=_headline(scores),
        pictures=[Picture(encode_jpeg(_strip(frames[k])), f"Frame {k}: {sides}") for k in dict.fromkeys(spread) if k in frames],
        eyebrow="Evaluation",
        footer=f"{num_frames} frames, {len(compared)} compared · plate {scene.plate.path.name}",
    )


# ---- pictures -------------------------------------------------------------------------------------------------------------


def _strip(frames: FrameSet) -> Image:
    """The whole frames side by side."""
    images = [frames.plate, frames.swap, *([frames.truth] if frames.truth is not None else [])]
    return np.concatenate([_of_height(image, _STRIP_HEIGHT_PX) for image in images], axis=1)


def _of_height(image: Image, height: int) -> Image:
    return resize(image, (max(1, round(image.shape[1] * height / image.shape[0])), height))


def _close_up(scene: Scene, frames: FrameSet, suspect: Suspect) -> Picture:
    """The face-space crops side by side, and the difference."""
    views = [(frames.plate, scene.plate_faces), (frames.swap, scene.plate_faces)]
    if frames.truth is not None and scene.truth_faces is not None:
        views.append((frames.truth, scene.truth_faces))
    crops = [pixels.face_crop(image, place.alignment(frames.index)) for image, place in views]
    if len(crops) == 3:
        crops.append(np.clip(0.5 + _DIFFERENCE_GAIN * (crops[1] - crops[2]) / 2, 0, 1))
    row = np.concatenate(crops, axis=1)
    return Picture(encode_jpeg((255 * row + 0.5).astype(np.uint8)), f"Frame {suspect.frame}: {suspect.reason}")


# ---- figures --------------------------------------------------------------------------------------------------------------


def _headline(scores: Scores) -> list[Figure]:
    figures: list[Figure] = []
    for name in _SHOWN:
        if name not in scores.swap or not np.isfinite(scores.swap[name].value):
            continue
        label, unit, reading = LABELS[name]
        plate = scores.floors["plate"].get(name, np.nan)
        note = reading if np.isnan(plate) else f"{reading}; the plate itself {_text(plate)}"
        figures.append((label, f"{_text(scores.swap[name].value)} {unit}".strip(), note))
    return figures


def _table(scores: Scores) -> Table:
    floors = [name for name in _FLOOR_TITLES if name in scores.floors]
    rows = []
    for name, (label, unit, reading) in LABELS.items():
        if name not in scores.swap or np.isnan(scores.swap[name].value):
            continue
        found = scores.swap[name]
        within = "–" if np.isnan(found.low) else f"{_text(found.low)} to {_text(found.high)}"
        others = [_text(scores.floors[floor].get(name, np.nan)) for floor in floors]
        rows.append([f"{label}, {unit}" if unit else label, _text(found.value), within, *others, reading])
    return Table(["figure", "the swap", "95 % within", *(_FLOOR_TITLES[floor] for floor in floors), ""], rows)


def _text(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
