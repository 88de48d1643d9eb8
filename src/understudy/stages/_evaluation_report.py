"""The evaluation's `report.html`: pictures first, then words, then every figure with its interval and its noise floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.imaging.warp import resize
from understudy.media import encode_jpeg, probe
from understudy.stages import _evaluation_pixels as pixels
from understudy.stages._evaluation_clips import FrameSet, read_frame_sets
from understudy.stages._evaluation_figures import Scores
from understudy.stages._evaluation_measure import Scene
from understudy.stages._evaluation_words import (
    Suspect,
    blamed,
    blur_warning,
    judge,
    suspects,
    unsettled,
    verdict,
)
from understudy.store.report import Figure, Picture, Section, Table, render_report
from understudy.trust.label import labelled_picture
from understudy.types import Image

_STRIP_HEIGHT_PX = 300
_NUM_SPREAD = 5
_DIFFERENCE_GAIN = 3
_DIFFERENCE_NOTE = "; last, the swap minus the truth where they are compared, enlarged, around grey"

LABELS: Mapping[str, tuple[str, str, str]] = {
    "psnr_db": ("PSNR", "dB", "nearness to the truth in face space; the plate's own is the floor"),
    "ssim": ("SSIM", "", "structural similarity, 1 = equal"),
    "leak": ("Leak λ", "", "how much of the plate's face is left: 0 none, 1 all"),
    "detail": ("Detail", "", "correlation with the truth of what a blur takes away, 1 = equal"),
    "contrast": ("Contrast", "", "spread of the same band over the truth's"),
    "landmark_error_percent": ("Landmark error", "%", "of the distance between the eyes' outer corners"),
    "expression_gain": ("Expression gain", "", "1 = as strong as it should be, less = stiff"),
    "identity_score": ("Identity", "", "+1 = the new performer, −1 = the plate's"),
    "jitter_ratio": ("Jitter", "×", "trembling of the landmarks over the original's"),
    "free_jitter_ratio": ("Jitter, uncovered", "×", "the same without the frames in which something hides part of the face"),
    "flicker": ("Flicker", "levels", "change of the error from frame to frame, of 255"),
    "pulsing": ("Pulsing", "levels", "broad flicker: how far the error jumps off its own course; 1 is about what can be seen"),
    "lag_frames": ("Lag", "frames", "how late the performance comes"),
    "inner_detail": ("Inner detail", "", "detail without the face's rim, where filters see the surroundings"),
    "inner_contrast": ("Inner contrast", "", "contrast without the rim"),
    "edge_gain": ("Edges", "", "how much of the truth's edges are there: neither blotches nor grain raise it"),
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

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Likeness": ("psnr_db", "ssim", "detail", "inner_detail", "contrast", "inner_contrast", "edge_gain",
                 "sharpness_ratio", "gradient_similarity", "gradient_deviation", "skin_delta_e"),
    "What is left of the plate": ("leak", "leak_after_colour_match", "leak_brows", "leak_eyes", "leak_nose", "leak_mouth",
                                  "leak_jaw", "leak_rest", "identity_score", "identity_distance"),
    "Steadiness": ("jitter_ratio", "free_jitter_ratio", "flicker", "pulsing", "flow_error_px", "lag_frames",
                   "excess_acceleration_percent", "pumping_percent", "rolling_degrees", "shake_x_percent", "shake_y_percent"),
    "Compositing": ("seam_step", "occluder_error", "detected_share"),
}  # fmt: skip
"""The figures by what they are about; the rest are the performance's."""

_PERFORMANCE = "Performance"

_SHOWN = (
    "psnr_db",
    "leak",
    "detail",
    "contrast",
    "edge_gain",
    "identity_score",
    "expression_gain",
    "jitter_ratio",
    "lag_frames",
)
_MOST_SHOWN = 7

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

    def untold(self) -> list[str]:
        """The warnings that the verdict does not give."""
        return [each for each in self.warnings if each not in self.verdict]


def find(scores: Scores, num_frames: int, num_compared: int, warnings: Sequence[str], first_frame: int = 0) -> Findings:
    """The words for a clip's scores. first_frame: the plate's number of the first."""
    values = scores.values
    good, bad = judge(values, scores.swap)
    if _is_no_face(scores):
        bad.insert(0, "No face is recognised in it, so that expression, identity and steadiness cannot be measured.")
    said = [*([blur] if (blur := blur_warning(values)) else []), *warnings]
    where = suspects(scores.columns, blamed(values, scores.swap), first_frame=first_frame)
    return Findings(verdict(values, good, bad, num_frames, num_compared), good, bad, said, where)


def _is_no_face(scores: Scores) -> bool:
    """Whether the networks saw the plate's face, and none in the swap."""
    gains = scores.swap.get("expression_gain"), scores.floors["plate"].get("expression_gain", np.nan)
    return (gains[0] is None or np.isnan(gains[0].value)) and np.isfinite(gains[1])


def write_report(
    path: Path, scene: Scene, scores: Scores, findings: Findings, num_frames: int, compared: Sequence[int]
) -> None:
    """Read the pictures that matter once more and write the report."""
    spread = list(dict.fromkeys(compared[round(k)] for k in np.linspace(0, len(compared) - 1, _NUM_SPREAD)))
    places = {suspect.frame - scene.plate.start: suspect for suspect in findings.suspects}
    wanted = {*spread, *places}
    frames = {each.index: each for each in read_frame_sets(scene.swap, scene.plate, scene.truth, wanted)} if wanted else {}
    sides = "plate, swap, truth" if scene.truth else "plate, swap"
    strips = [
        Picture(labelled_picture(encode_jpeg(_strip(frames[k]))), f"{_when(scene, k)}: {sides}") for k in spread if k in frames
    ]
    middle = strips[len(strips) // 2 :][:1]
    sections = [
        *_words(scores, findings),
        Section(
            "Look at these frames first",
            text=f"Each shows {sides} in face space{_DIFFERENCE_NOTE if scene.truth else ''}."
            if findings.suspects
            else "No frame stands out.",
            pictures=[_close_up(scene, frames[k], suspect) for k, suspect in places.items() if k in frames],
        ),
        *_tables(scores),
        Section("Left out", items=[f"{_label(name)}: {reason}" for name, reason in scores.left_out.items()]),
        Section("Through the clip", pictures=[each for each in strips if each not in middle]),
        Section("What the figures mean", items=_meanings(scores)),
        Section("How it is measured", text=_METHOD),
    ]
    render_report(
        path,
        f"{scene.swap.path.name}: how good is the swap?",
        [each for each in sections if each.text or each.items or each.pictures or each.table],
        verdict=findings.verdict,
        figures=_headline(scores),
        pictures=middle,
        eyebrow="Evaluation",
        footer=f"{num_frames} frames, {len(compared)} compared · plate {scene.plate.path.name}",
    )


def _words(scores: Scores, findings: Findings) -> list[Section]:
    """What to beware of, what is bad, good, and in between."""
    between = [f"{_label(name)} ({_text(scores.values[name])})" for name in unsettled(scores.values, scores.swap)]
    return [
        Section("Beware", items=findings.untold()),
        Section("What is bad", items=findings.bad, text="" if findings.bad else "Nothing that was measured."),
        Section("What is good", items=findings.good, text="" if findings.good else "Nothing that was measured."),
        Section("Neither good nor bad", text=", ".join(between)),
    ]


def _label(name: str) -> str:
    return LABELS[name][0] if name in LABELS else name


# ---- pictures -------------------------------------------------------------------------------------------------------------


def _strip(frames: FrameSet) -> Image:
    """The whole frames side by side."""
    images = [frames.plate, frames.swap, *([frames.truth] if frames.truth is not None else [])]
    return np.concatenate([_of_height(image, _STRIP_HEIGHT_PX) for image in images], axis=1)


def _of_height(image: Image, height: int) -> Image:
    return resize(image, (max(1, round(image.shape[1] * height / image.shape[0])), height))


def _close_up(scene: Scene, frames: FrameSet, suspect: Suspect) -> Picture:
    """The face-space crops side by side, and the difference where both faces are visible."""
    views = [(frames.plate, scene.plate_faces), (frames.swap, scene.plate_faces)]
    if frames.truth is not None and scene.truth_faces is not None:
        views.append((frames.truth, scene.truth_faces))
    crops = [pixels.face_crop(image, place.alignment(frames.index)) for image, place in views]
    if len(crops) == 3:
        sides = (frames.plate_mask, scene.plate_faces), (frames.truth_mask, scene.truth_faces)
        masks = [
            pixels.mask_crop(mask, at.alignment(frames.index)) for mask, at in sides if mask is not None and at is not None
        ]
        compared = np.prod(masks, axis=0)[..., None] if masks else 1.0
        crops.append(np.clip(0.5 + _DIFFERENCE_GAIN * compared * (crops[1] - crops[2]) / 2, 0, 1))
    row = np.concatenate(crops, axis=1)
    return Picture(
        labelled_picture(encode_jpeg((255 * row + 0.5).astype(np.uint8))), f"{_when(scene, frames.index)}: {suspect.reason}"
    )


def _when(scene: Scene, index: int) -> str:
    """The plate's number and time of what is compared `index`th."""
    frame = scene.plate.start + index
    return f"Frame {frame} ({frame / float(probe(scene.plate.path).frame_rate):.2f} s)"


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
    return figures[:_MOST_SHOWN]


def _tables(scores: Scores) -> list[Section]:
    """Every figure with its interval and the floors beside it, a table for each thing that it is about."""
    grouped = {name for names in _GROUPS.values() for name in names}
    others = tuple(name for name in LABELS if name not in grouped)
    return [Section(title, table=_table(scores, names)) for title, names in {**_GROUPS, _PERFORMANCE: others}.items()]


def _table(scores: Scores, names: Sequence[str]) -> Table | None:
    floors = [name for name in _FLOOR_TITLES if name in scores.floors]
    rows: list[list[str | float]] = []
    for name in _measured(scores, names):
        label, unit, _ = LABELS[name]
        found = scores.swap[name]
        within = "–" if np.isnan(found.low) else f"{_text(found.low)}\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}{_text(found.high)}"
        others = [scores.floors[floor].get(name, np.nan) for floor in floors]
        cells = [_text(value) if np.isfinite(value) else np.nan for value in others]
        rows.append([f"{label}, {unit}" if unit else label, _text(found.value), within, *cells])
    return Table(["", "the swap", "95 % within", *(_FLOOR_TITLES[floor] for floor in floors)], rows) if rows else None


def _meanings(scores: Scores) -> list[str]:
    return [f"{LABELS[name][0]}: {LABELS[name][2]}" for name in _measured(scores, tuple(LABELS)) if LABELS[name][2]]


def _measured(scores: Scores, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in scores.swap and not np.isnan(scores.swap[name].value)]


def _text(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return (f"{value:.1f}" if abs(value) >= 10 else f"{value:z.2f}").replace("-", "−")
